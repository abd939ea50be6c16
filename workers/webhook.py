"""The way to people: one message to a Slack webhook, which may be down, slow or hostile and is waited for no longer than it is told here.

A try takes five seconds at most, reads a few hundred bytes, follows no redirect and speaks nothing but HTTP and HTTPS. slack-sdk's client
can do none of that. After a try that failed the webhook rests: no process asks it again until the mark in Redis is gone.
"""

import bisect
import contextlib
import http.client
import itertools
import json
import queue
import socket
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import redis
import structlog

from shared.errors import TransientError
from shared.jobs.messages import Notice
from shared.text.plain import plain

TIMEOUT_SECONDS = 5
"""For the whole of one try; a webhook that answers byte by byte gets no more."""
REST_SECONDS = 10
"""After a try that failed."""
LONGEST_REST_SECONDS = 60
"""More than this is not granted, whatever Retry-After says: people wait for the notice."""
LONGEST_ANSWER_BYTES = 1000
"""Slack's own answers are shorter than 50."""
SHOWN_LENGTH = 100
SHORT_LENGTH = 40
"""Values up to this length stand side by side."""
LONGEST_TITLE, LONGEST_TEXT = 500, 2000
"""Characters, escapes counted: an error may quote a whole row, and Slack refuses messages that are too long."""
CUT = "..."
ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
SHORTEST_SECRET = 6
"""A shorter piece of an address gives nothing away."""

REST = "scoring:webhook:rest"

GOOD, BAD = "#2eb67d", "#e01e5a"

log = structlog.get_logger()


class NoticeError(TransientError):
    """Raised when the webhook did not take the notice; it is tried again a few times."""

    def __init__(self, message: str, *, perhaps_told: bool = False, rest_seconds: float = REST_SECONDS) -> None:
        super().__init__(message)
        self.perhaps_told = perhaps_told
        """False when it is certain that nobody read the notice: it was refused, or nothing was sent."""
        self.rest_seconds = rest_seconds


def post(notice: Notice, webhook_url: str) -> None:
    """One message to a Slack webhook.

    Raises:
        NoticeError: it was not taken, or not within the time; the text never holds the address, which is a secret.
    """
    answer = _ask_in_time(webhook_url, json.dumps(payload(notice)).encode())
    # a page that greets whoever comes answers 200 as well, but not with Slack's word for it
    if answer.status != 200 or answer.text.strip() != "ok":
        shown = _without_address(answer.text, webhook_url)[:SHOWN_LENGTH]
        raise NoticeError(f"it answered {answer.status} {shown!r}", rest_seconds=rest_seconds(answer.retry_after))


def payload(notice: Notice) -> dict[str, Any]:
    """The message as Slack takes it; nothing that a table or a name holds becomes a mention, a link or markup of it."""
    fields = [
        {"title": escaped(name, LONGEST_TITLE), "value": escaped(value, LONGEST_TEXT), "short": len(value) < SHORT_LENGTH}
        for name, value in notice.facts.items()
    ]
    title, footer = escaped(notice.title, LONGEST_TITLE), escaped(notice.next_step, LONGEST_TEXT)
    attachment = {"color": GOOD if notice.good else BAD, "fields": fields, "footer": footer, "fallback": title, "mrkdwn_in": []}
    as_it_stands = {"parse": "none", "link_names": False, "mrkdwn": False, "unfurl_links": False, "unfurl_media": False}
    return {"text": title, "attachments": [attachment], **as_it_stands}


def escaped(text: str, longest: int) -> str:
    """The text with Slack's three special characters escaped, and cut to so many characters then, between two of its own.

    https://docs.slack.dev/messaging/formatting-message-text#escaping
    """
    pieces = [ENTITIES.get(character, character) for character in plain(text, lines=True)]
    lengths = list(itertools.accumulate(map(len, pieces)))
    if not lengths or lengths[-1] <= longest:
        return "".join(pieces)
    return "".join(pieces[: bisect.bisect_right(lengths, longest - len(CUT))]) + CUT


def _without_address(text: str, url: str) -> str:
    """A server may quote what it was asked for, and that is the secret."""
    address = urllib.parse.urlsplit(url)
    for part in sorted({address.path, address.query, *address.path.split("/"), *address.query.split("&")}, key=len, reverse=True):
        if len(part) >= SHORTEST_SECRET:
            text = text.replace(part, "...")
    return text


