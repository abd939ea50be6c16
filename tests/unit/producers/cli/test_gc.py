"""What is old goes, in two steps; what something needs stays, also when it comes to be needed at the last moment."""

import gzip
import json
import os
from datetime import UTC, datetime, timedelta

import pytest
import redis
from click.testing import CliRunner

from producers.cli import root
from producers.enqueue.fix import enqueue_fix
from producers.enqueue.score import enqueue_score
from producers.enqueue.sending import resume
from producers.results.finding import find_result
from producers.results.rejects import find_rejects
from shared.bucket.local import LocalBucket
from shared.errors import RequestError
from shared.jobs.folder import JobFolder, open_jobs
from shared.jobs.messages import Notice
from shared.jobs.outbox import NoticeFolder, announce, undelivered
from shared.retention import removal, tombstones
from shared.retention import round as daily
from shared.retention.assessments import Kind
from shared.retention.config import RETENTION, parse_retention, read_retention
from shared.retention.survey import survey
from shared.settings import Settings
from tests.handmade import TABLE, make_job, plan, publish_handmade, row, run_job, score_chunks, text_at, tree, write_table
from workers.scoring import planning, publishing

RULES = """
jobs:      {parts: 1d, done: 30d, failed: 90d}
revisions: {keep_last: 1}
notices: 90d
"""
DAY = timedelta(days=1)
BAD = "1003,1,x,0,1.5,Computer"


@pytest.fixture
def bucket(tmp_path) -> LocalBucket:
    bucket = LocalBucket(tmp_path / "bucket")
    publish_handmade(bucket)
    lines = [row(number) for number in range(20)]
    lines[3] = BAD
    write_table(bucket, lines)
    bucket.write(f"{TABLE}.gz", gzip.compress(bucket.read(TABLE)))
    bucket.write(RETENTION, RULES.encode())
    return bucket


def done_job(bucket: LocalBucket, minute: int = 0, **more) -> JobFolder:
    folder = make_job(bucket, minute=minute, **{"max_reject_share": 0.5, "chunk_rows": 6} | more)
    assert run_job(folder).state == "done"
    return notified(folder)


def failed_job(bucket: LocalBucket, minute: int = 0, **more) -> JobFolder:
    """A job that failed for its rejects: all its parts are there, and a person may accept them."""
    folder = make_job(bucket, minute=minute, **{"max_rejects": 0, "max_reject_share": 1.0, "chunk_rows": 6} | more)
    plan(folder)
    score_chunks(folder, bucket.root / "no-cache")
    with pytest.raises(Exception, match="rejects"):
        publishing.finish_job(folder)
    folder.fail(RequestError("too many rejects"))
    return notified(folder)


def notified(folder: JobFolder) -> JobFolder:
    """People were notified, and the job needs nothing more."""
    outcome = folder.outcome()
    folder.bucket.write(folder.file("notified.json"), b"{}")
    folder.remove_open_mark(outcome)
    return folder


def in_days(days: float) -> datetime:
    return datetime.now(UTC) + days * DAY


def verdicts(bucket, days: float) -> dict[tuple[str, str], str]:
    """Kind and name of what goes, with the reason."""
    return {thing.key: thing.reason for thing in survey(bucket, read_retention(bucket), in_days(days)) if thing.is_removed}


def gone_after(bucket, days: float) -> set[str]:
    """What a round removes in so many days, and the one a day later."""
    before = tree(bucket.root)
    daily.make_round(bucket, read_retention(bucket), in_days(days))
    written = {path for path in tree(bucket.root) if not path.startswith("gc/")}
    assert written == before.keys() - {path for path in before if path.startswith("gc/")}, "only marked"
    daily.make_round(bucket, read_retention(bucket), in_days(days + 1.01))
    left = tree(bucket.root)
    assert not [path for path in left if path.startswith("gc/removing")]
    return {path for path in before if path not in left and not path.startswith("gc/")}


