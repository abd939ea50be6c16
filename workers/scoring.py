"""The steps of a score job: plan, chunk, finish. Each reads the job's folder, adds one thing to it, and may run any number of times.

The folder is the truth: a step that finds its work done returns what is there. No step knows the queue; ``tasks`` says what comes next.
"""

import contextlib
import functools
import hashlib
import itertools
import json
import secrets
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Protocol

import numpy as np
from pydantic import Field

from model_store.store import Release, load_release, read_manifest
from shared.aliases import MANIFEST, resolve
from shared.bucket import Bucket
from shared.errors import BucketError, MessageError, ScoringError, StrayOrderError, TableError
from shared.job_folder import JobFolder, Outcome
from shared.manifests import OUTPUTS, PREDICTIONS, REJECTS, DeviceSummary, FileDigest, Part, ResultManifest
from shared.messages import Record, ScoreJob, decode_long
from workers import tables
from workers.planning import Chunk, Plan, PlannedFile, cut_table, record_ends, slice_file
from workers.suspects import Range, clear_chunk


class DeviceSum(Part):
    """Rows and the sum of their rates for one device of a part."""

    rows: int
    sum_cr: float


class ChunkRecord(Record):
    """What one chunk wrote; the last file of a part, so that a part with it is complete."""

    index: int
    rows_in: int
    rows_scored: int
    rows_clipped: int
    devices: dict[str, DeviceSum]
    output: FileDigest
    rejects: FileDigest | None
    first_rejects: list[str] = Field(default_factory=list)
    seconds: float


# --- plan --------------------------------------------------------------------------------------------------------------------


def plan_job(folder: JobFolder) -> Plan | None:
    """Pin the release and cut the table, once; None when the job has ended.

    Raises:
        TableError: the table cannot be read or lacks what the release needs.
        ModelError: the model that the job names is not in the store.
    """
    if folder.outcome() is not None:
        return None
    if folder.has("plan.json"):
        return read_plan(folder)
    job = score_job(folder)
    folder.say("cutting the table into chunks")
    release = read_manifest(folder.bucket, resolve(folder.bucket, job.model))
    slices = secrets.token_hex(6)
    files, chunks = cut_table(folder, job.table, job.chunk_rows, slices)
    for file in files:
        tables.layout_for(file.path, file.columns, release.columns)
    plan = Plan(job_id=job.job_id, release=release.release, made=datetime.now(UTC), files=files, slices=slices, chunks=chunks)
    if not folder.bucket.create(folder.file("plan.json"), plan.model_dump_json().encode()):
        folder.bucket.delete_folder(folder.file(f"slices/{slices}"))
        return read_plan(folder)
    folder.say(f"scoring {len(chunks)} chunks with {release.release}")
    return plan


def score_job(folder: JobFolder) -> ScoreJob:
    """The request, which must be one to score."""
    job = folder.job()
    if not isinstance(job, ScoreJob):
        raise StrayOrderError(f"job {job.job_id} is a {job.kind} job, not one that scores")
    return job


def read_plan(folder: JobFolder) -> Plan:
    """The plan of a job; raises StrayOrderError when there is none."""
    text = folder.bucket.read(folder.file("plan.json"))
    if text is None:
        raise StrayOrderError(f"job {folder.job_id} has no plan", next_step=f"See what it waits for: scoring jobs show {folder.job_id}")
    return decode_long(Plan, text)


def missing_chunks(folder: JobFolder, plan: Plan) -> list[int]:
    """The chunks whose part is not there yet."""
    done = folder.parts_done()
    return [index for index in range(len(plan.chunks)) if index not in done]


# --- chunk -------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Scored:
    """The rows of a chunk, or of a piece of one, with their rates."""

    entity_id: np.ndarray
    device: np.ndarray
    cr: np.ndarray
    """float64 in [0, 1], one a row."""
    clipped: int
    """How many predictions lay outside and were set to the nearer end."""
    rejects: list[tables.Reject]


