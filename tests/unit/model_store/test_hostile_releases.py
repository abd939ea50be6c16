"""A writer to the bucket does not decide what a worker loads: not by links, swapped or huge files, and with a key not by pickles.

The same holds for every kind of bucket: a folder of this machine, S3 and Google Cloud Storage.
"""

import hashlib
import json
import os
import pickle
import secrets
import shutil
import tempfile
from datetime import timedelta
from pathlib import Path

import pytest

from model_store import model_template, store
from model_store.definitions import load_definition
from model_store.store import digest_folder, load_release, publish, read_manifest
from producers.releases.signing import sign_release
from shared.bucket.interface import Bucket
from shared.bucket.local import LocalBucket
from shared.bucket.opening import open_bucket
from shared.catalog.manifests import MAX_MANIFEST_BYTES, Column, ReleaseManifest, ResultManifest
from shared.catalog.paths import MANIFEST, release_folder
from shared.errors import MessageError, ModelError, RequestError
from shared.records import FileDigest, decode_long
from shared.signatures import Signature, Signer
from tests.google_store import GOOGLE_BUCKET, google_store, talking_to_google
from tests.handmade import NOON, WEIGHTS, publish_handmade, tree
from tests.object_store import STORE_BUCKET, object_store, talking_to
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
    """Writes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


class Stored:
    """The files of a release in the bucket, as a person who can write there changes them."""

    def __init__(self, bucket: Bucket, release: str) -> None:
        self.bucket, self.place = bucket, release_folder(release)

    def _path(self, name: str) -> str:
        if name == MANIFEST:
            return f"{self.place}/{MANIFEST}"
        return self.bucket.stored_at(self.place, name, json.loads(self.read(MANIFEST))["files"][name]["sha256"])

    def read(self, name: str) -> bytes:
        content = self.bucket.read(self._path(name))
        assert content is not None
        return content

    def write(self, name: str, content: bytes) -> None:
        self.bucket.write(self._path(name), content)

    def drop(self, name: str) -> None:
        self.bucket.delete(self._path(name))

    def rewrite(self, **changed: object) -> ReleaseManifest:
        """Changes fields of the manifest in place."""
        manifest = ReleaseManifest.decode(json.loads(self.read(MANIFEST))).model_copy(update=changed)
        self.write(MANIFEST, manifest.to_json())
        return manifest

    def replace(self, name: str, content: bytes) -> None:
        """Puts another file in the place of one of the release, for which its manifest vouches."""
        digest = FileDigest(sha256=hashlib.sha256(content).hexdigest(), size=len(content))
        path = f"{self.place}/{digest.sha256[:16]}-{name}" if self.bucket.is_remote else self._path(name)
        self.bucket.write(path, content)
        files = ReleaseManifest.decode(json.loads(self.read(MANIFEST))).files
        self.rewrite(files=files | {name: digest})

    def all(self) -> dict[str, bytes]:
        """Every file with its content."""
        return {info.path.rpartition("/")[2]: self.bucket.read(info.path) or b"" for info in self.bucket.files(self.place)}


@pytest.fixture(autouse=True)
def _folder_of_its_own(tmp_path, monkeypatch):
    """The path of the cache is relative, and must not lie in the checkout."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    """What is written where it should not be is written here."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def s3_store():
    with object_store() as url, talking_to(url):
        yield f"s3://{STORE_BUCKET}"


@pytest.fixture(scope="module")
def google_cloud():
    with google_store() as url, talking_to_google(url):
        yield f"gs://{GOOGLE_BUCKET}"


@pytest.fixture(params=["folder", "s3_store", "google_cloud"])
def address(request, tmp_path) -> str:
    """The address of an empty bucket of each kind."""
    if request.param == "folder":
        return str(tmp_path / "bucket")
    return f"{request.getfixturevalue(request.param)}/{secrets.token_hex(6)}"


@pytest.fixture
def bucket(address) -> Bucket:
    return open_bucket(address)


@pytest.fixture
def local(tmp_path) -> LocalBucket:
    """A bucket in a folder, for what only a folder can do."""
    return LocalBucket(tmp_path / "local")


@pytest.fixture
def stored(bucket, release) -> Stored:
    return Stored(bucket, release)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch) -> None:
    """The cache of each test is its own."""
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")


