"""People are notified once how a job ended, and no webhook, however broken or hostile, delays or fails anything."""

import contextlib
import http.server
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
from datetime import UTC, datetime, timedelta

import pytest
import structlog

from shared.bucket.local import LocalBucket
from shared.errors import TransientError
from shared.jobs.folder import JobFolder, Outcome, open_jobs
from shared.jobs.messages import Notice, TrainJob
from shared.jobs.outbox import announce, undelivered
from shared.queue.client import connect_to_redis
from tests.conftest import REPOSITORY, free_port, wait_until
from tests.handmade import NOON, make_job
from workers.notices import deadline_post, delivery, resting, slack
from workers.notices.notifier import choose_notifier

SECRET = "/services/T0/B0/very-secret"


class Webhook(http.server.ThreadingHTTPServer):
    """A real HTTP server that keeps what is posted to it and answers in the way the test asked."""

    def __init__(self, answer):
        self.posted, self.paths, self.over = [], [], threading.Event()
        outer = self

        class Receiver(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                outer.paths.append(self.path)
                outer.posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                answer(self, outer)

            def do_GET(self):
                outer.paths.append(self.path)
                reply(self, 200, b"<html>welcome</html>")

            def log_message(self, *_):
                pass

        super().__init__(("127.0.0.1", 0), Receiver)
        self.url = f"http://127.0.0.1:{self.server_port}{SECRET}"
        self.notifier = choose_notifier(self.url)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def handle_error(self, *_):
        pass  # the other side went away, as it should


def reply(request, status, body=b"ok", **headers):
    request.send_response(status)
    for name, value in headers.items():
        request.send_header(name, value)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


def hang(_request, server):
    server.over.wait(30)


def drip(request, server):
    request.send_response(200)
    request.send_header("Content-Length", "1000000")
    request.end_headers()
    while not server.over.wait(0.05):
        request.wfile.write(b"o")
        request.wfile.flush()


def flood(request, server):
    request.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while not server.over.is_set():
        request.wfile.write(b"o" * 1_000_000)


def go_on_for_ever(request, server):
    while not server.over.is_set():
        request.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")


ANSWERS = {
    "500": lambda request, _: reply(request, 500, b"server_error"),
    "404": lambda request, _: reply(request, 404, b"no_service"),
    "429": lambda request, _: reply(request, 429, b"rate_limited", **{"Retry-After": "3600"}),
    "a redirect": lambda request, _: reply(request, 302, b"", Location="/somewhere/else"),
    "a redirect to a file": lambda request, _: reply(request, 302, b"", Location="file:///etc/passwd"),
    "a redirect to itself": lambda request, _: reply(request, 307, b"", Location=request.path),
    "200 with a page": lambda request, _: reply(request, 200, b"<html>please log in</html>"),
    "200 with bytes": lambda request, _: reply(request, 200, b"\xff\xfe\x00ok"),
    "garbage": lambda request, _: request.wfile.write(b"\x00\x01 this is no HTTP \xff\r\n\r\n"),
    "nothing": lambda request, _: None,
    "half an answer": lambda request, _: request.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nok"),
    "endless headers": lambda request, _: request.wfile.write(b"HTTP/1.1 200 OK\r\n" + b"X-Long: " + b"y" * 100_000),
    "a hanging connection": hang,
    "one byte at a time": drip,
    "a gigabyte": flood,
    "to be continued, for ever": go_on_for_ever,
    "the address it was asked for": lambda request, _: reply(request, 404, f"nothing is at {request.path}".encode()),
}


@pytest.fixture
def webhook():
    """Makes webhooks; they are closed at the end."""
    made = []

    def make(answer=lambda request, _: reply(request, 200)):
        made.append(Webhook(answer))
        return made[-1]

    yield make
    for server in made:
        server.over.set()
        server.shutdown()
        server.server_close()


@pytest.fixture
def bucket(tmp_path):
    return LocalBucket(tmp_path / "bucket")


@pytest.fixture
def logged():
    with structlog.testing.capture_logs() as lines:
        yield lines


def ended(bucket, state="done", **more) -> JobFolder:
    folder = make_job(bucket)
    folder.write_outcome(Outcome(state=state, at=NOON + timedelta(seconds=90), **more))
    return folder


def tell_until_given_up(folder, url) -> None:
    """Every try that a sweep would make."""
    for _ in range(delivery.NOTICE_TRIES - 1):
        with pytest.raises(resting.NoticeError):
            delivery.deliver_job_notice(folder, choose_notifier(url))
    delivery.deliver_job_notice(folder, choose_notifier(url))


def notified(folder) -> bool | None:
    """Whether the notice was sent, as the job's folder says; None while nothing is known."""
    text = folder.bucket.read(folder.file("notified.json"))
    return None if text is None else json.loads(text)["sent"]


# --- what is said


def test_the_notice_of_a_result_has_its_facts_and_a_good_colour(bucket, webhook):
    server = webhook()
    facts = {"rows in": "40", "scored": "39", "rejected": "1"}
    folder = ended(bucket, release="v1@20261123T101500Z-9bfad3", result="data/predict/output/v1/x", facts=facts, next_step="Look at it")
    delivery.deliver_job_notice(folder, server.notifier)
    [posted] = server.posted
    [attachment] = posted["attachments"]
    fields = {field["title"]: field["value"] for field in attachment["fields"]}
    assert posted["text"].startswith("done: score data/predict/input/2026/11/23/prediction_input.csv with v1@20261123T101500Z-9bfad3")
    assert attachment["color"] == slack.GOOD
    assert attachment["footer"] == "Look at it"
    assert fields == facts | {
        "job": folder.job_id,
        "took": "90.0 s",
        "release": "v1@20261123T101500Z-9bfad3",
        "path": "data/predict/output/v1/x",
    }
    assert server.paths == [SECRET]


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_the_notice_of_a_bad_end_has_the_reason_the_next_command_and_a_bad_colour(bucket, webhook, state):
    server = webhook()
    delivery.deliver_job_notice(
        ended(bucket, state, reason="the table is empty", next_step="Go on with: scoring jobs resume"), server.notifier
    )
    [attachment] = server.posted[0]["attachments"]
    assert server.posted[0]["text"].startswith(f"{state}: score ")
    assert attachment["color"] == slack.BAD
    assert {"title": "reason", "value": "the table is empty", "short": True} in attachment["fields"]
    assert attachment["footer"] == "Go on with: scoring jobs resume"


def test_a_train_job_is_reported_by_its_definition(bucket, webhook):
    server = webhook()
    folder = JobFolder(bucket, "job-1")
    folder.create(TrainJob(job_id="job-1", created=NOON, definition="v2", train="data/train.csv"))
    folder.write_outcome(Outcome(state="done", at=NOON, release="v2@20261123T101500Z-9bfad3"))
    delivery.deliver_job_notice(folder, server.notifier)
    assert server.posted[0]["text"] == "done: train v2"


@pytest.mark.parametrize("text", [b"", b"{}", b'{"format": 2}', b"\xff" * 70_000])
def test_even_a_job_whose_request_cannot_be_read_is_reported(bucket, webhook, text):
    server = webhook()
    folder = ended(bucket, "failed", reason="it has format 2")
    bucket.write(folder.file("job.json"), text)
    delivery.deliver_job_notice(folder, server.notifier)
    assert server.posted[0]["text"] == f"failed: job {folder.job_id}"
    assert notified(folder)


def test_people_are_notified_once_and_the_job_is_closed(bucket, webhook):
    server = webhook()
    folder = ended(bucket)
    assert open_jobs(bucket) == [folder.job_id]
    for _ in range(3):
        delivery.deliver_job_notice(folder, server.notifier)
    assert len(server.posted) == 1
    assert notified(folder) is True
    assert open_jobs(bucket) == []


def test_a_job_that_has_not_ended_is_not_reported(bucket, webhook):
    server = webhook()
    folder = make_job(bucket)
    delivery.deliver_job_notice(folder, server.notifier)
    assert not server.posted
    assert notified(folder) is None
    assert open_jobs(bucket) == [folder.job_id]


def test_without_a_webhook_the_notice_is_a_line_in_the_log(bucket, logged):
    folder = ended(bucket, release="v1@20261123T101500Z-9bfad3")
    delivery.deliver_job_notice(folder, None)
    [line] = [line for line in logged if line["event"] == "notice"]
    assert line["title"].startswith("done: score ")
    assert line["release"] == "v1@20261123T101500Z-9bfad3"
    assert notified(folder) is False
    assert open_jobs(bucket) == []


def test_a_job_that_is_resumed_while_its_old_end_is_reported_stays_open_and_is_reported_again(bucket, webhook):
    folder = ended(bucket, "failed")
    resuming = webhook(lambda request, _: (folder.reopen(), reply(request, 200)))
    delivery.deliver_job_notice(folder, resuming.notifier)
    assert notified(folder) is None
    assert open_jobs(bucket) == [folder.job_id]
    folder.write_outcome(Outcome(state="done", at=NOON))
    server = webhook()
    delivery.deliver_job_notice(folder, server.notifier)
    assert len(server.posted) == 1


@pytest.mark.parametrize("moment", ["before the old end is gone", "after the old end is gone"])
def test_a_job_that_is_resumed_the_moment_its_old_end_is_noted_stays_open_and_is_reported_again(bucket, webhook, monkeypatch, moment):
    folder = ended(bucket, "failed")
    server = webhook()
    write, delete = bucket.write, bucket.delete

    def noting(path, data, **more):
        """Writing ``notified.json``: the job is let go on before it, or around it."""

        def note_late(gone):
            if gone.endswith("outcome.json"):
                write(path, data)
            delete(gone)

        if not path.endswith("notified.json"):
            write(path, data, **more)
            return
        monkeypatch.setattr(bucket, "write", write)
        if moment == "after the old end is gone":
            folder.reopen()
            write(path, data, **more)
        else:
            monkeypatch.setattr(bucket, "delete", note_late)
            folder.reopen()

    monkeypatch.setattr(bucket, "write", noting)
    delivery.deliver_job_notice(folder, server.notifier)
    assert folder.outcome() is None
    assert open_jobs(bucket) == [folder.job_id]
    folder.write_outcome(Outcome(state="done", at=NOON))
    delivery.deliver_job_notice(folder, server.notifier)
    assert len(server.posted) == 2
    assert open_jobs(bucket) == []


# --- what a table holds


def test_nothing_in_a_notice_mentions_links_or_marks_up(bucket, webhook):
    server = webhook()
    hostile = "<!channel> <https://evil|see> & *b* \x1b[2J\u202e"
    folder = ended(bucket, state="failed", reason=f"a value {hostile}", next_step=f"type {hostile}", facts={f"mean {hostile}": hostile})
    delivery.deliver_job_notice(folder, server.notifier)
    [posted] = server.posted
    [attachment] = posted["attachments"]
    fields = {field["title"]: field["value"] for field in attachment["fields"]}
    shown = r"&lt;!channel&gt; &lt;https://evil|see&gt; &amp; *b* \x1b[2J\u202e"
    assert (fields["reason"], fields[f"mean {shown}"], attachment["footer"]) == (f"a value {shown}", shown, f"type {shown}")
    assert (posted["parse"], posted["link_names"], posted["mrkdwn"], posted["unfurl_links"]) == ("none", False, False, False)


def test_a_text_is_cut_after_it_was_escaped_and_never_inside_an_escape():
    for longest in range(3, 30):
        text = slack.escaped("<" * 5 + "a&b" + ">" * 5, longest)
        assert len(text) <= longest
        assert re.fullmatch(r"(&lt;|&gt;|&amp;|[ab])*(\.\.\.)?", text), text
    assert slack.escaped("a<b", 6) == "a&lt;b"
    assert slack.escaped("", 5) == ""
    long = slack.payload(Notice(good=False, title="<" * 1000, facts={"reason": "&" * 10_000}, next_step=">" * 10_000))
    assert len(long["text"]) <= slack.LONGEST_TITLE
    assert len(long["attachments"][0]["fields"][0]["value"]) <= slack.LONGEST_TEXT
    assert len(long["attachments"][0]["footer"]) <= slack.LONGEST_TEXT


# --- webhooks that are none


@pytest.mark.parametrize("way", ANSWERS)
def test_a_webhook_that_does_not_take_the_notice_is_tried_again_and_then_given_up(bucket, webhook, logged, monkeypatch, way):
    monkeypatch.setattr(deadline_post, "TIMEOUT_SECONDS", 0.3)
    server = webhook(ANSWERS[way])
    folder = ended(bucket)
    began = time.monotonic()
    with pytest.raises(resting.NoticeError, match=f"the webhook did not take the notice of job {folder.job_id}: .") as raised:
        delivery.deliver_job_notice(folder, server.notifier)
    assert notified(folder) is None
    assert open_jobs(bucket) == [folder.job_id]
    with pytest.raises(resting.NoticeError):
        delivery.deliver_job_notice(folder, server.notifier)
    delivery.deliver_job_notice(folder, server.notifier)
    assert time.monotonic() - began < 5
    assert notified(folder) is False
    assert open_jobs(bucket) == []
    assert [line["log_level"] for line in logged if line["event"] == "notice given up"] == ["error"]
    assert SECRET not in f"{logged} {raised.value}"
    assert len(server.posted) == delivery.NOTICE_TRIES
    # also while the other side would go on for ever
    wait_until(lambda: not [thread for thread in threading.enumerate() if thread.name == "webhook"], 5, "the end of the threads")


def test_of_an_answer_without_an_end_a_few_bytes_are_read(bucket, webhook):
    server = webhook(flood)
    tracemalloc.start()
    try:
        with pytest.raises(resting.NoticeError, match="it answered 200 'ooo"):
            delivery.deliver_job_notice(ended(bucket), server.notifier)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # the server's own buffer is in it
    assert most < 10_000_000


@pytest.mark.parametrize("greeting", [b"", b"\x00" * 10, b"\x16\x03\x03\x7f\xff"], ids=["silence", "garbage", "a record that does not end"])
def test_a_server_that_cannot_speak_tls_is_broken_off_in_time(bucket, monkeypatch, greeting):
    monkeypatch.setattr(deadline_post, "TIMEOUT_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        held = []

        def accept():
            connection, _ = listener.accept()
            connection.sendall(greeting)
            held.append(connection)

        threading.Thread(target=accept, daemon=True).start()
        began = time.monotonic()
        with pytest.raises(resting.NoticeError) as raised:
            delivery.deliver_job_notice(ended(bucket), slack.Slack(f"https://127.0.0.1:{listener.getsockname()[1]}{SECRET}"))
        assert time.monotonic() - began < 2
        assert SECRET not in str(raised.value)
        wait_until(lambda: not [thread for thread in threading.enumerate() if thread.name == "webhook"], 5, "the end of the thread")
        for connection in held:
            connection.close()


def test_a_server_that_accepts_nobody_is_left_in_time(bucket, monkeypatch):
    monkeypatch.setattr(deadline_post, "TIMEOUT_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, contextlib.ExitStack() as queued:
        for _ in range(3):
            waiting = queued.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        began = time.monotonic()
        with pytest.raises(resting.NoticeError, match=r"within 0\.3 seconds|cannot be reached: timed out"):
            delivery.deliver_job_notice(ended(bucket), slack.Slack(f"http://127.0.0.1:{listener.getsockname()[1]}{SECRET}"))
        assert time.monotonic() - began < 2


def test_a_redirect_gets_nothing_of_the_notice(bucket, webhook):
    elsewhere = webhook()
    for status in (301, 302, 303, 307, 308):
        server = webhook(lambda request, _, status=status: reply(request, status, b"ok", Location=elsewhere.url))
        with pytest.raises(resting.NoticeError, match=f"it answered {status}"):
            server.notifier.deliver(Notice(good=True, title="x", facts={}))
    assert not elsewhere.paths


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ("1", 1), ("30", 30), ("60", 60), ("61", 60), ("3600", 60), ("0", 1), ("999999999", 60),
        ("-5", None), ("1.5", None), ("soon", None), ("", None), ("Wed, 21 Oct 2026 07:28:00 GMT", None), ("9" * 5000, None), ("٣", None),
    ],
)  # fmt: skip
def test_the_rest_that_a_webhook_asks_for_is_granted_up_to_a_minute_and_nonsense_is_ignored(webhook, asked, given):
    if asked.isascii():
        server = webhook(lambda request, _: reply(request, 429, b"rate_limited", **{"Retry-After": asked}))
        with pytest.raises(resting.NoticeError) as raised:
            server.notifier.deliver(Notice(good=True, title="x", facts={}))
        assert raised.value.rest_seconds == (given or resting.REST_SECONDS)
    assert resting.rest_seconds(asked) == (given or resting.REST_SECONDS)


@pytest.mark.server
def test_a_rest_is_kept_by_all_and_ends_by_itself(redis_url, no_redis_url):
    mine, theirs = connect_to_redis(redis_url), connect_to_redis(redis_url)
    assert not resting.rests(theirs)
    resting.rest(mine, 0.3)
    assert resting.rests(theirs)
    wait_until(lambda: not resting.rests(theirs), 5, "the end of the rest")
    resting.rest(connect_to_redis(no_redis_url), 1)
    assert not resting.rests(connect_to_redis(no_redis_url)), "without Redis nobody is held up"


def test_a_proxy_of_the_environment_is_used(webhook, monkeypatch):
    proxy = webhook()
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.server_port}")
    monkeypatch.delenv("no_proxy", raising=False)
    slack.Slack(f"http://hooks.example.invalid{SECRET}").deliver(Notice(good=True, title="x", facts={}))
    assert proxy.paths == [f"http://hooks.example.invalid{SECRET}"]


