"""A channel shows one whole result, the one of its last change, whatever process dies in the middle of a change."""

import contextlib
from datetime import UTC, datetime, timedelta

import pytest

from shared.bucket.local import LocalBucket
from shared.catalog.channel_notices import announce_ended_change
from shared.catalog.channels import (
    MOVING_SECONDS,
    RESULTS_BACK,
    ChannelChange,
    change_channel,
    change_to,
    channel_changes,
    channel_folder,
    end_interrupted_changes,
    list_channels,
    read_channel,
    revisions_in_use,
    show_newest,
    shows_its_result,
)
from shared.catalog.manifests import CHANNELS, ResultManifest
from shared.catalog.results import list_results
from shared.errors import BucketError, RequestError, UnreadableChannelError
from shared.jobs.files import JobFile
from shared.jobs.outbox import undelivered
from shared.records import decode_long
from shared.signatures import Signer
from tests.handmade import die_after, make_job, publish_handmade, row, run_job, text_at, write_table


@pytest.fixture
def bucket(tmp_path) -> LocalBucket:
    bucket = LocalBucket(tmp_path / "bucket")
    publish_handmade(bucket)
    write_table(bucket, [row(number) for number in range(20)])
    return bucket


def result_of(bucket: LocalBucket, minute: int, lines: int = 20) -> ResultManifest:
    table = write_table(bucket, [row(number) for number in range(lines)], f"data/predict/input/{minute}/keywords.csv")
    folder = make_job(bucket, minute=minute, table=table)
    run_job(folder)
    return decode_long(ResultManifest, bucket.read(folder.file(JobFile.MANIFEST)) or b"")


def show(bucket: LocalBucket, manifest: ResultManifest, **more) -> ChannelChange | None:
    return change_channel(bucket, "live", lambda now: change_to(manifest, now, "passed the guard", **more))


def test_a_channel_shows_the_result_of_its_last_change_and_knows_the_way_back(bucket):
    results = [result_of(bucket, minute, lines=10 + minute) for minute in range(RESULTS_BACK + 2)]
    for result in results:
        show(bucket, result)
    now = read_channel(bucket, "live")
    assert now is not None
    assert (now.job_id, now.number, now.was) == (results[-1].job_id, len(results), results[-2].job_id)
    assert now.back == [result.revision for result in reversed(results[1:-1])]
    assert text_at(bucket, channel_folder("live")) == text_at(bucket, results[-1].revision)
    assert [change.job_id for change in channel_changes(bucket, "live")] == [result.job_id for result in reversed(results)]
    assert list_channels(bucket) == ["live"]
    assert revisions_in_use(bucket) == dict.fromkeys([now.revision, *now.back], "live")


def test_a_channel_is_no_result_of_its_own(bucket):
    result = result_of(bucket, 1)
    show(bucket, result)
    assert [found.folder for found in list_results(bucket)] == [result.revision.partition("/revisions/")[0]]


def test_rejects_are_shown_with_their_result_and_go_with_it(bucket):
    with_rejects = make_job(bucket, minute=1, table=write_table(bucket, [row(1), "x,0,1,Computer"], "data/in/a.csv"), max_reject_share=1.0)
    run_job(with_rejects)
    show(bucket, decode_long(ResultManifest, bucket.read(with_rejects.file(JobFile.MANIFEST)) or b""))
    assert bucket.exists(f"{channel_folder('live')}/rejects.csv.gz")
    show(bucket, result_of(bucket, 2))
    assert not bucket.exists(f"{channel_folder('live')}/rejects.csv.gz")


