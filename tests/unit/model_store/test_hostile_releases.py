"""Whoever can write to the bucket has no say in what a worker loads: not by links, swapped or huge files, and with a key not by pickles."""

import json
import os
import pickle
import shutil
import tempfile
from datetime import timedelta
from pathlib import Path

import pytest

from model_store import model_template, store
from model_store.definitions import load_definition
from model_store.store import digest_folder, load_release, publish, read_manifest
from producers.signing import sign_release
from shared.aliases import MANIFEST, release_folder
from shared.bucket import LocalBucket, open_bucket
from shared.errors import ModelError, RequestError
from shared.manifests import MAX_MANIFEST_BYTES, Column
from shared.messages import decode_long
from shared.signatures import Signature, Signer
from tests.handmade import NOON, WEIGHTS, publish_handmade, tree
from tests.unit.model_store.test_store import rewrite

OURS, OLDER, THEIRS = (Signer((key,)) for key in (b"a key of ours, long", b"an older key of ours", b"the key of a stranger"))
BOTH = Signer((*OURS.keys, *OLDER.keys))

PICKLES = """
import pickle
from pathlib import Path
from model_store import model_template

class Model(model_template.Model):
    def _model_definition(self, config=None): ...
    def train(self, X, y): ...
    def predict(self, X): ...
    def save(self, path): Path(path, "model.pkl").write_bytes(pickle.dumps(self.model))
    def load(self, path): self.model = pickle.loads(Path(path).read_bytes())
"""
"""A definition as they were before this service: its model file is a pickle, which can run anything."""


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def definitions(tmp_path) -> Path:
    (tmp_path / "definitions" / "pickles").mkdir(parents=True)
    (tmp_path / "definitions" / "pickles" / "model.py").write_text(PICKLES)
    return tmp_path / "definitions"


def publish_pickle(bucket, definitions: Path, held: object) -> str:
    """Publish a release of the definition that pickles, as whoever can write to the bucket could."""
    with tempfile.TemporaryDirectory() as place:
        staged = Path(place)
        (staged / "model.pkl").write_bytes(pickle.dumps(held))
        release = "pickles@20261123T120000Z-abcdef"
        template = read_manifest(bucket, publish_handmade(bucket, made=NOON + timedelta(hours=5)))
        definition = load_definition("pickles", definitions)
        changed = {"release": release, "definition": "pickles", "definition_sha256": definition.source_sha256}
        changed |= {"model_file": "model.pkl", "files": digest_folder(staged), "signature": None}
        publish(bucket, staged, template.model_copy(update=changed))
    return release


def manifest_of(bucket, release: str) -> Path:
    return bucket.place(f"{release_folder(release)}/{MANIFEST}")


def refusal(bucket, release: str, definitions: Path | None = None) -> ModelError:
    with pytest.raises(ModelError) as raised:
        load_release(bucket, release, Path(bucket.url) / "no-cache", definitions)
    return raised.value


@pytest.fixture
def signed(tmp_path) -> LocalBucket:
    """A bucket with a key."""
    return open_bucket(str(tmp_path / "signed"), OURS)


def with_signer(bucket, signer: Signer):
    """The same bucket as a process sees it that has other keys."""
    return open_bucket(bucket.url, signer)


# --- signatures


def test_a_release_that_was_signed_with_the_key_loads(signed):
    release = publish_handmade(signed)
    assert load_release(signed, release, Path(signed.url) / "no-cache").model.model["weights"].tolist() == WEIGHTS
    assert signed.signer.judge(manifest_of(signed, release).read_bytes()) is Signature.RIGHT


def test_with_a_key_an_unsigned_pickle_is_not_opened_and_without_one_it_is(bucket, definitions, tmp_path):
    mark = tmp_path / "mark"
    release = publish_pickle(bucket, definitions, Bomb(mark))
    error = refusal(with_signer(bucket, OURS), release, definitions)
    assert error.message == f"the release {release} is not signed, and SCORING_STORE_KEY is set"
    assert f"scoring models sign {release}" in error.next_step
    assert "scoring train pickles --again" in error.next_step
    assert not mark.exists()
    load_release(bucket, release, Path("no-cache"), definitions)
    assert mark.exists(), "the bomb was none, so that the test above proved nothing"