@pytest.mark.parametrize(
    "url",
    [
        f"http://127.0.0.1:1{SECRET}",
        f"http://no-such-host.invalid{SECRET}",
        f"127.0.0.1{SECRET}",
        f"ftp://127.0.0.1{SECRET}",
        f"file://{SECRET}",
        f"http://127.0.0.1:99999{SECRET}",
        f"http://127.0.0.1:port{SECRET}",
        f"http://[::1{SECRET}",
        f"http://127.0.0.1:1{SECRET} with blanks",
        f"http://127.0.0.1:1{SECRET}\n",
        f"http://{'long.' * 60}{SECRET}",
        f"http://127.0.0.1:1/ü{SECRET}",
    ],
)
def test_an_address_that_cannot_be_fails_nothing_and_is_never_shown(bucket, logged, url):
    folder = ended(bucket)
    with pytest.raises(TransientError) as raised:
        delivery.deliver_job_notice(folder, choose_notifier(url))
    assert "secret" not in str(raised.value)
    assert raised.value.__cause__ is None, "a printed traceback would show the address"
    assert raised.value.__suppress_context__
    with pytest.raises(TransientError):
        delivery.deliver_job_notice(folder, choose_notifier(url))
    delivery.deliver_job_notice(folder, choose_notifier(url))
    assert notified(folder) is False
    assert "secret" not in str(logged)