def age(bucket, days: float) -> None:
    """Lets every file that is there be so much older."""
    for path in bucket.root.rglob("*"):
        if "/input/" in str(path):
            continue  # a table would be another one
        found = path.stat()
        os.utime(path, (found.st_atime - days * 86400, found.st_mtime - days * 86400))


# --- jobs


def test_parts_of_a_job_that_is_done_go_after_a_day_and_it_can_still_be_fixed(bucket):
    folder = done_job(bucket)
    assert verdicts(bucket, 0.9) == {}
    parts = {path for path in tree(bucket.root) if "/parts/" in path}
    assert gone_after(bucket, 1.1) == parts
    bucket.write("fixed.csv", b"reject_line,entity_id,att1,att2,att3,length,device\n5,1003,1,1,0,1.5,Computer\n")
    fix = make_job(bucket, minute=1, fixes=folder.job_id, fixed_rows="fixed.csv", max_reject_share=0.5)
    assert run_job(fix).facts["scored"] == "20"


def test_a_job_that_is_done_keeps_its_request_outcome_and_manifest_for_a_year(bucket):
    folder = done_job(bucket)
    assert verdicts(bucket, 30.5)[Kind.JOB_FILES, folder.job_id] == "done more than 30d ago"
    gone_after(bucket, 30.5)
    assert {info.path.rpartition("/")[2] for info in bucket.tree(folder.path)} == {
        "job.json",
        "outcome.json",
        "manifest.json",
        "published.json",
        "versions.json",
    }
    assert (folder.status().state, folder.status().job.table) == ("done", TABLE)
    assert find_result(bucket, folder.job_id)[1].job_id == folder.job_id
    assert bucket.folders(folder.path) == [], "no empty folder is left"


def test_a_job_whose_files_are_gone_says_so_when_it_is_to_be_fixed_or_resumed(bucket):
    done, failed = done_job(bucket), failed_job(bucket, 1)
    settings = Settings(bucket_url=bucket.url, redis_url="redis://127.0.0.1:1/0")
    gone_after(bucket, 95)
    for ask in (
        lambda: enqueue_fix(settings, bucket, job_id=done.job_id, rows="fixed.csv"),
        lambda: enqueue_fix(settings, bucket, job_id=failed.job_id, rows="fixed.csv"),
        lambda: resume(settings, bucket, failed.job_id),
        lambda: resume(settings, bucket, failed.job_id, accept_rejects=True),
        lambda: planning.plan_job(make_job(bucket, minute=5, fixes=done.job_id, fixed_rows="fixed.csv")),
    ):
        with pytest.raises(RequestError, match=r"were removed some time after it had ended.*--again"):
            ask()
    assert failed.outcome().state == "failed"
    assert failed.job_id not in open_jobs(bucket)


def test_a_failed_job_keeps_its_parts_so_that_its_rejects_can_be_accepted_but_no_slices(bucket):
    folder = failed_job(bucket, table=f"{TABLE}.gz")
    slices = {path for path in tree(bucket.root) if "/slices/" in path}
    assert slices
    assert gone_after(bucket, 80) == slices
    folder.reopen(accept_rejects=True)
    plan(folder)
    assert not folder.bucket.folders(folder.file("slices")), "all parts are there"
    assert publishing.finish_job(folder).facts["rejected"] == "1, accepted by a person"


def test_a_failed_job_whose_slices_are_gone_goes_on(bucket):
    folder = make_job(bucket, table=f"{TABLE}.gz", chunk_rows=6, max_reject_share=0.5)
    plan(folder)
    folder.cancel()
    notified(folder)
    gone_after(bucket, 2)
    folder.reopen()
    assert run_job(folder).facts["scored"] == "19"


