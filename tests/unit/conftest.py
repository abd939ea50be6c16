"""A real Valkey server, alone, for what needs no worker."""

from collections.abc import Iterator

import pytest
import redis

from model_store import isolated_loading
from tests.conftest import READY_PROGRAMS, free_port, own_server


@pytest.fixture(autouse=True)
def quick_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Releases are loaded in a process that has the libraries already; a test of the fresh interpreter undoes this."""
    monkeypatch.setattr(isolated_loading, "start_loader", READY_PROGRAMS.start_loader)


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