@pytest.mark.parametrize("writes", range(1, 9))
def test_a_change_whose_process_dies_at_any_write_is_ended_by_the_sweep(bucket, monkeypatch, writes):
    before, after = result_of(bucket, 1, lines=10), result_of(bucket, 2, lines=20)
    show(bucket, before)
    texts = {text_at(bucket, before.revision), text_at(bucket, after.revision)}
    with monkeypatch.context() as patch:
        die_after(patch, bucket, writes, ["write", "create", "copy", "delete"])
        try:
            show(bucket, after)
            has_died = False
        except BaseException:  # noqa: BLE001 - the death of the process
            has_died = True
    data = bucket.read(f"{channel_folder('live')}/prediction_output.csv.gz")
    assert data in {bucket.read(f"{result.revision}/prediction_output.csv.gz") for result in (before, after)}
    now = read_channel(bucket, "live")
    assert now is not None
    later = now.at + timedelta(seconds=2 * MOVING_SECONDS)
    assert has_died or not end_interrupted_changes(bucket, later)
    end_interrupted_changes(bucket, later)
    now = read_channel(bucket, "live")
    assert now is not None
    assert text_at(bucket, channel_folder("live")) == text_at(bucket, now.revision)
    assert text_at(bucket, channel_folder("live")) in texts
    assert not bucket.files(f"{CHANNELS}/_open")


METHODS = ["write", "create", "copy"]
STORE = "the store is gone"


def fail_after(patch: pytest.MonkeyPatch, bucket: LocalBucket, writes: int, *, is_kept: bool) -> list[int]:
    """Lets one of these calls fail, the one after so many; if ``is_kept`` is true, the store does what it denies.

    Returns how many calls are left, which goes below 0 when one fails.
    """
    left = [writes]

    def failing(method):
        def call(*arguments, **more):
            left[0] -= 1
            if left[0] != -1:
                return method(*arguments, **more)
            if is_kept:
                method(*arguments, **more)
            raise BucketError(STORE, next_step="Try again.")

        return call

    for name in METHODS:
        patch.setattr(bucket, name, failing(getattr(bucket, name)))
    return left


@pytest.mark.parametrize("is_kept", [False, True], ids=["refused", "kept and not heard"])
def test_a_change_whose_write_fails_is_made_whole_by_the_sweep_or_was_not_made(bucket, monkeypatch, is_kept):
    before, after = result_of(bucket, 1, lines=10), result_of(bucket, 2, lines=20)
    for number in range(20):
        show(bucket, before)
        with monkeypatch.context() as patch:
            left = fail_after(patch, bucket, number, is_kept=is_kept)
            with contextlib.suppress(BucketError):
                show(bucket, after)
        now = read_channel(bucket, "live")
        assert now is not None
        end_interrupted_changes(bucket, now.at + timedelta(seconds=2 * MOVING_SECONDS))
        assert shows_its_result(bucket, "live", now)
        assert text_at(bucket, channel_folder("live")) == text_at(bucket, now.revision)
        if left[0] >= 0:
            break
    assert 4 < number < 19


def test_a_change_that_was_not_decided_leaves_no_mark(bucket):
    show(bucket, result_of(bucket, 1))

    def refused(now: ChannelChange | None) -> None:
        raise RequestError("no", next_step="None.")

    with pytest.raises(RequestError):
        change_channel(bucket, "live", refused)
    assert not bucket.files(f"{CHANNELS}/_open")


def test_the_channel_names_a_result_only_after_its_files_are_there(bucket, monkeypatch):
    first, second = result_of(bucket, 1, lines=10), result_of(bucket, 2, lines=20)
    show(bucket, first)
    folder = channel_folder("live")
    for writes in range(20):
        with monkeypatch.context() as patch:
            left = die_after(patch, bucket, writes, METHODS)
            with contextlib.suppress(KeyboardInterrupt):
                show(bucket, second)
        named = ChannelChange.decode(bucket.read(f"{folder}/channel.json") or b"")
        assert named.revision == first.revision or text_at(bucket, folder) == text_at(bucket, second.revision)
        if left[0] >= 0:
            break
    assert named.revision == second.revision


def test_a_person_hears_of_a_rollback_that_the_sweep_had_to_end(bucket):
    first, second = result_of(bucket, 1, lines=10), result_of(bucket, 2, lines=20)
    show(bucket, first)
    announce_ended_change(bucket, "live", datetime.now(UTC))
    assert undelivered(bucket) == []
    show(bucket, second)
    change_channel(bucket, "live", lambda now: change_to(first, now, "rolled back", pinned=True, by="ann", reason="bad"))
    announce_ended_change(bucket, "live", datetime.now(UTC) + timedelta(days=2))
    assert undelivered(bucket) == []
    for _ in range(2):
        announce_ended_change(bucket, "live", datetime.now(UTC))
    assert [folder.name for folder in undelivered(bucket)] == ["channel-live-000003"]


