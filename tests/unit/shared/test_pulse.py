"""The age of beat and of the sweep is known from signs that each leaves in Redis."""

import pytest
import redis

from shared import hint, pulse
from tests.conftest import wait_until

pytestmark = pytest.mark.server


@pytest.mark.parametrize("name", [pulse.BEAT, pulse.SWEEP])
def test_a_sign_has_an_age_and_an_end(redis_url, name):
    client = hint.connect(redis_url)
    assert pulse.seconds_since(client, name) is None
    pulse.leave_sign(client, name)
    assert pulse.seconds_since(client, name) < 5
    assert 0 < client.ttl(name) <= pulse.KEPT_SECONDS
    wait_until(lambda: pulse.seconds_since(client, name) > 0.2, 5, "the sign getting older")
    client.expire(name, pulse.KEPT_SECONDS - 100)
    assert 100 <= pulse.seconds_since(client, name) < 105


def test_every_sign_is_another(redis_url):
    client = hint.connect(redis_url)
    seen = set()
    for _ in range(10):
        pulse.leave_sign(client, pulse.BEAT)
        seen.add(pulse.last_sign(client, pulse.BEAT))
    assert len(seen) == 10
    assert pulse.last_sign(client, pulse.SWEEP) is None


def test_without_redis_nothing_is_said(no_redis_url):
    client = hint.connect(no_redis_url)
    for ask in (pulse.leave_sign, pulse.last_sign, pulse.seconds_since):
        with pytest.raises(redis.RedisError):
            ask(client, pulse.BEAT)
