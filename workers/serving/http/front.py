"""The outermost layer of the application: request ids, tokens, limits, timeouts, metrics, the access log, and errors without details."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

import structlog

from workers.serving.http.answers import Answer, HttpError, error_answer
from workers.serving.http.service import Service

log = structlog.get_logger()

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Direct = Callable[[Scope, bytes], Awaitable[Answer]]
"""A route that gets the body of its request, and is called without FastAPI."""

OPEN_PATHS = ("/ping", "/metrics", "/docs", "/openapi.json", "/v2/health/live", "/v2/health/ready", "/favicon.ico")
"""Paths that need no token: probes, figures and the description of the routes."""
PROBES = ("/ping", "/metrics", "/v2/health/live", "/v2/health/ready")
"""Paths that are answered also at the limit of requests: a busy process is healthy, and its figures are wanted most then."""
JOB_PATHS = ("/v1/jobs", "/v1/held")
SLOW_SECONDS = 40.0
"""What waits for the bucket, or for a process that explains a rate, has this time."""
LONGEST_ID = 100
RETRY_AFTER = (b"retry-after", b"1")
UNKNOWN_ROUTE = "unknown"
FAILED = error_answer(500, "the server failed; its log has the reason under the x-request-id of this answer")


class _ClientGoneError(Exception):
    """Raised when the client has closed its connection."""


class Front:
    """An ASGI application around another one.

    Args:
        app: answers what ``direct`` does not.
        service: the state of the process.
        direct: (method, path) -> a route that is called with the whole body.
    """

    def __init__(self, app: App, service: Service, direct: Mapping[tuple[str, str], Direct]) -> None:
        self._app, self._service, self._direct = app, service, direct
        self._prefix = os.urandom(6).hex()
        self._count = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        service = self._service
        exchange = _Exchange(self, scope, receive, send, service)
        counted = scope["path"] not in PROBES
        service.in_hand += counted
        try:
            await self._answer(scope, exchange)
        except _ClientGoneError:
            exchange.status = 499
        finally:
            service.in_hand -= counted
            seconds = time.perf_counter() - began
            route = str(scope.get("direct") or getattr(scope.get("route"), "path", UNKNOWN_ROUTE))
            service.metrics.note_request(route, exchange.status, seconds)
            service.access_log.info(
                "request",
                method=scope["method"],
                path=scope["path"],
                status=exchange.status,
                ms=round(seconds * 1000, 3),
                request_id=exchange.request_id.decode(),
            )

    async def _answer(self, scope: Scope, exchange: "_Exchange") -> None:
        limit = self._seconds_for(scope["path"])
        try:
            async with asyncio.timeout(limit):
                try:
                    self._check(scope)
                    scope["serving"] = exchange.serving
                    direct = self._direct.get((scope["method"], scope["path"]))
                    if direct is not None:
                        scope["direct"] = scope["path"]
                        await exchange.send_answer(await direct(scope, await exchange.read_body()))
                    else:
                        await self._app(scope, exchange.receive, exchange.send)
                except HttpError as error:
                    await exchange.send_answer(error.answer)
        except TimeoutError:
            what = "the request did not arrive" if not exchange.has_body else "there was no answer"
            status = 504 if exchange.has_body else 408
            await exchange.send_answer(error_answer(status, f"{what} within {limit:g} s", headers=((b"connection", b"close"),)))
        except _ClientGoneError:
            raise
        except Exception:
            log.exception("request failed", request_id=exchange.request_id.decode())
            await exchange.send_answer(FAILED)

    def _seconds_for(self, path: str) -> float:
        seconds = self._service.settings.serve_timeout_seconds
        return max(seconds, SLOW_SECONDS) if path.startswith(JOB_PATHS) or path.endswith("/why") else seconds

    def _check(self, scope: Scope) -> None:
        service, path, headers = self._service, scope["path"], scope["headers"]
        if path not in PROBES and service.in_hand > service.settings.serve_concurrency:
            raise HttpError(503, f"this process answers {service.settings.serve_concurrency} requests already", headers=(RETRY_AFTER,))
        kind = "jobs" if path.startswith(JOB_PATHS) else "rates"
        if path not in OPEN_PATHS and not service.tokens.is_open(kind) and not service.tokens.accepts(kind, headers):
            raise HttpError(
                401,
                f"this needs a token for {kind}",
                next_step="Send the header Authorization: Bearer TOKEN; the operator sets tokens in SCORING_SERVE_TOKENS_FILE.",
                headers=((b"www-authenticate", b"Bearer"),),
            )
        if not service.serving.has_looked and path not in OPEN_PATHS and not path.startswith(JOB_PATHS):
            raise HttpError(503, "this process has not yet opened what it serves", headers=(RETRY_AFTER,))
        for name, value in headers:
            if name == b"content-encoding" and value.lower() != b"identity":
                raise HttpError(415, "compressed bodies are not accepted; send JSON as it is")
            if name == b"content-length" and int(value) > service.settings.serve_body_bytes:
                raise self.too_long()
            if name == b"content-type" and value and not _is_json(value):
                raise HttpError(415, "the body must be JSON: send the header Content-Type: application/json")

    def too_long(self) -> HttpError:
        """Returns the error for a body beyond the limit."""
        return HttpError(
            413,
            f"the body is longer than {self._service.settings.serve_body_bytes:,} bytes",
            next_step="Send fewer rows in one request.",
            headers=((b"connection", b"close"),),
        )

    def make_request_id(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        """Returns the id that the client sent if it is a short word, else a new one."""
        for name, value in headers:
            if name == b"x-request-id" and 0 < len(value) <= LONGEST_ID and value.replace(b"-", b"").replace(b"_", b"").isalnum():
                return value
        self._count += 1
        return f"{self._prefix}-{self._count:x}".encode()


def _is_json(content_type: bytes) -> bool:
    kind = content_type.partition(b";")[0].strip().lower()
    return kind == b"application/json" or (kind.startswith(b"application/") and kind.endswith(b"+json"))


class _Exchange:
    """One request and its answer."""

    def __init__(self, front: Front, scope: Scope, receive: Receive, send: Send, service: Service) -> None:
        self._front, self._receive, self._send, self._service = front, receive, send, service
        self.serving = service.serving
        self.request_id = front.make_request_id(scope["headers"])
        self.status = 500
        self.has_body = not any(name in (b"content-length", b"transfer-encoding") for name, _ in scope["headers"])
        self._length = 0
        self._is_begun = self._is_gone = False

    async def receive(self) -> MutableMapping[str, Any]:
        """Receives a part of the body, within the limit."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._is_gone = True
            raise _ClientGoneError
        if message["type"] == "http.request":
            self._length += len(message.get("body", b""))
            if self._length > self._service.settings.serve_body_bytes:
                raise self._front.too_long()
            self.has_body = not message.get("more_body", False)
        return message

    async def read_body(self) -> bytes:
        """Receives the whole body."""
        message = await self.receive()
        if self.has_body:
            only: bytes = message.get("body", b"")
            return only
        parts = []
        while True:
            parts.append(message.get("body", b""))
            if self.has_body:
                return b"".join(parts)
            message = await self.receive()

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """Sends a part of the answer, its start with the headers of every answer."""
        if self._is_gone:
            return
        if message["type"] == "http.response.start":
            self._is_begun, self.status = True, message["status"]
            message["headers"] = [*message.get("headers", ()), *self._own_headers()]
        await self._send(message)

    def _own_headers(self) -> list[tuple[bytes, bytes]]:
        own = [
            (b"x-request-id", self.request_id),
            (b"x-scoring-release", self.serving.release.encode()),
            (b"x-scoring-revision", self.serving.revision.encode()),
        ]
        return [*own, (b"connection", b"close")] if self._service.is_draining else own

    async def send_answer(self, answer: Answer) -> None:
        """Sends a whole answer, unless another one has begun."""
        if self._is_begun:
            return
        self._is_begun, self.status = True, answer.status
        headers = [(b"content-type", answer.content_type), (b"content-length", b"%d" % len(answer.body))]
        await self._send(
            {"type": "http.response.start", "status": answer.status, "headers": [*headers, *answer.headers, *self._own_headers()]}
        )
        await self._send({"type": "http.response.body", "body": answer.body})