@pytest.fixture
def definitions(tmp_path) -> Path:
    (tmp_path / "definitions" / "pickles").mkdir(parents=True)
    (tmp_path / "definitions" / "pickles" / "model.py").write_text(PICKLES)
    return tmp_path / "definitions"


def publish_pickle(bucket, definitions: Path, held: object) -> str:
    """Publishes a release of the definition that pickles, as a person who can write to the bucket could."""
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


def refusal(bucket, release: str, definitions: Path | None = None) -> ModelError:
    with pytest.raises(ModelError) as raised:
        load_release(bucket, release, Path("no-cache"), definitions)
    return raised.value


@pytest.fixture
def signed(address) -> Bucket:
    """A bucket with a key."""
    return open_bucket(f"{address}/signed", OURS)


def with_signer(bucket, signer: Signer):
    """The same bucket as a process sees it that has other keys."""
    return open_bucket(bucket.url, signer)


# --- signatures


def test_a_release_that_was_signed_with_the_key_loads(signed):
    release = publish_handmade(signed)
    assert load_release(signed, release, Path("no-cache")).model.model["weights"].tolist() == WEIGHTS
    assert signed.signer.check(Stored(signed, release).read(MANIFEST)) is Signature.RIGHT


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
    stored, true = Stored(signed, release), read_manifest(signed, release).files["model.skops"].sha256
    stored.drop("model.skops")  # the process that reads it first says that it is missing
    another = hashlib.sha256(b"another model").hexdigest()
    stored.write(MANIFEST, stored.read(MANIFEST).replace(true.encode(), another.encode()))
    assert "signature" in refusal(signed, release).message
    assert not loads


def test_the_signed_manifest_of_another_release_is_refused(signed, loads):
    release, other = publish_handmade(signed), publish_handmade(signed, made=NOON + timedelta(hours=1))
    Stored(signed, release).write(MANIFEST, Stored(signed, other).read(MANIFEST))
    assert refusal(signed, release).message.endswith(f"belongs to the release {other}")
    assert not loads


def test_the_signature_of_another_manifest_is_refused(signed, loads):
    release, other = publish_handmade(signed), publish_handmade(signed, made=NOON + timedelta(hours=1))
    own, others = (json.loads(Stored(signed, one).read(MANIFEST))["signature"].encode() for one in (release, other))
    assert own != others
    Stored(signed, release).write(MANIFEST, Stored(signed, release).read(MANIFEST).replace(own, others))
    assert "signature" in refusal(signed, release).message
    assert not loads


def test_what_does_not_even_decode_is_judged_by_its_signature_first(signed):
    release = publish_handmade(signed)
    Stored(signed, release).write(MANIFEST, b"{}")
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


def test_a_release_from_before_the_key_is_signed_and_then_loads(bucket, release, stored):
    before = stored.all()
    ours = with_signer(bucket, OURS)
    assert "not signed" in refusal(ours, release).message
    sign_release(ours, release)
    load_release(ours, release, Path("no-cache"))
    after = stored.all()
    assert after.pop(MANIFEST).startswith(before.pop(MANIFEST).removesuffix(b"\n}"))
    assert after == before


def test_a_release_signed_with_the_older_key_is_signed_with_the_new(signed):
    release = publish_handmade(with_signer(signed, OLDER))
    sign_release(with_signer(signed, BOTH), release)
    load_release(with_signer(signed, OURS), release, Path("no-cache"))


def test_signing_twice_changes_nothing(signed):
    release = publish_handmade(signed)
    before = Stored(signed, release).all()
    sign_release(signed, release)
    assert Stored(signed, release).all() == before


def test_what_a_stranger_signed_is_not_signed_over(signed):
    release = publish_handmade(with_signer(signed, THEIRS))
    before = Stored(signed, release).all()
    with pytest.raises(ModelError, match="was signed with another key, or changed since"):
        sign_release(signed, release)
    assert Stored(signed, release).all() == before


def test_a_release_whose_files_were_changed_is_not_signed(bucket, release, stored):
    stored.write("model.skops", b"x" * len(stored.read("model.skops")))
    with pytest.raises(ModelError, match=r"the file model\.skops of the release .* was changed after it was published"):
        sign_release(with_signer(bucket, OURS), release)
    assert read_manifest(bucket, release).signature is None


