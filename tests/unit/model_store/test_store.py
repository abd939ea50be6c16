"""A release is loaded only if it is, byte for byte, what was published; and it is published once."""

import json
import tempfile
from datetime import timedelta
from pathlib import Path

import pytest

from model_store.definitions import load_definition
from model_store.store import copy_verified, digest_folder, load_release, publish, read_manifest
from shared.bucket.local import LocalBucket
from shared.catalog.manifests import ReleaseManifest
from shared.catalog.paths import release_folder
from shared.errors import ModelError
from shared.records import FileDigest
from tests.handmade import NOON, WEIGHTS, publish_handmade, tree

UNKNOWN = "v1@20200101T000000Z-abcdef"


def load(bucket: LocalBucket, release: str):
    return load_release(bucket, release, Path(bucket.url) / "no-cache")


def refused(bucket: LocalBucket, release: str) -> ModelError:
    """Why the release is not loaded."""
    with pytest.raises(ModelError) as raised:
        load(bucket, release)
    return raised.value


def rewrite(folder: Path, **changed: object) -> ReleaseManifest:
    """Changes fields of the manifest in place."""
    manifest = ReleaseManifest.decode(json.loads((folder / "manifest.json").read_text())).model_copy(update=changed)
    (folder / "manifest.json").write_bytes(manifest.to_json())
    return manifest


# --- what was published


def test_a_published_release_verifies_and_loads(bucket, release, folder, tmp_path):
    manifest = read_manifest(bucket, release)
    own = tmp_path / "own"
    own.mkdir()
    copy_verified(folder, manifest, own)
    assert tree(own) == {name: content for name, content in tree(folder).items() if name != "manifest.json"}
    loaded = load(bucket, release)
    assert loaded.manifest == manifest
    assert loaded.definition.name == "v1"
    assert loaded.model.model["weights"].tolist() == WEIGHTS


def test_a_release_is_loaded_once_a_process(bucket, release, loads):
    assert load(bucket, release) is load(bucket, release)
    assert [file.name for file in loads] == [read_manifest(bucket, release).model_file]


def test_each_release_is_loaded_for_itself(bucket, release, loads):
    later = publish_handmade(bucket, made=NOON + timedelta(hours=1), weights=[0.5] * len(WEIGHTS))
    assert load(bucket, release).model.model["weights"].tolist() == WEIGHTS
    assert load(bucket, later).model.model["weights"].tolist() == [0.5] * len(WEIGHTS)
    assert len(loads) == 2


# --- what was changed since


def test_one_changed_byte_is_found_before_anything_is_loaded(bucket, release, folder, loads):
    file = folder / read_manifest(bucket, release).model_file
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert refused(bucket, release).message == f"the file {file.name} of the release {release} was changed after it was published"
    assert not loads


def test_a_missing_file_is_named(bucket, release, folder, loads):
    name = read_manifest(bucket, release).model_file
    (folder / name).unlink()
    assert refused(bucket, release).message == f"the release {release} lacks its file {name}"
    assert not loads


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_a_foreign_file_is_named(bucket, release, folder, loads, kind):
    foreign = folder / "extra.pkl"
    if kind == "file":
        foreign.write_bytes(b"not ours")
    elif kind == "folder":
        foreign.mkdir()
    else:
        foreign.symlink_to("/nowhere")
    assert refused(bucket, release).message == f"the release {release} holds the foreign file extra.pkl"
    assert not loads


def test_a_file_that_became_a_folder_is_refused(bucket, release, folder, loads):
    file = folder / read_manifest(bucket, release).model_file
    file.unlink()
    file.mkdir()
    assert file.name in refused(bucket, release).message
    assert not loads


def test_a_refused_release_is_loaded_once_it_is_whole_again(bucket, release, folder):
    file = folder / read_manifest(bucket, release).model_file
    content = file.read_bytes()
    file.write_bytes(content + b" ")
    refused(bucket, release)
    file.write_bytes(content)
    assert load(bucket, release).model.model["weights"].tolist() == WEIGHTS


def test_every_refusal_says_how_to_train_it_again_on_the_same_table(bucket, release, folder):
    (folder / "extra.pkl").write_bytes(b"not ours")
    assert refused(bucket, release).next_step == "Train it again: scoring train v1 --train data/train/train.csv --again"


# --- manifests


def test_an_unknown_release_is_said_to_be_unknown(bucket, release):
    error = refused(bucket, UNKNOWN)
    assert UNKNOWN in error.message
    assert bucket.url in error.message
    assert error.next_step == "List what there is: scoring models list"


def test_a_folder_without_its_manifest_is_no_release(bucket, release, folder, loads):
    (folder / "manifest.json").unlink()
    assert f"the release {release} has no " in refused(bucket, release).message
    assert not loads


