"""A message of maintenance expires by the clock of Redis, so that a worker whose own clock is ahead still takes sweeps."""

from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from celery.worker.state import revoked

from shared.settings import Settings
from workers.runtime import expiry
from workers.tasks import maintenance, probe

pytestmark = pytest.mark.server


def is_expired(expires: datetime) -> bool:
    request = expiry.Request.__new__(expiry.Request)  # what makes one needs a connection
    request.id, request.expires = "a-message", expires
    try:
        return bool(request.maybe_expire())
    finally:
        revoked.discard("a-message")


@pytest.fixture(autouse=True)
def server(redis_url, monkeypatch):
    monkeypatch.setattr(expiry, "read_settings", lambda: Settings(redis_url=redis_url))


def test_a_worker_whose_clock_is_ahead_takes_a_message_that_has_not_expired():
    expires = datetime.now(UTC) + timedelta(minutes=1)
    with time_machine.travel(datetime.now(UTC) + timedelta(days=1)):
        assert not is_expired(expires)


def test_a_message_that_has_expired_is_dropped():
    assert is_expired(datetime.now(UTC) - timedelta(seconds=5))


def test_without_redis_the_clock_of_the_machine_decides(monkeypatch, no_redis_url):
    monkeypatch.setattr(expiry, "read_settings", lambda: Settings(redis_url=no_redis_url))
    assert is_expired(datetime.now(UTC) - timedelta(seconds=5))
    assert not is_expired(datetime.now(UTC) + timedelta(seconds=5))


def test_every_task_whose_messages_expire_is_read_in_this_way():
    for task in (maintenance.sweep, maintenance.gc, probe.answer_probe):
        assert task.Request == "workers.runtime.expiry:Request"
