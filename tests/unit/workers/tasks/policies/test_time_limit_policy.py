"""At its time limit a step fails its job, or is left to the sweep."""

import pytest
from billiard.exceptions import SoftTimeLimitExceeded
from structlog.testing import capture_logs

from model_store.foreign_code import DefinitionError, DefinitionHungError
from workers.recovery.attempts import attempts_key
from workers.tasks.policies.time_limit import CountTimeLimit
from workers.tasks.runner import run_step

pytestmark = pytest.mark.server


def raising(error):
    def work(*_):
        raise error

    return work


def test_a_step_that_takes_too_long_fails_its_job_with_its_limit(make_run, client, sent):
    run = make_run(raising(SoftTimeLimitExceeded()))
    run_step(run)
    assert run.folder.outcome().reason == "made.up (making up things) took longer than 840 seconds"
    assert sent == ["notify"]
    assert not client.exists(attempts_key(run.folder.job_id))


def test_a_definition_that_hangs_fails_the_job_with_its_line(make_run):
    hung = DefinitionHungError(DefinitionError("the definition v9 failed in train", ": it hung in model.py, line 7"))
    run = make_run(raising(hung))
    run_step(run)
    assert (run.folder.outcome().reason, run.folder.outcome().exit_code) == (
        "the definition v9 failed in train: it hung in model.py, line 7",
        4,
    )


def test_a_step_that_counts_its_time_limits_is_left_to_the_sweep_and_logged(make_run, client, sent):
    run = make_run(raising(SoftTimeLimitExceeded("late")), time_limit=CountTimeLimit("chunk", lambda: 1.5))
    with capture_logs() as logged:
        run_step(run)
    assert [line for line in logged if line["log_level"] == "error"] == [
        {"event": "chunk took too long", "seconds": 1.5, "error": str(SoftTimeLimitExceeded("late")), "log_level": "error"}
    ]
    assert run.folder.outcome() is None
    assert sent == []
    assert client.hget(attempts_key(run.folder.job_id), run.name) == b"1"