def test_a_pickle_signed_with_another_key_is_not_opened(bucket, definitions, tmp_path):
    release = publish_pickle(with_signer(bucket, THEIRS), definitions, Bomb(tmp_path / "mark"))
    error = refusal(with_signer(bucket, OURS), release, definitions)
    assert error.message == f"the signature of the release {release} is wrong: its manifest was changed, or signed with another key"
    assert not (tmp_path / "mark").exists()


def test_a_signed_manifest_that_vouches_for_another_file_is_refused_before_the_file_is_read(signed, loads):
    release = publish_handmade(signed)
    place = manifest_of(signed, release).parent
    (place / "model.skops").write_bytes(b"another model")
    text = manifest_of(signed, release).read_text()
    true = read_manifest(signed, release).files["model.skops"].sha256
    manifest_of(signed, release).write_text(text.replace(true, digest_folder(place)["model.skops"].sha256))
    (place / "model.skops").unlink()  # whoever reads it first says that it is missing
    assert "signature" in refusal(signed, release).message
    assert not loads


def test_the_signed_manifest_of_another_release_is_refused(signed, loads):
    release, other = publish_handmade(signed), publish_handmade(signed, made=NOON + timedelta(hours=1))
    manifest_of(signed, release).write_bytes(manifest_of(signed, other).read_bytes())
    assert refusal(signed, release).message.endswith(f"belongs to the release {other}")
    assert not loads


def test_the_signature_of_another_manifest_is_refused(signed, loads):
    release, other = publish_handmade(signed), publish_handmade(signed, made=NOON + timedelta(hours=1))
    own, others = (json.loads(manifest_of(signed, one).read_text())["signature"] for one in (release, other))
    assert own != others
    manifest_of(signed, release).write_text(manifest_of(signed, release).read_text().replace(own, others))
    assert "signature" in refusal(signed, release).message
    assert not loads


def test_what_does_not_even_decode_is_judged_by_its_signature_first(signed):
    release = publish_handmade(signed)
    manifest_of(signed, release).write_bytes(b"{}")
    assert "is not signed" in refusal(signed, release).message


def test_without_a_key_a_signed_release_loads_as_before(signed):
    release = publish_handmade(signed)
    assert load_release(with_signer(signed, Signer()), release, Path("no-cache")).manifest.signature


def test_while_a_key_is_changed_releases_of_both_load_and_new_ones_are_signed_with_the_new(signed):
    with_old = publish_handmade(with_signer(signed, OLDER))
    changing = with_signer(signed, BOTH)
    load_release(changing, with_old, Path("no-cache"))
    with_new = publish_handmade(changing, made=NOON + timedelta(hours=1))
    load_release(with_signer(signed, OURS), with_new, Path("no-cache"))
    assert "another key" in refusal(with_signer(signed, OURS), with_old).message


# --- signing what is there


def test_a_release_from_before_the_key_is_signed_and_then_loads(bucket, release, folder):
    before = tree(folder)
    ours = with_signer(bucket, OURS)
    assert "not signed" in refusal(ours, release).message
    sign_release(ours, release)
    load_release(ours, release, Path("no-cache"))
    after = tree(folder)
    assert after.pop(MANIFEST).startswith(before.pop(MANIFEST).removesuffix(b"\n}"))
    assert after == before


def test_a_release_signed_with_the_older_key_is_signed_with_the_new(signed):
    release = publish_handmade(with_signer(signed, OLDER))
    sign_release(with_signer(signed, BOTH), release)
    load_release(with_signer(signed, OURS), release, Path("no-cache"))


def test_signing_twice_changes_nothing(signed):
    release = publish_handmade(signed)
    before = tree(signed.root)
    sign_release(signed, release)
    assert tree(signed.root) == before


def test_what_a_stranger_signed_is_not_signed_over(signed):
    release = publish_handmade(with_signer(signed, THEIRS))
    before = tree(signed.root)
    with pytest.raises(ModelError, match="was signed with another key, or changed since"):
        sign_release(signed, release)
    assert tree(signed.root) == before


