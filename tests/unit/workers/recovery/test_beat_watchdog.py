"""People hear once that beat is silent and once that it is back; workers send the sweep meanwhile; nothing else sounds the alarm."""

import contextlib
import subprocess
import threading

import pytest
import redis
import structlog

from producers.stack.server import server_binary
from shared.queue.client import connect_to_redis
from shared.queue.state import heartbeat
from shared.queue.state.leases import are_leased, leased
from shared.settings import Settings
from tests.conftest import Webhook, free_port, wait_until
from workers.notices import delivery, resting, slack
from workers.recovery import beat_watchdog
from workers.recovery.beat_watchdog import Watch

pytestmark = pytest.mark.server

SWEEP, LIMIT = 15, 120


@pytest.fixture(scope="module")
def receiver():
    made = Webhook()
    yield made
    made.close()


@pytest.fixture
def people(receiver):
    receiver.posted.clear()
    return receiver


@pytest.fixture
def client(redis_url):
    return connect_to_redis(redis_url)


class Workers:
    """Some workers that look at beat every 5 seconds of a clock that the test moves."""

    def __init__(self, url, webhook_url, count=3, sweep=SWEEP, limit=LIMIT):
        self.sweeps = []
        self.now = 1000.0
        self.settings = Settings(redis_url=url, webhook_url=webhook_url, sweep_seconds=sweep, beat_silent_seconds=limit)
        self.watches = [self.one() for _ in range(count)]

    def one(self):
        return Watch(self.settings, lambda: self.sweeps.append(self.now))

    def check(self, seconds=0.0, beat=None, watches=None):
        """Looks on for so long; ``beat`` is the connection of a beat that lives."""
        for second in range(0, int(seconds) + 1, 5):
            if beat is not None and second % SWEEP == 0:
                heartbeat.update_heartbeat(beat, heartbeat.BEAT)
            for watch in watches or self.watches:
                watch.check(self.now)
            self.now += 5


def titles(people):
    return [notice["text"] for notice in people.posted]


# --- the alarm


def test_of_twenty_workers_one_tells_of_the_silence_and_one_of_its_end(client, redis_url, people):
    workers = Workers(redis_url, people.url, count=20)
    workers.check(60, beat=client)
    workers.check(LIMIT - 15)
    assert titles(people) == []
    workers.check(60)
    assert titles(people) == ["beat has been silent for 2 min"]
    [attachment] = people.posted[0]["attachments"]
    assert attachment["color"] == slack.BAD
    assert "scoring run beat, or docker-compose up -d beat" in attachment["footer"]
    assert "jobs go on" in str(attachment["fields"])
    workers.check(60, beat=client)
    assert titles(people) == ["beat has been silent for 2 min", "beat is back"]
    assert people.posted[1]["attachments"][0]["color"] == slack.GOOD
    workers.check(LIMIT + 15)
    assert titles(people)[2:] == ["beat has been silent for 2 min"], "another silence is another notice"


def test_every_key_of_the_watch_has_an_end(client, redis_url, people):
    workers = Workers(redis_url, people.url)
    workers.check(LIMIT + 60)
    heartbeat.update_heartbeat(client, heartbeat.BEAT)
    keys = [*client.scan_iter("scoring:*")]
    assert beat_watchdog.SILENT.encode() in keys
    assert [key for key in keys if client.ttl(key) < 0] == []


def test_without_a_webhook_the_alarm_is_a_line_in_the_log(redis_url):
    with structlog.testing.capture_logs() as lines:
        Workers(redis_url, "").check(LIMIT + 60)
    assert [line["title"] for line in lines if line["event"] == "notice"] == ["beat has been silent for 2 min"]


@pytest.mark.parametrize(("sweep", "limit", "expected"), [(15, 10, 45), (15, 44, 45), (15, 46, 46), (60, 120, 180)])
def test_beat_is_not_silent_before_three_sweeps_are_missing(redis_url, people, sweep, limit, expected):
    workers = Workers(redis_url, people.url, sweep=sweep, limit=limit)
    workers.check(expected - 5)
    assert titles(people) == []
    workers.check(10)
    assert len(titles(people)) == 1


def test_a_worker_that_began_to_tell_and_died_is_replaced(client, redis_url, people, monkeypatch):
    monkeypatch.setattr(beat_watchdog, "CLAIM_SECONDS", 1)
    nobody = f"http://127.0.0.1:{free_port()}/x"
    dying = Workers(redis_url, nobody, count=1)
    others = Workers(redis_url, people.url)
    dying.check(LIMIT)
    client.delete(resting.REST)
    others.check(LIMIT + 15)
    assert titles(people) == [], "it is the other's to tell"
    wait_until(lambda: not client.exists(beat_watchdog.SILENT), 5, "the end of the claim")
    others.check(5)
    assert titles(people) == ["beat has been silent for 2 min"]


def test_an_alarm_that_the_webhook_does_not_take_is_tried_again_after_its_rest_and_given_up(client, redis_url, people):
    workers = Workers(redis_url, f"http://127.0.0.1:{free_port()}/x")
    workers.check(LIMIT)
    with structlog.testing.capture_logs() as lines:
        workers.check(60)
        assert lines == [], "the webhook rests"
        for _ in range(4):
            client.delete(resting.REST)
            workers.check(5)
    assert [line["event"] for line in lines] == ["notice given up"]


