"""The cache of releases keeps those used last, within its bounds."""

import os
import time
from pathlib import Path

import pytest

from model_store import release_cache
from model_store.store import _load_once, load_release
from shared.bucket.local import LocalBucket
from shared.bucket.opening import open_bucket
from shared.catalog.paths import MANIFEST, release_folder
from tests.handmade import NOON, publish_handmade
from tests.object_store import STORE_BUCKET, object_store, talking_to

HOUR = 3600


@pytest.fixture
def cache(tmp_path) -> Path:
    return tmp_path / "releases"


def keep(cache: Path, name: str, *, used_ago: float, size: int = 10) -> Path:
    folder = cache / "model" / name.partition("@")[0] / name
    folder.mkdir(parents=True)
    (folder / "model.skops").write_bytes(b"x" * size)
    moment = time.time() - used_ago
    os.utime(folder, (moment, moment))
    return folder


def test_the_releases_used_last_stay(cache):
    folders = [keep(cache, f"v{number % 2}@{number}", used_ago=number * HOUR) for number in range(1, 7)]
    assert release_cache.shrink(cache, most_releases=4) == ["v1@5", "v0@6"]
    assert [folder.exists() for folder in folders] == [True] * 4 + [False] * 2
    assert not list(cache.glob("model/*/.*"))


def test_the_bytes_are_bounded_as_well(cache):
    keep(cache, "v1@1", used_ago=HOUR, size=60)
    keep(cache, "v1@2", used_ago=2 * HOUR, size=60)
    keep(cache, "v1@3", used_ago=3 * HOUR, size=1)
    assert release_cache.shrink(cache, most_bytes=100) == ["v1@2", "v1@3"]


def test_what_is_in_use_stays_whatever_the_bounds(cache):
    for number in range(3):
        release_cache.note_used(keep(cache, f"v1@{number}", used_ago=HOUR))
    assert release_cache.shrink(cache, most_releases=1, most_bytes=1) == []


def test_a_cache_that_is_not_there_is_empty(cache):
    assert release_cache.shrink(cache) == []
    release_cache.note_used(cache / "nothing")


def test_loading_from_an_object_store_keeps_few_releases_and_what_went_is_fetched_again(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(release_cache, "IN_USE_SECONDS", -1)
    monkeypatch.setattr(release_cache.shrink, "__kwdefaults__", {"most_releases": 2, "most_bytes": 1 << 30})
    local = LocalBucket(tmp_path / "bucket")
    releases = [publish_handmade(local, made=NOON.replace(hour=hour)) for hour in range(4)]
    with object_store() as address, talking_to(address):
        remote = open_bucket(f"s3://{STORE_BUCKET}/cache")
        for release in releases:
            remote.put_folder(local.place(release_folder(release)), release_folder(release), last=MANIFEST)
            load_release(remote, release, cache)
        assert sorted(folder.name for folder in cache.glob("model/v1/*")) == releases[2:]
        _load_once.cache_clear()
        assert load_release(remote, releases[0], cache).manifest.release == releases[0]
        assert sorted(folder.name for folder in cache.glob("model/v1/*")) == [releases[0], releases[3]]
