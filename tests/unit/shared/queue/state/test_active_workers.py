"""The workers that live are counted by the signs that they leave in Redis."""

import pytest

from shared.queue.client import connect_to_redis
from shared.queue.routes import QUEUES
from shared.queue.state import active_workers
from tests.conftest import wait_until

pytestmark = pytest.mark.server


def test_each_queue_has_the_workers_that_take_from_it(redis_url):
    client = connect_to_redis(redis_url)
    assert active_workers.workers_by_queue(client, QUEUES) == {"control": 0, "score": 0, "train": 0}
    for name in ("score@one", "score@two", "score@one"):
        active_workers.beat(client, name, ["train", "score"])
    active_workers.beat(client, "control@one", ["control"])
    assert active_workers.workers_by_queue(client, QUEUES) == {"control": 1, "score": 2, "train": 2}
    active_workers.stop(client, "score@two", ["score", "train"])
    assert active_workers.workers_by_queue(client, QUEUES) == {"control": 1, "score": 1, "train": 1}


def test_a_worker_that_was_killed_is_not_counted_for_long_and_not_kept(redis_url, monkeypatch):
    client = connect_to_redis(redis_url)
    active_workers.beat(client, "score@killed", ["score"])
    assert 0 < client.ttl(active_workers.KEY) <= active_workers.ALIVE_SECONDS
    monkeypatch.setattr(active_workers, "ALIVE_SECONDS", 1)
    wait_until(lambda: active_workers.workers_by_queue(client, QUEUES)["score"] == 0, 10, "the end of its sign")
    active_workers.beat(client, "score@living", ["score"])
    assert client.zrange(active_workers.KEY, 0, -1) == [b"score score@living"]
