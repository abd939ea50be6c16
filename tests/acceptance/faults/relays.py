"""What lies between the workers and the two things they share: relays that can be cut or fall ill, as a network or a store does."""

import contextlib
import http.client
import http.server
import socket
import struct
import threading
import time
from typing import Any
from urllib.parse import urlsplit


class Proxy:
    """A TCP relay between the workers and the server, which can be cut: the network between two machines."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        self.is_cut = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                near.close()
                continue
            if self.is_cut:
                near.close()
                far.close()
                continue
            self._open += [near, far]
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=self._relay, args=(source, target), daemon=True).start()

    def _relay(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                # a cut network swallows what is on its way and says nothing
                if not self.is_cut:
                    target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        self.is_cut = True

    def repair(self) -> None:
        """New connections pass again; those of before are gone for good."""
        for end in self._open:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._open.clear()
        self.is_cut = False

    def close(self) -> None:
        self._listener.close()
        self.repair()


class StoreRelay:
    """An HTTP relay between the workers and the object store, which does what ``trouble`` says.

    ``503`` and ``500`` are answered without asking the store; ``hang`` says nothing until the trouble is over; ``reset`` breaks the
    connection off before the store is asked, ``deaf`` after it did what was asked; ``slow`` takes a fifth of a second for each request.
    """

    def __init__(self, url: str) -> None:
        self.trouble = ""
        self.turns: int | None = None
        """How many requests are troubled; all when it is None."""
        self.asked: list[str] = []
        """Method and path of every request."""
        self.authorizations: set[str] = set()
        """Who those were that asked."""
        relay = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def handle_one_request(self) -> None:
                with contextlib.suppress(ConnectionError):
                    super().handle_one_request()

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                trouble = relay._trouble_of(f"{self.command} {self.path}")
                relay.authorizations.add(self.headers.get("Authorization", "nobody"))
                if trouble in ("500", "503"):
                    self._answer(int(trouble), {}, b"<Error><Code>SlowDown</Code><Message>ill</Message></Error>")
                    return
                while relay.trouble == "hang":
                    time.sleep(0.05)
                if trouble in ("hang", "reset"):
                    self._break_off()
                    return
                if trouble == "slow":
                    time.sleep(0.2)
                status, headers, content = self._ask(body)
                if trouble == "deaf":
                    self._break_off()
                    return
                self._answer(status, headers, content)

            def __getattr__(self, name: str) -> Any:
                if name.startswith("do_"):
                    return self.do_GET
                raise AttributeError(name)

            def _ask(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
                place = urlsplit(url)
                store = http.client.HTTPConnection(place.hostname or "", place.port, timeout=60)
                headers = {name: value for name, value in self.headers.items() if name.lower() not in ("expect", "connection")}
                try:
                    store.request(self.command, self.path, body=body or None, headers=headers)
                    answer = store.getresponse()
                    return answer.status, dict(answer.getheaders()), answer.read()
                finally:
                    store.close()

            def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
                self.send_response_only(status)
                length = headers.get("Content-Length", str(len(content))) if self.command == "HEAD" else str(len(content))
                for name, value in headers.items():
                    if name.lower() not in ("content-length", "connection", "transfer-encoding"):
                        self.send_header(name, value)
                self.send_header("Content-Length", length)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            def _break_off(self) -> None:
                """Ends the connection with a reset, as a box on the way does."""
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.close_connection = True
                self.connection.close()

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 100

            def handle_error(self, *_: Any) -> None:
                """Says nothing: connections break here on purpose."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _trouble_of(self, request: str) -> str:
        self.asked.append(request)
        if self.turns is None:
            return self.trouble
        self.turns -= 1
        return self.trouble if self.turns >= 0 else ""

    def close(self) -> None:
        self.trouble = ""
        self._server.shutdown()
        self._server.server_close()