def test_a_job_that_is_open_and_one_that_never_ended_stay_for_ever(bucket):
    opened, lost = make_job(bucket), make_job(bucket, minute=1)
    plan(opened)
    bucket.delete(f"jobs/_open/{lost.job_id}")
    assert verdicts(bucket, 3000) == {}
    reasons = {thing.name: thing.reason for thing in survey(bucket, read_retention(bucket), in_days(3000))}
    assert reasons[opened.job_id] == "it is open"
    assert "has not ended and is not open" in reasons[lost.job_id]


def test_what_an_open_fix_takes_over_stays(bucket):
    folder = done_job(bucket)
    fix = make_job(bucket, minute=1, fixes=folder.job_id, fixed_rows="fixed.csv")
    assert verdicts(bucket, 400) == {}
    found = {thing.name: thing.reason for thing in survey(bucket, read_retention(bucket), in_days(400))}
    assert found[folder.job_id] == f"open job {fix.job_id} needs it"


def test_the_table_of_a_fix_that_stays_stays(bucket):
    folder = make_job(bucket, max_reject_share=0.5)
    bucket.delete_folder(folder.path)
    bucket.write(folder.file("input/table.csv"), bucket.read(TABLE))
    own = folder.file("input/table.csv")
    other = make_job(bucket, minute=2, table=own, max_reject_share=0.5)
    job = other.job()
    bucket.delete_many([other.file("job.json"), f"jobs/_open/{other.job_id}"])
    folder.create(job.model_copy(update={"job_id": folder.job_id}))
    assert run_job(folder).state == "done"
    notified(folder)
    age(bucket, 20)
    bucket.write("fixed.csv", b"reject_line,entity_id,att1,att2,att3,length,device\n5,1003,1,1,0,1.5,Computer\n")
    fix = notified_fix = make_job(bucket, minute=1, table=own, fixes=folder.job_id, fixed_rows="fixed.csv")
    assert run_job(fix).state == "done"
    notified(notified_fix)
    found = {thing.key: thing for thing in survey(bucket, read_retention(bucket), in_days(15))}
    assert not found[Kind.JOB_FILES, folder.job_id].is_removed
    assert found[Kind.JOB_FILES, folder.job_id].reason == f"fix {fix.job_id} needs it"
    assert (Kind.JOB_FILES, folder.job_id) in verdicts(bucket, 40)


def test_a_record_goes_after_a_year_with_its_request_but_not_before_its_result(bucket):
    asked = enqueue_score(
        Settings(bucket_url=bucket.url, redis_url="redis://127.0.0.1:1/0"), bucket, table=TABLE, model="v1", max_reject_share=0.5
    )
    folder = JobFolder(bucket, asked.job_id)
    run_job(folder)
    notified(folder)
    gone_after(bucket, 31)
    found = verdicts(bucket, 366)
    assert found == {}
    assert {kind for kind, _ in verdicts(bucket, 369)} == {Kind.REQUEST}, "its result is still there"
    bucket.delete_folder("data/predict/output")
    found = verdicts(bucket, 369)
    assert {kind for kind, _ in found} == {Kind.REQUEST, Kind.JOB_RECORD}
    gone_after(bucket, 369)
    assert bucket.tree("jobs") == []


def test_a_request_that_was_made_again_lately_keeps_all_its_runs(bucket):
    settings = Settings(bucket_url=bucket.url, redis_url="redis://127.0.0.1:1/0")
    jobs = []
    for _ in range(3):
        jobs.append(enqueue_score(settings, bucket, table=TABLE, model="v1", max_reject_share=0.5, again=True).job_id)
        run_job(JobFolder(bucket, jobs[-1]))
        notified(JobFolder(bucket, jobs[-1]))
    for file in bucket.files("jobs/_requests")[:2]:
        os.utime(bucket.place(file.path), (0, 0))
    assert verdicts(bucket, 300).keys() & {(Kind.REQUEST, "x")} == set()
    assert not [kind for kind, _ in verdicts(bucket, 300) if kind == Kind.REQUEST]