# --- once, or twice with a word about it


def sent_title(server) -> str:
    return server.posted[-1]["text"]


def test_a_webhook_that_comes_back_between_two_tries_is_called_once(bucket, webhook):
    answers = iter([ANSWERS["500"], lambda request, _: reply(request, 200)])
    server = webhook(lambda *request: next(answers)(*request))  # noqa: PLW0108 - a new answer for each request
    folder = ended(bucket)
    with pytest.raises(resting.NoticeError):
        delivery.deliver_job_notice(folder, server.notifier)
    delivery.deliver_job_notice(folder, server.notifier)
    assert notified(folder) is True
    delivery.deliver_job_notice(folder, server.notifier)
    assert len(server.posted) == 2
    assert "perhaps" not in sent_title(server), "a refused notice was certainly not taken"


def test_a_notice_that_was_perhaps_heard_says_so_when_it_is_sent_again(bucket, webhook, monkeypatch):
    monkeypatch.setattr(deadline_post, "TIMEOUT_SECONDS", 0.3)
    answers = iter([hang, ANSWERS["500"], lambda request, _: reply(request, 200)])
    server = webhook(lambda *request: next(answers)(*request))  # noqa: PLW0108 - a new answer for each request
    folder = ended(bucket)
    for _ in range(2):
        with pytest.raises(resting.NoticeError):
            delivery.deliver_job_notice(folder, server.notifier)
    delivery.deliver_job_notice(folder, server.notifier)
    assert [posted["text"].endswith(" (may be a repetition)") for posted in server.posted] == [False, True, True]
    assert notified(folder) is True


