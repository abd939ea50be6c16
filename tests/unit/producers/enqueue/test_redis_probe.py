"""What listens where a Redis should be, and is none, is named within seconds."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from producers.enqueue import redis_probe
from producers.enqueue.redis_probe import check_redis
from producers.enqueue.score import enqueue_score
from shared.bucket.local import LocalBucket
from shared.errors import BrokerError
from shared.settings import Settings
from tests.handmade import TABLE, publish_handmade, row, write_table

pytestmark = pytest.mark.server


@contextlib.contextmanager
def listener(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """The address of something that takes connections and does this with each."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        held: list[socket.socket] = []

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    held.append(connection)
                    talk(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"redis://127.0.0.1:{server.getsockname()[1]}/0"
        server.shutdown(socket.SHUT_RDWR)
        thread.join(10)
        for connection in held:
            connection.close()


def say_nothing(_: socket.socket) -> None:
    pass


def speak_http(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


@pytest.mark.parametrize(("talk", "words"), [(say_nothing, "answers nothing within 1 s"), (speak_http, "answers otherwise")])
def test_a_port_that_is_no_redis_is_named_and_the_job_is_kept(tmp_path, monkeypatch, talk, words):
    monkeypatch.setattr(redis_probe, "ANSWER_SECONDS", 1)
    bucket = LocalBucket(tmp_path / "bucket")
    publish_handmade(bucket)
    write_table(bucket, [row(1)])
    with listener(talk) as url:
        began = time.monotonic()
        done = enqueue_score(Settings(redis_url=url), bucket, table=TABLE, model="v1")
        assert time.monotonic() - began < 8
    assert isinstance(done.problem, BrokerError)
    assert f"what listens at {url} is not Redis, or hangs: it {words}" in done.problem.message
    assert bucket.exists(f"jobs/{done.job_id}/job.json")


def test_a_redis_and_a_port_where_nobody_listens_are_left_to_who_sends(redis_url, no_redis_url):
    check_redis(redis_url)
    check_redis(no_redis_url)
