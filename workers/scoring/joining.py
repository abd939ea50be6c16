"""Joins the parts of a job into one result: concatenates their gzip members, and checks each.

Joining starts while the last chunks are still being scored, so that little work is left when the last part arrives.
"""

import functools
import hashlib
import itertools
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from model_store.store import read_manifest
from shared.catalog.manifests import INDEX, OUTPUTS, PREDICTIONS, REJECTS, DeviceSummary, ReleaseManifest, ResultManifest
from shared.catalog.result_index import index_from_csv
from shared.index_format import DEVICES
from shared.jobs.files import JobFile, PartFile
from shared.jobs.folder import JobFolder
from shared.jobs.messages import ScoreJob
from shared.records import FileDigest, decode_long
from workers.concurrency import at_once, prefetch_each, read_each
from workers.scoring.index_joining import IndexJoin, joining_indexes, shape_of
from workers.scoring.parts import (
    ALL_DEVICES,
    BrokenPartError,
    PartRecord,
    discard,
    is_complete,
    missing_chunks,
    read_file,
    read_part,
)
from workers.scoring.plan import Plan, read_plan
from workers.scoring.reject_limits import check_all
from workers.tables import output
from workers.tables.csv.cuts import count_lines

AWAITED_CHUNKS, AWAITED_SHARE = 8, 4
"""A join starts before the last parts exist: at most this many parts, and at most one of this many, may be missing."""

AWAITED_SECONDS = 5.0
"""Seconds that the join waits for the next of them: a process that joins cannot plan."""

POLL_SECONDS, LOOK_SECONDS_REMOTE = 0.01, 0.1
"""Seconds between two checks for it: on a disk, and on an object store, where each check is a request."""