def test_a_process_that_dies_between_the_answer_and_its_mark_leaves_word_of_it(bucket, webhook):
    server = webhook()
    folder = ended(bucket)
    program = f"""
import os
from pathlib import Path
from shared.bucket.local import LocalBucket
from shared.jobs.folder import JobFolder
from workers.notices import delivery
from workers.notices.slack import Slack

class Killed(Slack):
    def deliver(self, notice):
        super().deliver(notice)
        os.kill(os.getpid(), 9)

delivery.deliver_job_notice(JobFolder(LocalBucket(Path({str(bucket.root)!r})), {folder.job_id!r}), Killed({server.url!r}))
"""
    assert subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=False).returncode == -9
    assert notified(folder) is None
    delivery.deliver_job_notice(folder, server.notifier)
    assert [posted["text"].endswith(" (may be a repetition)") for posted in server.posted] == [False, True]
    assert notified(folder) is True


def test_a_notice_that_kills_every_process_is_given_up(bucket, webhook, logged):
    server = webhook()
    folder = ended(bucket)
    bucket.write(folder.file("telling.json"), delivery.DeliveryState(at=NOON, tries=3, may_have_arrived=True).to_json())
    delivery.deliver_job_notice(folder, server.notifier)
    assert not server.posted
    assert notified(folder) is False
    assert [line for line in logged if line["event"] == "notice given up"]