def score_chunk(
    folder: JobFolder, plan: Plan, index: int, cache: Path, definitions: Path | None = None, *, suspect: bool = False
) -> ChunkRecord | None:
    """Read, check and score one chunk and write its part, unless it is there; None when the job has ended.

    A ``suspect`` chunk has killed its worker before: it is cut down to the rows that do it, which become rejects.

    Raises:
        StrayOrderError: the plan has no such chunk.
        TableError: the table changed under the job.
        ModelError: the release is not what was published.
    """
    if not index < len(plan.chunks):
        raise StrayOrderError(f"job {folder.job_id} has {len(plan.chunks)} chunks; there is no chunk {index}")
    if (part := read_part(folder, index)) is not None:
        return part
    if folder.outcome() is not None:
        return None
    began = time.monotonic()
    release = load_release(folder.bucket, plan.release, cache, definitions)
    pieces = _open_chunk(folder, plan, index, release)
    scored = _score_suspect(folder, index, pieces, release) if suspect else predict(release, pieces.rows())
    path = plan.files[plan.chunks[index].file].path
    output = _put(folder, index, "csv.gz", tables.compress(tables.prediction_text(scored.entity_id, scored.device, scored.cr)))
    rejects = _put(folder, index, "rejects.csv.gz", tables.compress(tables.rejects_text(path, scored.rejects))) if scored.rejects else None
    record = ChunkRecord(
        index=index,
        rows_in=len(scored.cr) + len(scored.rejects),
        rows_scored=len(scored.cr),
        rows_clipped=scored.clipped,
        devices=_device_sums(scored.device, scored.cr),
        output=output,
        rejects=rejects,
        first_rejects=[f"{path} {reject}" for reject in scored.rejects[: tables.REJECTS_QUOTED]],
        seconds=time.monotonic() - began,
    )
    folder.bucket.write(folder.part_file(index, "json"), record.model_dump_json().encode())
    return record


def read_part(folder: JobFolder, index: int) -> ChunkRecord | None:
    """What chunk ``index`` wrote, or None while its part is not complete or when its record is broken."""
    text = folder.bucket.read(folder.part_file(index, "json"))
    try:
        record = None if text is None else decode_long(ChunkRecord, text)
    except MessageError:
        return None
    return record if record and record.index == index else None


def predict(release: Release, rows: tables.Rows) -> Scored:
    """The rows that got a rate, with their rates.

    A prediction that is no finite number makes its row a reject: no such rate is ever written.
    """
    if rows.frame.empty:
        return Scored(entity_id=rows.entity_id, device=rows.device, cr=np.empty(0), clipped=0, rejects=rows.rejects)
    columns = [tables.ENTITY, *(column.name for column in release.manifest.columns)]
    frame = rows.frame if rows.frame.columns.tolist() == columns else rows.frame[columns]
    features, _, problem = release.definition.data_preparation(frame, target_col=None)
    if problem is not None:
        raise TableError(f"the definition {release.definition.name} cannot prepare the table: {problem}") from problem
    cr = np.asarray(release.model.predict(features), dtype=np.float64).ravel()
    if len(cr) != len(rows.frame):
        raise TableError(f"the definition {release.definition.name} gave {len(cr)} predictions for {len(rows.frame)} rows")
    finite = np.isfinite(cr)
    if not finite.all():
        rows, cr = tables.reject_rows(rows, ~finite, cr, "the prediction is not a finite number"), cr[finite]
    clipped = np.count_nonzero((cr < 0) | (cr > 1))
    # adding zero turns -0.0, which would be written as -0, into 0.0
    rates = np.clip(cr, 0.0, 1.0) + 0.0
    return Scored(entity_id=rows.entity_id, device=rows.device, cr=rates, clipped=int(clipped), rejects=rows.rejects)


def _score_suspect(folder: JobFolder, index: int, pieces: "_Pieces", release: Release) -> Scored:
    """Score the chunk in pieces that kill nobody, each by itself; the single records that do kill become rejects."""
    found: dict[Range, Scored] = {}

    def attempt(start: int, end: int) -> None:
        found[start, end] = predict(release, pieces.rows(start, end))

    cleared, deadly = clear_chunk(folder, index, pieces.count(), attempt)
    for start, end in cleared:
        if (start, end) not in found:  # cleared by a process that died later
            attempt(start, end)
    scored = [found[piece] for piece in cleared]
    rejects = [reject for piece in scored for reject in piece.rejects] + [pieces.reject(start) for start, _ in deadly]
    return Scored(
        entity_id=np.concatenate([piece.entity_id for piece in scored] or [np.empty(0, dtype=np.int64)]),
        device=np.concatenate([piece.device for piece in scored] or [np.empty(0, dtype=np.int8)]),
        cr=np.concatenate([piece.cr for piece in scored] or [np.empty(0)]),
        clipped=sum(piece.clipped for piece in scored),
        rejects=sorted(rejects, key=lambda reject: reject.line),
    )


class _Pieces(Protocol):
    """A chunk whose records can be read together or in ranges."""

    def count(self) -> int:
        """How many records there are."""

    def rows(self, start: int = 0, end: int | None = None) -> tables.Rows:
        """The records ``start`` to ``end`` (the last one left out), read and checked."""

    def reject(self, record: int) -> tables.Reject:
        """The reject that a deadly record becomes."""


