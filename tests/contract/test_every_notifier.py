"""Every notifier delivers a notice in full, pings nobody whatever a table holds, and names no address when a webhook refuses.

A notifier is added by one class of ``Suite``: what its webhook answers, and what a person or a program reads of a request.
"""

import contextlib
import http.server
import json
import re
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar

import pytest

from shared.bucket.local import LocalBucket
from shared.jobs.folder import Outcome
from shared.jobs.messages import Notice
from shared.jobs.outbox import announce, undelivered
from shared.queue.client import connect_to_redis
from shared.settings import Settings
from shared.text.numbered import numbered
from shared.text.plain import plain
from tests.conftest import free_port, own_server, wait_until
from tests.handmade import NOON, make_job
from workers.notices import deadline_post, delivery, resting, text
from workers.notices.delivery_state import MemoryDeliveryStore
from workers.notices.identified_notice import IdentifiedNotice
from workers.notices.notifier import KINDS, choose_notifier, guess_format

SECRET = "very-secret-0123"
PATH = f"/workflows/{SECRET}/paths/invoke?api-version=1&sig=signature-{SECRET}"
HOSTILE = [
    "<!channel> <!here> <!everyone> <@U012AB3CD> <#C012AB3CD>",
    "@everyone @channel @here <at>everyone</at>",
    "[click here](https://evil.example) ![x](https://evil.example/x.png) <https://evil.example|see>",
    "**bold** _italic_ ~gone~ `code` # title\n- item\n1. item\n> quote",
    "{{DATE(2026-11-23T10:00:00Z, SHORT)}} ${data} @{triggerBody()} \\[ \\* &lt;",
    '"}], "msteams": {"entities": [{"type": "mention"}]}, "x": [{"y": "',
    "\x1b[2J \u202e \x00 \x7f \u2028",
]


@dataclass(frozen=True)
class Request:
    path: str
    content_type: str
    body: Any
    text: str


