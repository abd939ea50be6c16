"""The workers that live are counted by the signs that they leave in Redis."""

import pytest

from shared import hint
from shared.queue import heartbeat
from shared.routes import QUEUES
from tests.conftest import wait_until

pytestmark = pytest.mark.server


def test_each_queue_has_the_workers_that_take_from_it(redis_url):
    client = hint.connect(redis_url)
    assert heartbeat.workers_by_queue(client, QUEUES) == {"control": 0, "score": 0, "train": 0}
    for name in ("score@one", "score@two", "score@one"):
        heartbeat.beat(client, name, ["train", "score"])
    heartbeat.beat(client, "control@one", ["control"])
    assert heartbeat.workers_by_queue(client, QUEUES) == {"control": 1, "score": 2, "train": 2}
    heartbeat.stop(client, "score@two", ["score", "train"])
    assert heartbeat.workers_by_queue(client, QUEUES) == {"control": 1, "score": 1, "train": 1}


def test_a_worker_that_was_killed_is_not_counted_for_long_and_not_kept(redis_url, monkeypatch):
    client = hint.connect(redis_url)
    heartbeat.beat(client, "score@killed", ["score"])
    assert 0 < client.ttl(heartbeat.KEY) <= heartbeat.ALIVE_SECONDS
    monkeypatch.setattr(heartbeat, "ALIVE_SECONDS", 1)
    wait_until(lambda: heartbeat.workers_by_queue(client, QUEUES)["score"] == 0, 10, "the end of its sign")
    heartbeat.beat(client, "score@living", ["score"])
    assert client.zrange(heartbeat.KEY, 0, -1) == [b"score score@living"]
