"""uvicorn's HTTP protocol, which also limits the head of a request: its bytes, and the time in which it must arrive."""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS = 10.0
"""Seconds from the start of a connection, or from the first byte of a further request, to the end of the head of the request."""
HEAD_BYTES = 64 << 10
"""Most bytes of the address and the headers of a request; the parser itself has no limit."""
TOO_LONG = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
)
_WHY = b'{"error":"the head of the request is longer than %d bytes"}'


class HeadTooLongError(Exception):
    """Raised in the parser's callbacks to end the parsing of a request."""


class LimitedProtocol(HttpToolsProtocol):
    """The protocol of one connection."""

    _head_timer: asyncio.TimerHandle | None = None
    """Runs while a head is awaited."""
    _heads = 0
    """Heads that were complete."""
    _unfinished = 0
    """Bytes that came in pieces that ended within the present head."""
    _head_bytes = 0
    """Bytes of the parsed parts of the present head."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_timer()

    def data_received(self, data: bytes) -> None:
        heads, was_awaited = self._heads, self._head_timer is not None
        super().data_received(data)
        if was_awaited and self._heads == heads:
            self._unfinished += len(data)
            if self._unfinished > HEAD_BYTES:
                self._refuse_head()

    def send_400_response(self, msg: str) -> None:
        """Answers what the parser refused."""
        if self._head_bytes > HEAD_BYTES:
            self._refuse_head()
        else:
            super().send_400_response(msg)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_bytes = 0
        if self._head_timer is None:
            self._start_timer()

    def on_url(self, url: bytes) -> None:
        self._count_head(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_head(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._stop_timer()
        self._heads += 1
        self._unfinished = 0
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def _count_head(self, more: int) -> None:
        self._head_bytes += more
        if self._head_bytes > HEAD_BYTES:
            raise HeadTooLongError

    def _refuse_head(self) -> None:
        if not self.transport.is_closing():
            why = _WHY % HEAD_BYTES
            self.transport.write(TOO_LONG % (len(why), why))
            self.transport.close()

    def _start_timer(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._close)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _close(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()
