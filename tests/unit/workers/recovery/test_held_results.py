"""People are reminded of a held result each time that ``hold_for`` has passed, until somebody decides."""

from datetime import timedelta

import pytest

from shared.bucket.local import LocalBucket
from shared.catalog.held import Decision, held_jobs, mark_held
from shared.guard.config import GUARD
from shared.jobs.files import JobFile
from shared.jobs.folder import JobFolder, Outcome, open_jobs
from shared.jobs.outbox import undelivered
from shared.jobs.states import JobState
from tests.handmade import NOON, make_job
from workers.recovery.held_results import look_after_held


@pytest.fixture
def bucket(tmp_path) -> LocalBucket:
    return LocalBucket(tmp_path / "bucket")


@pytest.fixture
def held(bucket) -> JobFolder:
    folder = make_job(bucket, channel="live")
    folder.write_outcome(Outcome(state=JobState.HELD, at=NOON, reason="half of the rows are gone", exit_code=7))
    mark_held(bucket, folder.job_id)
    return folder


def reminders(bucket: LocalBucket, hours: float) -> list[str]:
    look_after_held(bucket, NOON + timedelta(hours=hours))
    return sorted(folder.name for folder in undelivered(bucket))


def test_each_hold_time_gives_one_reminder_with_the_reason_and_both_commands(bucket, held):
    assert reminders(bucket, 11.9) == []
    assert reminders(bucket, 12.1) == reminders(bucket, 23) == [f"held-{held.job_id}-20261123t120000-1"]
    assert reminders(bucket, 25) == [f"held-{held.job_id}-20261123t120000-1", f"held-{held.job_id}-20261123t120000-2"]
    notice = undelivered(bucket)[0].notice()
    assert notice is not None
    assert notice.title == f"still held after 12h: the result of job {held.job_id} for live"
    assert notice.facts["reason"] == "half of the rows are gone"
    assert f"scoring results approve {held.job_id}" in notice.next_step
    assert f"scoring results refuse {held.job_id}" in notice.next_step


def test_the_hold_time_is_that_of_the_channel(bucket, held):
    bucket.write(GUARD, b"live: {hold_for: 1h}\nother: {hold_for: 1min}")
    assert reminders(bucket, 0.9) == []
    assert reminders(bucket, 1.1) == [f"held-{held.job_id}-20261123t120000-1"]


@pytest.mark.parametrize("text", [b"live: [", b"nonsense: {a: 1}"])
def test_with_limits_that_cannot_be_read_the_default_counts(bucket, held, text):
    bucket.write(GUARD, text)
    assert reminders(bucket, 11.9) == []
    assert reminders(bucket, 12.1) == [f"held-{held.job_id}-20261123t120000-1"]


@pytest.fixture
def settled(held) -> JobFolder:
    outcome = held.outcome()
    assert outcome is not None
    held.settle_hold(outcome)
    return held


def decide(folder: JobFolder, verdict: str) -> None:
    decision = Decision.decode({"verdict": verdict, "at": NOON.isoformat(), "by": "ann@host", "reason": "so"})
    assert folder.bucket.create(folder.file(JobFile.DECISION), decision.to_json())


def test_a_refused_result_loses_its_mark_and_one_whose_job_is_damaged_stops_nothing(bucket, settled):
    damaged = make_job(bucket, minute=1, channel="live")
    mark_held(bucket, damaged.job_id)
    bucket.write(damaged.file(JobFile.REQUEST), b"{")
    mark_held(bucket, "not a job")
    decide(settled, "refused")
    assert reminders(bucket, 100) == []
    assert held_jobs(bucket) == sorted([damaged.job_id, "not a job"])


def test_an_approval_whose_command_was_interrupted_is_completed(bucket, settled):
    decide(settled, "approved")
    assert reminders(bucket, 100) == []
    assert settled.outcome() is None  # the finish step decides once more, and the open mark lets the sweep send it
    assert settled.job_id in open_jobs(bucket)
    assert reminders(bucket, 100) == []
