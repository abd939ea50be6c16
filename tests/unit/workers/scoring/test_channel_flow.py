"""A result reaches its channel whole or not at all, whatever dies between its join and its publication."""

import contextlib
import json
import shutil
from pathlib import Path

import pytest

from shared.bucket.local import LocalBucket
from shared.catalog.channels import change_channel, change_to, channel_changes, channel_folder, read_channel, revisions_in_use
from shared.catalog.held import Decision, held_jobs, mark_held
from shared.catalog.manifests import INDEX, PREDICTIONS, ResultManifest
from shared.catalog.paths import MANIFEST
from shared.errors import BucketError, HeldError, RequestError
from shared.guard.config import GUARD
from shared.guard.verdict import CheckOutcome, GuardVerdict, read_verdict
from shared.jobs.files import JobFile
from shared.jobs.folder import JobFolder, Outcome
from shared.jobs.states import JobState
from shared.records import decode_long
from shared.text.numbered import in_lines, numbered
from tests.handmade import NOON, die_after, make_job, plan, publish_handmade, row, run_job, score_chunks, text_at, write_table
from workers.notices import delivery
from workers.recovery.held_results import look_after_held
from workers.scoring import channels, publishing

ROWS = 900
METHODS = ["write", "create", "copy", "delete", "writer"]


@pytest.fixture
def bucket(tmp_path) -> LocalBucket:
    bucket = LocalBucket(tmp_path / "bucket")
    publish_handmade(bucket)
    return bucket


def table(bucket: LocalBucket, name: str, rows: int = ROWS) -> str:
    return write_table(bucket, [row(number) for number in range(rows)], f"data/predict/input/{name}/keywords.csv")


def job_for(bucket: LocalBucket, minute: int, rows: int = ROWS, **more) -> JobFolder:
    return make_job(bucket, minute=minute, table=table(bucket, f"{minute}-{rows}", rows), channel="live", **more)


def manifest_of(folder: JobFolder) -> ResultManifest:
    return decode_long(ResultManifest, folder.bucket.read(folder.file(JobFile.MANIFEST)) or b"")


def shown(bucket: LocalBucket) -> str:
    return text_at(bucket, channel_folder("live"))


def ready_to_finish(bucket: LocalBucket, minute: int, rows: int = ROWS, **more) -> JobFolder:
    folder = job_for(bucket, minute, rows, **more)
    plan(folder)
    score_chunks(folder, Path(bucket.url) / "no-cache")
    return folder


def decide(folder: JobFolder, compared_with: int) -> None:
    decision = Decision(verdict="approved", at=NOON, by="ann@host", reason="meant", compared_with=compared_with)
    assert folder.bucket.create(folder.file(JobFile.DECISION), decision.to_json())
    folder.reopen_held()


def test_the_first_result_of_a_channel_is_shown(bucket):
    folder = job_for(bucket, 1)
    outcome = run_job(folder)
    assert outcome.state == JobState.DONE
    assert shown(bucket) == text_at(bucket, manifest_of(folder).revision)
    assert manifest_of(folder).channel == "live"
    status = folder.status()
    assert status.outcome is not None
    assert status.outcome.facts["channel"] == channel_folder("live")