def test_a_change_in_progress_is_left_to_its_process(bucket):
    show(bucket, result_of(bucket, 1))
    bucket.write(f"{CHANNELS}/_open/live.0123", b"")
    mark = bucket.files(f"{CHANNELS}/_open")[0]
    now = read_channel(bucket, "live")
    assert now is not None
    assert end_interrupted_changes(bucket, now.at) == []
    assert bucket.exists(mark.path)


def test_two_processes_that_change_a_channel_at_once_leave_the_later_change(bucket):
    first, second = result_of(bucket, 1, lines=10), result_of(bucket, 2, lines=20)

    def overtaken(now: ChannelChange | None) -> ChannelChange:
        if now is None:
            show(bucket, first)
        return change_to(second, now, "passed the guard")

    change = change_channel(bucket, "live", overtaken)
    assert change is not None
    assert (change.number, change.was) == (2, first.job_id)
    assert text_at(bucket, channel_folder("live")) == text_at(bucket, second.revision)


def test_a_damaged_change_is_named_and_the_next_change_repairs_it(bucket):
    show(bucket, result_of(bucket, 1))
    path = f"{CHANNELS}/_history/live/000002.json"
    bucket.write(path, b"{")
    with pytest.raises(UnreadableChannelError, match="the channel live cannot be read") as raised:
        read_channel(bucket, "live")
    assert path in raised.value.message
    assert "scoring results rollback live --to JOB" in raised.value.next_step
    later = result_of(bucket, 2)
    show(bucket, later)
    shown = show_newest(bucket, "live")
    assert shown is not None
    assert (shown.job_id, shown.number) == (later.job_id, 3)


def test_with_a_key_an_unsigned_result_is_not_shown(bucket):
    result = result_of(bucket, 1, lines=10)
    show(bucket, result)
    before = bucket.read(f"{channel_folder('live')}/prediction_output.csv.gz")
    forged = result_of(bucket, 2, lines=20)
    signed = LocalBucket(bucket.root)
    signed.signer = Signer((b"a key of at least 32 characters, made up",))
    with pytest.raises(RequestError, match="cannot be shown on a channel: signed: "):
        show(signed, forged)
    assert bucket.read(f"{channel_folder('live')}/prediction_output.csv.gz") == before


def test_what_somebody_puts_among_the_marks_stops_nothing(bucket):
    result = result_of(bucket, 1)
    show(bucket, result)
    for name in ("live.0123", ".0123", "1st.0123", "live..", "broken.0123"):
        bucket.write(f"{CHANNELS}/_open/{name}", b"")
    bucket.write(f"{CHANNELS}/_history/broken/000001.json", b"{")
    bucket.write(f"{CHANNELS}/_history/1st/000001.json", b"{")
    now = read_channel(bucket, "live")
    assert now is not None
    assert set(end_interrupted_changes(bucket, now.at + timedelta(days=1))) == {"live"}
    # the damaged channel keeps its mark until it is repaired
    assert [info.path.rpartition("/")[2] for info in bucket.files(f"{CHANNELS}/_open")] == ["broken.0123"]
    assert list_channels(bucket) == ["broken", "live"]
    assert revisions_in_use(bucket) == {result.revision: "live"}


def test_while_the_newest_change_is_damaged_the_results_before_it_stay_in_use(bucket):
    first, second = result_of(bucket, 1), result_of(bucket, 2)
    show(bucket, first)
    show(bucket, second)
    bucket.write(f"{CHANNELS}/_history/live/000003.json", b"{")
    assert revisions_in_use(bucket) == {first.revision: "live", second.revision: "live"}


def test_the_copy_of_the_newest_change_is_repaired_with_the_files(bucket):
    show(bucket, result_of(bucket, 1))
    before = bucket.read(f"{channel_folder('live')}/channel.json") or b""
    show(bucket, result_of(bucket, 2))
    bucket.write(f"{channel_folder('live')}/channel.json", before)
    show_newest(bucket, "live")
    assert b'"number": 2' in (bucket.read(f"{channel_folder('live')}/channel.json") or b"")
