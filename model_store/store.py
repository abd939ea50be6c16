"""The store of releases, which are published atomically, never changed, and verified before they are loaded."""

import errno
import functools
import hashlib
import importlib.metadata
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_store import release_cache
from model_store.definitions import Definition, UnknownDefinitionError, code_of, current_digest, load_definition
from model_store.foreign_code import DefinitionError, calling
from model_store.shipped_trees import RefusedTreesError, check_trees, speed_up_trees
from shared.bucket.interface import Bucket
from shared.catalog.advice import how_to_retrain
from shared.catalog.manifests import MAX_MANIFEST_BYTES, ReleaseManifest
from shared.catalog.paths import MANIFEST, release_folder
from shared.errors import MessageError, ModelError
from shared.processes import temporary_folder
from shared.records import FileDigest, check_file_name, decode_long
from shared.signatures import Signature

RELEASES_IN_MEMORY = 4
OWN_COPIES = ".loading"
"""Folder in the cache for the private copies that releases are loaded from."""
COPIED_AT_ONCE = 1 << 20
"""Bytes per read."""
LIBRARIES = ("numpy", "pandas", "scikit-learn", "lightgbm", "skops", "pyarrow")


@dataclass(frozen=True, kw_only=True)
class Release:
    """A verified release, loaded and ready to predict."""

    manifest: ReleaseManifest
    definition: Definition
    model: Any


def release_id(definition: str, job_id: str, created: str) -> str:
    """Returns the id of the release that a job makes, which is the same for every run of the job.

    ``created`` is the job's time in the form ``20261123T101500Z``.
    """
    return f"{definition}@{created}-{hashlib.sha256(job_id.encode()).hexdigest()[:6]}"


def publish(bucket: Bucket, staged: Path, manifest: ReleaseManifest) -> bool:
    """Publishes a trained release atomically; returns False if it exists already.

    ``staged`` is a local folder with the model's files; the manifest is written into it.
    """
    if manifest.model_file not in manifest.files:
        raise ModelError(f"the definition {manifest.definition} saved no {manifest.model_file}", next_step="Write it in its method save.")
    for name in manifest.files:
        _check_saved_name(manifest.definition, name)
    text = bucket.signer.sign(manifest.to_json())
    if len(text) > MAX_MANIFEST_BYTES:
        raise ModelError(
            f"the manifest of {manifest.release} would be {len(text):,} bytes long, more than the {MAX_MANIFEST_BYTES:,} allowed",
            next_step="Train on a table with fewer columns or files.",
        )
    (staged / MANIFEST).write_bytes(text)
    return bucket.put_folder(staged, release_folder(manifest.release), last=MANIFEST)


def _check_saved_name(definition: str, name: str) -> None:
    try:
        check_file_name(name)
    except ValueError as error:
        raise ModelError(
            f"the definition {definition} saves a file {name!r}, whose name {error}", next_step="Give it another name in its method save."
        ) from None


def digest_folder(folder: Path) -> dict[str, FileDigest]:
    """Returns size and sha256 of every file in a folder, except the manifest."""
    files = sorted(file for file in folder.iterdir() if file.name != MANIFEST)
    return {file.name: FileDigest(sha256=_sha256(file), size=file.stat().st_size) for file in files}


def library_versions() -> dict[str, str]:
    """Returns the versions of the libraries that a model file may depend on."""
    return {name: importlib.metadata.version(name) for name in LIBRARIES}