def test_a_leftover_of_an_enqueue_that_died_goes_after_a_day(bucket):
    bucket.write("jobs/20261123t120000000z-score-abcdef/input/table.csv", b"half")
    assert verdicts(bucket, 0.5) == {}
    assert gone_after(bucket, 1.5) == {"jobs/20261123t120000000z-score-abcdef/input/table.csv"}


def test_what_nobody_knows_stays_and_is_named(bucket):
    for path in ("jobs/readme/job.json", "data/predict/output/v1/2026/11/23/revisions/mine/manifest.json"):
        bucket.write(path, b"{")
    found = [thing for thing in survey(bucket, read_retention(bucket), in_days(3000)) if thing.kind is Kind.UNKNOWN]
    assert {thing.name for thing in found} == {"jobs/readme", "data/predict/output/v1/2026/11/23/revisions/mine"}
    assert not any(thing.is_removed for thing in found)


@pytest.mark.parametrize("name", ["outcome.json", "manifest.json", "published.json", "plan.json", "job.json"])
@pytest.mark.parametrize("content", [b"", b"{", b'{"format": 2}', b"\xff"])
def test_a_broken_file_of_a_job_stops_nothing(bucket, name, content):
    folder, other = done_job(bucket), done_job(bucket, 1)
    bucket.write(folder.file(name), content)
    daily.make_round(bucket, read_retention(bucket), in_days(31))
    daily.make_round(bucket, read_retention(bucket), in_days(32.1))
    assert not other.has("plan.json")
    survey(bucket, read_retention(bucket), in_days(800))


def test_the_times_of_a_copy_do_not_matter_where_the_outcome_says_more(bucket):
    folder = make_job(bucket, max_reject_share=0.5)
    run_job(folder)
    notified(folder)
    old = folder.outcome().model_copy(update={"at": in_days(-40)})
    bucket.write(folder.file("outcome.json"), old.to_json())
    ids = {"created": in_days(-41)}
    assert (Kind.JOB_FILES, folder.job_id) not in verdicts(bucket, 0), "its id says that it is younger"
    aged = JobFolder(bucket, f"{ids['created']:%Y%m%dt%H%M%S}z-score-000000")
    bucket.place(folder.path).rename(bucket.place(aged.path))
    assert (Kind.JOB_FILES, aged.job_id) in verdicts(bucket, 0)


def test_without_the_file_only_slices_and_parts_go(bucket):
    bucket.delete(RETENTION)
    done_job(bucket)
    failed_job(bucket, 1, table=f"{TABLE}.gz")
    bucket.write("jobs/20261123t120000000z-score-abcdef/input/table.csv", b"half")
    announce(bucket, "old", Notice(good=True, title="x", facts={}))
    NoticeFolder(bucket, "old").close()
    assert {kind for kind, _ in verdicts(bucket, 3000)} == {Kind.SLICES, Kind.PARTS}


def test_nothing_is_scored_again_for_a_job_whose_folder_was_removed(bucket):
    """A run of the schedule, and a request, is known by its request, which stays longer than anybody looks back."""
    settings = Settings(bucket_url=bucket.url, redis_url="redis://127.0.0.1:1/0")
    asked = enqueue_score(settings, bucket, table=TABLE, model="v1", max_reject_share=0.5)
    run_job(JobFolder(bucket, asked.job_id))
    notified(JobFolder(bucket, asked.job_id))
    gone_after(bucket, 366)
    again = enqueue_score(settings, bucket, table=TABLE, model="v1", max_reject_share=0.5)
    assert (again.job_id, again.fresh) == (asked.job_id, False)


