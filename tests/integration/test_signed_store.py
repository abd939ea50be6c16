"""A stack with a key: what it trains and publishes is signed, what a stranger puts into the bucket is refused, and nobody tells the key."""

import hashlib
import hmac
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Place, make_place, stop

KEY, OLDER = "the key of this stack alone", "the key that it had before"


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A running stack with two keys, a table and a release."""
    place = make_place(tmp_path_factory.mktemp("keyed"), SCORING_STORE_KEY=f"{KEY},{OLDER}")
    running = place.start()
    place.scoring("sample", "--rows", "2000", "--train-rows", "2000")
    place.scoring("train", "v1")
    yield place
    assert stop(running) == 0
    place.webhook.close()


@pytest.fixture
def manifest(keyed: Place) -> Iterator[Path]:
    """The manifest of the release, put back after the test."""
    [path] = (keyed.bucket / "model/v1").glob("*/manifest.json")
    before = path.read_bytes()
    yield path
    path.write_bytes(before)


def check_as_an_outsider(path: Path) -> None:
    """Checks a signature as the bidding system would: with nothing but the file, the key and the documented rule."""
    body, _, tail = path.read_bytes().rpartition(b',\n "signature": "')
    assert tail == hmac.new(KEY.encode(), body, hashlib.sha256).hexdigest().encode() + b'"\n}'


def test_releases_and_results_are_signed_with_the_first_key(keyed: Place, manifest: Path) -> None:
    check_as_an_outsider(manifest)
    outcome = keyed.scoring_json("score", keyed.sample_table, "--model", "v1")
    check_as_an_outsider(keyed.bucket / outcome["result"] / "manifest.json")
    assert keyed.scoring_json("results", "show", outcome["job_id"])["signed"] == "yes"


def test_a_job_with_a_release_that_is_not_signed_fails_and_after_signing_goes_on(keyed: Place, manifest: Path) -> None:
    text = json.loads(manifest.read_text())
    del text["signature"]
    manifest.write_text(json.dumps(text, indent=1))
    failed = keyed.scoring("score", keyed.sample_table, "--model", "v1", "--again", "--json", code=4)
    outcome = json.loads(failed.stdout)
    assert outcome["reason"] == f"the release {text['release']} is not signed, and SCORING_STORE_KEY is set"
    assert f"scoring models sign {text['release']}" in failed.stderr
    keyed.scoring("models", "sign", text["release"])
    keyed.scoring("jobs", "resume", outcome["job_id"])


def test_a_job_with_a_release_that_was_changed_fails(keyed: Place, manifest: Path) -> None:
    manifest.write_bytes(manifest.read_bytes().replace(b'"binary"', b'"number"', 1))
    failed = keyed.scoring("score", keyed.sample_table, "--model", "v1", "--again", code=4)
    assert "is wrong: its manifest was changed, or signed with another key" in failed.stderr


def test_nobody_tells_the_key(keyed: Place) -> None:
    files = [path for path in keyed.root.rglob("*") if path.is_file()]
    assert keyed.log in files
    assert [path for path in files if any(key in content_of(path) for key in (KEY.encode(), OLDER.encode()))] == []


def content_of(path: Path) -> bytes:
    """The content of a file; nothing if the stack has removed it meanwhile, as it does with the marks of open jobs."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
