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
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from model_store.store import Release, load_release, read_manifest
from shared.aliases import MANIFEST, resolve
from shared.bucket import Bucket
from shared.errors import MessageError, TableError
from shared.job_folder import PUBLISHED, REJECTS_ACCEPTED, JobFolder, Outcome
from shared.manifests import OUTPUTS, PREDICTIONS, REJECTS, DeviceSummary, FileDigest, ResultManifest
from shared.messages import ScoreJob, decode_long
from shared.signatures import Signature
from workers import tables
from workers.ahead import ahead, read_each
from workers.fixing import fixed_pieces, plan_fix
from workers.parts import (
    PREDICTED,
    REJECTED,
    BrokenPartError,
    ChunkRecord,
    DeviceSum,
    complete,
    discard,
    is_complete,
    missing_chunks,
    read_file,
    read_part,
    write_file,
)
from workers.pieces import Pieces, open_chunk
from workers.planning import BEGUN, Begun, Plan, PlannedChunk, Ready, count_lines, cut_table, find_table, read_begun, read_plan
from workers.predictions import one_a_row
from workers.reject_limits import check_all
from workers.suspects import Range, clear_chunk

AWAITED_CHUNKS = 8
"""So many chunks before its end, a job begins to be joined."""

AWAITED_SECONDS = 3.0
"""How long the join waits for the next of them: a process that joins can plan nothing."""

LOOK_SECONDS, LOOK_SECONDS_REMOTE = 0.004, 0.1
"""How often it looks for it: on a disk, and on an object store, where each look is a request."""

ALL_DEVICES = "all"
"""What the rows are counted under where the device is not read."""

# --- plan --------------------------------------------------------------------------------------------------------------------


def plan_job(folder: JobFolder, ready: Ready = lambda _: None) -> Plan | None:
    """Pin the release and cut the table, once; None when the job has ended.

    ``ready`` is told of the chunks that can be scored while the table is still being cut.

    Raises:
        TableError: the table cannot be read or lacks what the release needs.
        ModelError: the model that the job names is not in the store.
    """
    if folder.outcome() is not None:
        return None
    if folder.has("plan.json"):
        return read_plan(folder)
    job = folder.score_job()
    folder.say("cutting the table into chunks")
    plan = plan_fix(folder, job) if job.fixes else _cut(folder, job, ready)
    if not folder.bucket.create(folder.file("plan.json"), plan.model_dump_json().encode()):
        return read_plan(folder)
    folder.say(f"scoring {len(plan.chunks)} chunks with {plan.release}")
    return plan


def _cut(folder: JobFolder, job: ScoreJob, ready: Ready) -> Plan:
    begun = read_begun(folder) or _begin(folder, job)
    files, chunks = cut_table(folder, begun, job.chunk_rows, ready)
    return Plan(
        job_id=job.job_id,
        release=begun.release,
        made=datetime.now(UTC),
        files=files,
        slices=begun.slices,
        chunks=chunks,
        interval=begun.interval,
    )


def _begin(folder: JobFolder, job: ScoreJob) -> Begun:
    """Settle the release and the files of the table, whoever comes first."""
    release = read_manifest(folder.bucket, resolve(folder.bucket, job.model))
    if job.interval:
        release.check_interval()
    files = find_table(folder.bucket, job.table)
    for file in files:
        tables.layout_for(file.path, file.columns, release.columns, keys=release.keys)
    begun = Begun(job_id=job.job_id, release=release.release, slices=secrets.token_hex(6), files=files, interval=job.interval)
    is_first = folder.bucket.create(folder.file(BEGUN), begun.model_dump_json().encode())
    return begun if is_first else read_begun(folder) or begun


# --- chunk -------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Scored:
    """The rows of a chunk, or of a piece of one, with their rates."""

    keys: list[np.ndarray]
    """The columns that name a row."""
    device: np.ndarray
    cr: np.ndarray
    """float64 in [0, 1], one a row."""
    bounds: list[np.ndarray]
    """Lower and upper bound of each rate, float64 in [0, 1]; none unless they were asked for."""
    clipped: int
    """How many predictions lay outside and were set to the nearer end."""
    rejects: list[tables.Reject]

    @property
    def columns(self) -> list[np.ndarray]:
        """The columns of the result, in its order."""
        return [*self.keys, self.cr, *self.bounds]


