"""A POST request with a hard deadline, whatever the server does.

A try takes at most 5 seconds, reads at most 1,000 bytes, follows no redirect and supports only HTTP and HTTPS. The client of slack-sdk
has none of these limits.
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
"""Deadline of one try, also for a webhook that answers byte by byte."""
LONGEST_ANSWER_BYTES = 1000
"""Slack's own answers are shorter than 50 bytes; other answers are only quoted."""


SHOWN_LENGTH = 100
"""Characters of an answer that an error quotes."""
SHORTEST_SECRET = 6
"""Shorter pieces of an address reveal nothing."""


@dataclass(frozen=True, kw_only=True)
class Post:
    """The content and the address of a request."""

    url: str
    body: bytes
    content_type: str


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer of the server."""

    status: int
    text: str
    retry_after: str | None

    def refusal(self, url: str) -> NoticeError:
        """Returns the error for an answer that does not accept the notice, without the address."""
        shown = _without_address(self.text, url)[:SHOWN_LENGTH]
        return NoticeError(f"it answered {self.status} {shown!r}", rest_seconds=rest_seconds(self.retry_after))


def _without_address(text: str, url: str) -> str:
    """Removes the parts of the address, which is a secret that a server may quote."""
    address = urllib.parse.urlsplit(url)
    parameters = address.query.split("&")
    values = (parameter.partition("=")[2] for parameter in parameters)
    parts = {address.path, address.query, *address.path.split("/"), *parameters, *values}
    for part in sorted(parts | {*map(urllib.parse.unquote, parts)}, key=len, reverse=True):
        if len(part) >= SHORTEST_SECRET:
            text = text.replace(part, "...")
    return text


def send(post: Post) -> Answer:
    """Sends a request and returns the answer, if it arrives in time.

    The timeout of a socket restarts with every byte, so the request runs in its own thread.

    Raises:
        NoticeError: there is no answer, or not in time; the message never contains the address.
    """
    line = _Line()
    answers: queue.SimpleQueue[Answer | Exception] = queue.SimpleQueue()

    def run() -> None:
        try:
            answers.put(_ask(post, line))
        except Exception as error:  # noqa: BLE001 - any error that a hostile webhook causes is raised in the waiting thread
            answers.put(error)

    threading.Thread(target=run, name="webhook", daemon=True).start()
    try:
        answer = answers.get(timeout=TIMEOUT_SECONDS)
    except queue.Empty:
        raise NoticeError(f"it did not answer within {TIMEOUT_SECONDS} seconds", may_have_arrived=True) from None
    finally:
        # ends the thread too, however long the server would continue
        line.cut()
    if isinstance(answer, NoticeError):
        raise answer from None
    if isinstance(answer, Exception):
        # the text of any other error may contain the address
        reason = str(answer) if isinstance(answer, OSError) else type(answer).__name__
        raise NoticeError(reason, may_have_arrived=True) from None
    return answer


def _ask(post: Post, line: "_Line") -> Answer:
    # a minimal opener: what is not added (redirects, files, ftp) cannot happen; the environment's proxies are used
    opener = urllib.request.OpenerDirector()
    for handler in (urllib.request.ProxyHandler(), urllib.request.UnknownHandler(), _Transport(line)):
        opener.add_handler(handler)
    try:
        request = urllib.request.Request(post.url, post.body, {"Content-Type": post.content_type})  # noqa: S310 - see the handlers
        answer: http.client.HTTPResponse = opener.open(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.URLError as error:
        raise NoticeError(f"it cannot be reached: {error.reason}") from None
    except (ValueError, http.client.InvalidURL):
        raise NoticeError("its address is not a valid URL") from None
    with answer:
        text = answer.read(LONGEST_ANSWER_BYTES)
        if answer.length and len(text) < LONGEST_ANSWER_BYTES:
            raise http.client.IncompleteRead(text, answer.length)
        return Answer(status=answer.status, text=text.decode(errors="replace"), retry_after=answer.headers["Retry-After"])


@dataclass(kw_only=True)
class _Line:
    """The connection of one try, which another thread can cut."""

    sockets: list[socket.socket] = field(default_factory=list)
    is_cut: bool = False

    def hold(self, connection: socket.socket) -> None:
        """Keeps a second handle, which stays valid whatever TLS and urllib do with the first."""
        self.sockets.append(connection.dup())
        if self.is_cut:
            self.cut()

    def cut(self) -> None:
        """Ends the connection now, or as soon as it is made: a read that waits for a byte fails."""
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
    """HTTPS; by its method resolution order the socket is held before the TLS handshake, which may hang as well."""


class _Transport(urllib.request.AbstractHTTPHandler):
    """HTTP and HTTPS over a connection that can be cut; every answer is passed on unchanged."""

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