@dataclass(frozen=True, kw_only=True)
class _CsvPieces:
    data: bytes
    layout: tables.Layout
    first_line: int

    @functools.cached_property
    def _ends(self) -> list[int]:
        return [0, *record_ends(self.data, final=True).tolist()]

    def count(self) -> int:
        return len(self._ends) - 1

    def rows(self, start: int = 0, end: int | None = None) -> tables.Rows:
        if end is None:
            return tables.read_csv_rows(self.data, self.layout, self.first_line)
        return tables.read_csv_rows(self.data[self._ends[start] : self._ends[end]], self.layout, self._line(start))

    def reject(self, record: int) -> tables.Reject:
        shown = self.data[self._ends[record] : self._ends[record + 1]].decode("utf-8", errors="replace").strip()
        return tables.deadly_reject(self._line(record), shown)

    def _line(self, record: int) -> int:
        return self.first_line + self.data.count(b"\n", 0, self._ends[record])


@dataclass(frozen=True, kw_only=True)
class _ParquetPieces:
    bucket: Bucket
    file: PlannedFile
    layout: tables.Layout
    start: int
    end: int

    def count(self) -> int:
        return self.end - self.start

    def rows(self, start: int = 0, end: int | None = None) -> tables.Rows:
        with _unchanged(self.bucket, self.file) as raw:
            return tables.read_parquet_rows(raw, self.layout, self.start + start, self.end if end is None else self.start + end)

    def reject(self, record: int) -> tables.Reject:
        return tables.deadly_reject(self.start + record + 1, "")


def _open_chunk(folder: JobFolder, plan: Plan, index: int, release: Release) -> _Pieces:
    chunk = plan.chunks[index]
    file = plan.files[chunk.file]
    layout = tables.layout_for(file.path, file.columns, release.manifest.columns)
    if file.kind == "csv.gz":
        data = folder.bucket.read(slice_file(folder, plan.slices, index))
        if data is None:
            raise BucketError(f"the slice of chunk {index} of job {folder.job_id} is gone", next_step=_resume(folder))
        if len(data) != chunk.end - chunk.start:
            raise TableError(f"the slice of chunk {index} of job {folder.job_id} is damaged", next_step="Score it again with --again.")
        return _CsvPieces(data=data, layout=layout, first_line=chunk.first_line)
    if file.kind == "parquet":
        return _ParquetPieces(bucket=folder.bucket, file=file, layout=layout, start=chunk.start, end=chunk.end)
    with _unchanged(folder.bucket, file) as raw:
        return _CsvPieces(data=_slice(raw, chunk), layout=layout, first_line=chunk.first_line)


def _slice(raw: IO[bytes], chunk: Chunk) -> bytes:
    raw.seek(chunk.start)
    return raw.read(chunk.end - chunk.start)


@contextlib.contextmanager
def _unchanged(bucket: Bucket, file: PlannedFile) -> Iterator[IO[bytes]]:
    """A file of the table, opened; raises TableError when it is not the one that was planned, before or after it was read."""
    _check_stamp(bucket, file)
    with bucket.open(file.path) as raw:
        yield raw
    _check_stamp(bucket, file)


def _check_stamp(bucket: Bucket, file: PlannedFile) -> None:
    info = bucket.stat(file.path)
    if info is None or info.stamp != file.stamp:
        raise TableError(f"{file.path} was changed or removed while it was scored", next_step="Score it again.")


def _put(folder: JobFolder, index: int, ending: str, data: bytes) -> FileDigest:
    folder.bucket.write(folder.part_file(index, ending), data)
    return FileDigest(sha256=hashlib.sha256(data).hexdigest(), size=len(data))


def _device_sums(device: np.ndarray, cr: np.ndarray) -> dict[str, DeviceSum]:
    rows = np.bincount(device, minlength=len(tables.DEVICES))
    sums = np.bincount(device, weights=cr, minlength=len(tables.DEVICES))
    return {name: DeviceSum(rows=int(rows[code]), sum_cr=float(sums[code])) for code, name in enumerate(tables.DEVICES)}


# --- finish ------------------------------------------------------------------------------------------------------------------