def test_a_request_whose_job_was_removed_becomes_a_new_job(bucket):
    settings = Settings(bucket_url=bucket.url, redis_url="redis://127.0.0.1:1/0")
    asked = enqueue_score(settings, bucket, table=TABLE, model="v1", max_reject_share=0.5)
    path = bucket.files("jobs/_requests")[0].path
    bucket.delete_folder(f"jobs/{asked.job_id}")
    assert enqueue_score(settings, bucket, table=TABLE, model="v1", max_reject_share=0.5).job_id == asked.job_id, "it died a moment ago"
    bucket.write(path, b"20251123t120000000z-score-abcdef")
    again = enqueue_score(settings, bucket, table=TABLE, model="v1", max_reject_share=0.5)
    assert again.fresh
    assert again.job_id > "2026"


def test_the_rejects_of_a_job_are_shown_when_its_parts_are_gone(bucket):
    folder = done_job(bucket)
    _, rejects = find_rejects(bucket, folder.job_id)
    before = list(rejects)
    gone_after(bucket, 40)
    job_id, rejects = find_rejects(bucket, folder.job_id)
    assert (job_id, list(rejects)) == (folder.job_id, before)
    assert len(before) == 1
    bucket.delete_folder("data/predict/output")
    with pytest.raises(RequestError, match="were removed with its revision"):
        find_rejects(bucket, folder.job_id)


def test_the_rejects_of_a_failed_job_whose_files_are_gone_are_not_called_none(bucket):
    folder = failed_job(bucket)
    assert len(list(find_rejects(bucket, folder.job_id)[1])) == 1
    gone_after(bucket, 95)
    with pytest.raises(RequestError, match="were removed some time after it had ended"):
        find_rejects(bucket, folder.job_id)


# --- results


def test_revisions_go_by_the_rules_but_never_the_published_one(bucket):
    jobs = [done_job(bucket, minute) for minute in range(4)]
    place = "data/predict/output/v1/2026/11/23"
    published = bucket.read(f"{place}/revisions/{jobs[1].job_id}/manifest.json")
    bucket.write(f"{place}/manifest.json", published)
    gone = gone_after(bucket, 0)
    assert {path.split("/revisions/")[1].split("/")[0] for path in gone} == {jobs[0].job_id, jobs[2].job_id}
    assert text_at(bucket, f"{place}/revisions/{jobs[3].job_id}")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
def test_where_what_is_published_cannot_be_read_every_revision_stays(bucket, content):
    for minute in range(3):
        done_job(bucket, minute)
    bucket.write("data/predict/output/v1/2026/11/23/manifest.json", content)
    assert not [kind for kind, _ in verdicts(bucket, 3000) if kind == Kind.REVISION]


def test_a_revision_without_a_manifest_stays_while_its_job_can_go_on(bucket):
    folder = make_job(bucket, max_reject_share=0.5)
    plan(folder)
    score_chunks(folder, bucket.root)
    from workers.scoring.joining import join
    from workers.scoring.plan import read_plan

    join(folder, folder.score_job(), read_plan(folder), awaits=False)
    folder.cancel()
    notified(folder)
    revision = f"data/predict/output/v1/2026/11/23/revisions/{folder.job_id}"
    assert revision not in {name for _, name in verdicts(bucket, 80)}
    gone_after(bucket, 95)
    names = {info.path.rpartition("/")[2] for info in bucket.tree(revision)}
    assert names == {"prediction_output.csv.gz", "prediction_index.arrow", "rejects.csv.gz"}
    daily.make_round(bucket, read_retention(bucket), in_days(98))
    assert bucket.tree(revision) == []


def test_a_place_goes_whole_only_where_an_age_of_results_is_set(bucket):
    done_job(bucket)
    assert (Kind.RESULT, "data/predict/output/v1/2026/11/23") not in verdicts(bucket, 3000)
    bucket.write(RETENTION, (RULES + "results: 60d\n").encode())
    assert (Kind.RESULT, "data/predict/output/v1/2026/11/23") not in verdicts(bucket, 40)
    gone_after(bucket, 70)
    assert bucket.tree("data/predict/output") == []


# --- notices