def test_the_manifest_of_another_release_is_not_signed(bucket, release, stored):
    stored.rewrite(release="v1@20200101T000000Z-abcdef")
    with pytest.raises(ModelError, match="belongs to the release v1@20200101T000000Z-abcdef"):
        sign_release(with_signer(bucket, OURS), release)


def test_nothing_is_signed_without_a_key(bucket, release):
    with pytest.raises(RequestError, match="SCORING_STORE_KEY is not set"):
        sign_release(bucket, release)


# --- files


@pytest.mark.parametrize("where", ["outside", "other release"])
def test_a_model_file_that_is_a_link_is_refused_even_if_the_manifest_vouches_for_what_it_leads_to(local, loads, tmp_path, where):
    release = publish_handmade(local)
    folder = local.place(release_folder(release))
    target = tmp_path / "outside.skops"
    if where == "other release":
        target = folder.parent / publish_handmade(local, made=NOON + timedelta(hours=1)) / "model.skops"
    else:
        target.write_bytes((folder / "model.skops").read_bytes())
    (folder / "model.skops").unlink()
    (folder / "model.skops").symlink_to(target)
    rewrite(folder, files=digest_folder(folder))
    assert refusal(local, release).message == f"the file model.skops of the release {release} is a symbolic link"
    assert not loads


def test_a_manifest_that_is_a_link_out_of_the_bucket_is_refused(local, tmp_path):
    release = publish_handmade(local)
    folder = local.place(release_folder(release))
    (folder / MANIFEST).rename(tmp_path / "elsewhere.json")
    (folder / MANIFEST).symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(RequestError, match="leads outside the bucket"):
        load_release(local, release, Path("no-cache"))


def test_a_release_folder_that_is_a_link_out_of_the_bucket_is_refused(local, tmp_path):
    release = publish_handmade(local)
    folder = local.place(release_folder(release))
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RequestError, match="leads outside the bucket"):
        load_release(local, release, Path("no-cache"))


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


@pytest.mark.parametrize("what", ["link", "pipe"])
def test_a_link_or_a_pipe_that_takes_the_place_of_a_file_after_it_was_looked_at_is_not_read(local, loads, tmp_path, monkeypatch, what):
    release = publish_handmade(local)
    file = local.place(release_folder(release)) / "model.skops"
    content = file.read_bytes()
    file.unlink()
    if what == "link":
        (tmp_path / "same").write_bytes(content)
        file.symlink_to(tmp_path / "same")
    else:
        os.mkfifo(file)
    monkeypatch.setattr(Path, "is_symlink", lambda _: False)
    monkeypatch.setattr(Path, "is_file", lambda _: True)
    with pytest.raises(ModelError, match=r"the file model\.skops of the release .* was changed after it was published"):
        load_release(local, release, Path("no-cache"))
    assert loads == []


def test_a_file_that_has_grown_is_refused_without_reading_all_of_it(local, loads, tmp_path):
    release = publish_handmade(local)
    folder = local.place(release_folder(release))
    size = (folder / "model.skops").stat().st_size
    with (folder / "model.skops").open("ab") as file:
        file.truncate(1 << 40)  # a terabyte with nothing in it: it takes no room, but hours to read
    own = tmp_path / "own"
    own.mkdir()
    with pytest.raises(ModelError, match="was changed after it was published"):
        store.copy_verified(folder, read_manifest(local, release), own)
    assert (own / "model.skops").stat().st_size == size + 1
    assert not loads


def test_a_pickle_where_a_skops_file_is_expected_is_not_opened(bucket, release, stored, tmp_path):
    stored.replace("model.skops", pickle.dumps(Bomb(tmp_path / "mark")))
    assert "is refused: BadZipFile" in refusal(bucket, release).message
    assert not (tmp_path / "mark").exists()


def test_a_skops_file_with_a_type_that_nobody_trusts_is_not_opened(bucket, release, stored, tmp_path):
    import skops.io

    stored.replace("model.skops", skops.io.dumps(Bomb(tmp_path / "mark")))
    assert "is refused: UntrustedTypesFoundException" in refusal(bucket, release).message
    assert not (tmp_path / "mark").exists()