def finish_job(folder: JobFolder) -> Outcome | None:
    """Join the parts and publish the result once they are all there; the outcome, or None while something is missing.

    Raises:
        TableError: more rows were rejected than the job allows.
    """
    outcome = folder.outcome()
    if outcome is None:
        plan = read_plan(folder)
        job = score_job(folder)
        parts = _all_parts(folder, plan)
        if parts is None:
            return None
        check_rejects(job, parts)
        manifest = _join(folder, job, plan, parts)
        if manifest is None:
            return None
        folder.end(_done(manifest, output_folder(manifest.release, job)))
        outcome = folder.outcome()
    if outcome is not None and outcome.state == "done" and not folder.has("published.json"):
        # only now: a revision with a manifest may be published by any later job, so it must belong to a job that is done
        folder.bucket.copy(folder.file(MANIFEST), f"{outcome.result}/revisions/{folder.job_id}/{MANIFEST}")
        publish_newest(folder.bucket, outcome.result)
        _drop_other_slices(folder)
        folder.bucket.write(folder.file("published.json"), json.dumps({"at": datetime.now(UTC).isoformat()}).encode())
    return outcome


def _drop_other_slices(folder: JobFolder) -> None:
    """Remove the slices of a plan that was never written: whoever was cutting the table was killed."""
    kept = read_plan(folder).slices
    for name in folder.bucket.folders(folder.file("slices")):
        if name != kept:
            folder.bucket.delete_folder(folder.file(f"slices/{name}"))


def _all_parts(folder: JobFolder, plan: Plan) -> list[ChunkRecord] | None:
    """What every chunk wrote, in order; None while one is missing, or when one is broken, which is then made again."""
    if missing_chunks(folder, plan):
        return None
    parts = []
    for index in range(len(plan.chunks)):
        part = read_part(folder, index)
        if part is None:
            _discard(folder, index)
            return None
        parts.append(part)
    return parts


def _discard(folder: JobFolder, index: int) -> None:
    """Take back that a part is complete: the sweep has it made again."""
    folder.bucket.delete(folder.part_file(index, "json"))


def check_rejects(job: ScoreJob, parts: list[ChunkRecord]) -> None:
    """Raise TableError when more rows were rejected than the job allows, with the first ones quoted."""
    rows_in, scored = sum(part.rows_in for part in parts), sum(part.rows_scored for part in parts)
    rejected = rows_in - scored
    if rejected <= job.max_reject_share * rows_in and scored:
        return
    quoted = "; ".join([text for part in parts for text in part.first_rejects][: tables.REJECTS_QUOTED])
    if not scored:
        raise TableError(f"none of the {rows_in:,} rows of {job.table} can be scored; the first: {quoted}", next_step="Mend the table.")
    raise TableError(
        f"{rejected:,} of {rows_in:,} rows of {job.table} cannot be scored ({rejected / max(rows_in, 1):.1%}, "
        f"allowed are {job.max_reject_share:.1%}); the first: {quoted}",
        next_step="Mend the table and score it again, or allow more with --max-reject-share.",
    )


def output_folder(release: str, job: ScoreJob) -> str:
    """Where the result of a job is published: ``data/predict/output/<definition>/<place>``."""
    return f"{OUTPUTS}/{release.partition('@')[0]}/{job.place}"


def _join(folder: JobFolder, job: ScoreJob, plan: Plan, parts: list[ChunkRecord]) -> ResultManifest | None:
    """Write predictions and rejects into the revision of this job, and its manifest; None when a part turned out to be broken."""
    bucket = folder.bucket
    existing = bucket.read(folder.file(MANIFEST))
    if existing is not None:
        return decode_long(ResultManifest, existing)
    revision = f"{output_folder(plan.release, job)}/revisions/{job.job_id}"
    rejects = None
    text_digest = hashlib.sha256()
    compressed = hashlib.sha256()
    size = 0
    try:
        with bucket.writer(f"{revision}/{PREDICTIONS}", durable=True) as out:
            for member in _members(folder, parts):
                text_digest.update(tables.decompress(member))
                compressed.update(member)
                size += out.write(member)
        if any(part.rejects for part in parts):
            rejects = _join_rejects(folder, parts, f"{revision}/{REJECTS}")
    except _BrokenPartError as broken:
        _discard(folder, broken.index)
        return None
    finished = datetime.now(UTC)
    rows_in, scored = sum(part.rows_in for part in parts), sum(part.rows_scored for part in parts)
    manifest = ResultManifest(
        job_id=job.job_id,
        release=plan.release,
        release_files=read_manifest(bucket, plan.release).files,
        table=plan.fingerprint(job.table, rows=rows_in, rejected=rows_in - scored),
        rows_in=rows_in,
        rows_scored=scored,
        rows_rejected=rows_in - scored,
        rows_clipped=sum(part.rows_clipped for part in parts),
        devices=_device_summaries(parts),
        text_sha256=text_digest.hexdigest(),
        output=FileDigest(sha256=compressed.hexdigest(), size=size),
        rejects=rejects,
        revision=revision,
        job_created=job.created,
        started=plan.made,
        finished=finished,
        chunks=len(parts),
        seconds=(finished - job.created).total_seconds(),
    )
    bucket.create(folder.file(MANIFEST), manifest.to_json())
    return decode_long(ResultManifest, bucket.read(folder.file(MANIFEST)) or b"")


