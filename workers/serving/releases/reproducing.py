"""Proves that a release gives the published digits here: it scores the first rows of a result that it made, and compares the bytes."""

import contextlib
import itertools
from collections.abc import Iterator

import structlog
from isal import igzip

from model_store.foreign_code import DefinitionError
from model_store.store import Release
from shared.bucket.interface import Bucket
from shared.catalog.channels import ChannelChange
from shared.catalog.manifests import OUTPUTS, PREDICTIONS, ResultManifest
from shared.catalog.results import FoundResult, inspect_result, list_results
from shared.errors import ModelError, PermanentError
from shared.jobs.folder import JobFolder
from workers.scoring.chunks.chunk_reader import open_chunk
from workers.scoring.chunks.rates import predict_valid
from workers.scoring.fixes.records import fixed_records
from workers.scoring.fixes.rejects import RejectsOfJob
from workers.scoring.plan import read_plan
from workers.tables.output import prediction_text
from workers.tables.rows import without_lines

log = structlog.get_logger()

ROWS = 100
"""Rows that are compared."""


class OtherDigitsError(ModelError):
    """Raised when a release gives other rates here than in the result that it made."""


def reproduce(bucket: Bucket, release: Release, shown: ChannelChange | None) -> int:
    """Scores the first rows of the newest result of a release again; returns how many were compared, 0 without such a result.

    ``shown`` is what the channel shows: its result is taken if the release made it.

    Raises:
        OtherDigitsError: a byte differs, or the release fails on a row that has a rate there.
    """
    for manifest in _results_of(bucket, release.manifest.release, shown):
        try:
            wanted, got = _texts(bucket, release, manifest)
        except DefinitionError as error:
            raise OtherDigitsError(
                f"the release {release.manifest.release} fails here on a row that has a rate in the result of job {manifest.job_id}: "
                f"{error.message}",
                next_step=error.next_step,
            ) from error
        except PermanentError as error:
            # the table or the plan was removed or replaced since: there is nothing to compare with
            log.info("result not compared", release=release.manifest.release, job=manifest.job_id, why=str(error))
            continue
        if wanted != got:
            raise OtherDigitsError(
                f"the release {release.manifest.release} gives other rates here than in the result of job {manifest.job_id}",
                next_step="Compare the libraries of this machine with those of the workers: scoring doctor",
            )
        if got:
            return got.count(b"\n")
    return 0


def _results_of(bucket: Bucket, release: str, shown: ChannelChange | None) -> Iterator[ResultManifest]:
    if shown is not None and shown.release == release:
        found = inspect_result(bucket, shown.revision)
        if isinstance(found, FoundResult) and found.signed.is_trusted:
            yield found.manifest
            return
    own = f"{OUTPUTS}/{release.partition('@')[0]}/"
    results = [found for found in list_results(bucket) if isinstance(found, FoundResult) and found.folder.startswith(own)]
    trusted = [found.manifest for found in results if found.signed.is_trusted and found.manifest.release == release]
    yield from itertools.islice(sorted(trusted, key=lambda manifest: manifest.finished, reverse=True), 1)


def _texts(bucket: Bucket, release: Release, manifest: ResultManifest) -> tuple[bytes, bytes]:
    """Returns the first lines of the published predictions, and the same rows scored here."""
    folder = JobFolder(bucket, manifest.job_id)
    plan = read_plan(folder)
    if not plan.chunks:
        return b"", b""
    planned = plan.chunk(0)
    with open_chunk(bucket, planned, release.manifest) as records:
        if planned.may_be_fixed:
            records = fixed_records(folder, 0, records)  # noqa: PLW2901
        rows = records.rows(0, min(ROWS, records.count()))
    # the result has no rate of them, and one of them may be a row that kills its process
    rejected = {reject.line for reject in RejectsOfJob(earlier=folder, plan=plan).of_chunk(0)}
    rows = without_lines(rows, rejected) if rejected else rows
    found = predict_valid(release, rows, interval=planned.interval, path=planned.file.path)
    got = prediction_text(*found.rows.keys(release.manifest.keys), found.cr, *found.bounds)
    return _first_lines(bucket, manifest.revision, got.count(b"\n")), got


def _first_lines(bucket: Bucket, revision: str, count: int) -> bytes:
    with bucket.open(f"{revision}/{PREDICTIONS}") as raw, igzip.open(raw) as text, contextlib.suppress(EOFError):
        text.readline()
        return b"".join(itertools.islice(text, count))
    return b""
