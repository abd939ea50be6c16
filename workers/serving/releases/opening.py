"""Opens what is served: a release that gives the published digits, and the verified index of the result that a channel shows."""

import contextlib
import shutil
from pathlib import Path

import structlog

from model_store.library import ModelLibrary
from shared.bucket.interface import Bucket
from shared.catalog.channels import ChannelChange
from shared.catalog.manifests import INDEX, ResultManifest
from shared.catalog.result_index import open_whole_index
from shared.catalog.results import FoundResult, inspect_result
from shared.errors import ModelError, RequestError, UnreadableIndexError
from shared.prediction_index import PredictionIndex, open_file
from shared.processes import process_token
from workers.serving.rates.computing import FAILED, compute
from workers.serving.rates.published import PublishedResult
from workers.serving.rates.serving import LoadedRelease
from workers.serving.releases.reproducing import reproduce

log = structlog.get_logger()

WARM_ROWS = 20
INDEXES_KEPT = 2
"""Local copies of indexes from an object store that stay: of the present result and of the one before."""


def open_release(bucket: Bucket, library: ModelLibrary, release: str, shown: ChannelChange | None) -> LoadedRelease:
    """Loads a release, verified, compares its digits with a result that it made, and predicts some rows with it.

    Raises:
        ModelError: the release is unknown, damaged, fails, or gives other digits here.
    """
    found = library.release(release)
    compared = reproduce(bucket, found, shown)
    loaded = LoadedRelease.of(found)
    _warm(loaded)
    log.info("release loaded", release=release, rows_compared=compared)
    return loaded


def _warm(loaded: LoadedRelease) -> None:
    """Predicts rows of zeros, so that the first request meets libraries that are imported and caches that are filled.

    Raises:
        ModelError: the definition fails on such a row.
    """
    row = {column.name: "0" if column.type == "text" else 0 for column in loaded.release.manifest.columns}
    row |= {name: 0 if name in ("entity_id", "device") else "0" for name in loaded.release.manifest.keys}
    for _ in range(2):
        for computed in (*compute(loaded, [row]), *compute(loaded, [row] * WARM_ROWS)):
            if computed.reject is not None and computed.reject.reason == FAILED:
                raise ModelError(
                    f"the release {loaded.name} cannot predict a row of zeros: {FAILED}",
                    next_step="Correct the definition, or promote another release; the log of the server has the reason.",
                )


def open_published(bucket: Bucket, home: Path, channel: str, shown: ChannelChange) -> PublishedResult:
    """Opens the result that a channel shows, with its whole index verified.

    Raises:
        RequestError: the manifest of the result is gone, damaged or not trusted.
        UnreadableIndexError: the index and the predictions are damaged.
    """
    found = inspect_result(bucket, shown.revision)
    if not isinstance(found, FoundResult) or not found.signed.is_trusted or found.manifest.text_sha256 != shown.text_sha256:
        raise RequestError(
            f"the result that the channel {channel} shows, {shown.revision}, is gone or not trusted",
            next_step=f"Choose another one: scoring results rollback {channel} --to JOB --reason TEXT",
        )
    return PublishedResult.of(channel, shown.number, found.manifest, _open_index(bucket, home, found.manifest))


def _open_index(bucket: Bucket, home: Path, manifest: ResultManifest) -> PredictionIndex:
    """Opens an index by memory map: the file of a local bucket itself, or one copy of it for all processes of this machine."""
    if not bucket.is_remote or manifest.index is None:
        return open_whole_index(bucket, manifest)
    copy = home / "serving" / "indexes" / f"{manifest.index.sha256}.arrow"
    with contextlib.suppress(UnreadableIndexError, FileNotFoundError):
        index = open_file(copy, manifest.index)
        index.verify()
        return index
    copy.parent.mkdir(parents=True, exist_ok=True)
    aside = copy.with_name(f".{process_token()}")
    try:
        with bucket.open(f"{manifest.revision}/{INDEX}") as raw, aside.open("wb") as out:
            shutil.copyfileobj(raw, out, 1 << 20)
        index = open_file(aside, manifest.index)
        index.verify()
        aside.replace(copy)
    except UnreadableIndexError:
        return open_whole_index(bucket, manifest)
    finally:
        aside.unlink(missing_ok=True)
    _drop_old(copy.parent)
    return index


def _drop_old(folder: Path) -> None:
    """Removes older copies; a process that still maps one keeps its memory."""
    copies = sorted(folder.glob("*.arrow"), key=lambda file: file.stat().st_mtime, reverse=True)
    for file in copies[INDEXES_KEPT:]:
        file.unlink(missing_ok=True)
