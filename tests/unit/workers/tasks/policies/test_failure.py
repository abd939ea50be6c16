"""Which error drops a message, which one ends its job, and how a job ends as failed."""

import dataclasses

import pytest
from structlog.testing import capture_logs

from shared.errors import BucketError, StaleMessageError, TableError
from shared.jobs.folder import JobFolder
from workers.tasks import runner
from workers.tasks.policies.failure import JobFailedHereError, end_step, fail_job
from workers.tasks.runner import run_step

pytestmark = pytest.mark.server


def raising(error):
    def work(*_):
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "reason", "exit_code"),
    [
        (TableError("the table has no rows"), "the table has no rows", 3),
        (MemoryError(), "made.up (making up things) ran out of memory: its process may use ", 5),
        (ValueError("a defect"), "unexpected error in made.up, see ", 5),
        (SystemExit(3), "made.up (making up things) tried to end its process with SystemExit(3)", 4),
    ],
    ids=["permanent", "memory", "unexpected", "exit"],
)
def test_an_error_that_another_try_would_give_again_fails_the_job_with_a_notice(make_run, sent, error, reason, exit_code):
    run = make_run(raising(error))
    run_step(run)
    outcome = run.folder.outcome()
    assert outcome.state == "failed"
    assert outcome.reason.startswith(reason)
    assert outcome.exit_code == exit_code
    assert sent == ["notify"]


def test_a_message_that_does_not_fit_its_job_is_dropped_and_the_job_goes_on(make_run, sent):
    run = make_run(raising(StaleMessageError("the job has no chunk 9")))
    with capture_logs() as logged:
        run_step(run)
    assert {"event": "message refused", "task": "made.up", "error": "the job has no chunk 9", "log_level": "error"} in logged
    assert run.folder.outcome() is None
    assert sent == []


def test_a_step_that_does_not_notify_fails_its_job_without_a_notice(make_run, sent):
    run = make_run(notifies=False)
    fail_job(run, TableError("the table has no rows"))
    assert run.folder.outcome().state == "failed"
    assert sent == []


def test_a_job_that_was_never_enqueued_is_not_failed(make_run, sent):
    known = make_run()
    unknown = dataclasses.replace(known, folder=JobFolder(known.folder.bucket, "20261123t120000z-score-9"))
    with capture_logs() as logged:
        fail_job(unknown, TableError("the table has no rows"))
    assert [line["event"] for line in logged] == ["message refused: its job was never requested"]
    assert unknown.folder.outcome() is None
    assert sent == []


def test_a_task_from_the_queue_is_shown_as_failed(make_run):
    run = make_run()
    run.task.request.called_directly = False
    with pytest.raises(JobFailedHereError, match="the table has no rows"):
        end_step(run, TableError("the table has no rows"))
    assert run.folder.outcome().state == "failed"


def test_a_failure_that_cannot_be_written_is_logged_and_left_to_the_sweep(make_run, monkeypatch):
    run = make_run()
    monkeypatch.setattr(run.folder, "fail", raising(BucketError("the bucket is full")))
    with capture_logs() as logged:
        fail_job(run, TableError("the table has no rows"))
    assert logged[-1]["event"] == "the failure could not be written down"
    assert run.folder.outcome() is None


def test_a_worker_that_stops_gives_its_message_back(make_run, monkeypatch):
    monkeypatch.setattr(runner, "terminate_handler_fired", lambda: True)
    run = make_run(raising(SystemExit(0)))
    with pytest.raises(SystemExit):
        run_step(run)
    assert run.folder.outcome() is None