def test_notices_go_after_their_time_unless_they_are_yet_to_be_delivered(bucket):
    for name in ("alias-champion-000001", "undelivered", "schedule-daily-20261123t0600-not-started", "schedule-daily-20261123t0600-late"):
        announce(bucket, name, Notice(good=True, title="x", facts={}))
    for folder in undelivered(bucket):
        if folder.name != "undelivered":
            folder.close()
    assert {name for _, name in verdicts(bucket, 91)} == {
        "notices/alias-champion-000001",
        "notices/schedule-daily-20261123t0600-late",
    }, "the schedule would start the other run after all"
    assert len(verdicts(bucket, 370)) == 3


# --- the two steps


def test_what_comes_to_be_needed_after_its_tombstone_is_spared(bucket):
    done, failed = done_job(bucket), failed_job(bucket, 1)
    rules, before = read_retention(bucket), tree(bucket.root)
    daily.make_round(bucket, rules, in_days(95))
    fix = make_job(bucket, minute=2, fixes=done.job_id, fixed_rows="fixed.csv")
    failed.reopen(accept_rejects=True)
    removed = removal.remove_due(bucket, rules, in_days(97))
    assert [thing for thing in removed.things if thing.name in (done.job_id, failed.job_id)] == []
    assert {thing.name for thing in removed.spared} == {done.job_id, failed.job_id}
    after = tree(bucket.root)
    assert not [path for path in before if "/jobs/" in path and path not in after and "outcome" not in path]
    assert publishing.finish_job(failed).state == "done"
    assert fix.job_id in open_jobs(bucket)


def test_a_job_that_is_resumed_while_it_is_removed_is_spared_or_refused_but_never_half_there(bucket, monkeypatch):
    failed = failed_job(bucket)
    rules = read_retention(bucket)
    daily.make_round(bucket, rules, in_days(95))
    read_needs = removal.read_needs
    looks = []

    def resumed_in_between(of):
        looks.append(1)
        if len(looks) == 2:  # the mark is written, and nothing is removed yet
            with pytest.raises(RequestError, match="were removed"):
                failed.reopen()
        return read_needs(of)

    monkeypatch.setattr(removal, "read_needs", resumed_in_between)
    removal.remove_due(bucket, rules, in_days(97))
    assert len(looks) == 2
    assert not failed.has("plan.json")
    assert failed.outcome().state == "failed"


def test_a_job_that_was_resumed_just_before_its_mark_is_spared(bucket, monkeypatch):
    failed = failed_job(bucket)
    rules = read_retention(bucket)
    daily.make_round(bucket, rules, in_days(95))
    judge = removal._assess_again

    def then_resumed(*arguments):
        found = judge(*arguments)
        failed.reopen(accept_rejects=True)
        return found

    monkeypatch.setattr(removal, "_assess_again", then_resumed)
    removed = removal.remove_due(bucket, rules, in_days(97))
    assert [thing.name for thing in removed.spared] == [failed.job_id]
    assert not failed.has("cleared")
    assert publishing.finish_job(failed).state == "done"


def test_nothing_is_removed_while_it_is_not_known_what_a_new_job_needs(bucket):
    done_job(bucket)
    rules = read_retention(bucket)
    daily.make_round(bucket, rules, in_days(95))
    bucket.write("jobs/_open/20261130t120000000z-score-abcdef", b"")
    before = tree(bucket.root)
    removed = removal.remove_due(bucket, rules, in_days(97))
    assert (removed.things, removed.is_over) == ([], False)
    assert tree(bucket.root) == before
    bucket.delete("jobs/_open/20261130t120000000z-score-abcdef")
    assert removal.remove_due(bucket, rules, in_days(97)).things


