"""Flower hears of many tasks at once, and of each."""

import pytest
from kombu.asynchronous import Hub

from workers.runtime import consumer


class Dispatcher:
    """Counts how often it is asked to send what it holds."""

    def __init__(self):
        self.flushes = 0

    def flush(self):
        self.flushes += 1


def run_until(hub, condition):
    loop = hub.create_loop()
    for _ in range(1000):
        next(loop)
        if condition():
            return
    raise AssertionError("never came to pass")


def test_events_of_one_moment_go_together_and_those_of_a_later_one_go_too(monkeypatch):
    monkeypatch.setattr(consumer, "EVENTS_PAUSE_SECONDS", 0.01)
    events = Dispatcher()
    # without Celery's own start, which needs a server
    one = consumer.Consumer.__new__(consumer.Consumer)
    one.hub, one.event_dispatcher = Hub(), events
    for lot in (1, 2):
        for _ in range(10):
            one.on_send_event_buffered()
        run_until(one.hub, lambda lot=lot: events.flushes == lot)
    assert events.flushes == 2


class Connection:
    """A connection to a Redis that refuses the first command after it was made."""

    def __init__(self, refuses=True):
        self.refuses, self.is_closed, self.transport, self.connection = refuses, False, self, None
        self.connection_errors = self.channel_errors = (OSError,)

    def register_with_event_loop(self, *_):
        if self.refuses:
            raise OSError("READONLY")

    def close(self):
        self.is_closed = True


@pytest.fixture
def connecting(monkeypatch):
    """A consumer without Celery's own start, its clock, its pauses and the connections that it made."""
    one = consumer.Consumer.__new__(consumer.Consumer)
    one.hub, one.amqheartbeat = Hub(), None
    clock, pauses, made = [1000.0], [], []
    monkeypatch.setattr(consumer.time, "monotonic", lambda: clock[0])

    def pause(seconds):
        pauses.append(seconds)
        clock[0] += seconds

    def connection_for_read(heartbeat):
        del heartbeat
        made.append(Connection(refuses=len(made) < 6))
        return made[-1]

    monkeypatch.setattr(one, "_pause", pause)
    monkeypatch.setattr(one, "connection_for_read", connection_for_read)
    return one, clock, pauses, made


def test_a_connection_that_fails_when_it_was_made_is_closed(connecting):
    one, _, _, made = connecting
    with pytest.raises(OSError, match="READONLY"):
        one.connect()
    assert made[0].is_closed


def test_connections_that_fail_soon_are_made_at_growing_distances_and_one_after_a_good_one_at_once(connecting):
    one, clock, pauses, made = connecting
    for _ in range(6):
        with pytest.raises(OSError, match="READONLY"):
            one.connect()
    assert one.connect() is made[-1]
    assert not made[-1].is_closed
    assert pauses == [0, 0.5, 1, 2, 4, 8, 8]
    clock[0] += 100
    one.connect()
    assert pauses[-1] == 0


def test_a_worker_that_is_asked_to_stop_does_not_wait_for_the_end_of_a_pause(monkeypatch):
    monkeypatch.setattr(consumer, "maybe_shutdown", lambda: (_ for _ in ()).throw(SystemExit))
    one = consumer.Consumer.__new__(consumer.Consumer)
    with pytest.raises(SystemExit):
        one._pause(3600)


def test_the_workers_use_it(monkeypatch):
    monkeypatch.setenv("BUCKET_URL", "bucket")
    from workers.app import app

    assert app.conf.worker_consumer == f"{consumer.__name__}:{consumer.Consumer.__name__}"