def score_chunk(
    folder: JobFolder, planned: PlannedChunk, cache: Path, definitions: Path | None = None, *, suspect: bool = False
) -> ChunkRecord | None:
    """Read, check and score one chunk and write its part, unless it is there; None when the job has ended.

    A ``suspect`` chunk has killed its worker before: it is cut down to the rows that do it, which become rejects.

    Raises:
        TableError: the table changed under the job.
        ModelError: the release is not what was published.
    """
    index = planned.index
    if (part := read_part(folder, index)) is not None and part.is_of(planned.chunk):
        return part
    if folder.outcome() is not None:
        return None
    began = time.monotonic()
    stages: dict[str, float] = {}
    text = _PartText(path=planned.file.path)
    with _timed(stages, "load"):
        release = load_release(folder.bucket, planned.release, cache, definitions)
    with contextlib.ExitStack() as held:
        with _timed(stages, "read"):
            pieces = held.enter_context(open_chunk(folder.bucket, planned, release.manifest))
            if planned.may_be_fixed:
                pieces = fixed_pieces(folder, index, pieces)
        text.by_device = bool(pieces.layout.flags)

        def score(start: int, end: int | None) -> Scored:
            with _timed(stages, "read"):
                rows = pieces.rows(start, end)
            with _timed(stages, "predict"):
                return predict(release, rows, interval=planned.interval)

        scored = _score_suspect(folder, index, pieces, score) if suspect else (score(start, end) for start, end in pieces.ranges())
        for number, piece in enumerate(scored):
            if number and folder.outcome() is not None:
                return None  # a large chunk of a job that was cancelled meanwhile
            with _timed(stages, "write"):
                text.add(piece)
    with _timed(stages, "write"):
        output = write_file(folder, index, PREDICTED, b"".join(text.predictions))
        rejects = write_file(folder, index, REJECTED, b"".join(text.rejects)) if text.rejects else None
    record = ChunkRecord(
        index=index,
        chunk=planned.chunk,
        rows_in=text.rows_scored + text.rows_rejected,
        rows_scored=text.rows_scored,
        rows_clipped=text.rows_clipped,
        devices=text.devices,
        output=output,
        rejects=rejects,
        first_rejects=text.first_rejects,
        seconds=time.monotonic() - began,
        stages=stages,
    )
    complete(folder, record)
    return record


@dataclass(kw_only=True)
class _PartText:
    """What is kept of the rows of a chunk once they are scored: their text, compressed, and what is counted of them."""

    path: str
    by_device: bool = True
    predictions: list[bytes] = field(default_factory=list)
    rejects: list[bytes] = field(default_factory=list)
    rows_scored: int = 0
    rows_rejected: int = 0
    rows_clipped: int = 0
    devices: dict[str, DeviceSum] = field(default_factory=dict)
    first_rejects: list[str] = field(default_factory=list)

    def add(self, scored: Scored) -> None:
        """The rows that stand behind those before."""
        self.predictions.append(tables.compress(tables.prediction_text(*scored.columns)))
        if scored.rejects:
            self.rejects.append(tables.compress(tables.rejects_text(self.path, scored.rejects)))
            more = tables.REJECTS_QUOTED - len(self.first_rejects)
            self.first_rejects += [f"{self.path} {reject}" for reject in scored.rejects[:more]]
        self.rows_scored += len(scored.cr)
        self.rows_rejected += len(scored.rejects)
        self.rows_clipped += scored.clipped
        for name, found in _device_sums(scored, by_device=self.by_device).items():
            before = self.devices.get(name, DeviceSum(rows=0, sum_cr=0.0))
            self.devices[name] = DeviceSum(rows=before.rows + found.rows, sum_cr=before.sum_cr + found.sum_cr)