def test_a_tombstone_that_is_taken_back_removes_nothing_for_a_week(bucket):
    folder, other = done_job(bucket), done_job(bucket, 1)
    rules = read_retention(bucket)
    daily.make_round(bucket, rules, in_days(31))
    taken = tombstones.undo(bucket, folder.job_id, in_days(31.1))
    assert {thing.name for thing in taken.things} == {folder.job_id}
    assert taken.begun == []
    daily.make_round(bucket, rules, in_days(32.2))
    assert folder.has("plan.json")
    assert not other.has("plan.json")
    daily.make_round(bucket, rules, in_days(36))
    assert folder.has("plan.json")
    daily.make_round(bucket, rules, in_days(39))
    daily.make_round(bucket, rules, in_days(41))
    assert not folder.has("plan.json")
    assert bucket.files("gc/undone") == []


def test_what_is_taken_back_while_it_is_removed_is_reported_or_stays(bucket, monkeypatch):
    done_job(bucket)
    rules = read_retention(bucket)
    daily.make_round(bucket, rules, in_days(31))
    read = removal.read_tombstone
    taken = []

    def taken_back_in_between(*arguments):
        taken.append(tombstones.undo(bucket, None, in_days(33)))
        return read(*arguments)

    monkeypatch.setattr(removal, "read_tombstone", taken_back_in_between)
    before = {path for path in tree(bucket.root) if not path.startswith("gc/")}
    assert removal.remove_due(bucket, rules, in_days(33)).things == []
    assert taken[0].begun
    assert {path for path in tree(bucket.root) if not path.startswith("gc/")} == before


def test_an_unknown_thing_cannot_be_taken_back(bucket):
    with pytest.raises(RequestError, match="nothing that is called 'x' is to be removed"):
        tombstones.undo(bucket, "x", in_days(0))
    assert tombstones.undo(bucket, None, in_days(0)).things == []


@pytest.mark.parametrize("content", [b"", b"{", b'{"format": 2}'])
def test_a_damaged_tombstone_or_progress_removes_nothing_and_stops_nothing(bucket, content):
    folder = done_job(bucket)
    bucket.write("gc/tombstones/20261123t120000z-abcdef.json", content)
    bucket.write("gc/progress.json", content)
    daily.make_round(bucket, read_retention(bucket), in_days(31))
    daily.make_round(bucket, read_retention(bucket), in_days(33))
    assert not folder.has("plan.json")


def test_a_changed_rule_counts_at_once(bucket):
    folder = done_job(bucket)
    daily.make_round(bucket, read_retention(bucket), in_days(31))
    bucket.write(RETENTION, b"jobs: {done: 60d}")
    daily.make_round(bucket, read_retention(bucket), in_days(33))
    assert folder.has("plan.json")


# --- the round


def test_a_round_is_made_once_a_day_in_steps_that_go_on_where_the_last_one_stopped(bucket):
    jobs = [done_job(bucket, minute) for minute in range(5)]
    rules = parse_retention(RULES.encode())
    steps = []
    while (progress := daily.make_step(bucket, rules, in_days(31), seconds=0)) is not None:
        steps.append(progress.phase)
    assert list(dict.fromkeys(steps)) == ["jobs", "results", "requests", "notices", "folders", ""]
    assert daily.make_step(bucket, rules, in_days(31.9), seconds=0) is None
    marked = {thing.name for _, found in tombstones.read_all(bucket, tombstones.TOMBSTONES) for thing in found.things}
    assert marked >= {job.job_id for job in jobs}
    assert daily.make_step(bucket, rules, in_days(32.1), seconds=0) is not None


def test_a_step_stops_between_two_groups_of_jobs(bucket, monkeypatch):
    from shared.retention import survey as module

    monkeypatch.setattr(module, "GROUP", 2)
    jobs = [done_job(bucket, minute) for minute in range(5)]
    rules = parse_retention(RULES.encode())
    afters = []
    while (progress := daily.make_step(bucket, rules, in_days(31), seconds=0)) is not None:
        afters.append(progress.after)
    assert len([after for after in afters if after.endswith(tuple("01234"))]) >= 2
    marked = [thing.name for _, found in tombstones.read_all(bucket, tombstones.TOMBSTONES) for thing in found.things]
    assert sorted(name for name in marked if name in {job.job_id for job in jobs}) == sorted(job.job_id for job in jobs)


