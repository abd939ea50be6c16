"""Flower is told of many tasks at once, and of each."""

from kombu.asynchronous import Hub

from workers import consumer


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


def test_the_workers_use_it(monkeypatch):
    monkeypatch.setenv("BUCKET_URL", "bucket")
    from workers.app import app

    assert app.conf.worker_consumer == f"{consumer.__name__}:{consumer.Consumer.__name__}"