def test_the_manifest_of_another_release_is_refused(bucket, release, folder, loads):
    other = publish_handmade(bucket, made=NOON + timedelta(hours=1))
    (folder / "manifest.json").write_bytes((bucket.place(release_folder(other)) / "manifest.json").read_bytes())
    assert refused(bucket, release).message.endswith(f"belongs to the release {other}")
    assert not loads


@pytest.mark.parametrize(
    "text",
    [b"", b"{}", b"[]", b"null", b'{"release": ', b"\xff\xfe", b"[" * 100_000],
    ids=["empty", "no fields", "a list", "null", "cut off", "not UTF-8", "deep"],
)
def test_a_malformed_manifest_is_refused(bucket, release, folder, loads, text):
    (folder / "manifest.json").write_bytes(text)
    error = refused(bucket, release)
    assert error.message.startswith(f"{release_folder(release)}/manifest.json is not a release manifest: ")
    assert error.next_step == "Train it again: scoring train v1 --again"
    assert not loads


def test_a_manifest_with_an_unknown_field_or_format_is_refused(bucket, release, folder):
    good = json.loads((folder / "manifest.json").read_text())
    for more in ({"hook": "os.system"}, {"format": 2}):
        (folder / "manifest.json").write_text(json.dumps(good | more))
        assert "is not a release manifest" in refused(bucket, release).message


@pytest.mark.parametrize("name", ["../x", "other.skops", "", ".", "/etc/passwd", "manifest.json"])
def test_a_model_file_that_is_not_among_the_files_is_never_loaded(bucket, release, folder, loads, name):
    (folder.parent / "x").write_bytes(b"not verified by anybody")
    rewrite(folder, model_file=name)
    refused(bucket, release)
    assert not loads


def test_a_listed_file_outside_the_folder_is_never_loaded(bucket, release, folder, loads):
    outside = folder.parent / "x"
    outside.write_bytes((folder / read_manifest(bucket, release).model_file).read_bytes())
    digest = digest_folder(folder)[read_manifest(bucket, release).model_file]
    rewrite(folder, model_file="../x", files={**digest_folder(folder), "../x": FileDigest(sha256=digest.sha256, size=digest.size)})
    assert "is not a release manifest: a ReleaseManifest has a wrong model_file" in refused(bucket, release).message
    assert not loads


# --- a definition's own failures


def test_a_model_that_cannot_be_loaded_is_the_models_fault(bucket, release, monkeypatch):
    def load(self, path):
        raise KeyError("weights")

    monkeypatch.setattr(load_definition("v1").model_class, "load", load)
    said = f"the definition v1 cannot load {release}: KeyError('weights') ({load_definition('v1').folder / 'model.py'})"
    assert refused(bucket, release).message == said


def test_a_release_of_a_definition_that_is_gone_is_refused(bucket, release, folder):
    gone = release.replace("v1@", "v99@")
    rewrite(folder, definition="v99", release=gone)
    folder.parent.rename(folder.parents[1] / "v99")
    (folder.parents[1] / "v99" / release).rename(folder.parents[1] / "v99" / gone)
    assert "there is no definition 'v99'" in refused(bucket, gone).message


def test_a_release_never_loads_with_another_definition_than_its_own(bucket, release, folder, loads):
    rewrite(folder, definition="v2")
    assert refused(bucket, release).message == f"{release_folder(release)}/manifest.json names another definition, v2"
    assert not loads


# --- publishing


def test_the_same_release_published_twice_is_the_first(bucket, release, folder):
    before = tree(bucket.root)
    manifest = read_manifest(bucket, release).model_copy(update={"seconds": 99.0})
    with tempfile.TemporaryDirectory() as place:
        staged = Path(place)
        (staged / manifest.model_file).write_bytes(b"another model")
        assert not publish(bucket, staged, manifest.model_copy(update={"files": digest_folder(staged)}))
    assert tree(bucket.root) == before
    assert load(bucket, release).model.model["weights"].tolist() == WEIGHTS


def test_the_first_to_publish_learns_so(bucket, release, folder, tmp_path):
    elsewhere = LocalBucket(tmp_path / "elsewhere")
    with tempfile.TemporaryDirectory() as place:
        staged = Path(place)
        manifest = read_manifest(bucket, release)
        (staged / manifest.model_file).write_bytes((folder / manifest.model_file).read_bytes())
        assert publish(elsewhere, staged, manifest)
        assert not publish(elsewhere, staged, manifest)
    assert tree(elsewhere.place(release_folder(release))) == tree(folder)


def test_a_definition_that_saved_no_model_file_publishes_nothing(bucket, release):
    elsewhere = LocalBucket(bucket.root.parent / "elsewhere")
    with tempfile.TemporaryDirectory() as place, pytest.raises(ModelError, match=r"the definition v1 saved no "):
        publish(elsewhere, Path(place), read_manifest(bucket, release).model_copy(update={"files": {}}))
    assert not elsewhere.folders("model")