# --- manifests


def test_a_huge_manifest_is_refused_unread(local, loads, monkeypatch):
    release = publish_handmade(local)
    folder = local.place(release_folder(release))
    with (folder / MANIFEST).open("ab") as file:
        file.truncate(1 << 40)
    monkeypatch.setattr(LocalBucket, "read", lambda *_: pytest.fail("it was read"))
    assert f"is {1 << 40:,} bytes long, more than the {MAX_MANIFEST_BYTES:,} allowed" in refusal(local, release).message
    assert not loads


def test_a_manifest_that_is_too_long_is_refused_unread_on_every_kind(bucket, release, monkeypatch):
    monkeypatch.setattr(store, "MAX_MANIFEST_BYTES", 100)
    monkeypatch.setattr(type(bucket), "read", lambda *_: pytest.fail("it was read"))
    assert "bytes long, more than the 100 allowed" in refusal(bucket, release).message


def test_a_manifest_with_hundreds_of_thousands_of_columns_is_neither_read_nor_published(local, tmp_path):
    release = publish_handmade(local)
    columns = [Column.model_construct(name=f"att{number}", type="binary") for number in range(300_000)]
    manifest = Stored(local, release).rewrite(columns=columns)
    assert "bytes long, more than" in refusal(local, release).message
    staged = tmp_path / "staged"
    staged.mkdir()
    (staged / "model.skops").write_bytes(b"model")
    with pytest.raises(ModelError, match="Train on a table with fewer columns"):
        publish(LocalBucket(tmp_path / "elsewhere"), staged, manifest)
    assert not (tmp_path / "elsewhere").exists()


def test_a_manifest_with_ten_thousand_columns_is_no_trouble(bucket, release, stored):
    stored.rewrite(columns=[Column.model_construct(name=f"att{number}", type="binary") for number in range(10_000)])
    assert len(load_release(bucket, release, Path("no-cache")).manifest.columns) == 10_000


@pytest.mark.parametrize("size", [-1, -(1 << 70), 1.5, "1"])
def test_a_size_that_no_file_has_is_refused(bucket, release, stored, size):
    text = json.loads(stored.read(MANIFEST))
    text["files"]["model.skops"]["size"] = size
    stored.write(MANIFEST, json.dumps(text).encode())
    assert "is not a release manifest" in refusal(bucket, release).message


BAD_NAMES = ["../x", "/etc/passwd", "a/b", "..", ".", "", "a\0b", "a\\b", "a\nb", "x" * 201, "ü" * 101]


def plant(bucket, place: str, name: str, content: bytes) -> None:
    """Puts an object where the fetch of a file of this name looks for it, as far as the store takes such a key."""
    for path in (f"{place}/{hashlib.sha256(content).hexdigest()[:16]}-{name}", f"{place}/{name}"):
        is_taken = "//" not in path and path.isprintable() and not (".." in path and bucket.url.startswith("gs://"))
        if bucket.is_remote and is_taken:
            bucket.fs.pipe_file(f"{bucket.root}/{path}", content)


@pytest.mark.parametrize(("where", "name"), [(where, name) for where in ("files", "model_file") for name in BAD_NAMES])
def test_a_file_name_that_leads_elsewhere_is_refused_before_anything_is_fetched(stored, loads, where, name, tmp_path):
    bucket, release = stored.bucket, stored.place.rpartition("/")[2]
    text = json.loads(stored.read(MANIFEST))
    digest = FileDigest(sha256=hashlib.sha256(b"import evil").hexdigest(), size=11).encode()
    if where == "files":
        text["files"][name] = digest
    else:
        text["model_file"], text["files"] = name, {name: digest}
    plant(bucket, stored.place, name, b"import evil")
    stored.write(MANIFEST, json.dumps(text).encode())
    before = tree(tmp_path)
    error = refusal(bucket, release)
    assert error.message.startswith(f"{stored.place}/{MANIFEST} is not a release manifest: a ReleaseManifest has a wrong ")
    assert "scoring train v1" in error.next_step
    assert tree(tmp_path) == before, "a file was written"
    assert not loads