@contextlib.contextmanager
def _timed(stages: dict[str, float], stage: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    stages[stage] = stages.get(stage, 0.0) + time.monotonic() - began


def predict(release: Release, rows: tables.Rows, *, interval: bool = False) -> Scored:
    """The rows that got a rate, with their rates, and with the bounds of these if an ``interval`` is asked for.

    A prediction or bound that is no finite number makes its row a reject, and so does a rate outside its bounds: none is ever written.
    """
    names = release.manifest.keys
    if rows.frame.empty:
        bounds = [np.empty(0)] * 2 if interval else []
        return Scored(keys=rows.keys(names), device=rows.device, cr=np.empty(0), bounds=bounds, clipped=0, rejects=rows.rejects)
    cr, *bounds = _raw_predictions(release, rows, interval=interval)
    finite = np.isfinite(cr)
    for bound in bounds:
        finite &= np.isfinite(bound)
    if not finite.all():
        rows = tables.reject_rows(rows, ~finite, cr, "the prediction is not a finite number")
        cr, *bounds = (values[finite] for values in (cr, *bounds))
    # adding zero turns -0.0, which would be written as -0, into 0.0
    rates, *bounds = (np.clip(values, 0.0, 1.0) + 0.0 for values in (cr, *bounds))
    for low, high in [bounds] if interval else []:
        inside: np.ndarray = (low <= rates) & (rates <= high)
        if not inside.all():
            rows = tables.reject_rows(rows, ~inside, rates, "not within its interval")
            cr, rates, bounds = cr[inside], rates[inside], [low[inside], high[inside]]
    clipped = np.count_nonzero((cr < 0) | (cr > 1))
    return Scored(keys=rows.keys(names), device=rows.device, cr=rates, bounds=bounds, clipped=int(clipped), rejects=rows.rejects)


def _raw_predictions(release: Release, rows: tables.Rows, *, interval: bool) -> list[np.ndarray]:
    """What the definition predicts, float64, one a row; then the lower and upper bounds if they are asked for."""
    definition, count = release.definition, len(rows.frame)
    columns = definition.columns_of_table([column.name for column in release.manifest.columns])
    # a definition may change the table that it is given, but ids must stay with their devices and lines: writing into this one copies it
    frame = rows.frame.copy(deep=False) if rows.frame.columns.tolist() == columns else rows.frame[columns]
    features, _, problem = definition.prepare(frame, target_col=None)
    if problem is not None:
        raise TableError(f"the definition {definition.name} cannot prepare the table: {problem}") from problem
    predicted = [one_a_row(definition.name, "predict", release.model.predict(features), count)]
    if interval:
        low, high = release.model.predict_interval(features)
        predicted += [one_a_row(definition.name, "predict_interval", bounds, count) for bounds in (low, high)]
    return predicted


def _score_suspect(folder: JobFolder, index: int, pieces: Pieces, score: Callable[[int, int], Scored]) -> Iterator[Scored]:
    """Score the chunk in pieces that kill nobody, each by itself; the single records that do kill become rejects.

    What comes out is range by range, as it would be of a chunk that kills nobody.
    """
    found: dict[Range, Scored] = {}

    def attempt(start: int, end: int) -> None:
        found[start, end] = score(start, end)

    ranges = [(start, pieces.count() if end is None else end) for start, end in pieces.ranges()]
    cleared, deadly = clear_chunk(folder, index, ranges, attempt)
    for start, end in cleared:
        if (start, end) not in found:  # cleared by a process that died later
            attempt(start, end)
    for start, end in ranges:
        scored = [found[piece] for piece in cleared if start <= piece[0] < end or start == end]
        yield _merged(scored, [reject for record, _ in deadly if start <= record < end for reject in pieces.rejects(record)])


def _merged(scored: list[Scored], rejects: list[tables.Reject]) -> Scored:
    none = np.empty(0)
    return Scored(
        keys=[np.concatenate(pieces) for pieces in zip(*(piece.keys for piece in scored), strict=True)],
        device=np.concatenate([piece.device for piece in scored] or [np.empty(0, dtype=np.int8)]),
        cr=np.concatenate([none, *(piece.cr for piece in scored)]),
        bounds=[np.concatenate(pieces) for pieces in zip(*(piece.bounds for piece in scored), strict=True)],
        clipped=sum(piece.clipped for piece in scored),
        rejects=sorted([*rejects, *(reject for piece in scored for reject in piece.rejects)], key=lambda reject: reject.line),
    )


def _device_sums(scored: Scored, *, by_device: bool) -> dict[str, DeviceSum]:
    if not by_device:
        return {ALL_DEVICES: DeviceSum(rows=len(scored.cr), sum_cr=float(scored.cr.sum()))}
    rows = np.bincount(scored.device, minlength=len(tables.DEVICES))
    sums = np.bincount(scored.device, weights=scored.cr, minlength=len(tables.DEVICES))
    return {name: DeviceSum(rows=int(rows[code]), sum_cr=float(sums[code])) for code, name in enumerate(tables.DEVICES)}


# --- finish ------------------------------------------------------------------------------------------------------------------


def finish_job(folder: JobFolder) -> Outcome | None:
    """Join the parts and publish the result; the outcome, or None while something is missing.

    The last ``AWAITED_CHUNKS`` may still be on their way: meanwhile what is there is joined.

    Raises:
        TableError: more rows were rejected than the job allows.
    """
    outcome = folder.outcome()
    if outcome is None:
        job = folder.score_job()
        manifest = _join(folder, job, read_plan(folder))
        if manifest is None:
            return folder.outcome()
        folder.end(_done(manifest, output_folder(manifest.release, job), accepted=folder.has(REJECTS_ACCEPTED)))
        outcome = folder.outcome()
    if outcome is not None and outcome.state == "done" and not folder.has(PUBLISHED):
        # only now: a revision with a manifest may be published by any later job, so it must belong to a job that is done
        folder.bucket.copy(folder.file(MANIFEST), f"{outcome.result}/revisions/{folder.job_id}/{MANIFEST}")
        publish_newest(folder.bucket, outcome.result, folder.job_id)
        _drop_other_slices(folder)
        folder.bucket.write(folder.file(PUBLISHED), json.dumps({"at": datetime.now(UTC).isoformat()}).encode())
    return outcome


def _drop_other_slices(folder: JobFolder) -> None:
    """Remove the slices of a plan that was never written: whoever was cutting the table was killed."""
    kept = read_plan(folder).slices
    for name in folder.bucket.folders(folder.file("slices")):
        if name != kept:
            folder.bucket.delete_folder(folder.file(f"slices/{name}"))


def can_finish(folder: JobFolder) -> bool:
    """True when all parts are there and nobody has made a result of them."""
    return folder.outcome() is None and not missing_chunks(folder, read_plan(folder))


def _arriving(folder: JobFolder, plan: Plan) -> Iterator[list[ChunkRecord]]:
    """What the chunks wrote, in order: what is there, then the last ones as they come.

    Raises:
        BrokenPartError: the part of a chunk is not what it should be.
        _NotThereError: too many are missing, or one does not come.
    """
    missing = missing_chunks(folder, plan)
    if len(missing) > AWAITED_CHUNKS:
        raise _NotThereError
    done = 0
    while done < len(plan.chunks):
        end = missing[0] if missing else len(plan.chunks)
        yield _read_parts(folder, plan, range(done, end))
        done = end
        if missing:
            _wait_for(folder, missing[0])
            missing = [index for index in missing if not is_complete(folder, index)]


def _read_parts(folder: JobFolder, plan: Plan, indexes: range) -> list[ChunkRecord]:
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
        time.sleep(LOOK_SECONDS_REMOTE if folder.bucket.is_remote else LOOK_SECONDS)


class _NotThereError(Exception):
    """Raised when a part does not come: whoever completes the job joins the parts."""


def output_folder(release: str, job: ScoreJob) -> str:
    """Where the result of a job is published: ``data/predict/output/<definition>/<place>``."""
    return f"{OUTPUTS}/{release.partition('@')[0]}/{job.place}"


def _join(folder: JobFolder, job: ScoreJob, plan: Plan) -> ResultManifest | None:
    """Write predictions and rejects into the revision of this job, and its manifest; None when a part is missing or broken.

    Raises:
        TableError: more rows were rejected than the job allows.
    """
    bucket = folder.bucket
    existing = bucket.read(folder.file(MANIFEST))
    if existing is not None:
        return decode_long(ResultManifest, existing)
    revision = f"{output_folder(plan.release, job)}/revisions/{job.job_id}"
    release = read_manifest(bucket, plan.release)
    rejects = None
    parts: list[ChunkRecord] = []
    text_digest = hashlib.sha256()
    compressed = hashlib.sha256()
    size = 0
    try:
        with bucket.writer(f"{revision}/{PREDICTIONS}", durable=True) as out:
            for member, text in _members(folder, plan, tables.output_header(release.keys, interval=plan.interval), parts):
                text_digest.update(text)
                compressed.update(member)
                size += out.write(member)
            check_all(folder, job, parts)
        if any(part.rejects for part in parts):
            rejects = _join_rejects(folder, parts, f"{revision}/{REJECTS}")
    except _NotThereError:
        return None
    except BrokenPartError as broken:
        discard(folder, broken.index)
        return None
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
        fixes=job.fixes,
        fixed_rows=plan.fixed_rows,
        devices=_device_summaries(parts),
        keys=release.keys,
        interval=plan.interval,
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
    bucket.create(folder.file(MANIFEST), bucket.signer.sign(manifest.to_json()))
    return decode_long(ResultManifest, bucket.read(folder.file(MANIFEST)) or b"")


def _members(folder: JobFolder, plan: Plan, header: bytes, parts: list[ChunkRecord]) -> Iterator[tuple[bytes, bytes]]:
    """The gzip members of the prediction file with their texts, the header first, each part checked against its digest and its rows.

    The records of the parts are put into ``parts``.
    """
    yield tables.compress(header), header
    for arrived in _arriving(folder, plan):
        parts += arrived
        yield from ahead(functools.partial(_member, folder), arrived, size=lambda part: part.output.size)


def _member(folder: JobFolder, part: ChunkRecord) -> tuple[bytes, bytes]:
    member = read_file(folder, part.index, PREDICTED, part.output)
    text = tables.decompress(member)
    if count_lines(text) != part.rows_scored:
        raise BrokenPartError(part.index)
    return member, text


def _join_rejects(folder: JobFolder, parts: list[ChunkRecord], path: str) -> FileDigest:
    digest, size = hashlib.sha256(), 0
    files = ((part.index, REJECTED, part.rejects) for part in parts if part.rejects is not None)
    members = ahead(lambda file: read_file(folder, *file), files)
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
    return {name: DeviceSummary(rows=rows[name], mean_cr=sums[name] / rows[name]) for name in (*tables.DEVICES, ALL_DEVICES) if rows[name]}


def _done(manifest: ResultManifest, place: str, *, accepted: bool) -> Outcome:
    facts = {
        **({"fixes": manifest.fixes} if manifest.fixes else {}),
        "rows in": f"{manifest.rows_in:,}",
        "scored": f"{manifest.rows_scored:,}",
        "rejected": f"{manifest.rows_rejected:,}{', accepted by a person' if accepted else ''}",
        **({"rejects": f"{place}/{REJECTS}"} if manifest.rejects else {}),
        **({"set to 0 or 1": f"{manifest.rows_clipped:,}"} if manifest.rows_clipped else {}),
        "seconds": f"{manifest.seconds:.1f}",
        "rows per second": f"{manifest.rows_in / max(manifest.seconds, 1e-9):,.0f}",
    } | {f"mean cr, {name}": f"{device.mean_cr:.5f}" for name, device in manifest.devices.items()}
    definition = manifest.release.partition("@")[0]
    next_step = f"Look at it with: scoring results head {manifest.job_id}"
    next_step += f"; at its rejects with: scoring results rejects {manifest.job_id}" if manifest.rejects else ""
    return Outcome(
        state="done", at=manifest.finished, definition=definition, release=manifest.release, result=place, facts=facts, next_step=next_step
    )


def publish_newest(bucket: Bucket, place: str, job_id: str) -> None:
    """Put the newest revision at its place for the bidding system: predictions first, then the manifest that vouches for them.

    That is the one of ``job_id``, or a newer one whose manifest can be read and is not forged, as far as its signature tells.
    Looks again after each publication, so that two jobs that finish at the same moment leave the newer one, whole.
    """
    published = ""
    while (newest := _newest_revision(bucket, place, job_id)) != published:
        rejects_before = bucket.exists(f"{place}/{REJECTS}")
        manifest = decode_long(ResultManifest, bucket.read(f"{newest}/{MANIFEST}") or b"")
        bucket.copy(f"{newest}/{PREDICTIONS}", f"{place}/{PREDICTIONS}")
        if manifest.rejects is not None:
            bucket.copy(f"{newest}/{REJECTS}", f"{place}/{REJECTS}")
        elif rejects_before:
            bucket.delete(f"{place}/{REJECTS}")
        bucket.copy(f"{newest}/{MANIFEST}", f"{place}/{MANIFEST}")
        published = newest


def _newest_revision(bucket: Bucket, place: str, job_id: str) -> str:
    """The folder of the newest complete revision, that of ``job_id`` or a newer one: job ids start with the time of their request."""
    folder = f"{place}/revisions"
    for name in reversed(bucket.folders(folder)):
        if name <= job_id:
            break
        text = bucket.read(f"{folder}/{name}/{MANIFEST}")
        if text is None or bucket.signer.judge(text) not in (Signature.RIGHT, Signature.UNCHECKED):
            continue
        with contextlib.suppress(MessageError):
            decode_long(ResultManifest, text)
            return f"{folder}/{name}"
    return f"{folder}/{job_id}"