def test_a_release_whose_files_were_changed_is_not_signed(bucket, release, folder):
    (folder / "model.skops").write_bytes(b"x" * (folder / "model.skops").stat().st_size)
    with pytest.raises(ModelError, match=r"the file model\.skops of the release .* was changed after it was published"):
        sign_release(with_signer(bucket, OURS), release)
    assert read_manifest(bucket, release).signature is None


def test_the_manifest_of_another_release_is_not_signed(bucket, release, folder):
    rewrite(folder, release="v1@20200101T000000Z-abcdef")
    with pytest.raises(ModelError, match="belongs to the release v1@20200101T000000Z-abcdef"):
        sign_release(with_signer(bucket, OURS), release)


def test_nothing_is_signed_without_a_key(bucket, release):
    with pytest.raises(RequestError, match="SCORING_STORE_KEY is not set"):
        sign_release(bucket, release)


# --- files


@pytest.mark.parametrize("where", ["outside", "other release"])
def test_a_model_file_that_is_a_link_is_refused_even_if_the_manifest_vouches_for_what_it_leads_to(
    bucket, release, folder, loads, tmp_path, where
):
    target = tmp_path / "outside.skops"
    if where == "other release":
        target = folder.parent / publish_handmade(bucket, made=NOON + timedelta(hours=1)) / "model.skops"
    else:
        target.write_bytes((folder / "model.skops").read_bytes())
    (folder / "model.skops").unlink()
    (folder / "model.skops").symlink_to(target)
    rewrite(folder, files=digest_folder(folder))
    assert refusal(bucket, release).message == f"the file model.skops of the release {release} is a symbolic link"
    assert not loads


def test_a_manifest_that_is_a_link_out_of_the_bucket_is_refused(bucket, release, folder, tmp_path):
    (folder / MANIFEST).rename(tmp_path / "elsewhere.json")
    (folder / MANIFEST).symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(RequestError, match="leads outside the bucket"):
        load_release(bucket, release, Path("no-cache"))


def test_a_release_folder_that_is_a_link_out_of_the_bucket_is_refused(bucket, release, folder, tmp_path):
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RequestError, match="leads outside the bucket"):
        load_release(bucket, release, Path("no-cache"))


def test_a_file_that_is_swapped_between_the_check_and_the_load_is_not_loaded(bucket, definitions, tmp_path, monkeypatch):
    release = publish_pickle(bucket, definitions, {"rate": 0.5})
    really = store.copy_verified

    def then_swap(folder, manifest, own):
        really(folder, manifest, own)
        (folder / "model.pkl").write_bytes(pickle.dumps(Bomb(tmp_path / "mark")))

    monkeypatch.setattr(store, "copy_verified", then_swap)
    assert load_release(bucket, release, Path("no-cache"), definitions).model.model == {"rate": 0.5}
    assert not (tmp_path / "mark").exists()


def test_nobody_else_can_look_into_the_copy_that_is_loaded_and_it_is_gone_afterwards(bucket, release, loads, monkeypatch):
    modes = []
    really = store.copy_verified
    monkeypatch.setattr(store, "copy_verified", lambda *given: (really(*given), modes.append(given[2].stat().st_mode & 0o777)))
    load_release(bucket, release, Path("no-cache"))
    assert modes == [0o700]
    assert [file.parent.exists() for file in loads] == [False]


def test_a_file_that_has_grown_is_refused_without_reading_all_of_it(bucket, release, folder, loads, tmp_path):
    size = (folder / "model.skops").stat().st_size
    with (folder / "model.skops").open("ab") as file:
        file.truncate(1 << 40)  # a terabyte with nothing in it: it takes no room, but hours to read
    own = tmp_path / "own"
    own.mkdir()
    with pytest.raises(ModelError, match="was changed after it was published"):
        store.copy_verified(folder, read_manifest(bucket, release), own)
    assert (own / "model.skops").stat().st_size == size + 1
    assert not loads


