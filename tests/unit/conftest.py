"""A real Valkey server, alone, for what needs no worker."""

import subprocess
from collections.abc import Iterator

import pytest
import redis

from producers.launcher import server_binary
from tests.conftest import free_port, wait_until


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that keeps nothing on disk."""
    port = free_port()
    place = tmp_path_factory.mktemp("valkey")
    running = subprocess.Popen(
        [str(server_binary()), "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", str(place)], stdout=subprocess.DEVNULL
    )
    url = f"redis://127.0.0.1:{port}/0"

    def answers() -> bool:
        try:
            return bool(redis.Redis.from_url(url).ping())
        except redis.RedisError:
            return False

    wait_until(answers, 20, "the start of the server")
    yield url
    running.terminate()
    running.wait(20)


@pytest.fixture
def redis_url(server: str) -> str:
    """The address of an empty server."""
    redis.Redis.from_url(server).flushall()
    return server


@pytest.fixture
def no_redis_url() -> str:
    """An address at which nothing listens."""
    return f"redis://127.0.0.1:{free_port()}/0"