def test_a_held_result_has_a_revision_and_neither_a_place_nor_the_channel(bucket):
    run_job(job_for(bucket, 1))
    before = shown(bucket)
    folder = job_for(bucket, 2, ROWS // 2, model="v1")
    outcome = run_job(folder)
    assert (outcome.state, outcome.exit_code) == (JobState.HELD, HeldError.exit_code)
    assert f"scoring results approve {folder.job_id}" in outcome.next_step
    revision = manifest_of(folder).revision
    names = {info.path.rpartition("/")[2] for info in bucket.files(revision)}
    assert names >= {PREDICTIONS, MANIFEST, INDEX, JobFile.GUARD}
    place = bucket.read(f"{outcome.result}/{MANIFEST}")
    assert place is None or decode_long(ResultManifest, place).job_id != folder.job_id
    assert shown(bucket) == before
    assert held_jobs(bucket) == [folder.job_id]


def test_the_reason_of_a_held_result_numbers_the_checks_that_hold_it_and_its_facts_do_not_repeat_it(bucket):
    run_job(job_for(bucket, 1))
    lines = [row(number) if number % 10 else row(number).replace(",0,", ",1,", 1) for number in range(ROWS // 2)]
    path = write_table(bucket, [*lines, *lines[:250]], "data/predict/input/doubled/keywords.csv")
    folder = make_job(bucket, minute=2, table=path, channel="live")
    outcome = run_job(folder)
    verdict = read_verdict(bucket, folder.path)
    assert {check.outcome for check in verdict.checks} >= {CheckOutcome.WARN, CheckOutcome.BLOCK}
    head, *reasons = in_lines(outcome.reason)
    assert head == "the channel live keeps its result:"
    blocking = {check.sentence for check in verdict.checks if check.outcome == CheckOutcome.BLOCK}
    assert 1 < len(reasons) <= 3
    assert {reason.partition(") ")[2] for reason in reasons} <= blocking
    assert "guard" not in outcome.facts
    decide(folder, verdict.compared_with)
    approved = publishing.finish_job(folder)
    assert numbered([reason.partition(") ")[2] for reason in reasons]) == approved.facts["guard"]


def test_a_later_result_does_not_take_a_held_one_for_published(bucket):
    run_job(job_for(bucket, 1))
    held = job_for(bucket, 3, ROWS // 2)
    run_job(held)
    # an older job finishes after the newer one was held: its own result is at the place, not the newer held one
    late = job_for(bucket, 2)
    outcome = run_job(late)
    at_place = decode_long(ResultManifest, bucket.read(f"{outcome.result}/{MANIFEST}") or b"")
    assert at_place.job_id == late.job_id


def store_failure() -> BucketError:
    return BucketError("the store is gone", next_step="Try again.")


@pytest.mark.parametrize("error", [KeyboardInterrupt, store_failure], ids=["killed", "the store fails"])
@pytest.mark.parametrize("rows", [ROWS - 3, ROWS // 2], ids=["passes", "is held"])
def test_a_finish_that_dies_at_any_write_is_completed_by_the_next(bucket, monkeypatch, rows, error):
    run_job(job_for(bucket, 1))
    base = shown(bucket)
    folder = ready_to_finish(bucket, 2, rows)
    deaths = 0
    for writes in range(60):
        with monkeypatch.context() as patch:
            left = die_after(patch, bucket, writes, METHODS, error)
            with contextlib.suppress(KeyboardInterrupt, BucketError):
                publishing.finish_job(folder)
        deaths += left[0] < 0
        text = bucket.read(f"{channel_folder('live')}/{PREDICTIONS}")
        revisions = [change.revision for change in channel_changes(bucket, "live")]
        assert text in [bucket.read(f"{revision}/{PREDICTIONS}") for revision in revisions]
        assert rows != ROWS // 2 or text == bucket.read(f"{revisions[-1]}/{PREDICTIONS}")
        if left[0] >= 0:
            break
    assert deaths > 5
    outcome = publishing.finish_job(folder)
    assert outcome is not None
    assert outcome.state == (JobState.HELD if rows == ROWS // 2 else JobState.DONE)
    assert shown(bucket) in {base, text_at(bucket, manifest_of(folder).revision)}
    assert (shown(bucket) == base) == (outcome.state == JobState.HELD)
    assert len({change.number for change in channel_changes(bucket, "live")}) == (1 if outcome.state == JobState.HELD else 2)


def test_an_approval_that_dies_at_any_write_is_completed_by_the_next_finish(bucket, monkeypatch):
    run_job(job_for(bucket, 1))
    folder = job_for(bucket, 2, ROWS // 2)
    run_job(folder)
    now = read_channel(bucket, "live")
    assert now is not None
    decide(folder, now.number)
    for writes in range(60):
        with monkeypatch.context() as patch:
            left = die_after(patch, bucket, writes, METHODS)
            with contextlib.suppress(KeyboardInterrupt):
                publishing.finish_job(folder)
        if left[0] >= 0:
            break
    outcome = folder.outcome()
    assert outcome is not None
    assert outcome.state == JobState.DONE
    assert "by ann@host" in outcome.facts["approved"]
    assert shown(bucket) == text_at(bucket, outcome.result) == text_at(bucket, manifest_of(folder).revision)
    assert held_jobs(bucket) == []
    change = read_channel(bucket, "live")
    assert change is not None
    assert (change.how, change.by, change.reason) == ("approved", "ann@host", "meant")


def test_an_approval_of_an_outdated_comparison_is_set_aside(bucket):
    run_job(job_for(bucket, 1))
    folder = job_for(bucket, 2, ROWS // 2)
    run_job(folder)
    decide(folder, compared_with=0)
    outcome = publishing.finish_job(folder)
    assert outcome is not None
    # compared with the same result once more, by a verdict of the right number: still half the rows
    assert outcome.state == JobState.HELD
    assert "compared once more" in outcome.reason
    assert not folder.has(JobFile.DECISION)


def test_an_older_job_that_finishes_later_does_not_replace_a_newer_result(bucket):
    run_job(job_for(bucket, 1))
    older = ready_to_finish(bucket, 2)
    newer = ready_to_finish(bucket, 3)
    publishing.finish_job(newer)
    publishing.finish_job(older)
    now = read_channel(bucket, "live")
    assert now is not None
    assert now.job_id == newer.job_id
    status = older.status()
    assert status.outcome is not None
    assert status.outcome.facts["channel"] == f"not on live: it shows the result of job {newer.job_id}"


def test_a_finish_that_is_repeated_does_not_undo_a_rollback(bucket):
    first, second = job_for(bucket, 1), job_for(bucket, 2, ROWS - 3)
    run_job(first)
    run_job(second)
    change_channel(bucket, "live", lambda now: change_to(manifest_of(first), now, "rolled back", by="ann", reason="bad"))
    bucket.delete(second.file(JobFile.PUBLISHED))
    publishing.finish_job(second)
    assert shown(bucket) == text_at(bucket, manifest_of(first).revision)


@pytest.mark.parametrize("removed", [MANIFEST, "everything"])
def test_a_base_that_is_gone_holds_the_next_result(bucket, removed):
    first = job_for(bucket, 1)
    run_job(first)
    base = shown(bucket)
    revision = manifest_of(first).revision
    if removed == "everything":
        bucket.delete_folder(revision)
    else:
        bucket.delete(f"{revision}/{removed}")
    outcome = run_job(job_for(bucket, 2))
    assert outcome.state == JobState.HELD
    assert f"the result that the channel shows, {revision}, is gone or damaged" in outcome.reason
    assert shown(bucket) == base


def test_a_base_without_an_index_gets_one(bucket):
    first = job_for(bucket, 1)
    run_job(first)
    revision = manifest_of(first).revision
    bucket.delete(f"{revision}/{INDEX}")
    assert run_job(job_for(bucket, 2, ROWS - 3)).state == JobState.DONE
    assert bucket.exists(f"{revision}/{INDEX}")


@pytest.mark.parametrize("text", ["live: {checks: {row: {block: 1%}}}", "live: [", "a: &a [*a]", "live: {mode: maybe}"])
def test_a_guard_that_cannot_be_read_holds_the_result_and_says_why(bucket, text):
    run_job(job_for(bucket, 1))
    bucket.write(GUARD, text.encode())
    outcome = run_job(job_for(bucket, 2))
    assert outcome.state == JobState.HELD
    assert GUARD in outcome.reason


def test_in_mode_warn_a_bad_result_is_published_with_a_warning(bucket):
    bucket.write(GUARD, b"live: {mode: warn}")
    run_job(job_for(bucket, 1))
    folder = job_for(bucket, 2, ROWS // 2)
    outcome = run_job(folder)
    assert outcome.state == JobState.DONE
    assert "rows" in outcome.facts["guard"]
    assert shown(bucket) == text_at(bucket, manifest_of(folder).revision)


def test_the_verdict_names_the_version_of_the_guard_that_judged(bucket):
    bucket.write(GUARD, b"live: {mode: warn}")
    folder = job_for(bucket, 1)
    run_job(folder)
    bucket.write(GUARD, b"live: {mode: block}")
    verdict = json.loads(bucket.read(f"{manifest_of(folder).revision}/{JobFile.GUARD}") or b"")
    assert verdict["config"]["source"] == GUARD
    assert len(verdict["config"]["sha256"]) == 64
    assert verdict["mode"] == "warn"


def test_a_damaged_channel_fails_the_job_with_the_next_step_and_loses_nothing(bucket):
    run_job(job_for(bucket, 1))
    bucket.write("data/predict/output/channels/_history/live/000002.json", b"{")
    folder = ready_to_finish(bucket, 2)
    with pytest.raises(Exception, match="the channel live cannot be read"):
        publishing.finish_job(folder)
    bucket.delete("data/predict/output/channels/_history/live/000002.json")
    outcome = publishing.finish_job(folder)
    assert outcome is not None
    assert outcome.state == JobState.DONE


def test_an_approval_in_the_middle_of_a_hold_is_not_lost(bucket, monkeypatch):
    run_job(job_for(bucket, 1))
    folder = ready_to_finish(bucket, 2, ROWS // 2)
    now = read_channel(bucket, "live")
    assert now is not None

    def mark_and_approve(*arguments: object) -> None:
        mark_held(*arguments)
        decide(folder, now.number)

    with monkeypatch.context() as patch:
        patch.setattr(publishing, "mark_held", mark_and_approve)
        publishing.finish_job(folder)
    outcome = publishing.finish_job(folder)
    assert outcome is not None
    assert outcome.state == JobState.DONE
    assert shown(bucket) == text_at(bucket, manifest_of(folder).revision) == text_at(bucket, outcome.result)
    assert held_jobs(bucket) == []


@pytest.mark.parametrize("dies", ["before the outcome", "before the change"])
def test_a_result_is_compared_once_more_if_the_channel_moved_before_it_was_shown(bucket, monkeypatch, dies):
    good, bad = job_for(bucket, 1), job_for(bucket, 2, ROWS // 2, guard_off="made for a test")
    run_job(good)
    run_job(bad)
    folder = ready_to_finish(bucket, 3, ROWS // 2)  # as bad as what the channel shows
    with monkeypatch.context() as patch:
        die = lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt)  # noqa: E731
        patch.setattr(*((JobFolder, "write_outcome") if dies == "before the outcome" else (publishing, "_complete_revision")), die)
        with pytest.raises(KeyboardInterrupt):
            publishing.finish_job(folder)
    for how, pinned in (("rolled back", True), ("unpinned", False)):
        change_channel(bucket, "live", lambda now, how=how, pinned=pinned: change_to(manifest_of(good), now, how, pinned=pinned))
    outcome = publishing.finish_job(folder)
    assert outcome is not None
    assert outcome.state == JobState.HELD
    assert shown(bucket) == text_at(bucket, manifest_of(good).revision)
    place = decode_long(ResultManifest, bucket.read(f"{outcome.result}/{MANIFEST}") or b"")
    assert place.job_id != folder.job_id


def test_a_fix_of_an_older_table_does_not_replace_a_newer_one(bucket):
    last_week = job_for(bucket, 1)
    run_job(last_week)
    today = job_for(bucket, 2, ROWS - 3)
    run_job(today)
    fixed = "data/predict/input/fixed.csv"
    first = make_job(bucket, minute=3, table=last_week.score_job().table, channel="live", fixes=last_week.job_id, fixed_rows=fixed)
    second = make_job(bucket, minute=4, table=last_week.score_job().table, channel="live", fixes=first.job_id, fixed_rows=fixed)
    assert {channels.origin_of(folder, folder.score_job()) for folder in (first, second)} == {last_week.job_id}
    now = read_channel(bucket, "live")
    assert now is not None
    assert now.age == today.job_id > last_week.job_id
    assert channels.rule(second, second.score_job(), manifest_of(today)) == channels.Ruling()


def test_an_index_of_the_base_that_was_changed_is_built_again(bucket):
    first = job_for(bucket, 1)
    run_job(first)
    path = f"{manifest_of(first).revision}/{INDEX}"
    data = bytearray(bucket.read(path) or b"")
    middle = len(data) // 3
    data[middle : middle + 64] = bytes(64)
    bucket.write(path, bytes(data))
    assert run_job(job_for(bucket, 2, ROWS - 3)).state == JobState.DONE
    assert bucket.read(path) != bytes(data)


def at_place(bucket: LocalBucket, place: str) -> str:
    """The job whose result is at a place; empty without one."""
    text = bucket.read(f"{place}/{MANIFEST}")
    return "" if text is None else decode_long(ResultManifest, text).job_id


def move_back(bucket: LocalBucket, to: JobFolder) -> None:
    """Lets the channel show an earlier result, without a pin."""
    for how, pinned in (("rolled back", True), ("unpinned", False)):
        change_channel(bucket, "live", lambda now, how=how, pinned=pinned: change_to(manifest_of(to), now, how, pinned=pinned))


@pytest.mark.parametrize("stands_before", ["_complete_revision", "publish_newest"])
@pytest.mark.parametrize("is_pinned", [False, True])
def test_of_two_finishes_at_once_none_publishes_what_the_other_holds(bucket, monkeypatch, stands_before, is_pinned):
    rows = ROWS - 3 if is_pinned else ROWS // 2
    good, bad = job_for(bucket, 1), job_for(bucket, 2, rows, guard_off="made for a test")
    run_job(good)
    run_job(bad)
    folder = ready_to_finish(bucket, 3, rows)  # the guard passes it after the one, and only a pin holds it if both are good
    step = getattr(publishing, stands_before)

    def overtaken(*arguments: object) -> object:
        monkeypatch.setattr(publishing, stands_before, step)
        if is_pinned:
            change_channel(bucket, "live", lambda now: change_to(manifest_of(good), now, "rolled back", pinned=True))
        else:
            move_back(bucket, good)
        publishing.finish_job(folder)
        return step(*arguments)

    monkeypatch.setattr(publishing, stands_before, overtaken)
    publishing.finish_job(folder)
    outcome = folder.outcome()
    assert outcome is not None
    was_shown = folder.job_id in {change.job_id for change in channel_changes(bucket, "live")}
    assert shown(bucket) == text_at(bucket, manifest_of(good).revision)
    assert outcome.state == (JobState.DONE if was_shown else JobState.HELD)
    assert (at_place(bucket, outcome.result) == folder.job_id) == was_shown
    assert held_jobs(bucket) == ([] if was_shown else [folder.job_id])
    assert stands_before == "publish_newest" or not was_shown


def test_a_held_result_that_was_damaged_is_not_published_at_its_place_either(bucket):
    run_job(job_for(bucket, 1))
    folder = job_for(bucket, 2, ROWS // 2)
    place = run_job(folder).result
    before, base = at_place(bucket, place), shown(bucket)
    path = f"{manifest_of(folder).revision}/{PREDICTIONS}"
    bucket.write(path, (bucket.read(path) or b"")[:1000])
    decide(folder, 1)
    with pytest.raises(RequestError, match=f"{path} is gone or is not the file of its manifest"):
        publishing.finish_job(folder)
    assert at_place(bucket, place) == before
    text_at(bucket, place)
    assert shown(bucket) == base


def test_a_result_that_nobody_judged_is_judged_once_the_channel_is_older_than_it(bucket, monkeypatch):
    first = job_for(bucket, 1)
    run_job(first)
    late = ready_to_finish(bucket, 2, ROWS // 2, place="elsewhere")
    run_job(job_for(bucket, 3))
    with monkeypatch.context() as patch:
        patch.setattr(publishing, "_settle", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            publishing.finish_job(late)
    assert not late.has(JobFile.GUARD)
    move_back(bucket, first)
    outcome = publishing.finish_job(late)
    assert outcome is not None
    assert outcome.state == JobState.HELD
    assert at_place(bucket, outcome.result) == ""
    assert shown(bucket) == text_at(bucket, manifest_of(first).revision)


def test_an_approval_that_the_channel_overtook_ends_in_one_more_notice_wherever_the_finish_dies(bucket, monkeypatch, tmp_path):
    first = job_for(bucket, 1)
    run_job(first)
    folder = job_for(bucket, 2, ROWS // 2)
    run_job(folder)
    delivery.deliver_job_notice(folder, None)
    move_back(bucket, first)
    decide(folder, 1)
    for writes in range(40):
        again = LocalBucket(shutil.copytree(bucket.root, tmp_path / f"dies-{writes}"))
        late = JobFolder(again, folder.job_id)
        with monkeypatch.context() as patch:
            left = die_after(patch, again, writes, METHODS)
            with contextlib.suppress(KeyboardInterrupt):
                publishing.finish_job(late)
        look_after_held(again, NOON)
        outcome = publishing.finish_job(late)
        assert outcome is not None
        assert outcome.state == JobState.HELD
        assert late.is_settled(outcome)
        assert not delivery.is_delivered(late, outcome)
        assert not late.has(JobFile.DECISION)
        assert again.read(f"{manifest_of(late).revision}/{JobFile.GUARD}") == again.read(late.file(JobFile.GUARD))
        assert held_jobs(again) == [late.job_id]
        if left[0] >= 0:
            break
    assert 8 < writes < 39


@pytest.mark.parametrize("stands_before", ["write", "delete"])
def test_the_sweep_that_completes_an_approval_late_does_not_undo_it(bucket, monkeypatch, stands_before):
    run_job(job_for(bucket, 1))
    folder, sweep = job_for(bucket, 2, ROWS // 2), LocalBucket(bucket.root)
    run_job(folder)
    step = getattr(sweep, stands_before)
    ended: list[Outcome | None] = []

    def overtaken(path: str, *arguments: object) -> object:
        if not ended:
            ended.append(None)
            decide(folder, 1)
            ended.append(publishing.finish_job(folder))
        return step(path, *arguments)

    monkeypatch.setattr(sweep, stands_before, overtaken)
    JobFolder(sweep, folder.job_id).reopen_held()
    judged: list[GuardVerdict] = []
    outcome = publishing.finish_job(folder, when_judged=judged.append)
    assert outcome is not None
    assert outcome.state == JobState.DONE
    assert judged == []
    assert len([*channel_changes(bucket, "live")]) == 2
    if stands_before == "write":
        assert outcome == ended[-1]


def test_an_outcome_that_another_process_replaced_is_not_removed(bucket):
    run_job(job_for(bucket, 1))
    folder = job_for(bucket, 2, ROWS // 2)
    held = run_job(folder)
    decide(folder, 1)
    done = publishing.finish_job(folder)
    folder.reconsider(held)
    assert folder.outcome() == done


def test_each_verdict_is_counted_when_it_is_written_and_not_again(bucket):
    run_job(job_for(bucket, 1))
    folder = ready_to_finish(bucket, 2, ROWS // 2)
    judged: list[GuardVerdict] = []
    for _ in range(2):
        publishing.finish_job(folder, when_judged=judged.append)
    assert [verdict.compared_with for verdict in judged] == [1]
    decide(folder, 1)
    publishing.finish_job(folder, when_judged=judged.append)
    assert len(judged) == 1


def test_a_result_that_was_refused_stays_held_whatever_the_channel_shows_then(bucket):
    run_job(job_for(bucket, 1))
    folder = job_for(bucket, 2, ROWS // 2)
    run_job(folder)
    decision = Decision(verdict="refused", at=NOON, by="ann@host", reason="half of it", compared_with=1)
    bucket.create(folder.file(JobFile.DECISION), decision.to_json())
    bucket.write(GUARD, b"live: {mode: warn}")
    run_job(job_for(bucket, 3))
    bucket.delete(folder.file(JobFile.OUTCOME))  # as no process does
    outcome = publishing.finish_job(folder)
    assert outcome is not None
    assert outcome.state == JobState.HELD
    assert "it was refused by ann@host" in outcome.reason


def test_a_result_that_cannot_be_put_at_its_place_is_not_shown_on_its_channel(bucket, monkeypatch):
    run_job(job_for(bucket, 1))
    base = shown(bucket)
    folder = ready_to_finish(bucket, 2, ROWS - 3)
    with monkeypatch.context() as patch:
        patch.setattr(publishing, "publish_newest", lambda *_: (_ for _ in ()).throw(RequestError("no place", next_step="Make one.")))
        with pytest.raises(RequestError) as raised:
            publishing.finish_job(folder)
    folder.fail_unpublished(raised.value, is_in_use=lambda revision: revision in revisions_in_use(bucket))
    assert shown(bucket) == base
    folder.reopen()
    outcome = publishing.finish_job(folder)
    assert outcome is not None
    assert outcome.state == JobState.DONE
    assert at_place(bucket, outcome.result) == folder.job_id
    assert shown(bucket) == text_at(bucket, manifest_of(folder).revision)


@pytest.mark.parametrize("has_earlier", [True, False], ids=["earlier result", "no earlier result"])
def test_a_result_whose_channel_moves_while_it_is_put_at_its_place_is_withdrawn(bucket, monkeypatch, has_earlier):
    first = job_for(bucket, 1)
    run_job(first)
    if has_earlier:
        run_job(job_for(bucket, 2, place="elsewhere"))
    folder = ready_to_finish(bucket, 4, place="elsewhere")
    put = publishing.publish_newest

    def put_while_the_channel_moves(*arguments):
        newest = put(*arguments)
        change_channel(bucket, "live", lambda now: change_to(manifest_of(first), now, "rolled back", pinned=True))
        return newest

    monkeypatch.setattr(publishing, "publish_newest", put_while_the_channel_moves)
    outcome = publishing.finish_job(folder)
    assert outcome is not None
    assert outcome.state == JobState.HELD
    assert at_place(bucket, outcome.result) != folder.job_id
    assert (at_place(bucket, outcome.result) == "") is not has_earlier
    if has_earlier:
        text_at(bucket, outcome.result)
    assert shown(bucket) == text_at(bucket, manifest_of(first).revision)