def test_an_alarm_that_the_webhook_takes_at_the_second_try_is_sent_once(client, redis_url, people):
    workers = Workers(redis_url, f"http://127.0.0.1:{free_port()}/x", count=1)
    workers.check(LIMIT)
    workers.watches[0]._webhook_url = people.url
    client.delete(resting.REST)
    workers.check(60)
    assert titles(people) == ["beat has been silent for 2 min"]
    client.set(resting.REST, b"")
    workers.check(60, beat=client)
    assert titles(people) == ["beat has been silent for 2 min"], "the webhook rests"
    client.delete(resting.REST)
    workers.check(60, beat=client)
    assert titles(people)[1:] == ["beat is back"]


def test_an_alarm_waits_while_another_process_is_at_the_webhook(client, redis_url, people):
    workers = Workers(redis_url, people.url)
    with leased(client, delivery.LEASE):
        workers.check(LIMIT + 60)
        assert titles(people) == []
    workers.check(5)
    assert titles(people) == ["beat has been silent for 2 min"]
    assert not are_leased(client, [delivery.LEASE])[0], "it is given back"


# --- the sweep in beat's place


def test_while_beat_is_silent_one_worker_in_each_period_sends_the_sweep(client, redis_url, people):
    workers = Workers(redis_url, people.url)
    workers.check(LIMIT - 5)
    assert workers.sweeps == []
    for _ in range(5):
        workers.check(10)
        assert len(workers.sweeps) == 1, "the period is not over by the server's clock"
    client.delete(beat_watchdog.STAND_IN)
    workers.check(10)
    assert len(workers.sweeps) == 2
    client.delete(beat_watchdog.STAND_IN)
    workers.check(60, beat=client)
    assert len(workers.sweeps) == 2, "beat sends it again"


def test_the_place_is_held_for_a_little_less_than_a_period(client, redis_url, people):
    Workers(redis_url, people.url).check(LIMIT)
    assert 12_000 < client.pttl(beat_watchdog.STAND_IN) <= 13_500


# --- no alarm


def test_a_stack_that_has_just_started_waits_for_its_first_sweep(client, redis_url, people):
    heartbeat.update_heartbeat(client, heartbeat.BEAT)  # yesterday's
    workers = Workers(redis_url, people.url)
    workers.check(LIMIT - 10)
    workers.check(LIMIT * 3, beat=client)
    assert titles(people) == []
    assert workers.sweeps == []


def test_a_worker_that_starts_during_the_silence_neither_tells_of_it_nor_of_its_end(client, redis_url, people):
    heartbeat.update_heartbeat(client, heartbeat.BEAT)
    workers = Workers(redis_url, people.url)
    workers.check(LIMIT + 15)
    late = workers.one()
    workers.check(LIMIT * 2, watches=[late])
    assert titles(people) == ["beat has been silent for 2 min"]
    workers.check(30, beat=client, watches=[late])
    assert titles(people)[1:] == ["beat is back"]


def test_a_machine_that_was_suspended_for_an_hour_sounds_no_alarm(client, redis_url, people):
    workers = Workers(redis_url, people.url)
    workers.check(60, beat=client)
    workers.now += 3600
    workers.check(LIMIT - 10)
    workers.check(60, beat=client)
    assert titles(people) == []


def test_a_redis_that_was_emptied_sounds_no_alarm(client, redis_url, people):
    workers = Workers(redis_url, people.url)
    for _ in range(20):
        workers.check(10, beat=client)
        client.flushall()
        workers.check(0)
    assert titles(people) == []
    assert workers.sweeps == []


def test_a_redis_that_was_emptied_during_the_silence_repeats_the_alarm_and_no_more(client, redis_url, people):
    workers = Workers(redis_url, people.url)
    workers.check(15, beat=client)
    workers.check(LIMIT + 15)
    client.flushall()
    workers.check(60)
    assert titles(people) == ["beat has been silent for 2 min"] * 2


def test_a_redis_that_was_away_is_no_silence(tmp_path, people):
    port = free_port()

    def start():
        server = subprocess.Popen(
            [str(server_binary()), "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", str(tmp_path)],
            stdout=subprocess.DEVNULL,
        )
        wait_until(lambda: is_there(url), 20, "the server")
        return server

    url = f"redis://127.0.0.1:{port}/0"
    server = start()
    workers = Workers(url, people.url, count=1)
    try:
        workers.check(30, beat=connect_to_redis(url))
        workers.check(LIMIT - 30)
        server.terminate()
        server.wait(20)
        workers.check(5)
        server = start()
        workers.check(LIMIT - 10)
        assert titles(people) == [], "the clock starts again when Redis is back"
        workers.check(15)
        assert len(titles(people)) == 1
    finally:
        server.terminate()
        server.wait(20)


def is_there(url):
    with contextlib.suppress(redis.RedisError):
        return connect_to_redis(url).ping()
    return False


def test_the_watch_can_be_switched_off(redis_url, people):
    before = {thread.name for thread in threading.enumerate()}
    beat_watchdog.start_watch(Settings(redis_url=redis_url, beat_silent_seconds=0), lambda: None)
    assert {thread.name for thread in threading.enumerate()} == before