def test_a_pickle_where_a_skops_file_is_expected_is_not_opened(bucket, release, folder, tmp_path):
    (folder / "model.skops").write_bytes(pickle.dumps(Bomb(tmp_path / "mark")))
    rewrite(folder, files=digest_folder(folder))
    assert "is refused: BadZipFile" in refusal(bucket, release).message
    assert not (tmp_path / "mark").exists()


def test_a_skops_file_with_a_type_that_nobody_trusts_is_not_opened(bucket, release, folder, tmp_path):
    import skops.io

    skops.io.dump(Bomb(tmp_path / "mark"), folder / "model.skops")
    rewrite(folder, files=digest_folder(folder))
    assert "is refused: UntrustedTypesFoundException" in refusal(bucket, release).message
    assert not (tmp_path / "mark").exists()


# --- manifests


def test_a_huge_manifest_is_refused_unread(bucket, release, folder, loads, monkeypatch):
    with (folder / MANIFEST).open("ab") as file:
        file.truncate(1 << 40)
    monkeypatch.setattr(LocalBucket, "read", lambda *_: pytest.fail("it was read"))
    assert f"is {1 << 40:,} bytes long, more than the {MAX_MANIFEST_BYTES:,} allowed" in refusal(bucket, release).message
    assert not loads


def test_a_manifest_with_hundreds_of_thousands_of_columns_is_neither_read_nor_published(bucket, release, folder, tmp_path):
    columns = [Column(name=f"att{number}", type="binary") for number in range(300_000)]
    manifest = rewrite(folder, columns=columns)
    assert "bytes long, more than" in refusal(bucket, release).message
    staged = tmp_path / "staged"
    staged.mkdir()
    (staged / "model.skops").write_bytes(b"model")
    with pytest.raises(ModelError, match="Train on a table with fewer columns"):
        publish(LocalBucket(tmp_path / "elsewhere"), staged, manifest)
    assert not (tmp_path / "elsewhere").exists()


def test_a_manifest_with_ten_thousand_columns_is_no_trouble(bucket, release, folder):
    rewrite(folder, columns=[Column(name=f"att{number}", type="binary") for number in range(10_000)])
    assert len(load_release(bucket, release, Path("no-cache")).manifest.columns) == 10_000


@pytest.mark.parametrize("size", [-1, -(1 << 70), 1.5, "1"])
def test_a_size_that_no_file_has_is_refused(bucket, release, folder, size):
    text = json.loads((folder / MANIFEST).read_text())
    text["files"]["model.skops"]["size"] = size
    (folder / MANIFEST).write_text(json.dumps(text))
    assert "is not a release manifest" in refusal(bucket, release).message


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/b", "..", ".", "", "a\0b", "x" * 300])
def test_a_file_name_that_leads_elsewhere_is_never_copied(bucket, release, folder, loads, name):
    (folder.parent / "x").write_bytes(b"")
    digest = digest_folder(folder)["model.skops"]
    rewrite(folder, files={"model.skops": digest, name: digest})
    assert refusal(bucket, release).message == f"the release {release} lacks its file {name}"
    assert not loads


def test_an_unsigned_manifest_does_not_have_the_field(bucket, release, folder):
    assert b"signature" not in (folder / MANIFEST).read_bytes()
    assert decode_long(type(read_manifest(bucket, release)), (folder / MANIFEST).read_bytes()).signature is None


def test_where_the_code_was_changed_the_refusal_names_the_folder_and_a_template_that_is_new_above_it(bucket, definitions, tmp_path):
    own = tmp_path / "own"
    shutil.copytree(definitions, own)
    release = publish_pickle(bucket, own, {"rate": 0.25})
    (own / "pickles" / "notes.py").touch()
    told = f"the code of the definition pickles was changed since {release} was trained: a Python file in {own / 'pickles'}"
    assert refusal(bucket, release, own).message == told
    (own / "pickles" / "notes.py").unlink()
    shutil.copy(model_template.__file__, own)
    assert refusal(bucket, release, own).message == f"{told}, or {own / 'model_template.py'}, which may be new there"
