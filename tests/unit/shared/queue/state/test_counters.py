"""What workers count adds up, and may be lost."""

import pytest

from shared.queue.client import connect_to_redis
from shared.queue.state import counters, progress

pytestmark = pytest.mark.server


def test_nothing_was_counted_at_first(redis_url):
    counted = counters.read_counters(connect_to_redis(redis_url))
    assert (counted.chunks, counted.rows, counted.rejects, counted.ended) == (0, 0, 0, {})
    assert counted.stages.keys() == {"load", "read", "predict", "write"}, "a series that starts with its first count has not grown"
    assert all(not any(stage.counts) and stage.seconds == 0 for stage in counted.stages.values())


def count_chunk(client, index: int, *, rows: int, rejects: int, **more) -> None:
    counts = counters.of_chunk(rows=rows, rejects=rejects, **more)
    progress.mark_part(client, "20261123t120000z-score-000000", index, counts=counts, attempts="begun")


def test_chunks_add_up(redis_url):
    client = connect_to_redis(redis_url)
    count_chunk(client, 0, rows=100, rejects=0, stages={"read": 0.2, "write": 0.01}, release_was_kept=False)
    count_chunk(client, 1, rows=50, rejects=3, stages={"read": 0.4}, release_was_kept=True)
    count_chunk(client, 2, rows=1, rejects=1, stages={"read": 1000.0}, release_was_kept=True)
    count_chunk(client, 2, rows=1, rejects=1, stages={"read": 1000.0}, release_was_kept=True)  # once more, after a fault
    counted = counters.read_counters(client)
    assert (counted.chunks, counted.rows, counted.rejects) == (3, 151, 4)
    assert (counted.releases_loaded, counted.releases_kept) == (1, 2)
    read = counted.stages["read"]
    assert read.seconds == pytest.approx(1000.6)
    assert {bound: count for bound, count in zip([*counters.BOUNDS, "more"], read.counts, strict=True) if count} == {
        0.3: 1,
        1.0: 1,
        "more": 1,
    }
    # a class holds what takes as long as its end says
    assert counted.stages["write"].counts[0] == 1


def test_ends_are_counted_by_kind_and_state(redis_url):
    client = connect_to_redis(redis_url)
    for kind, state in [("score", "done"), ("score", "done"), ("train", "failed")]:
        counters.count_end(client, kind, state)
    assert counters.read_counters(client).ended == {("score", "done"): 2, ("train", "failed"): 1}


@pytest.mark.parametrize(
    "count",
    [
        lambda client: count_chunk(client, 0, rows=1, rejects=0, stages={}, release_was_kept=True),
        lambda client: counters.count_end(client, "train", "done"),
    ],
)
def test_the_counts_have_an_end(redis_url, count):
    client = connect_to_redis(redis_url)
    count(client)
    assert 0 < client.ttl(counters.KEY) <= counters.KEPT_SECONDS
