"""What we send ourselves is taken; what others put on a queue or say to the remote control is refused before Celery reads it."""

import contextlib
import json
import os
import signal
import time
from datetime import UTC, datetime, timedelta

import celery
import kombu
import pytest
import redis
import time_machine
from hypothesis import given
from hypothesis import strategies as st
from kombu.common import ignore_errors

from shared.jobs.messages import ChunkMessage, StepMessage
from shared.queue.broker import make_app, send
from shared.queue.routes import NOTIFY, QUEUES, SCORE_CHUNK, SWEEP
from shared.settings import Settings
from tests.conftest import own_server
from workers.runtime.transport import _Broadcast, _Envelope, _is_ours


def test_every_message_that_we_send_is_taken(redis_url):
    client = redis.Redis.from_url(redis_url)
    with make_app(Settings(redis_url=redis_url)) as app:
        send(app, SCORE_CHUNK, [ChunkMessage(job_id="job-1", index=0, of=2), ChunkMessage(job_id="job-1", index=1, of=2)])
        app.send_task(SWEEP, expires=60)

        @app.task(name=NOTIFY, bind=True, max_retries=3, shared=False)  # else every application made later has it, too
        def notify(self: celery.Task, _: object) -> None:
            raise self.retry(countdown=10)

        notify.push_request(
            args=[StepMessage(job_id="job-1").encode()], kwargs={}, id="x", retries=1, is_eager=False, called_directly=False
        )
        with pytest.raises(celery.exceptions.Retry):
            notify.run(StepMessage(job_id="job-1").encode())
        notify.pop_request()
    messages = [json.loads(raw) for queue in QUEUES for raw in client.lrange(queue, 0, -1)]
    assert [message["headers"]["task"] for message in messages] == [NOTIFY, SWEEP, SCORE_CHUNK, SCORE_CHUNK]
    assert [message["headers"]["retries"] for message in messages] == [2, 0, 0, 0]
    for message in messages:
        assert _is_ours(_Envelope, message, "control"), message
        given_back = message | {"headers": message["headers"] | {"redelivered": True}}
        assert _is_ours(_Envelope, given_back, "control"), given_back


@pytest.mark.parametrize("days_behind", [0, 1, -1])
def test_a_worker_whose_clock_is_a_day_off_takes_a_message_that_expires(redis_url, days_behind):
    """Once, a worker whose clock was two hours behind dropped every sweep."""
    with make_app(Settings(redis_url=redis_url)) as app:
        app.send_task(SWEEP, expires=600)
    [raw] = redis.Redis.from_url(redis_url).lrange("control", 0, -1)
    with time_machine.travel(datetime.now(UTC) - timedelta(days=days_behind)):
        assert _is_ours(_Envelope, json.loads(raw), "control")


def test_a_message_that_is_due_or_expires_too_far_ahead_is_foreign(redis_url):
    with make_app(Settings(redis_url=redis_url)) as app:
        app.send_task(SWEEP, expires=600)
    [raw] = redis.Redis.from_url(redis_url).lrange("control", 0, -1)
    message, now = json.loads(raw), datetime.now(UTC)
    for name, hours, is_taken in [("eta", 0.9, True), ("eta", 1.1, False), ("expires", 47, True), ("expires", 49, False)]:
        changed = message | {"headers": message["headers"] | {name: (now + timedelta(hours=hours)).isoformat()}}
        assert _is_ours(_Envelope, changed, "control") is is_taken, (name, hours)


def test_what_the_launcher_and_the_dashboard_ask_is_taken(redis_url):
    with redis.Redis.from_url(redis_url).pubsub() as said, make_app(Settings(redis_url=redis_url)) as app:
        said.psubscribe("/0.celery.pidbox")
        said.get_message(timeout=5)
        app.control.ping(destination=["score@here"], timeout=0.01)
        app.control.enable_events()
        app.control.broadcast("heartbeat")
        inspect = app.control.inspect(destination=["score@here"], timeout=0.01)
        for method in ("stats", "active_queues", "registered", "scheduled", "active", "reserved", "revoked", "conf"):
            getattr(inspect, method)()
        taken = [json.loads(said.get_message(timeout=5)["data"]) for _ in range(11)]
    for message in taken:
        assert _is_ours(_Broadcast, message, "celery.pidbox"), message


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from([_Envelope, _Broadcast]), json_values)
def test_any_other_json_is_refused(kind, message):
    assert not _is_ours(kind, message, "control")


@pytest.mark.server
def test_a_connection_that_was_lost_with_work_in_hand_on_several_channels_can_be_closed(tmp_path):
    taken = []
    with own_server(tmp_path) as url:
        connection = kombu.Connection(url, transport="workers.runtime.transport:Transport", transport_options={"max_retries": 0})
        channels = [connection.default_channel, connection.channel()]
        for name, channel in zip(("one", "two"), channels, strict=True):
            queue = kombu.Queue(name)(channel)
            queue.declare()
            channel.basic_qos(0, 5, False)
            kombu.Consumer(channel, [queue], callbacks=[lambda body, _: taken.append(body)], accept=["json"]).consume()
            kombu.Producer(channel).publish({"n": name}, routing_key=name)
        while len(taken) < 2:
            connection.drain_events(timeout=5)
        with pytest.raises(TimeoutError):
            connection.drain_events(timeout=0.1)  # both wait for more
        with redis.Redis.from_url(url) as client:
            os.kill(client.info()["process_id"], signal.SIGKILL)
        time.sleep(0.2)
    # as Celery does when it has lost its connection
    with contextlib.suppress(Exception):
        connection.collect(socket_timeout=1)
    ignore_errors(connection, connection.close)
    for channel in channels:
        channel.qos._on_collect.cancel()  # kombu would look for this server once more when the tests end
