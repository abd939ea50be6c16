"""The steps of a score job: plan, chunk, finish. Each reads the job's folder, adds one thing to it, and may run any number of times.

The folder is the truth: a step that finds its work done returns what is there. No step knows the queue; ``tasks`` says what comes next.
"""

import contextlib
import json
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

import numpy as np

from model_store.predicting import columns_for, line_of, predict_rows
from model_store.store import Release, load_release, read_manifest
from shared.bucket.interface import Bucket
from shared.catalog.aliases import MANIFEST, resolve
from shared.catalog.manifests import PREDICTIONS, REJECTS, ResultManifest, check_place
from shared.catalog.retirements import why_retired
from shared.errors import MessageError, TableError
from shared.jobs.folder import PUBLISHED, REJECTS_ACCEPTED, JobFolder, Outcome
from shared.jobs.messages import ScoreJob
from shared.records import decode_long
from shared.settings import MAX_UNPACKED_RATIO
from shared.signatures import Signature
from workers.fixing import fixed_pieces, plan_fix
from workers.joining import join, output_folder
from workers.parts import (
    ALL_DEVICES,
    PREDICTED,
    REJECTED,
    ChunkRecord,
    DeviceSum,
    Unpredicted,
    complete,
    missing_chunks,
    read_part,
    write_file,
)
from workers.pieces import Pieces, open_chunk
from workers.planning import BEGUN, Begun, Plan, PlannedChunk, Ready, cut_table, find_table, read_begun, read_plan, write_versions
from workers.repeated_keys import hash_keys, write_hashes
from workers.slices import cut_again, lacking_slices
from workers.suspects import Range, clear_chunk
from workers.tables import output as tables_output
from workers.tables import rows as table_rows
from workers.tables import schema
from workers.tables.streams import Beside

# --- plan --------------------------------------------------------------------------------------------------------------------


def plan_job(folder: JobFolder, ready: Ready = lambda _: None, *, max_unpacked_ratio: float = MAX_UNPACKED_RATIO) -> Plan | None:
    """Pin the release and cut the table, once; None when the job has ended.

    ``ready`` is told of the chunks that can be scored while the table is still being cut.

    Raises:
        TableError: the table cannot be read or lacks what the release needs.
        ModelError: the model that the job names is not in the store.
    """
    if folder.outcome() is not None:
        return None
    if folder.has("plan.json"):
        plan = read_plan(folder)
        _cut_lacking_slices(folder, plan)
        return plan
    job = folder.score_job()
    check_place(job.place)
    folder.say("cutting the table into chunks")
    plan = plan_fix(folder, job) if job.fixes else _cut(folder, job, ready, max_unpacked_ratio)
    if not folder.bucket.create(folder.file("plan.json"), plan.model_dump_json().encode()):
        return read_plan(folder)
    folder.say(f"scoring {len(plan.chunks)} chunks with {plan.release}")
    return plan


def _cut_lacking_slices(folder: JobFolder, plan: Plan) -> None:
    """Cut again what a job that goes on needs of a compressed table, and what was removed while it had ended."""
    lacking = lacking_slices(folder, plan, missing_chunks(folder, plan))
    if lacking:
        folder.say(f"cutting {len(lacking)} chunks of the table again")
        cut_again(folder, plan, lacking)


def _cut(folder: JobFolder, job: ScoreJob, ready: Ready, max_unpacked_ratio: float) -> Plan:
    begun = read_begun(folder) or _begin(folder, job)
    try:
        files, chunks = cut_table(folder, begun, job.chunk_rows, ready, max_unpacked_ratio)
    except TableError:
        # the job ends, and what was unpacked of the table may be some GB
        folder.bucket.delete_folder(folder.file(f"slices/{begun.slices}"))
        raise
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
        schema.layout_for(file.path, file.columns, release.columns, keys=release.keys)
    begun = Begun(job_id=job.job_id, release=release.release, slices=secrets.token_hex(6), files=files, interval=job.interval)
    write_versions(folder, files)
    is_first = folder.bucket.create(folder.file(BEGUN), begun.model_dump_json().encode())
    return begun if is_first else read_begun(folder) or begun


# --- chunk -------------------------------------------------------------------------------------------------------------------


NOT_FINITE, OUTSIDE = "the prediction is not a finite number", "not within its interval"
"""Why a row is rejected for what the definition predicted for it."""


