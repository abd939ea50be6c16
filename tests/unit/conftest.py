"""A real Valkey server, alone, for what needs no worker."""

from collections.abc import Iterator

import pytest
import redis

from tests.conftest import free_port, own_server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that keeps nothing on disk."""
    with own_server(tmp_path_factory.mktemp("valkey")) as url:
        yield url


@pytest.fixture
def redis_url(server: str) -> str:
    """The address of an empty server."""
    redis.Redis.from_url(server).flushall()
    return server


@pytest.fixture
def no_redis_url() -> str:
    """An address at which nothing listens."""
    return f"redis://127.0.0.1:{free_port()}/0"