@pytest.mark.parametrize("text", [b"", b"{}", b"\xff" * 70_000])
def test_a_mark_that_cannot_be_read_keeps_no_notice_back(bucket, webhook, text):
    server = webhook()
    folder = ended(bucket)
    bucket.write(folder.file("telling.json"), text)
    delivery.deliver_job_notice(folder, server.notifier)
    assert sent_title(server).endswith(" (may be a repetition)")


def test_a_job_that_was_resumed_has_all_its_tries_again(bucket, webhook):
    folder = ended(bucket, "failed")
    tell_until_given_up(folder, f"http://127.0.0.1:{free_port()}/x")
    assert notified(folder) is False
    folder.reopen()
    folder.write_outcome(Outcome(state="done", at=NOON))
    server = webhook()
    delivery.deliver_job_notice(folder, server.notifier)
    assert notified(folder) is True
    assert "perhaps" not in sent_title(server)


# --- what is announced


ANNOUNCED = Notice(good=True, title="promoted: champion means v2", facts={"from": "v1", "to": "v2"})


def test_what_is_announced_under_a_name_is_sent_once(bucket, webhook):
    server = webhook()
    assert announce(bucket, "alias-champion-000001", ANNOUNCED)
    [folder] = undelivered(bucket)
    delivery.deliver_outbox_notice(folder, server.notifier, datetime.now(UTC))
    assert not announce(bucket, "alias-champion-000001", ANNOUNCED)
    assert undelivered(bucket) == []
    bucket.write("notices/_open/alias-champion-000001", b"")
    for folder in undelivered(bucket):
        delivery.deliver_outbox_notice(folder, server.notifier, datetime.now(UTC))
    assert [posted["text"] for posted in server.posted] == ["promoted: champion means v2"]
    assert undelivered(bucket) == []