class _BrokenPartError(ScoringError):
    """Raised when a part is not what its record says: it is thrown away and made again."""

    def __init__(self, index: int) -> None:
        super().__init__(f"the part {index} is broken")
        self.index = index


def _members(folder: JobFolder, parts: list[ChunkRecord]) -> Iterator[bytes]:
    """The gzip members of the prediction file, the header first, each part checked against its digest."""
    yield tables.compress(tables.OUTPUT_HEADER)
    for part in parts:
        yield _member(folder, part.index, "csv.gz", part.output)


def _member(folder: JobFolder, index: int, ending: str, digest: FileDigest) -> bytes:
    data = folder.bucket.read(folder.part_file(index, ending))
    if data is None or hashlib.sha256(data).hexdigest() != digest.sha256:
        raise _BrokenPartError(index)
    return data


def _join_rejects(folder: JobFolder, parts: list[ChunkRecord], path: str) -> FileDigest:
    digest, size = hashlib.sha256(), 0
    members = (_member(folder, part.index, "rejects.csv.gz", part.rejects) for part in parts if part.rejects is not None)
    with folder.bucket.writer(path, durable=True) as out:
        for member in itertools.chain([tables.compress(tables.REJECTS_HEADER)], members):
            digest.update(member)
            size += out.write(member)
    return FileDigest(sha256=digest.hexdigest(), size=size)


def _device_summaries(parts: list[ChunkRecord]) -> dict[str, DeviceSummary]:
    rows: Counter[str] = Counter()
    sums: Counter[str] = Counter()
    for part in parts:
        for name, device in part.devices.items():
            rows[name] += device.rows
            sums[name] += device.sum_cr  # type: ignore[assignment]  # a Counter counts in floats as well
    return {name: DeviceSummary(rows=rows[name], mean_cr=sums[name] / rows[name]) for name in tables.DEVICES if rows[name]}


def _done(manifest: ResultManifest, place: str) -> Outcome:
    facts = {
        "rows in": f"{manifest.rows_in:,}",
        "scored": f"{manifest.rows_scored:,}",
        "rejected": f"{manifest.rows_rejected:,}",
        **({"rejects": f"{place}/{REJECTS}"} if manifest.rejects else {}),
        **({"set to 0 or 1": f"{manifest.rows_clipped:,}"} if manifest.rows_clipped else {}),
        "seconds": f"{manifest.seconds:.1f}",
        "rows per second": f"{manifest.rows_in / max(manifest.seconds, 1e-9):,.0f}",
    } | {f"mean cr, {name}": f"{device.mean_cr:.5f}" for name, device in manifest.devices.items()}
    definition = manifest.release.partition("@")[0]
    next_step = f"Look at it with: scoring results head {manifest.job_id}"
    return Outcome(
        state="done", at=manifest.finished, definition=definition, release=manifest.release, result=place, facts=facts, next_step=next_step
    )


def publish_newest(bucket: Bucket, place: str) -> None:
    """Put the newest revision at its place for the bidding system: predictions first, then the manifest that vouches for them.

    Looks again after each publication, so that two jobs that finish at the same moment leave the newer one, whole.
    """
    published = ""
    while (newest := _newest_revision(bucket, place)) != published:
        rejects_before = bucket.exists(f"{place}/{REJECTS}")
        manifest = decode_long(ResultManifest, bucket.read(f"{newest}/{MANIFEST}") or b"")
        bucket.copy(f"{newest}/{PREDICTIONS}", f"{place}/{PREDICTIONS}")
        if manifest.rejects is not None:
            bucket.copy(f"{newest}/{REJECTS}", f"{place}/{REJECTS}")
        elif rejects_before:
            bucket.delete(f"{place}/{REJECTS}")
        bucket.copy(f"{newest}/{MANIFEST}", f"{place}/{MANIFEST}")
        published = newest


def _newest_revision(bucket: Bucket, place: str) -> str:
    """The folder of the newest complete revision: job ids start with the time of their request."""
    folder = f"{place}/revisions"
    return next(f"{folder}/{name}" for name in reversed(bucket.folders(folder)) if bucket.exists(f"{folder}/{name}/{MANIFEST}"))


def _resume(folder: JobFolder) -> str:
    return f"Go on with: scoring jobs resume {folder.job_id}"