def test_a_clock_that_went_back_does_not_stop_the_rounds(bucket):
    rules = read_retention(bucket)
    daily.make_round(bucket, rules, in_days(400))
    assert daily.make_step(bucket, rules, in_days(0), seconds=10) is not None


# --- the command


def gc(bucket, *arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(root.scoring, ["gc", *arguments], env={"BUCKET_URL": bucket.url})
    if code == 0:
        assert done.exit_code == 0, done.exception
    return done.output if code == 0 else str(done.exception)


def test_the_command_prints_each_thing_with_its_reason_and_bytes_by_kind(bucket):
    folder = done_job(bucket)
    age(bucket, 2)
    before = tree(bucket.root)
    shown = gc(bucket, "--dry-run")
    assert f"{folder.job_id}: done more than 1d ago" in shown
    assert [line for line in shown.splitlines() if line.startswith("goes   parts")]
    assert [line for line in shown.splitlines() if line.startswith("stays  job files") and "stays until" in line]
    assert [line for line in shown.splitlines() if line.startswith("stays  revision") and "the newest of its place" in line]
    assert "1 things would go; nothing was changed." in shown
    assert tree(bucket.root) == before
    found = json.loads(gc(bucket, "--dry-run", "--json"))
    [parts] = [thing for thing in found["things"] if thing["kind"] == "parts"]
    assert (parts["state"], parts["bytes"]) == ("goes", sum(len(data) for path, data in before.items() if "/parts/" in path))
    assert found["kinds"]["parts"] == {"goes": 1, "goes_bytes": parts["bytes"], "stays": 0, "stays_bytes": 0}


def test_the_command_marks_then_removes_a_day_later_unless_it_is_undone(bucket):
    folder = done_job(bucket)
    age(bucket, 2)
    assert "have a tombstone. Take it back with: scoring gc undo" in gc(bucket)
    assert "is removed after" in gc(bucket, "--dry-run")
    assert "1 things were taken back" in gc(bucket, "undo", folder.job_id)
    assert "taken back, stays until" in gc(bucket, "--dry-run")
    assert gc(bucket, "undo", "nothing", code=2).startswith("nothing that is called 'nothing' is to be removed")
    bucket.delete_folder("gc")
    gc(bucket)
    for file in bucket.files("gc/tombstones"):
        data = json.loads(bucket.read(file.path))
        bucket.write(file.path, json.dumps(data | {"at": in_days(-2).isoformat()}).encode())
    shown = gc(bucket)
    assert [line for line in shown.splitlines() if line.startswith("gone   parts")]
    assert not folder.parts_done()


def test_rules_that_cannot_be_used_remove_nothing(bucket):
    done_job(bucket)
    age(bucket, 500)
    bucket.write(RETENTION, b"jobs: {dnoe: 1d}")
    before = tree(bucket.root)
    assert "there is no key 'jobs.dnoe'" in gc(bucket, code=2)
    assert tree(bucket.root) == before


@pytest.mark.server
def test_the_command_goes_by_the_clock_of_redis_and_without_redis_by_its_own(bucket, redis_url, no_redis_url, monkeypatch):
    done_job(bucket)
    really = redis.Redis.time
    monkeypatch.setattr(redis.Redis, "time", lambda client: (really(client)[0] + 3 * 24 * 3600, 0))

    def kinds_that_go(url: str) -> set[str]:
        done = CliRunner().invoke(root.scoring, ["gc", "--dry-run", "--json"], env={"BUCKET_URL": bucket.url, "REDIS_URL": url})
        return {thing["kind"] for thing in json.loads(done.stdout)["things"] if thing["state"] == "goes"}

    assert Kind.PARTS not in kinds_that_go(no_redis_url)
    assert Kind.PARTS in kinds_that_go(redis_url)