class Webhook(http.server.ThreadingHTTPServer):
    """A real HTTP server that keeps what is posted to it and answers as the test asked."""

    def __init__(self):
        self.requests: list[Request] = []
        self.over = threading.Event()
        self.answer = None
        outer = self

        class Receiver(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                sent = self.rfile.read(int(self.headers["Content-Length"])).decode()
                outer.requests.append(Request(self.path, self.headers["Content-Type"], json.loads(sent), sent))
                outer.answer(self)

            def log_message(self, *_):
                pass

        super().__init__(("127.0.0.1", 0), Receiver)
        self.url = f"http://127.0.0.1:{self.server_port}{PATH}"
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def handle_error(self, *_):
        pass  # the client went away, as it should


def replies(status, body=b"", **headers):
    def reply(request):
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        if status != 204:
            request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if status != 204:
            request.wfile.write(body)

    return reply


def drip(request):
    request.send_response(200)
    request.send_header("Content-Length", "1000000")
    request.end_headers()
    while not request.server.over.wait(0.05):
        request.wfile.write(b"o")
        request.wfile.flush()


REFUSALS = {
    "400": replies(400, b"invalid_payload"),
    "403": replies(403),
    "404, with the address": lambda request: replies(404, f"nothing is at {request.path}".encode())(request),
    "404, with the signature": replies(404, f"no such signature: signature-{SECRET}".encode()),
    "410": replies(410, b"channel_is_archived"),
    "429": replies(429, b"rate_limited", Retry_After="30"),
    "500": replies(500, b"server_error"),
    "503": replies(503),
    "302": replies(302, b"", Location="/elsewhere"),
    "307 to itself": lambda request: replies(307, b"", Location=request.path)(request),
    "garbage": lambda request: request.wfile.write(b"\x00\x01 this is no HTTP \xff\r\n\r\n"),
    "nothing": lambda _: None,
    "half an answer": lambda request: request.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nok"),
    "a hanging connection": lambda request: request.server.over.wait(30),
    "one byte at a time": drip,
}


@pytest.fixture(scope="module")
def server_url(tmp_path_factory):
    with own_server(tmp_path_factory.mktemp("valkey")) as url:
        yield url


@pytest.fixture
def redis_url(server_url):
    """The address of an empty server."""
    connect_to_redis(server_url).flushall()
    return server_url


def notice(**more) -> IdentifiedNotice:
    given = {"good": True, "title": "done: score data/predict", "facts": {"rows in": "40", "scored": "39"}, "next_step": "Look at it"}
    return IdentifiedNotice.of(Notice(**given | more), id="job-1/20261123T120000.000000", at=NOON)


class Suite:
    """What holds for every notifier; a subclass says what is special of one."""

    form: str
    accepted: ClassVar[tuple]
    """Answers of a webhook that accepts a notice."""
    refused: ClassVar[dict] = {}
    """More answers that are none."""
    content_type = "application/json"
    has_lines = True
    """Whether numbered sentences have a line each."""

    def read(self, request: Request) -> str:
        """What the receiver reads, escapes undone."""
        raise NotImplementedError

    def check_is_harmless(self, request: Request) -> None:
        """Nothing of a text is markup for the receiver."""
        raise NotImplementedError

    @pytest.fixture
    def webhook(self):
        server = Webhook()
        server.answer = self.accepted[0]
        yield server
        server.over.set()
        server.shutdown()
        server.server_close()

    @pytest.fixture
    def notifier(self, webhook):
        return choose_notifier(webhook.url, self.form)

    def test_delivers_title_facts_and_next_step(self, webhook, notifier):
        notifier.deliver(notice())
        [request] = webhook.requests
        assert request.path == PATH
        assert request.content_type == self.content_type
        read = self.read(request)
        for part in ("done: score data/predict", "rows in", "40", "scored", "39", "Look at it"):
            assert part in read

    def test_the_reasons_of_a_held_result_have_a_line_each_for_people(self, webhook, notifier):
        reasons = ["half of the rows are gone; the limit is 10 %", "all rows have one rate"]
        notifier.deliver(notice(facts={"reason": f"live keeps its result: {numbered(reasons)}"}))
        lines = self.read(webhook.requests[0]).splitlines()
        assert (lines[lines.index(f"(1) {reasons[0]}") + 1] == f"(2) {reasons[1]}") if self.has_lines else f"(2) {reasons[1]}" in lines[-1]

    def test_tells_good_from_bad(self, webhook, notifier):
        notifier.deliver(notice())
        notifier.deliver(notice(good=False))
        good, bad = webhook.requests
        assert good.body != bad.body

    def test_every_answer_that_accepts_is_one(self, webhook, notifier):
        for answer in self.accepted:
            webhook.answer = answer
            notifier.deliver(notice())
        assert len(webhook.requests) == len(self.accepted)

    @pytest.mark.parametrize("hostile", HOSTILE)
    def test_hostile_text_is_read_as_it_stands_and_pings_nobody(self, webhook, notifier, hostile):
        notifier.deliver(notice(title=f"title {hostile}", facts={f"name {hostile}": f"value {hostile}"}, next_step=f"type {hostile}"))
        [request] = webhook.requests
        read = self.read(request)
        for part in ("title", "name", "value", "type"):
            assert plain(f"{part} {hostile}", lines=True) in read
        assert request.text.isascii(), "no control character, and none that changes the direction of text"
        assert not re.search(r"[\x00-\x1f\x7f]", request.text)
        self.check_is_harmless(request)

    def test_a_notice_as_large_as_a_message_may_be_is_shortened(self, webhook, notifier):
        facts = {f"{number} {'n' * 600}": "\U0001f600<&*" * 1000 for number in range(60)}
        notifier.deliver(notice(title="<" * 5000, facts=facts, next_step="&" * 5000))
        [request] = webhook.requests
        assert "..." in self.read(request)
        assert len(request.text) < 60 * 2 * text.LONGEST_TEXT * 12

    @pytest.mark.parametrize("way", REFUSALS)
    def test_a_refusal_is_an_error_without_the_address(self, webhook, notifier, monkeypatch, way):
        monkeypatch.setattr(deadline_post, "TIMEOUT_SECONDS", 0.3)
        webhook.answer = REFUSALS[way]
        began = time.monotonic()
        with pytest.raises(resting.NoticeError) as raised:
            notifier.deliver(notice())
        assert time.monotonic() - began < 3
        assert raised.value.message
        assert SECRET not in str(raised.value)
        assert raised.value.__suppress_context__ or raised.value.__context__ is None, "a traceback would show the address"
        assert len(webhook.requests) == 1, "no redirect is followed"
        wait_until(lambda: not [thread for thread in threading.enumerate() if thread.name == "webhook"], 5, "the end of the thread")

    def test_an_answer_that_only_another_webhook_gives_is_a_refusal(self, webhook, notifier):
        for answer in self.refused.values():
            webhook.answer = answer
            with pytest.raises(resting.NoticeError):
                notifier.deliver(notice())

    def test_a_webhook_that_cannot_be_reached_is_an_error_without_the_address(self):
        for url in (f"http://127.0.0.1:{free_port()}{PATH}", f"https://no-such-host.invalid{PATH}", f"file://{PATH}", f"http://[::1{PATH}"):
            with pytest.raises(resting.NoticeError) as raised:
                choose_notifier(url, self.form).deliver(notice())
            assert SECRET not in str(raised.value)

    @pytest.mark.parametrize(("asked", "granted"), [("30", 30), ("3600", resting.LONGEST_REST_SECONDS), ("soon", resting.REST_SECONDS)])
    def test_429_asks_for_a_rest(self, webhook, notifier, asked, granted):
        webhook.answer = replies(429, b"", Retry_After=asked)
        with pytest.raises(resting.NoticeError) as raised:
            notifier.deliver(notice())
        assert raised.value.rest_seconds == granted
        assert not raised.value.may_have_arrived

    @pytest.mark.server
    def test_nobody_asks_while_another_does_or_the_webhook_rests(self, webhook, notifier, redis_url):
        client, other = connect_to_redis(redis_url), connect_to_redis(redis_url)
        with delivery.take_turn(client, notifier) as mine:
            assert mine.may_deliver
            with delivery.take_turn(other, notifier) as theirs:
                assert not theirs.is_free
                assert not theirs.may_deliver
            webhook.answer = replies(429, b"", Retry_After="30")
            with pytest.raises(resting.NoticeError):
                mine.notifier.deliver(notice())
        with delivery.take_turn(other, notifier) as theirs:
            assert theirs.is_free
            assert not theirs.may_deliver
        assert 25 < client.ttl(resting.REST) <= 30

    @pytest.mark.server
    def test_the_last_try_lets_the_webhook_rest_too(self, webhook, notifier, redis_url):
        client = connect_to_redis(redis_url)
        tries = MemoryDeliveryStore()
        webhook.answer = replies(500)
        for number in range(delivery.NOTICE_TRIES):
            client.delete(resting.REST)
            with delivery.take_turn(client, notifier) as turn:
                if number < delivery.NOTICE_TRIES - 1:
                    with pytest.raises(resting.NoticeError):
                        delivery.deliver(notice(), turn.notifier, tries)
                else:
                    assert delivery.deliver(notice(), turn.notifier, tries) is False
            assert resting.rests(client)

    def test_the_end_of_a_job_is_delivered_once_and_repeated_with_a_word_about_it(self, webhook, notifier, tmp_path):
        folder = make_job(LocalBucket(tmp_path))
        folder.write_outcome(Outcome(state="done", at=NOON))
        webhook.answer = lambda _: None  # taken, perhaps
        with pytest.raises(resting.NoticeError):
            delivery.deliver_job_notice(folder, notifier)
        webhook.answer = self.accepted[0]
        for _ in range(3):
            delivery.deliver_job_notice(folder, notifier)
        first, second = webhook.requests
        assert "(may be a repetition)" not in self.read(first)
        assert "(may be a repetition)" in self.read(second)

    def test_what_is_announced_is_delivered_once(self, webhook, notifier, tmp_path):
        bucket = LocalBucket(tmp_path)
        announce(bucket, "alias-champion-000001", Notice(good=True, title="champion means v2", facts={"from": "v1"}))
        for folder in [*undelivered(bucket), *undelivered(bucket)]:
            delivery.deliver_outbox_notice(folder, notifier, datetime.now(UTC))
        [request] = webhook.requests
        assert "champion means v2" in self.read(request)


class TestSlack(Suite):
    form = "slack"
    accepted = (replies(200, b"ok"), replies(200, b"ok\n"))
    refused: ClassVar = {"202": replies(202, b"ok"), "empty": replies(200), "a page": replies(200, b"<html>please log in</html>")}

    def read(self, request):
        [attachment] = request.body["attachments"]
        texts = [request.body["text"], attachment["footer"]]
        texts += [part for field in attachment["fields"] for part in (field["title"], field["value"])]
        return "\n".join(text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") for text in texts)

    def check_is_harmless(self, request):
        assert not re.search(r"[<>]|&(?!lt;|gt;|amp;)", request.text), "Slack's special characters are escaped"
        settings = {name: request.body[name] for name in ("parse", "link_names", "mrkdwn", "unfurl_links", "unfurl_media")}
        assert settings == {"parse": "none", "link_names": False, "mrkdwn": False, "unfurl_links": False, "unfurl_media": False}
        assert request.body["attachments"][0]["mrkdwn_in"] == []


class TestTeams(Suite):
    form = "teams"
    accepted = (replies(202), replies(200, b"1"), replies(202, b"<html>anything</html>"))
    refused: ClassVar = {"201": replies(201), "204": replies(204)}

    def card(self, request):
        [attachment] = request.body["attachments"]
        assert request.body["type"] == "message"
        assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
        assert (attachment["content"]["type"], attachment["content"]["version"]) == ("AdaptiveCard", "1.4")
        return attachment["content"]

    def read(self, request):
        return "\n".join("".join(run["text"] for run in block["inlines"]) for block in self.card(request)["body"])

    def check_is_harmless(self, request):
        card = self.card(request)
        assert card["msteams"] == {"width": "Full"}, "a mention needs an entity"
        assert {block["type"] for block in card["body"]} == {"RichTextBlock"}, "TextBlock and FactSet render Markdown"
        runs = [run for block in card["body"] for run in block["inlines"]]
        assert {run["type"] for run in runs} == {"TextRun"}
        assert {*card} == {"$schema", "type", "version", "msteams", "body"}
        assert all({*run} <= {"type", "text", "weight", "size", "color", "isSubtle"} for run in runs)

    def test_a_message_is_never_larger_than_teams_takes(self, webhook, notifier):
        worst = "\U0001f600" * 3000
        notifier.deliver(notice(title=worst, facts={f"{number} {worst}": worst for number in range(100)}, next_step=worst))
        notifier.deliver(notice(facts={"reason": "x" * 50_000}))
        large, usual = webhook.requests
        assert len(large.text) <= 28_000
        assert "x" * 1900 in self.read(usual)

    def test_a_message_of_many_numbered_sentences_is_not_larger_either(self, webhook, notifier):
        sentences = numbered([""] * 300)
        notifier.deliver(notice(facts={f"fact {number}": sentences for number in range(100)}))
        assert len(webhook.requests[0].text) <= 28_000


class TestJsonEvents(Suite):
    form = "json"
    accepted = (replies(200), replies(201, b"{}"), replies(202), replies(204))
    content_type = "application/cloudevents+json"
    has_lines = False

    def read(self, request):
        data = request.body["data"]
        return "\n".join([data["title"], data["next_step"], *(part for fact in data["facts"].items() for part in fact)])

    def check_is_harmless(self, request):
        # text is data here: no receiver of CloudEvents looks for markup in it
        assert {*request.body} == {"specversion", "id", "source", "type", "time", "datacontenttype", "data"}
        assert {*request.body["data"]} == {"good", "title", "facts", "next_step"}

    def test_an_event_has_the_attributes_of_cloudevents(self, webhook, notifier):
        notifier.deliver(notice(job_id="job-1"))
        [request] = webhook.requests
        assert request.body == {
            "specversion": "1.0",
            "id": "job-1/20261123T120000.000000",
            "source": "/keyword-scoring",
            "type": "keyword-scoring.job.ended",
            "subject": "job-1",
            "time": "2026-11-23T12:00:00+00:00",
            "datacontenttype": "application/json",
            "data": {
                "job_id": "job-1",
                "good": True,
                "title": "done: score data/predict",
                "facts": {"rows in": "40", "scored": "39"},
                "next_step": "Look at it",
            },
        }

    def test_the_id_is_the_same_in_every_try_and_another_for_another_end(self, webhook, notifier, tmp_path):
        folder = make_job(LocalBucket(tmp_path))
        folder.write_outcome(Outcome(state="failed", at=NOON, reason="no"))
        webhook.answer = replies(500)
        with pytest.raises(resting.NoticeError):
            delivery.deliver_job_notice(folder, notifier)
        webhook.answer = lambda _: None
        with pytest.raises(resting.NoticeError):
            delivery.deliver_job_notice(folder, notifier)
        webhook.answer = replies(204)
        delivery.deliver_job_notice(folder, notifier)
        folder.reopen()
        folder.write_outcome(Outcome(state="done", at=datetime(2026, 11, 24, tzinfo=UTC)))
        delivery.deliver_job_notice(folder, notifier)
        ids = [request.body["id"] for request in webhook.requests]
        assert ids == [f"{folder.job_id}/20261123T120000.000000"] * 3 + [f"{folder.job_id}/20261124T000000.000000"]
        assert len({request.body["time"] for request in webhook.requests[:3]}) == 1

    def test_the_id_of_what_is_announced_is_the_same_in_every_try_and_another_in_another_bucket(self, webhook, notifier, tmp_path):
        webhook.answer = replies(500)
        for number in range(2):
            bucket = LocalBucket(tmp_path / str(number))
            announce(bucket, "alias-champion-000001", Notice(good=True, title=f"champion means v2@{number}", facts={}))
            for _ in range(2):
                with contextlib.suppress(resting.NoticeError):
                    delivery.deliver_outbox_notice(undelivered(bucket)[0], notifier, datetime.now(UTC))
        first, again, other, _ = [(request.body["id"], request.body["time"]) for request in webhook.requests]
        assert first == again
        assert first[0] != other[0]
        assert first[0].startswith("alias-champion-000001/")


def test_every_notifier_passes_the_suite():
    assert {suite.form for suite in Suite.__subclasses__()} == {*KINDS}


@pytest.mark.parametrize(
    ("url", "form"),
    [
        ("https://hooks.slack.com/services/T0/B0/x", "slack"),
        ("https://contoso.webhook.office.com/webhookb2/x", "teams"),
        ("https://prod-01.westeurope.logic.azure.com:443/workflows/x/triggers/manual/paths/invoke?sig=x", "teams"),
        ("https://default0.1.environment.api.powerplatform.com:443/powerautomate/automations/direct/workflows/x", "teams"),
        ("https://PROD.LOGIC.AZURE.COM/x", "teams"),
        ("http://localhost:8000/x", "slack"),
        ("https://receiver.example/logic.azure.com", "slack"),
        ("https://evil-logic.azure.com.example/x", "slack"),
        ("https://notlogic.azure.com/x", "slack"),
        ("http://[::1", "slack"),
        ("no address", "slack"),
    ],
)
def test_the_host_says_which_format_it_takes(url, form):
    assert guess_format(url) == form
    assert type(choose_notifier(url)) is KINDS[form]


def test_without_an_address_there_is_no_notifier_and_a_format_that_is_set_wins():
    assert choose_notifier("") is None
    assert choose_notifier("", "json") is None
    for form, kind in KINDS.items():
        assert type(choose_notifier("https://hooks.slack.com/services/x", form)) is kind
    assert Settings().webhook_format is None
    assert Settings(webhook_format="teams").webhook_format == "teams"