def read_manifest(bucket: Bucket, release: str) -> ReleaseManifest:
    """Returns the manifest of a release, after verifying its signature.

    Raises:
        ModelError: there is no manifest, its signature is missing or wrong, it is malformed, or it belongs to another release.
    """
    path = f"{release_folder(release)}/{MANIFEST}"
    info = bucket.stat(path)
    if info is not None and info.size > MAX_MANIFEST_BYTES:
        raise ModelError(
            f"{path} is {info.size:,} bytes long, more than the {MAX_MANIFEST_BYTES:,} allowed", next_step=how_to_retrain(release)
        )
    text = bucket.read(path)
    if text is None:
        raise ModelError(
            f"the release {release} has no {path} in the bucket {bucket.url}", next_step="List what there is: scoring models list"
        )
    _check_signature(bucket.signer.check(text), release)
    try:
        manifest = decode_long(ReleaseManifest, text)
    except MessageError as error:
        raise ModelError(f"{path} is not a release manifest: {error.message}", next_step=how_to_retrain(release)) from error
    if manifest.model_file not in manifest.files:
        raise ModelError(f"{path} names a model file that is not among its files: {manifest.model_file}", next_step=how_to_retrain(release))
    if manifest.release != release:
        raise ModelError(f"{path} belongs to the release {manifest.release}", next_step=how_to_retrain(release))
    if manifest.definition != release.partition("@")[0]:
        raise ModelError(f"{path} names another definition, {manifest.definition}", next_step=how_to_retrain(release))
    return manifest


def _check_signature(found: Signature, release: str) -> None:
    if found is Signature.MISSING:
        raise ModelError(
            f"the release {release} is not signed, and SCORING_STORE_KEY is set",
            next_step=f"If you know it for yours, sign it: scoring models sign {release}. {how_to_retrain(release)}",
        )
    if found is Signature.WRONG:
        raise ModelError(
            f"the signature of the release {release} is wrong: its manifest was changed, or signed with another key",
            next_step=f"If the key was changed, append a comma and the old key to SCORING_STORE_KEY. {how_to_retrain(release)}",
        )


def load_release(bucket: Bucket, release: str, cache: Path, definitions: Path | None = None) -> Release:
    """Returns a release, verified against its manifest and loaded; cached for the next call in this process.

    ``cache`` is a local folder for the files of a remote bucket, ``definitions`` one with further definitions.

    Raises:
        ModelError: the release is unknown, incomplete or changed since it was published, or its definition is missing, changed, or fails.
    """
    loaded = _load_once(bucket, release, cache, definitions)
    # the code may have been changed since the cached release was loaded
    now = current_digest(loaded.definition.name, definitions)
    if now is not None and now[0] != loaded.manifest.definition_sha256:
        raise _changed_code(loaded.manifest, now[1])
    return loaded


@functools.lru_cache(maxsize=RELEASES_IN_MEMORY)
def _load_once(bucket: Bucket, release: str, cache: Path, definitions: Path | None) -> Release:
    with temporary_folder(cache / OWN_COPIES) as own:
        manifest = copy_release(bucket, release, cache, own)
        return load_copy(own, manifest, definitions)


def copy_release(bucket: Bucket, release: str, cache: Path, own: Path) -> ReleaseManifest:
    """Copies the verified files of a release into a private folder without loading them.

    Raises:
        ModelError: the release is unknown, incomplete, or was changed since it was published.
    """
    manifest = read_manifest(bucket, release)
    _copy_release(bucket, manifest, cache, own)
    return manifest


def load_copy(own: Path, manifest: ReleaseManifest, definitions: Path | None) -> Release:
    """Loads a release from a private folder that contains its files, with its definition.

    Raises:
        ModelError: the definition is missing, was changed, or cannot load it.
    """
    release = manifest.release
    try:
        definition = load_definition(manifest.definition, definitions)
    except UnknownDefinitionError as unknown:
        raise ModelError(
            f"{release} was trained where its definition is known, but {unknown.message}", next_step=unknown.next_step
        ) from unknown
    if definition.source_sha256 != manifest.definition_sha256:
        raise _changed_code(manifest, definition.folder)
    return Release(manifest=manifest, definition=definition, model=load_model(definition, own / manifest.model_file, manifest))


