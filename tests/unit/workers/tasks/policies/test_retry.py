"""A transient error is tried again with longer and longer pauses, and fails the job at last."""

import celery.exceptions
import pytest

from shared.errors import BucketError
from workers.tasks.policies.retry import retry
from workers.tasks.runner import run_step

pytestmark = pytest.mark.server


def test_the_pause_doubles_up_to_its_limit(make_run):
    run = make_run()
    for tried in range(7):
        run.task.request.retries = tried
        with pytest.raises(celery.exceptions.Retry):
            retry(run, OSError("the disk is full"))
    assert run.task.pauses == [1, 2, 4, 8, 10, 10, 10]
    assert run.folder.outcome() is None


def test_after_the_last_try_the_job_fails_with_the_error_and_can_go_on_as_after_any_transient_error(make_run, sent):
    run = make_run()
    run.task.request.retries = 7
    retry(run, OSError("the disk is full"))
    assert (run.folder.outcome().state, run.folder.outcome().reason) == ("failed", "made.up: the disk is full")
    assert run.folder.outcome().exit_code == 6
    assert sent == ["notify"]


@pytest.mark.parametrize("error", [BucketError("the bucket does not answer"), OSError("the disk is full")], ids=repr)
def test_a_step_with_a_transient_error_asks_for_another_try(make_run, error):
    def fail(*_):
        raise error

    run = make_run(fail)
    with pytest.raises(celery.exceptions.Retry):
        run_step(run)
    assert run.task.pauses == [1]
    assert run.folder.outcome() is None


def test_a_step_that_asks_for_another_try_itself_gets_it(make_run):
    def wait(task, *_):
        raise task.retry(countdown=0.5, exc=None)

    run = make_run(wait)
    with pytest.raises(celery.exceptions.Retry):
        run_step(run)
    assert run.task.pauses == [0.5]