def rest_seconds(retry_after: str | None) -> float:
    """How long the webhook rests after an answer with this header; what is no number of seconds is ignored."""
    if retry_after is None or not retry_after.isascii() or not retry_after.isdigit() or len(retry_after) > 9:
        return REST_SECONDS
    return min(max(int(retry_after), 1), LONGEST_REST_SECONDS)


def rest(client: redis.Redis, seconds: float) -> None:
    """Let no process ask the webhook for so long. Redis being away is no reason to stop."""
    with contextlib.suppress(redis.RedisError):
        client.set(REST, b"", px=int(seconds * 1000))


def rests(client: redis.Redis) -> bool:
    """True while the webhook is left alone."""
    try:
        return bool(client.exists(REST))
    except redis.RedisError:
        return False


@dataclass(frozen=True, kw_only=True)
class _Answer:
    status: int
    text: str
    retry_after: str | None


def _ask_in_time(url: str, body: bytes) -> _Answer:
    """The answer, if it comes in time: the timeout of a socket begins anew with every byte, so the asking has a thread of its own."""
    line = _Line()
    answers: queue.SimpleQueue[_Answer | Exception] = queue.SimpleQueue()

    def run() -> None:
        try:
            answers.put(_ask(url, body, line))
        except Exception as error:  # noqa: BLE001 - whatever a hostile webhook brings about is raised by the thread that waits
            answers.put(error)

    threading.Thread(target=run, name="webhook", daemon=True).start()
    try:
        answer = answers.get(timeout=TIMEOUT_SECONDS)
    except queue.Empty:
        raise NoticeError(f"it did not answer within {TIMEOUT_SECONDS} seconds", perhaps_told=True) from None
    finally:
        # so that the thread ends too, however long the other side would go on
        line.cut()
    if isinstance(answer, NoticeError):
        raise answer from None
    if isinstance(answer, Exception):
        # the text of any other error may hold the address
        reason = str(answer) if isinstance(answer, OSError) else type(answer).__name__
        raise NoticeError(reason, perhaps_told=True) from None
    return answer


def _ask(url: str, body: bytes, line: "_Line") -> _Answer:
    # put together by hand: what is not added (redirects, files, ftp) cannot happen; the environment's proxies are heeded
    opener = urllib.request.OpenerDirector()
    for handler in (urllib.request.ProxyHandler(), urllib.request.UnknownHandler(), _Transport(line)):
        opener.add_handler(handler)
    try:
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310 - see the handlers
        answer: http.client.HTTPResponse = opener.open(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.URLError as error:
        raise NoticeError(f"it cannot be reached: {error.reason}") from None
    except (ValueError, http.client.InvalidURL):
        raise NoticeError("its address is none") from None
    with answer:
        text = answer.read(LONGEST_ANSWER_BYTES)
        if answer.length and len(text) < LONGEST_ANSWER_BYTES:
            raise http.client.IncompleteRead(text, answer.length)
        return _Answer(status=answer.status, text=text.decode(errors="replace"), retry_after=answer.headers["Retry-After"])


@dataclass(kw_only=True)
class _Line:
    """The connection of one try, as another thread can cut it."""

    sockets: list[socket.socket] = field(default_factory=list)
    is_cut: bool = False

    def hold(self, connection: socket.socket) -> None:
        """Keep a second handle, which stays good whatever TLS and urllib do with the first."""
        self.sockets.append(connection.dup())
        if self.is_cut:
            self.cut()

    def cut(self) -> None:
        """End the connection now, or as soon as it is made: whoever waits for a byte of it gets an error."""
        self.is_cut = True
        while self.sockets:
            with self.sockets.pop() as held, contextlib.suppress(OSError):
                held.shutdown(socket.SHUT_RDWR)


class _Connection(http.client.HTTPConnection):
    line: _Line

    def connect(self) -> None:
        super().connect()
        self.line.hold(self.sock)


class _TlsConnection(http.client.HTTPSConnection, _Connection):
    """By the order of its parents the line is held before the TLS handshake begins, which may hang as well."""


class _Transport(urllib.request.AbstractHTTPHandler):
    """HTTP and HTTPS on a line that can be cut; every answer is handed on as it is."""

    http_request = https_request = urllib.request.AbstractHTTPHandler.do_request_

    def __init__(self, line: _Line) -> None:
        super().__init__()
        self._line = line

    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._made(_Connection), request)

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._made(_TlsConnection), request)

    def _made(self, kind: type[_Connection]) -> Callable[..., _Connection]:
        def make(*arguments: Any, **more: Any) -> _Connection:  # noqa: ANN401 - urllib's
            connection = kind(*arguments, **more)
            connection.line = self._line
            return connection

        return make
