"""People are told once how a job ended, and no webhook, however broken or hostile, delays or fails anything."""

import http.server
import json
import threading
import time
from datetime import timedelta

import pytest
import structlog

from shared.bucket import LocalBucket
from shared.errors import TransientError
from shared.job_folder import JobFolder, Outcome, open_jobs
from shared.messages import TrainJob
from tests.conftest import free_port, wait_until
from tests.handmade import NOON, make_job
from workers import notices

SECRET = "/services/T0/B0/very-secret"


class Webhook(http.server.ThreadingHTTPServer):
    """A real HTTP server that keeps what is posted to it and answers in the way it was told to."""

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


ANSWERS = {
    "500": lambda request, _: reply(request, 500, b"server_error"),
    "404": lambda request, _: reply(request, 404, b"no_service"),
    "429": lambda request, _: reply(request, 429, b"rate_limited", **{"Retry-After": "3600"}),
    "a redirect": lambda request, _: reply(request, 302, b"", Location="/somewhere/else"),
    "a redirect to itself": lambda request, _: reply(request, 307, b"", Location=request.path),
    "200 with a page": lambda request, _: reply(request, 200, b"<html>please log in</html>"),
    "200 with bytes": lambda request, _: reply(request, 200, b"\xff\xfe\x00ok"),
    "garbage": lambda request, _: request.wfile.write(b"\x00\x01 this is no HTTP \xff\r\n\r\n"),
    "nothing": lambda request, _: None,
    "half an answer": lambda request, _: request.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nok"),
    "endless headers": lambda request, _: request.wfile.write(b"HTTP/1.1 200 OK\r\n" + b"X-Long: " + b"y" * 100_000),
    "a hanging connection": hang,
    "one byte at a time": drip,
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
    folder.end(Outcome(state=state, at=NOON + timedelta(seconds=90), **more))
    return folder


def notified(folder) -> bool | None:
    """Whether the notice was sent, as the job's folder says; None while nothing is known."""
    text = folder.bucket.read(folder.file("notified.json"))
    return None if text is None else json.loads(text)["sent"]


# --- what is told


def test_the_notice_of_a_result_has_its_facts_and_a_good_colour(bucket, webhook):
    server = webhook()
    facts = {"rows in": "40", "scored": "39", "rejected": "1"}
    folder = ended(bucket, release="v1@20261123T101500Z-9bfad3", result="data/predict/output/v1/x", facts=facts, next_step="Look at it")
    notices.tell(folder, server.url, last_try=False)
    [posted] = server.posted
    [attachment] = posted["attachments"]
    told = {field["title"]: field["value"] for field in attachment["fields"]}
    assert posted["text"].startswith("done: score data/predict/input/2026/11/23/prediction_input.csv with v1@20261123T101500Z-9bfad3")
    assert attachment["color"] == notices.GOOD
    assert attachment["footer"] == "Look at it"
    assert told == facts | {
        "job": folder.job_id,
        "took": "90.0 s",
        "release": "v1@20261123T101500Z-9bfad3",
        "path": "data/predict/output/v1/x",
    }
    assert server.paths == [SECRET]


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_the_notice_of_a_bad_end_has_the_reason_the_next_command_and_a_bad_colour(bucket, webhook, state):
    server = webhook()
    notices.tell(ended(bucket, state, reason="the table is empty", next_step="Go on with: scoring jobs resume"), server.url, last_try=False)
    [attachment] = server.posted[0]["attachments"]
    assert server.posted[0]["text"].startswith(f"{state}: score ")
    assert attachment["color"] == notices.BAD
    assert {"title": "reason", "value": "the table is empty", "short": True} in attachment["fields"]
    assert attachment["footer"] == "Go on with: scoring jobs resume"


def test_a_train_job_is_told_of_by_its_definition(bucket, webhook):
    server = webhook()
    folder = JobFolder(bucket, "job-1")
    folder.create(TrainJob(job_id="job-1", created=NOON, definition="v2", train="data/train.csv"))
    folder.end(Outcome(state="done", at=NOON, release="v2@20261123T101500Z-9bfad3"))
    notices.tell(folder, server.url, last_try=False)
    assert server.posted[0]["text"] == "done: train v2"


@pytest.mark.parametrize("text", [b"", b"{}", b'{"format": 2}', b"\xff" * 70_000])
def test_even_a_job_whose_request_cannot_be_read_is_told_of(bucket, webhook, text):
    server = webhook()
    folder = ended(bucket, "failed", reason="it has format 2")
    bucket.write(folder.file("job.json"), text)
    notices.tell(folder, server.url, last_try=False)
    assert server.posted[0]["text"] == f"failed: job {folder.job_id}"
    assert notified(folder)


def test_people_are_told_once_and_the_job_is_closed(bucket, webhook):
    server = webhook()
    folder = ended(bucket)
    assert open_jobs(bucket) == [folder.job_id]
    for _ in range(3):
        notices.tell(folder, server.url, last_try=False)
    assert len(server.posted) == 1
    assert notified(folder) is True
    assert open_jobs(bucket) == []


def test_nothing_is_told_of_a_job_that_has_not_ended(bucket, webhook):
    server = webhook()
    folder = make_job(bucket)
    notices.tell(folder, server.url, last_try=True)
    assert not server.posted
    assert notified(folder) is None
    assert open_jobs(bucket) == [folder.job_id]


def test_without_a_webhook_the_notice_is_a_line_in_the_log(bucket, logged):
    folder = ended(bucket, release="v1@20261123T101500Z-9bfad3")
    notices.tell(folder, "", last_try=False)
    [line] = [line for line in logged if line["event"] == "notice"]
    assert line["title"].startswith("done: score ")
    assert line["release"] == "v1@20261123T101500Z-9bfad3"
    assert notified(folder) is False
    assert open_jobs(bucket) == []


def test_a_job_that_is_resumed_while_its_old_end_is_told_stays_open_and_is_told_of_again(bucket, webhook):
    folder = ended(bucket, "failed")
    resuming = webhook(lambda request, _: (folder.reopen(), reply(request, 200)))
    notices.tell(folder, resuming.url, last_try=False)
    assert notified(folder) is None
    assert open_jobs(bucket) == [folder.job_id]
    folder.end(Outcome(state="done", at=NOON))
    server = webhook()
    notices.tell(folder, server.url, last_try=False)
    assert len(server.posted) == 1


# --- webhooks that are none


@pytest.mark.parametrize("way", ANSWERS)
def test_a_webhook_that_does_not_take_the_notice_is_tried_again_and_then_given_up(bucket, webhook, logged, monkeypatch, way):
    monkeypatch.setattr(notices, "TIMEOUT_SECONDS", 0.5)
    server = webhook(ANSWERS[way])
    folder = ended(bucket)
    began = time.monotonic()
    with pytest.raises(notices.NoticeError, match=f"the webhook did not take the notice of job {folder.job_id}: ."):
        notices.tell(folder, server.url, last_try=False)
    assert notified(folder) is None
    assert open_jobs(bucket) == [folder.job_id]
    notices.tell(folder, server.url, last_try=True)
    assert time.monotonic() - began < 5
    assert notified(folder) is False
    assert open_jobs(bucket) == []
    assert [line["log_level"] for line in logged if line["event"] == "notice given up"] == ["error"]
    assert SECRET not in str(logged)


def test_a_redirect_gets_nothing_of_the_notice(bucket, webhook):
    elsewhere = webhook()
    server = webhook(lambda request, _: reply(request, 302, b"", Location=elsewhere.url))
    with pytest.raises(notices.NoticeError):
        notices.tell(ended(bucket), server.url, last_try=False)
    assert not elsewhere.posted


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
        notices.tell(folder, url, last_try=False)
    assert "secret" not in str(raised.value)
    assert raised.value.__cause__ is None, "a printed traceback would show the address"
    assert raised.value.__suppress_context__
    notices.tell(folder, url, last_try=True)
    assert notified(folder) is False
    assert "secret" not in str(logged)


def test_a_webhook_that_comes_back_between_two_tries_is_told_once(bucket, webhook):
    answers = iter([ANSWERS["500"], lambda request, _: reply(request, 200)])
    server = webhook(lambda *request: next(answers)(*request))  # noqa: PLW0108 - a new answer for each request
    folder = ended(bucket)
    with pytest.raises(notices.NoticeError):
        notices.tell(folder, server.url, last_try=False)
    notices.tell(folder, server.url, last_try=False)
    assert notified(folder) is True
    notices.tell(folder, server.url, last_try=True)
    assert len(server.posted) == 2


def test_no_thread_is_left_waiting_once_the_webhook_lets_go(bucket, webhook, monkeypatch):
    monkeypatch.setattr(notices, "TIMEOUT_SECONDS", 0.2)
    server = webhook(drip)
    notices.tell(ended(bucket), server.url, last_try=True)
    server.over.set()
    wait_until(lambda: not [thread for thread in threading.enumerate() if thread.name == "webhook"], 10, "the end of the thread")


def test_nothing_listens_where_the_webhook_was(bucket):
    folder = ended(bucket)
    notices.tell(folder, f"http://127.0.0.1:{free_port()}/x", last_try=True)
    assert notified(folder) is False
