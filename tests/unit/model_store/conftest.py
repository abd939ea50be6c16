"""A bucket with one release of ``v1`` in it, and what of it was loaded."""

from pathlib import Path

import pytest

from model_store.definitions import load_definition
from shared.bucket.local import LocalBucket
from shared.catalog.paths import release_folder
from tests.handmade import publish_handmade


@pytest.fixture
def bucket(tmp_path) -> LocalBucket:
    return LocalBucket(tmp_path / "bucket")


@pytest.fixture
def release(bucket) -> str:
    return publish_handmade(bucket)


@pytest.fixture
def folder(bucket, release) -> Path:
    """Where the release lies."""
    return bucket.place(release_folder(release))


@pytest.fixture
def loads(monkeypatch) -> list[Path]:
    """The model files that a model of v1 was asked to load."""
    seen: list[Path] = []
    kind = load_definition("v1").model_class
    really = kind.load

    def load(self, path):
        seen.append(Path(path))
        really(self, path)

    monkeypatch.setattr(kind, "load", load)
    return seen
