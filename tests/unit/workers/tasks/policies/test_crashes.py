"""A step that was begun three times without an end fails its job, unless its work handles that."""

import pytest
from billiard.exceptions import SoftTimeLimitExceeded

from shared.errors import JobFailedError
from workers.recovery.attempts import MAX_CRASHES, attempts_key
from workers.tasks.policies.crashes import run_counted
from workers.tasks.policies.time_limit import CountTimeLimit, FailAtTimeLimit

pytestmark = pytest.mark.server


@pytest.fixture
def crash(client):
    """Counts a run of a step that did not end."""

    def count(run, times: int = 1) -> None:
        client.hincrby(attempts_key(run.folder.job_id), run.name, times)

    return count


def test_a_step_that_crashed_too_often_is_not_tried_and_fails_with_its_name_and_activity(make_run, crash):
    worked = []
    run = make_run(lambda *_: worked.append(1))
    crash(run, MAX_CRASHES)
    with pytest.raises(JobFailedError, match=r"made\.up \(making up things\) killed its process 3 times in a row"):
        run_counted(run)
    assert worked == []


def test_a_step_that_says_its_stage_fails_with_what_it_said_last(make_run, crash):
    run = make_run(writes_stage=True)
    run.folder.write_stage("putting the last brick in place")
    crash(run, MAX_CRASHES)
    with pytest.raises(JobFailedError, match=r"made\.up \(putting the last brick in place\) killed its process"):
        run_counted(run)


def test_a_step_that_handles_its_crashes_gets_their_number(make_run, crash):
    seen = []
    run = make_run(lambda _task, message, folder, attempt: seen.append((message, folder, attempt.crashes)), handles_crashes=lambda *_: True)
    crash(run, MAX_CRASHES)
    run_counted(run)
    assert seen == [(run.message, run.folder, MAX_CRASHES)]


def test_a_run_that_ends_takes_its_count_away(make_run, crash, client):
    run = make_run()
    crash(run)
    run_counted(run)
    assert client.hget(attempts_key(run.folder.job_id), run.name) is None


@pytest.mark.parametrize(
    ("time_limit", "counted"), [(FailAtTimeLimit(), None), (CountTimeLimit("chunk", lambda: 1), b"1")], ids=["fails", "counts"]
)
def test_a_run_that_ends_at_its_time_limit_counts_only_where_the_step_is_tried_again(make_run, client, time_limit, counted):
    def take_long(*_):
        raise SoftTimeLimitExceeded

    run = make_run(take_long, time_limit=time_limit)
    with pytest.raises(SoftTimeLimitExceeded):
        run_counted(run)
    assert client.hget(attempts_key(run.folder.job_id), run.name) == counted
