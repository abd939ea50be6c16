"""One process at a time works on a step, and once more if it is needed once more."""

import pytest

from shared.queue.state.leases import are_leased, leased
from workers.recovery.sweep import lease_name
from workers.tasks.policies.lease import run_leased

pytestmark = pytest.mark.server


def test_a_step_that_another_process_is_at_is_left_alone(make_run, client):
    run, worked = make_run(), []
    with leased(client, lease_name(run.name, run.message)):
        run_leased(run, worked.append)
    assert worked == []
    run_leased(run, worked.append)
    assert worked == [run]


def test_the_lease_is_held_during_the_work_and_returned_after_it(make_run, client):
    run, held = make_run(), []
    name = lease_name(run.name, run.message)
    run_leased(run, lambda _: held.extend(are_leased(client, [name])))
    assert held == [True]
    assert are_leased(client, [name]) == [False]


def test_a_step_that_is_needed_once_more_runs_once_more_and_is_asked_without_its_lease(make_run, client):
    asked, worked = [], []

    def is_needed(folder):
        asked.append((folder.job_id, *are_leased(client, [lease_name(run.name, run.message)])))
        return len(asked) < 3

    run = make_run(repeat_while=is_needed)
    run_leased(run, worked.append)
    assert len(worked) == 3
    assert asked == [(run.folder.job_id, False)] * 3
