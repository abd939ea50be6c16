"""The message of ``scoring doctor --send`` and announced notices ask the webhook in turn with all others, and name no address."""

import celery.exceptions
import pytest

from shared.bucket.local import LocalBucket
from shared.jobs.messages import Notice
from shared.jobs.outbox import announce, undelivered
from shared.queue.client import connect_to_redis
from shared.queue.probe import Probe, read_answers
from shared.queue.state import heartbeat
from shared.queue.state.leases import are_leased, leased
from shared.settings import Settings
from tests.conftest import Webhook, free_port
from workers.notices import delivery, resting
from workers.tasks import context, delivering
from workers.tasks.probe import answer_probe

pytestmark = pytest.mark.server


@pytest.fixture
def people():
    made = Webhook()
    yield made
    made.close()


@pytest.fixture
def client(redis_url):
    return connect_to_redis(redis_url)


@pytest.fixture
def worker(client, tmp_path, monkeypatch):
    """Makes this process a worker's, with this webhook."""
    bucket = LocalBucket(tmp_path)
    monkeypatch.setattr(context, "bucket", lambda: bucket)
    monkeypatch.setattr(context, "redis_client", lambda: client)

    def use(url, **more):
        monkeypatch.setattr(context, "settings", lambda: Settings(webhook_url=url, **more))
        return bucket

    return use


def probe(client) -> str:
    asked = Probe(tell_people=True)
    answer_probe(asked.encode(), "control")
    return read_answers(client, asked)["control"].webhook


def test_a_probe_reaches_people_once_and_leaves_the_webhook_free(client, worker, people):
    worker(people.url)
    assert probe(client) == ""
    [posted] = people.posted
    assert posted["text"].startswith("Notices arrive")
    assert not are_leased(client, [delivery.LEASE])[0]


def test_a_probe_says_why_nothing_was_sent(client, worker, people):
    worker("")
    assert probe(client) == "the workers have no WEBHOOK_URL"
    worker(f"http://127.0.0.1:{free_port()}/very-secret")
    assert "cannot be reached" in (said := probe(client))
    assert "very-secret" not in said
    worker(people.url)
    assert "left alone for a while" in probe(client)
    client.delete(resting.REST)
    with leased(client, delivery.LEASE):
        assert "another process" in probe(client)
    assert people.posted == []


def test_a_probe_from_the_queue_comes_again_while_another_process_is_at_the_webhook(client, worker, people):
    worker(people.url)
    answer_probe.push_request(args=[Probe(tell_people=True).encode(), "control"], kwargs={}, retries=0, called_directly=False)
    try:
        with leased(client, delivery.LEASE), pytest.MonkeyPatch.context() as patch:
            patch.setattr(answer_probe, "signature_from_request", lambda *_, **__: Sent())
            with pytest.raises(celery.exceptions.Retry):
                answer_probe.run(Probe(tell_people=True).encode(), "control")
    finally:
        answer_probe.pop_request()
    assert people.posted == []


class Sent:
    def apply_async(self):
        """Takes the message; nobody works on it."""


def test_what_is_announced_waits_for_its_turn_and_goes_in_the_format_of_the_settings(client, worker, people):
    bucket = worker(people.url, webhook_format="json")
    announce(bucket, "late", Notice(good=True, title="promoted", facts={}))
    now = heartbeat.time_of(client)
    with leased(client, delivery.LEASE):
        delivering.deliver_announced(client, now)
    assert people.posted == []
    delivering.deliver_announced(client, now)
    [posted] = people.posted
    assert (posted["specversion"], posted["data"]["title"]) == ("1.0", "promoted")
    assert undelivered(bucket) == []
