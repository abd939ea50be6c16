"""A Google Cloud Storage for the tests: gcp-storage-emulator, with what it lacks added here as Google's documentation has it.

The emulator looks at no preconditions, gives a listing as one page, takes any generation for the live one, and fails on an empty upload. So
this is no proof that Google does what its documentation of the JSON API says, which is, and is done here:

- ``ifGenerationMatch`` lets a write succeed only if the live object has this generation, and ``0`` only if there is no live object; else
  412. A resumable upload is refused when it begins, and again when its last piece would put the object in place.
- ``objects.list`` gives at most ``maxResults`` names and prefixes (1000 without it), in order, and a ``nextPageToken`` while there are
  more.
- ``generation`` asks for that generation of an object; 404 when it is no longer there.
- ``objects.rewrite`` of a large object may take several calls: the first gives a ``rewriteToken``, with which the next goes on.

All requests are done one after the other, as a real store does those to one name.
"""

import contextlib
import io
import json
import logging
import os
import threading
from collections.abc import Iterator
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit
from urllib.request import Request, urlopen

import fsspec.config
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from gcp_storage_emulator import server
from gcp_storage_emulator.handlers.buckets import create_bucket
from gcp_storage_emulator.storage import Storage

GOOGLE_BUCKET = "shop"
PAGE = 1000
REWRITTEN_AT_ONCE = 32 << 20


def google_access(url: str) -> dict[str, str]:
    """The environment of a process that finds Google's storage at ``url`` and says to nobody who it is."""
    return {"STORAGE_EMULATOR_HOST": url, "FSSPEC_GS_TOKEN": "anon"}


@contextlib.contextmanager
def talking_to_google(url: str) -> Iterator[None]:
    """Any gs file system made inside the block talks to this server, and none made before or after it."""
    from shared.bucket.google import GoogleStorage

    with pytest.MonkeyPatch.context() as patch:
        for name, value in google_access(url).items():
            patch.setenv(name, value)
        # read when fsspec is imported, which was before
        patch.setattr(fsspec.config, "conf", {})
        fsspec.config.set_conf_env(fsspec.config.conf, os.environ)
        GoogleStorage.clear_instance_cache()
        yield
        GoogleStorage.clear_instance_cache()


def put_object(url: str, key: str, data: bytes) -> None:
    """Puts an object in place as somebody else would."""
    name = urlencode({"uploadType": "media", "name": key})
    kind = {"Content-Type": "application/octet-stream"}
    urlopen(Request(f"{url}/upload/storage/v1/b/{GOOGLE_BUCKET}/o?{name}", data, kind, method="POST")).close()


def delete_object(url: str, key: str) -> None:
    """Removes an object as somebody else would."""
    urlopen(Request(f"{url}/storage/v1/b/{GOOGLE_BUCKET}/o/{quote(key, safe='')}", method="DELETE")).close()


class _PreconditionError(Exception):
    """The live object is not the one that was expected."""


