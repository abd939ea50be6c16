"""The age of beat and of the sweep is known from signs that each leaves in Redis."""

import pytest
import redis

from shared.queue.client import connect_to_redis
from shared.queue.state import heartbeat
from tests.conftest import wait_until

pytestmark = pytest.mark.server


@pytest.mark.parametrize("name", [heartbeat.BEAT, heartbeat.SWEEP])
def test_a_sign_has_an_age_and_an_end(redis_url, name):
    client = connect_to_redis(redis_url)
    assert heartbeat.seconds_since(client, name) is None
    heartbeat.update_heartbeat(client, name)
    assert heartbeat.seconds_since(client, name) < 5
    assert 0 < client.ttl(name) <= heartbeat.KEPT_SECONDS
    wait_until(lambda: heartbeat.seconds_since(client, name) > 0.2, 5, "the sign getting older")
    client.expire(name, heartbeat.KEPT_SECONDS - 100)
    assert 100 <= heartbeat.seconds_since(client, name) < 105


def test_every_sign_is_another(redis_url):
    client = connect_to_redis(redis_url)
    seen = set()
    for _ in range(10):
        heartbeat.update_heartbeat(client, heartbeat.BEAT)
        seen.add(heartbeat.last_heartbeat(client, heartbeat.BEAT))
    assert len(seen) == 10
    assert heartbeat.last_heartbeat(client, heartbeat.SWEEP) is None


def test_without_redis_nothing_is_said(no_redis_url):
    client = connect_to_redis(no_redis_url)
    for ask in (heartbeat.update_heartbeat, heartbeat.last_heartbeat, heartbeat.seconds_since):
        with pytest.raises(redis.RedisError):
            ask(client, heartbeat.BEAT)
