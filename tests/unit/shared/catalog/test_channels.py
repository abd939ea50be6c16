"""A channel shows one whole result, the one of its last change, whatever process dies in the middle of a change."""

from datetime import timedelta

import pytest

from shared.bucket.local import LocalBucket
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
)
from shared.catalog.manifests import CHANNELS, ResultManifest
from shared.catalog.results import list_results
from shared.errors import RequestError, UnreadableChannelError
from shared.jobs.files import JobFile
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
