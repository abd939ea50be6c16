"""A step of maintenance runs in one process at a time, counts its crashes, and misses a turn when Redis is away."""

import pytest
import redis
from structlog.testing import capture_logs

from shared.errors import BucketError
from shared.queue.state.leases import leased
from shared.queue.state.maintenance_crashes import begin
from workers.tasks.policies.maintenance import run_maintenance

pytestmark = pytest.mark.server


@pytest.fixture(autouse=True)
def worker(make_run, client):
    client.delete(*[*client.keys("scoring:upkeep:*"), "none"])
    return make_run()


def test_a_turn_that_another_process_makes_is_left_to_it(client):
    turns = []
    with leased(client, "gc"):
        run_maintenance("gc", turns.append, missed="missed")
    assert turns == []
    run_maintenance("gc", turns.append, missed="missed")
    assert len(turns) == 1


def test_a_turn_that_may_not_be_made_is_not_made():
    run_maintenance("gc", lambda _: pytest.fail("it may not run"), missed="missed", may_run=lambda: False)


def test_a_turn_without_redis_is_missed_and_logged_and_another_error_is_not_hidden():
    def fail(error):
        def work(_):
            raise error

        return work

    with capture_logs() as logged:
        run_maintenance("gc", fail(redis.ConnectionError("away")), missed="turn missed")
    assert logged == [{"event": "turn missed", "error": "away", "log_level": "warning"}]
    with pytest.raises(BucketError):
        run_maintenance("gc", fail(BucketError("full")), missed="turn missed")
    run_maintenance("gc", fail(BucketError("full")), missed="turn missed", missed_on=(BucketError,))


def test_a_step_that_crashed_before_any_piece_rests(client):
    from datetime import UTC, datetime, timedelta

    for _ in range(3):
        begin(client, "gc", datetime.now(UTC), "1 GB", lambda _: timedelta(minutes=10))
    run_maintenance("gc", lambda _: pytest.fail("it rests"), missed="missed")
