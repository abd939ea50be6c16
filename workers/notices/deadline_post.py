"""A POST with a hard deadline, whatever the server does.

A try takes 5 seconds at most, reads 1,000 bytes, follows no redirect and speaks only HTTP and HTTPS. The client of slack-sdk does none of
that.
"""

import contextlib
import http.client
import queue
import socket
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from workers.notices.resting import NoticeError, rest_seconds

TIMEOUT_SECONDS = 5
"""For the whole of one try; a webhook that answers byte by byte gets no more."""
LONGEST_ANSWER_BYTES = 1000
"""Slack's own answers are shorter than 50; those of others are only quoted."""


SHOWN_LENGTH = 100
"""Characters of an answer that an error quotes."""
SHORTEST_SECRET = 6
"""A shorter piece of an address gives nothing away."""


@dataclass(frozen=True, kw_only=True)
class Post:
    """What is sent, and where."""

    url: str
    body: bytes
    content_type: str


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the server answered."""

    status: int
    text: str
    retry_after: str | None

    def refusal(self, url: str) -> NoticeError:
        """The error for an answer that does not accept the notice, without the address."""
        shown = _without_address(self.text, url)[:SHOWN_LENGTH]
        return NoticeError(f"it answered {self.status} {shown!r}", rest_seconds=rest_seconds(self.retry_after))


def _without_address(text: str, url: str) -> str:
    """A server may quote what it was asked for, and that is the secret."""
    address = urllib.parse.urlsplit(url)
    parameters = address.query.split("&")
    values = (parameter.partition("=")[2] for parameter in parameters)
    parts = {address.path, address.query, *address.path.split("/"), *parameters, *values}
    for part in sorted(parts | {*map(urllib.parse.unquote, parts)}, key=len, reverse=True):
        if len(part) >= SHORTEST_SECRET:
            text = text.replace(part, "...")
    return text


def send(post: Post) -> Answer:
    """Send a request and return the answer, if it comes in time.

    The timeout of a socket restarts with every byte, so the request has a thread of its own.

    Raises:
        NoticeError: there is no answer, or not in time; the text never holds the address.
    """
    line = _Line()
    answers: queue.SimpleQueue[Answer | Exception] = queue.SimpleQueue()

    def run() -> None:
        try:
            answers.put(_ask(post, line))
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


def _ask(post: Post, line: "_Line") -> Answer:
    # put together by hand: what is not added (redirects, files, ftp) cannot happen; the environment's proxies are heeded
    opener = urllib.request.OpenerDirector()
    for handler in (urllib.request.ProxyHandler(), urllib.request.UnknownHandler(), _Transport(line)):
        opener.add_handler(handler)
    try:
        request = urllib.request.Request(post.url, post.body, {"Content-Type": post.content_type})  # noqa: S310 - see the handlers
        answer: http.client.HTTPResponse = opener.open(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.URLError as error:
        raise NoticeError(f"it cannot be reached: {error.reason}") from None
    except (ValueError, http.client.InvalidURL):
        raise NoticeError("its address is none") from None
    with answer:
        text = answer.read(LONGEST_ANSWER_BYTES)
        if answer.length and len(text) < LONGEST_ANSWER_BYTES:
            raise http.client.IncompleteRead(text, answer.length)
        return Answer(status=answer.status, text=text.decode(errors="replace"), retry_after=answer.headers["Retry-After"])


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
