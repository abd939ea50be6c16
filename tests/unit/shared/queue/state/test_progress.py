"""The hint counts every chunk once, whichever process marks it, and every key of it has an end."""

import pytest
import redis

from shared.queue.client import connect_to_redis
from shared.queue.state import counters
from shared.queue.state import progress as queue_progress
from shared.queue.state.progress import Marked, mark_part, mark_parts, read_progress

JOB = "20261123t120000z-score-000000"

pytestmark = pytest.mark.server


@pytest.fixture
def client(redis_url) -> redis.Redis:
    return connect_to_redis(redis_url)


def mark(client, index, rows, rejected) -> Marked:
    counts = counters.of_chunk(rows=rows, rejects=rejected, stages={}, release_was_kept=True)
    return mark_part(client, JOB, index, counts=counts, attempts="begun")


def test_a_chunk_counts_once_with_its_rows_and_rejects(client):
    assert mark(client, 3, 100, 2) == Marked(chunks=1, rejected=2)
    assert mark(client, 3, 100, 2) == Marked(chunks=1, rejected=2)
    assert mark(client, 4, 50, 0) == Marked(chunks=2, rejected=0)
    assert mark(client, 5, 50, 1) == Marked(chunks=3, rejected=3)
    progress = read_progress(client, JOB)
    assert (progress.chunks, progress.rows) == (3, 200)
    assert counters.read_counters(client).rows == 200


def test_a_chunk_that_is_done_is_no_longer_begun(client):
    client.hset("begun", mapping={"3": 2, "4": 1})
    mark(client, 3, 100, 0)
    assert client.hgetall("begun") == {b"4": b"1"}


def test_what_is_no_hash_holds_up_nothing(client):
    client.set(counters.KEY, "no hash")
    client.set("begun", "no hash")
    assert mark(client, 3, 100, 0) == Marked(chunks=1, rejected=0)


def test_parts_that_were_there_before_count_too(client):
    mark(client, 0, 100, 0)
    mark_parts(client, JOB, range(9), 7)
    assert mark(client, 9, 10, 2) == Marked(chunks=10, rejected=9)
    assert read_progress(client, JOB).rows == 110


def test_nothing_is_left_for_ever_and_nothing_at_all_once_it_is_forgotten(client):
    mark(client, 0, 100, 1)
    mark_parts(client, JOB, [1, 2], 3)
    client.delete(counters.KEY)
    keys = list(client.scan_iter("*"))
    assert len(keys) == 2
    assert all(0 < client.ttl(key) <= queue_progress.KEPT_SECONDS for key in keys)
    queue_progress.forget(client, JOB)
    assert list(client.scan_iter("*")) == []