def awaited_chunks(plan: Plan) -> int:
    """Returns how many chunks may be missing when the join of a job starts."""
    return min(AWAITED_CHUNKS, len(plan.chunks) // AWAITED_SHARE)


def is_due(plan: Plan, chunks_done: int, seconds: float) -> bool:
    """Returns True when the join starts: with the last chunk, and once earlier if chunks take few enough ``seconds`` to wait."""
    ends_soon = chunks_done == len(plan.chunks) - awaited_chunks(plan) and seconds < AWAITED_SECONDS / 2
    return chunks_done >= len(plan.chunks) or ends_soon


def can_finish(folder: JobFolder) -> bool:
    """Returns True if all parts exist and the job has no result yet."""
    return folder.outcome() is None and not missing_chunks(folder, read_plan(folder))


def output_folder(release: str, job: ScoreJob) -> str:
    """Returns where the result of a job is published: ``data/predict/output/<definition>/<place>``."""
    return f"{OUTPUTS}/{release.partition('@')[0]}/{job.place}"


def join(folder: JobFolder, job: ScoreJob, plan: Plan, *, awaits: bool) -> ResultManifest | None:
    """Writes predictions and rejects into the revision of this job, and its manifest; returns None when a part is missing or broken.

    If ``awaits`` is true, the join waits for the last parts.

    Raises:
        TableError: more rows were rejected than the job allows.
    """
    bucket = folder.bucket
    existing = bucket.read(folder.file(JobFile.MANIFEST))
    if existing is not None:
        return decode_long(ResultManifest, existing)
    revision = _revision(plan, job)
    release = read_manifest(bucket, plan.release)
    try:
        with joining_indexes(folder, shape_of(release, plan), f"{revision}/{INDEX}") as indexes:
            joined = _join_predictions(folder, job, plan, release, indexes, awaited_chunks(plan) if awaits else 0)
            parts = joined.parts
            rejects = _join_rejects(folder, parts, f"{revision}/{REJECTS}") if any(part.rejects for part in parts) else None
            index = indexes.result()
    except _NotThereError:
        return None
    except BrokenPartError as broken:
        discard(folder, broken.index)
        return None
    index = index or index_from_csv(bucket, revision, keys=release.keys, interval=plan.interval, text_sha256=joined.text_sha256)
    rows_in, scored = sum(part.rows_in for part in parts), sum(part.rows_scored for part in parts)
    finished = datetime.now(UTC)
    manifest = ResultManifest(
        job_id=job.job_id,
        release=plan.release,
        release_files=release.files,
        table=plan.fingerprint(job.table, rows=rows_in, rejected=rows_in - scored),
        rows_in=rows_in,
        rows_scored=scored,
        rows_rejected=rows_in - scored,
        rows_clipped=sum(part.rows_clipped for part in parts),
        rows_repeated=index.rows_repeated,
        fixes=job.fixes,
        fixed_rows=plan.fixed_rows,
        devices=_device_summaries(parts),
        keys=release.keys,
        interval=plan.interval,
        channel=job.channel,
        guard_off=job.guard_off,
        text_sha256=joined.text_sha256,
        output=joined.digest,
        rejects=rejects,
        index=index.digest,
        revision=revision,
        job_created=job.created,
        started=plan.made,
        finished=finished,
        chunks=len(parts),
        seconds=(finished - job.created).total_seconds(),
    )
    bucket.create(folder.file(JobFile.MANIFEST), bucket.signer.sign(manifest.to_json()))
    return decode_long(ResultManifest, bucket.read(folder.file(JobFile.MANIFEST)) or b"")


@dataclass(frozen=True, kw_only=True)
class _JoinedFile:
    """The file of predictions, and the parts that it consists of."""

    digest: FileDigest
    text_sha256: str
    parts: list[PartRecord]


def _revision(plan: Plan, job: ScoreJob) -> str:
    return f"{output_folder(plan.release, job)}/revisions/{job.job_id}"


def _join_predictions(
    folder: JobFolder, job: ScoreJob, plan: Plan, release: ReleaseManifest, indexes: IndexJoin, awaited: int
) -> _JoinedFile:
    """Writes the gzip members of the prediction file, the header first; checks each part's digest and number of rows.

    Raises:
        BrokenPartError: a part does not match its record.
        _NotThereError: more than ``awaited`` parts are missing, or one does not arrive in time.
        TableError: more rows were rejected than the job allows.
    """
    bucket = folder.bucket
    parts: list[PartRecord] = []
    compressed, text_digest, size = hashlib.sha256(), hashlib.sha256(), 0
    header = output.output_header(release.keys, interval=plan.interval)
    with bucket.writer(f"{_revision(plan, job)}/{PREDICTIONS}", durable=True) as out:
        members = iter([(output.compress(header), header)])
        # the header is written before the first parts are waited for
        for arrived in itertools.chain([[]], _arriving(folder, plan, awaited)):
            parts += arrived
            indexes.add(arrived)
            of_parts = prefetch_each(functools.partial(_member, folder), arrived, at_once(bucket), size=lambda part: part.output.size)
            for member, text in itertools.chain(members, of_parts):
                text_digest.update(text)
                compressed.update(member)
                size += out.write(member)
        check_all(folder, job, plan.release, parts)
        indexes.complete()
    return _JoinedFile(
        digest=FileDigest(sha256=compressed.hexdigest(), size=size),
        text_sha256=text_digest.hexdigest(),
        parts=parts,
    )


def _arriving(folder: JobFolder, plan: Plan, awaited: int) -> Iterator[list[PartRecord]]:
    """Yields the part records in order: the existing ones, then the last ones as they arrive.

    Raises:
        BrokenPartError: the part of a chunk does not match its record.
        _NotThereError: more than ``awaited`` parts are missing, or one does not arrive in time.
    """
    missing = missing_chunks(folder, plan)
    if len(missing) > awaited:
        raise _NotThereError
    done = 0
    while done < len(plan.chunks):
        end = missing[0] if missing else len(plan.chunks)
        yield _read_parts(folder, plan, range(done, end))
        done = end
        if missing:
            _wait_for(folder, missing[0])
            missing = [index for index in missing if not is_complete(folder, index)]


class _NotThereError(Exception):
    """Raised when a part does not arrive; the chunk that completes the job sends the finish step again."""


def _read_parts(folder: JobFolder, plan: Plan, indexes: range) -> list[PartRecord]:
    parts = []
    for index, part in zip(indexes, read_each(folder.bucket, functools.partial(read_part, folder), indexes), strict=True):
        if part is None or not part.is_of(plan.chunks[index]):
            raise BrokenPartError(index)
        parts.append(part)
    return parts


def _wait_for(folder: JobFolder, index: int) -> None:
    limit = time.monotonic() + AWAITED_SECONDS
    while not is_complete(folder, index):
        if time.monotonic() > limit:
            raise _NotThereError
        time.sleep(LOOK_SECONDS_REMOTE if folder.bucket.is_remote else POLL_SECONDS)


def _member(folder: JobFolder, part: PartRecord) -> tuple[bytes, bytes]:
    member = read_file(folder, part.index, PartFile.PREDICTED, part.output)
    text = output.decompress(member)
    if count_lines(text) != part.rows_scored:
        raise BrokenPartError(part.index)
    return member, text


def _join_rejects(folder: JobFolder, parts: list[PartRecord], path: str) -> FileDigest:
    digest, size = hashlib.sha256(), 0
    files = ((part.index, PartFile.REJECTED, part.rejects) for part in parts if part.rejects is not None)
    members = prefetch_each(lambda file: read_file(folder, *file), files, at_once(folder.bucket))
    with folder.bucket.writer(path, durable=True) as out:
        for member in itertools.chain([output.compress(output.REJECTS_HEADER)], members):
            digest.update(member)
            size += out.write(member)
    return FileDigest(sha256=digest.hexdigest(), size=size)


def _device_summaries(parts: list[PartRecord]) -> dict[str, DeviceSummary]:
    rows: Counter[str] = Counter()
    sums: Counter[str] = Counter()
    for part in parts:
        for name, device in part.devices.items():
            rows[name] += device.rows
            sums[name] += device.sum_cr  # type: ignore[assignment]  # a Counter also counts in floats
    return {name: DeviceSummary(rows=rows[name], mean_cr=sums[name] / rows[name]) for name in (*DEVICES, ALL_DEVICES) if rows[name]}