class _Store(Storage):
    condition: str | None = None
    """What the request in hand wants the generation of the live object to be."""

    def generation(self, bucket: str, name: str) -> str:
        return str(self.objects.get(bucket, {}).get(name, {}).get("generation", "0"))

    def size(self, bucket: str, name: str) -> int:
        return int(self.objects.get(bucket, {}).get(name, {}).get("size", 0))

    def _check(self, bucket: str, name: str) -> None:
        if self.condition not in (None, self.generation(bucket, name)):
            raise _PreconditionError

    def create_file(self, bucket_name: str, file_name: str, *args: Any, **more: Any) -> None:
        self._check(bucket_name, file_name)
        super().create_file(bucket_name, file_name, *args, **more)

    def create_resumable_upload(self, bucket_name: str, file_name: str, *args: Any) -> str:
        self._check(bucket_name, file_name)
        return str(super().create_resumable_upload(bucket_name, file_name, *args))

    def _write_config_to_file(self) -> None:
        """Nothing: it lives in memory, and this would write down every object for each one that is made."""

    def page(self, bucket: str, query: dict[str, str]) -> dict[str, Any]:
        found, prefixes = self.get_file_list(bucket, query.get("prefix"), query.get("delimiter"))
        entries = sorted([(file["name"], "items", file) for file in found] + [(prefix, "prefixes", prefix) for prefix in prefixes])
        entries = [entry for entry in entries if entry[0] > query.get("pageToken", "")]
        size = min(int(query.get("maxResults", PAGE)), PAGE)
        page: dict[str, Any] = {"kind": "storage#objects"}
        for _, kind, entry in entries[:size]:
            page.setdefault(kind, []).append(entry)
        if len(entries) > size:
            page["nextPageToken"] = entries[size - 1][0]
        return page


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    one_at_a_time = threading.Lock()

    def __init__(self, storage: _Store, *args: Any) -> None:
        self.storage = storage
        super().__init__(*args)

    def log_message(self, *_: Any) -> None:
        pass

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        connection, self.rfile = self.rfile, io.BytesIO(body)
        address = urlsplit(self.path)
        query, parts = dict(parse_qsl(address.query)), [unquote(part) for part in address.path.split("/")]
        bucket, name = [*parts[parts.index("b") + 1 :: 2], ""][:2] if "b" in parts else ("", "")
        try:
            with self.one_at_a_time:
                self.storage.condition = query.get("ifGenerationMatch")
                if self.command == "GET" and parts[-1] == "o" and bucket in self.storage.buckets:
                    self._answer(HTTPStatus.OK, self.storage.page(bucket, query))
                elif "rewriteTo" in parts and "rewriteToken" not in query and self.storage.size(bucket, name) > REWRITTEN_AT_ONCE:
                    self._answer(HTTPStatus.OK, {"kind": "storage#rewriteResponse", "done": False, "rewriteToken": "go on"})
                elif self.command == "GET" and query.get("generation") not in (None, self.storage.generation(bucket, name)):
                    self._refuse(HTTPStatus.NOT_FOUND, f"No such object: {bucket}/{name}")
                else:
                    server.Router(self).handle(self.command)
        except _PreconditionError:
            self._refuse(HTTPStatus.PRECONDITION_FAILED, "At least one of the pre-conditions you specified did not hold.")
        finally:
            self.rfile = connection

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self._handle
        raise AttributeError(name)

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        self._answer(status, {"error": {"code": status.value, "message": reason}})

    def _answer(self, status: HTTPStatus, content: dict[str, Any]) -> None:
        answer = server.Response(self)
        answer.status = status
        answer.json(content)
        answer.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 100

    def handle_error(self, *_: Any) -> None:
        """Says nothing: the tests break connections off on purpose."""


@contextlib.contextmanager
def google_store() -> Iterator[str]:
    """The address of a running server with one bucket in it."""
    # it tells of everything that is asked for and is not there
    logging.getLogger("gcp_storage_emulator").setLevel(logging.CRITICAL)
    store = _Store(use_memory_fs=True)
    create_bucket(GOOGLE_BUCKET, store)
    read = server._read_data
    with pytest.MonkeyPatch.context() as patch, _Server(("127.0.0.1", 0), partial(_Handler, store)) as running:
        patch.setattr(server, "_read_data", lambda *args: read(*args) or b"")
        threading.Thread(target=running.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{running.server_port}"
        finally:
            running.shutdown()


def service_account(token_address: str) -> dict[str, str]:
    """What a person downloads from Google to let a program act for them; its tokens come from this address."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    text = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    name = {"type": "service_account", "project_id": "shop", "private_key_id": "1", "client_email": "scoring@shop.example"}
    return name | {"private_key": text.decode(), "token_uri": token_address}


@contextlib.contextmanager
def token_server(token: str) -> Iterator[str]:
    """The address of a server that gives this token to everybody."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps({"access_token": token, "expires_in": 3600, "token_type": "Bearer"}).encode())

        def log_message(self, *_: Any) -> None:
            pass

    with _Server(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{running.server_port}"
        finally:
            running.shutdown()