def load_model(definition: Definition, file: Path, manifest: ReleaseManifest) -> Any:  # noqa: ANN401 - a definition's own class
    """Loads the model in a file with the code of its definition; boosted trees are checked first, and evaluated fast then.

    Raises:
        DefinitionError: the code fails; the message names the release.
        ModelError: LightGBM must not read its trees.
    """
    try:
        check_trees(file, getattr(definition.model_class, "TRUSTED", ()))
    except RefusedTreesError as error:
        raise ModelError(
            f"the trees in {manifest.model_file} of {manifest.release} are refused: {error}",
            next_step=how_to_retrain(manifest.release, manifest.tables),
        ) from error
    try:
        with calling(definition.name, definition.folder, "load"):
            model = definition.model_class()
            model.load(str(file))  # a str, as in the older service
            speed_up_trees(model, manifest.trees)
    except DefinitionError as error:
        raise DefinitionError(
            f"the definition {definition.name} cannot load {manifest.release}",
            error.reason,
            step="load",
            next_step=error.next_step if isinstance(error.__cause__, MemoryError) else how_to_retrain(manifest.release, manifest.tables),
        ) from error
    return model


def _changed_code(manifest: ReleaseManifest, folder: Path) -> ModelError:
    return ModelError(
        f"the code of the definition {manifest.definition} was changed since {manifest.release} was trained: {code_of(folder)}",
        next_step=how_to_retrain(manifest.release, manifest.tables),
    )


def _copy_release(bucket: Bucket, manifest: ReleaseManifest, cache: Path, own: Path) -> None:
    """Copies the files of a release into a private folder; a damaged copy in the cache is fetched again once.

    Raises:
        ModelError: the files are not the published ones; the message names the file.
    """
    folder = release_folder(manifest.release)
    try:
        with bucket.held_folder(folder, cache, manifest.files) as kept:
            copy_verified(kept, manifest, own)
    except ModelError:
        if not bucket.drop_local_folder(folder, cache):
            raise
        for copied in own.iterdir():
            copied.unlink()
        with bucket.held_folder(folder, cache, manifest.files) as kept:
            copy_verified(kept, manifest, own)
    if bucket.is_remote:
        release_cache.note_used(kept)
        release_cache.shrink(cache)


def releases_kept() -> int:
    """Returns how often this process found a requested release in memory."""
    return _load_once.cache_info().hits


def copy_verified(folder: Path, manifest: ReleaseManifest, own: Path) -> None:
    """Copies the files of a release into a private folder, and verifies that the copies are exactly the published files.

    Only this process writes to the folder, so what is loaded is what was verified, even if the release is changed meanwhile.

    Raises:
        ModelError: a file is missing, is a link, was changed, or is not part of the release; the message names it.
    """
    release = manifest.release
    retrain = how_to_retrain(release, manifest.tables)
    found = {file.name for file in folder.iterdir()} - {MANIFEST}
    for name in sorted(found - manifest.files.keys()):
        raise ModelError(f"the release {release} holds the foreign file {name}", next_step=retrain)
    for name, digest in manifest.files.items():
        if name in found and (folder / name).is_symlink():
            raise ModelError(f"the file {name} of the release {release} is a symbolic link", next_step=retrain)
        if name not in found or not (folder / name).is_file():
            raise ModelError(f"the release {release} lacks its file {name}", next_step=retrain)
        if not _copy_matches(folder / name, own / name, digest):
            raise ModelError(f"the file {name} of the release {release} was changed after it was published", next_step=retrain)


def _copy_matches(source: Path, copy: Path, digest: FileDigest) -> bool:
    """Copies a file, at most one byte more than the expected size; returns True if the copy matches the digest."""
    whole, left = hashlib.sha256(), digest.size + 1
    try:
        with open(source, "rb", opener=_open_no_link) as content, copy.open("xb") as out:
            while left and (block := content.read(min(left, COPIED_AT_ONCE))):
                whole.update(block)
                out.write(block)
                left -= len(block)
    except OSError as error:
        if error.errno == errno.ELOOP:  # a link has replaced the file
            return False
        raise
    return left == 1 and whole.hexdigest() == digest.sha256


def _open_no_link(path: str, flags: int) -> int:
    """Refuses a link, and does not block on a pipe: either may have replaced a file since it was checked."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