class ChunkStage(StrEnum):
    """What is being done to a chunk."""

    LOADING = "loading the release"
    READING = "opening its part of the table"
    SCORING = "scoring its rows"
    GATHERING = "putting its pieces together"
    WRITING = "writing its part"


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
    rejects: list[table_rows.Reject]

    @property
    def columns(self) -> list[np.ndarray]:
        """The columns of the result, in its order."""
        return [*self.keys, self.cr, *self.bounds]


def score_chunk(
    folder: JobFolder,
    planned: PlannedChunk,
    cache: Path,
    definitions: Path | None = None,
    *,
    suspect: bool = False,
    enter: Callable[[ChunkStage], None] = lambda _: None,
) -> ChunkRecord | None:
    """Read, check and score one chunk and write its part, unless it is there; None when the job has ended.

    A ``suspect`` chunk has killed its worker before: it is cut down to the rows that do it, which become rejects.
    ``enter`` is given each stage before it begins.

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
    enter(ChunkStage.LOADING)
    with _timed(stages, "load"):
        release = load_release(folder.bucket, planned.release, cache, definitions)
    enter(ChunkStage.READING)
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
                return predict(release, rows, interval=planned.interval, path=planned.file.path)

        if suspect:
            scored = _score_suspect(folder, index, pieces, score, enter)
        else:
            enter(ChunkStage.SCORING)
            scored = (score(start, end) for start, end in pieces.ranges())
        for number, piece in enumerate(scored):
            if number and folder.outcome() is not None:
                return None  # a large chunk of a job that was cancelled meanwhile
            with _timed(stages, "write"):
                text.add(piece)
    enter(ChunkStage.WRITING)
    with _timed(stages, "write"), _beside(folder.bucket) as put:
        put(write_hashes, folder, index, text.key_hashes)
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
        unpredicted=Unpredicted(rows=text.rows_unpredicted, predict=line_of(release.definition, "predict"))
        if text.rows_unpredicted
        else None,
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
    rows_unpredicted: int = 0
    rows_clipped: int = 0
    devices: dict[str, DeviceSum] = field(default_factory=dict)
    first_rejects: list[str] = field(default_factory=list)
    key_hashes: list[np.ndarray] = field(default_factory=list)

    def add(self, scored: Scored) -> None:
        """The rows that stand behind those before."""
        self.predictions.append(tables_output.compress(tables_output.prediction_text(*scored.columns)))
        if scored.rejects:
            self.rejects.append(tables_output.compress(tables_output.rejects_text(self.path, scored.rejects)))
            more = tables_output.REJECTS_QUOTED - len(self.first_rejects)
            self.first_rejects += [f"{self.path} {reject}" for reject in scored.rejects[:more]]
        self.key_hashes.append(hash_keys(scored.keys))
        self.rows_scored += len(scored.cr)
        self.rows_rejected += len(scored.rejects)
        self.rows_unpredicted += sum(reject.reason in (NOT_FINITE, OUTSIDE) for reject in scored.rejects)
        self.rows_clipped += scored.clipped
        for name, found in _device_sums(scored, by_device=self.by_device).items():
            before = self.devices.get(name, DeviceSum(rows=0, sum_cr=0.0))
            self.devices[name] = DeviceSum(rows=before.rows + found.rows, sum_cr=before.sum_cr + found.sum_cr)


@contextlib.contextmanager
def _beside(bucket: Bucket) -> Iterator[Callable[..., None]]:
    """Gives what does something: on an object store in a thread, while its answer is waited for; done when this is left."""
    if not bucket.is_remote:
        yield lambda do, *arguments: do(*arguments)
        return
    with Beside() as thread:
        yield thread.add
        thread.wait()


@contextlib.contextmanager
def _timed(stages: dict[str, float], stage: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    stages[stage] = stages.get(stage, 0.0) + time.monotonic() - began


def predict(release: Release, rows: table_rows.Rows, *, interval: bool = False, path: str = "the table") -> Scored:
    """The rows that got a rate, with their rates, and with the bounds of these if an ``interval`` is asked for.

    A prediction or bound that is no finite number makes its row a reject, and so does a rate outside its bounds: none is ever written.

    Raises:
        DefinitionError: the definition's code failed; the sentence names the first row, by its line in ``path``.
        TableError: the definition refuses the table.
    """
    names = release.manifest.keys
    if rows.frame.empty:
        bounds = [np.empty(0)] * 2 if interval else []
        return Scored(keys=rows.keys(names), device=rows.device, cr=np.empty(0), bounds=bounds, clipped=0, rejects=rows.rejects)
    cr, *bounds = _raw_predictions(release, rows, path, interval=interval)
    finite = np.isfinite(cr)
    for bound in bounds:
        finite &= np.isfinite(bound)
    if not finite.all():
        rows = table_rows.reject_rows(rows, ~finite, cr, NOT_FINITE)
        cr, *bounds = (values[finite] for values in (cr, *bounds))
    # adding zero turns -0.0, which would be written as -0, into 0.0
    rates, *bounds = (np.clip(values, 0.0, 1.0) + 0.0 for values in (cr, *bounds))
    for low, high in [bounds] if interval else []:
        inside: np.ndarray = (low <= rates) & (rates <= high)
        if not inside.all():
            rows = table_rows.reject_rows(rows, ~inside, rates, OUTSIDE)
            cr, rates, bounds = cr[inside], rates[inside], [low[inside], high[inside]]
    clipped = np.count_nonzero((cr < 0) | (cr > 1))
    return Scored(keys=rows.keys(names), device=rows.device, cr=rates, bounds=bounds, clipped=int(clipped), rejects=rows.rejects)


def _raw_predictions(release: Release, rows: table_rows.Rows, path: str, *, interval: bool) -> list[np.ndarray]:
    """What the definition predicts, float64, one a row; then the lower and upper bounds if they are asked for."""

    def name_row(position: int) -> str:
        keys = zip(release.manifest.keys, rows.keys(release.manifest.keys), strict=True)
        shown = ", ".join(f"{name} {column[position]}" for name, column in keys)
        return f"line {rows.lines[np.array([position])][0]} of {path} ({shown})"

    frame = columns_for(release.definition, [column.name for column in release.manifest.columns], rows.frame)
    return predict_rows(release.definition, release.model, frame, interval=interval, name_row=name_row, table=path)


def _score_suspect(
    folder: JobFolder, index: int, pieces: Pieces, score: Callable[[int, int], Scored], enter: Callable[[ChunkStage], None]
) -> Iterator[Scored]:
    """Score the chunk in pieces that kill nobody, each by itself; the single records that do kill become rejects.

    What comes out is range by range, as it would be of a chunk that kills nobody.
    """
    found: dict[Range, Scored] = {}

    def attempt(start: int, end: int) -> None:
        if not found:
            enter(ChunkStage.SCORING)  # not before: only from here on is it written down which rows are tried
        found[start, end] = score(start, end)

    ranges = [(start, pieces.count() if end is None else end) for start, end in pieces.ranges()]
    cleared, deadly = clear_chunk(folder, index, ranges, attempt)
    enter(ChunkStage.GATHERING)
    for start, end in cleared:
        if (start, end) not in found:  # cleared by a process that died later
            found[start, end] = score(start, end)
    for start, end in ranges:
        scored = [found[piece] for piece in cleared if start <= piece[0] < end or start == end]
        yield _merged(scored, [reject for record, _ in deadly if start <= record < end for reject in pieces.rejects(record)])


def _merged(scored: list[Scored], rejects: list[table_rows.Reject]) -> Scored:
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
    rows = np.bincount(scored.device, minlength=len(schema.DEVICES))
    sums = np.bincount(scored.device, weights=scored.cr, minlength=len(schema.DEVICES))
    return {name: DeviceSum(rows=int(rows[code]), sum_cr=float(sums[code])) for code, name in enumerate(schema.DEVICES)}


# --- finish ------------------------------------------------------------------------------------------------------------------


def finish_job(folder: JobFolder, *, awaits: bool = True) -> Outcome | None:
    """Join the parts and publish the result; the outcome, or None while something is missing.

    If it ``awaits`` the last chunks, which may still be on their way, it joins meanwhile what is there.

    Raises:
        TableError: more rows were rejected than the job allows.
    """
    outcome = folder.outcome()
    if outcome is None:
        plan = read_plan(folder)
        job = folder.score_job()
        manifest = join(folder, job, plan, awaits=awaits)
        if manifest is None:
            return folder.outcome()
        retired = why_retired(folder.bucket, manifest.release)
        folder.end(_done(manifest, output_folder(manifest.release, job), accepted=folder.has(REJECTS_ACCEPTED), retired=retired))
        outcome = folder.outcome()
    if outcome is not None and outcome.state == "done" and not folder.is_published:
        # only now: a revision with a manifest may be published by any later job, so it must belong to a job that is done
        own = f"{outcome.result}/revisions/{folder.job_id}"
        folder.bucket.copy(folder.file(MANIFEST), f"{own}/{MANIFEST}", durable=True)
        newest = publish_newest(folder.bucket, outcome.result, folder.job_id)
        # a fix of this job cuts again what it needs; those of a plan that was never written go with them
        folder.bucket.delete_folder(folder.file("slices"))
        newer = {} if newest == own else {"facts": {"newer result": _newer_result(outcome.result, newest)}}
        folder.bucket.write(folder.file(PUBLISHED), json.dumps({"at": datetime.now(UTC).isoformat()} | newer).encode())
    return outcome


def _newer_result(place: str, revision: str) -> str:
    return f"at {place} lies a newer result, that of job {revision.rpartition('/')[2]}; this one is kept as a revision"


def _done(manifest: ResultManifest, place: str, *, accepted: bool, retired: str) -> Outcome:
    facts = {
        **({"warning": f"{manifest.release} is retired {retired}"} if retired else {}),
        **({"fixes": manifest.fixes} if manifest.fixes else {}),
        "rows in": f"{manifest.rows_in:,}",
        "scored": f"{manifest.rows_scored:,}",
        "rejected": f"{manifest.rows_rejected:,}{', accepted by a person' if accepted else ''}",
        **({"rejects": f"{place}/{REJECTS}"} if manifest.rejects else {}),
        **({"set to 0 or 1": f"{manifest.rows_clipped:,}"} if manifest.rows_clipped else {}),
        **({"repeated keys": manifest.repeated} if manifest.repeated else {}),
        "seconds": f"{manifest.seconds:.1f}",
        "rows per second": f"{manifest.rows_in / max(manifest.seconds, 1e-9):,.0f}",
    } | {f"mean cr, {name}": f"{device.mean_cr:.5f}" for name, device in manifest.devices.items()}
    definition = manifest.release.partition("@")[0]
    next_step = f"Look at it with: scoring results head {manifest.job_id}"
    next_step += f"; at its rejects with: scoring results rejects {manifest.job_id}" if manifest.rejects else ""
    return Outcome(
        state="done", at=manifest.finished, definition=definition, release=manifest.release, result=place, facts=facts, next_step=next_step
    )


def publish_newest(bucket: Bucket, place: str, job_id: str) -> str:
    """Put the newest revision at its place for the bidding system, and return its folder: predictions first, then their manifest.

    That is the one of ``job_id``, or a newer one that a job which is done made for this place, as far as its signature tells.
    Looks again after each publication, so that two jobs that finish at the same moment leave the newer one, whole. All of it is on the
    disk when this returns: who is published is not published once more after a power cut.
    """
    published = ""
    while (newest := _newest_revision(bucket, place, job_id)) != published:
        rejects_before = bucket.exists(f"{place}/{REJECTS}")
        manifest = decode_long(ResultManifest, bucket.read(f"{newest}/{MANIFEST}") or b"")
        bucket.copy(f"{newest}/{PREDICTIONS}", f"{place}/{PREDICTIONS}", durable=True)
        if manifest.rejects is not None:
            bucket.copy(f"{newest}/{REJECTS}", f"{place}/{REJECTS}", durable=True)
        elif rejects_before:
            bucket.delete(f"{place}/{REJECTS}")
        bucket.copy(f"{newest}/{MANIFEST}", f"{place}/{MANIFEST}", durable=True)
        published = newest
    bucket.settle(place)
    return published


def _newest_revision(bucket: Bucket, place: str, job_id: str) -> str:
    """The folder of the newest complete revision, that of ``job_id`` or a newer one: job ids start with the time of their request."""
    folder = f"{place}/revisions"
    for name in reversed(bucket.folders(folder)):
        if name <= job_id:
            break
        if _is_of_finished_job(bucket, place, name):
            return f"{folder}/{name}"
    return f"{folder}/{job_id}"


def _is_of_finished_job(bucket: Bucket, place: str, name: str) -> bool:
    """True when the revision of this name is what the job of this name made for this place, and not a copy of another one."""
    revision = f"{place}/revisions/{name}"
    text = bucket.read(f"{revision}/{MANIFEST}")
    if text is None or bucket.signer.judge(text) not in (Signature.RIGHT, Signature.UNCHECKED):
        return False
    try:
        manifest = decode_long(ResultManifest, text)
        outcome = JobFolder(bucket, name).outcome()
    except MessageError:
        return False
    is_its_own = manifest.job_id == name and manifest.revision == revision
    return is_its_own and outcome is not None and outcome.state == "done" and outcome.result == place