def test_what_is_announced_is_given_up_after_some_tries(bucket, webhook, logged):
    server = webhook(lambda request, _: reply(request, 500))
    announce(bucket, "late", ANNOUNCED)
    [folder] = undelivered(bucket)
    for _ in range(delivery.NOTICE_TRIES - 1):
        with pytest.raises(resting.NoticeError, match="did not take the notice 'promoted: champion means v2'"):
            delivery.deliver_outbox_notice(folder, server.notifier, datetime.now(UTC))
    delivery.deliver_outbox_notice(folder, server.notifier, datetime.now(UTC))
    assert len(server.posted) == delivery.NOTICE_TRIES
    assert undelivered(bucket) == []
    assert json.loads(bucket.read("notices/late/notified.json"))["sent"] is False


def test_a_mark_without_a_notice_stays_as_long_as_somebody_may_write_it(bucket, webhook):
    server = webhook()
    bucket.write("notices/_open/half", b"")
    [folder] = undelivered(bucket)
    delivery.deliver_outbox_notice(folder, server.notifier, datetime.now(UTC))
    assert len(undelivered(bucket)) == 1
    os.utime(bucket.place("notices/_open/half"), (0, 0))
    delivery.deliver_outbox_notice(folder, server.notifier, datetime.now(UTC))
    assert undelivered(bucket) == []
    assert server.posted == []


def test_a_damaged_notice_is_left_alone(bucket, webhook, logged):
    announce(bucket, "late", ANNOUNCED)
    bucket.write("notices/late/notice.json", b"{")
    [folder] = undelivered(bucket)
    delivery.deliver_outbox_notice(folder, webhook().notifier, datetime.now(UTC))
    assert undelivered(bucket) == []
    assert [line["event"] for line in logged] == ["notice that cannot be read is left alone"]
