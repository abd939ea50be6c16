"""Where Flower listens when it is run alone, and what it will not be run without."""

import os

import pytest

from producers import services
from shared.errors import RequestError
from shared.settings import Settings, read_settings


@pytest.fixture
def started(monkeypatch):
    """The environments of the programs that this process would have become."""
    found = []
    monkeypatch.setattr(os, "execve", lambda path, command, environment: found.append(environment))
    monkeypatch.setattr(os, "chdir", lambda folder: None)
    return found


def test_flower_listens_to_this_machine_alone_unless_told_otherwise(started, tmp_path, monkeypatch):
    monkeypatch.delenv("SCORING_FLOWER_HOST", raising=False)
    monkeypatch.setenv("SCORING_FLOWER_PASSWORD", "hunter2")
    monkeypatch.setenv("SCORING_HOME", str(tmp_path))
    services.run(services.FLOWER, read_settings())
    monkeypatch.setenv("SCORING_FLOWER_HOST", "0.0.0.0")
    services.run(services.FLOWER, read_settings())
    assert [environment["FLOWER_ADDRESS"] for environment in started] == ["127.0.0.1", "0.0.0.0"]


def test_flower_is_not_run_without_a_password(started, tmp_path):
    with pytest.raises(RequestError, match="SCORING_FLOWER_PASSWORD is not set"):
        services.run(services.FLOWER, Settings(home=tmp_path))
    assert started == []