def test_an_absolute_name_whose_object_is_there_writes_no_file_on_the_worker(bucket, release, stored, tmp_path):
    target = tmp_path / "site-packages" / "evil.pth"
    target.parent.mkdir()
    content = b"import evil"
    digest = FileDigest(sha256=hashlib.sha256(content).hexdigest(), size=len(content))
    plant(bucket, stored.place, str(target), content)
    manifest = ReleaseManifest.decode(json.loads(stored.read(MANIFEST)))
    stored.rewrite(files=manifest.files | {str(target): digest})
    refusal(bucket, release)
    with pytest.raises(RequestError, match="leads out of the folder"):
        bucket.local_folder(stored.place, Path("no-cache"), {**manifest.files, str(target): digest})
    assert not target.exists()


def test_a_result_whose_manifest_names_such_a_file_of_its_release_is_refused(bucket, release):
    with pytest.raises(MessageError, match="release_files"):
        decode_long(ResultManifest, json.dumps({"release_files": {"../x": {"sha256": "0" * 64, "size": 1}}}).encode())


@pytest.mark.parametrize("name", ["a\nb", "a\\b", "x" * 201])
def test_a_definition_that_saves_a_file_under_such_a_name_is_refused_before_it_is_published(bucket, release, stored, tmp_path, name):
    (tmp_path / name).write_bytes(b"1")
    manifest = ReleaseManifest.decode(json.loads(stored.read(MANIFEST)))
    digest = FileDigest(sha256=hashlib.sha256(b"1").hexdigest(), size=1)
    with pytest.raises(ModelError, match="the definition v1 saves a file"):
        publish(open_bucket(f"{bucket.url}/other"), tmp_path, manifest.model_copy(update={"files": manifest.files | {name: digest}}))
    assert open_bucket(f"{bucket.url}/other").folders("model") == []


def test_of_a_file_that_has_grown_hardly_more_is_fetched_than_its_manifest_says(bucket, release, stored, loads, monkeypatch):
    size = len(stored.read("model.skops"))
    stored.write("model.skops", stored.read("model.skops") + b"x" * (20 << 20))
    assert refusal(bucket, release).message == f"the file model.skops of the release {release} was changed after it was published"
    kept = [len(content) for name, content in tree(Path("no-cache")).items() if name.endswith("model.skops")]
    assert kept == ([size + 1] if bucket.is_remote else [])
    assert not loads


def test_a_cached_copy_that_was_damaged_is_fetched_once_more(bucket, release, stored):
    load_release(bucket, release, Path("no-cache"))
    for copy in Path("no-cache").rglob("model.skops"):
        copy.write_bytes(b"")  # as a power cut leaves it
    again = open_bucket(bucket.url)  # so that it is not in memory
    assert load_release(again, release, Path("no-cache")).model.model["weights"].tolist() == WEIGHTS


def test_a_file_that_is_damaged_in_the_bucket_itself_is_still_refused(bucket, release, stored, loads):
    load_release(bucket, release, Path("no-cache"))
    loads.clear()
    for copy in Path("no-cache").rglob("model.skops"):
        copy.write_bytes(b"")
    stored.write("model.skops", b"another")
    error = refusal(open_bucket(bucket.url), release)
    assert error.message == f"the file model.skops of the release {release} was changed after it was published"
    assert not loads


def test_an_unsigned_manifest_does_not_have_the_field(bucket, release, stored):
    assert b"signature" not in stored.read(MANIFEST)
    assert decode_long(ReleaseManifest, stored.read(MANIFEST)).signature is None


def test_where_the_code_was_changed_the_refusal_names_the_folder_and_a_template_that_is_new_above_it(bucket, definitions, tmp_path):
    own = tmp_path / "own"
    shutil.copytree(definitions, own)
    release = publish_pickle(bucket, own, {"rate": 0.25})
    (own / "pickles" / "notes.py").touch()
    sentence = f"the code of the definition pickles was changed since {release} was trained: a Python file in {own / 'pickles'}"
    assert refusal(bucket, release, own).message == sentence
    (own / "pickles" / "notes.py").unlink()
    shutil.copy(model_template.__file__, own)
    assert refusal(bucket, release, own).message == f"{sentence}, or {own / 'model_template.py'}, which may be new there"
