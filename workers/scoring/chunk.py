"""Scores one chunk: reads its rows, predicts, and writes its part."""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from model_store.library import ModelLibrary
from model_store.predicting import columns_for, line_of, predict_rows
from model_store.store import Release
from shared.bucket.interface import Bucket
from shared.jobs.files import PartFile
from shared.jobs.folder import JobFolder
from shared.records import FileDigest
from workers.scoring.chunk_reader import open_chunk
from workers.scoring.fixes.records import fixed_records
from workers.scoring.isolation import RecordSpan, isolate_poison_rows
from workers.scoring.parts import (
    ALL_DEVICES,
    DeviceSum,
    PartRecord,
    Unpredicted,
    complete,
    read_part,
    write_file,
)
from workers.scoring.plan import PlannedChunk
from workers.scoring.repeated_keys import hash_keys, write_hashes
from workers.tables import output as tables_output
from workers.tables import rows as table_rows
from workers.tables import schema
from workers.tables.formats import ChunkRecords
from workers.tables.streams import BackgroundWriter

NOT_FINITE, OUTSIDE = "the prediction is not a finite number", "not within its interval"
"""Reasons for rejecting a row because of the definition's prediction."""


class ChunkStage(StrEnum):
    """A stage of scoring a chunk."""

    LOADING = "loading the release"
    READING = "opening its part of the table"
    SCORING = "scoring its rows"
    GATHERING = "putting its pieces together"
    WRITING = "writing its part"


@dataclass(frozen=True, kw_only=True)
class Scored:
    """The scored rows of a chunk, or of a piece of one, with their rates."""

    keys: list[np.ndarray]
    """The key columns."""
    device: np.ndarray
    cr: np.ndarray
    """float64 in [0, 1], one per row."""
    bounds: list[np.ndarray]
    """Lower and upper bound of each rate, float64 in [0, 1]; empty unless requested."""
    clipped: int
    """How many predictions were outside [0, 1] and were set to the nearer end."""
    rejects: list[table_rows.Reject]

    @property
    def columns(self) -> list[np.ndarray]:
        """The columns of the result, in order."""
        return [*self.keys, self.cr, *self.bounds]


def score_chunk(
    folder: JobFolder,
    planned: PlannedChunk,
    library: ModelLibrary,
    *,
    isolated: bool = False,
    enter: Callable[[ChunkStage], None] = lambda _: None,
) -> PartRecord | None:
    """Reads, checks and scores one chunk and writes its part, unless it exists; returns None if the job has ended.

    Args:
        folder: the folder of the job.
        planned: the chunk.
        library: loads the release.
        isolated: the chunk has killed its worker before. It is bisected down to the rows that do so, which become rejects.
        enter: called with each stage before it begins.

    Raises:
        TableError: the table was changed after planning.
        ModelError: the files of the release are not the published ones.
    """
    if (part := read_part(folder, planned.index)) is not None and part.is_of(planned.chunk):
        return part
    if folder.outcome() is not None:
        return None
    times = _StageTimes()
    enter(ChunkStage.LOADING)
    with times.measure("load"):
        release = library.release(planned.release)
    text = _Scoring(folder, planned, release, times, enter).score_rows(isolated=isolated)
    if text is None:
        return None
    enter(ChunkStage.WRITING)
    with times.measure("write"):
        files = _write_files(folder, planned.index, text)
    record = _part_record(planned, release, text, files, times)
    complete(folder, record)
    return record


@dataclass
class _StageTimes:
    """Measures the seconds of a chunk, in all and by stage."""

    began: float = field(default_factory=time.monotonic)
    stages: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Adds the time that the block takes to a stage."""
        began = time.monotonic()
        yield
        self.stages[stage] = self.stages.get(stage, 0.0) + time.monotonic() - began


@dataclass(frozen=True)
class _Scoring:
    """Scores the rows of one chunk with a loaded release."""

    folder: JobFolder
    planned: PlannedChunk
    release: Release
    times: _StageTimes
    enter: Callable[[ChunkStage], None]

    def score_rows(self, *, isolated: bool) -> "_PartText | None":
        """Returns the text of the part, or None if the job ended before all rows were scored."""
        self.enter(ChunkStage.READING)
        with self._opened() as chunk_records:
            text = _PartText(path=self.planned.file.path, by_device=bool(chunk_records.table_schema.flags))
            for number, piece in enumerate(self._pieces(chunk_records, isolated=isolated)):
                if number and self.folder.outcome() is not None:
                    return None  # the job of this large chunk was cancelled meanwhile
                with self.times.measure("write"):
                    text.add(piece)
        return text

    @contextlib.contextmanager
    def _opened(self) -> Iterator[ChunkRecords]:
        with contextlib.ExitStack() as held:
            with self.times.measure("read"):
                chunk_records = held.enter_context(open_chunk(self.folder.bucket, self.planned, self.release.manifest))
                if self.planned.may_be_fixed:
                    chunk_records = fixed_records(self.folder, self.planned.index, chunk_records)
            yield chunk_records

    def _pieces(self, chunk_records: ChunkRecords, *, isolated: bool) -> Iterator[Scored]:
        score = functools.partial(self._score_range, chunk_records)
        if isolated:
            return _score_in_isolation(self.folder, self.planned.index, chunk_records, score, self.enter)
        self.enter(ChunkStage.SCORING)
        return (score(start, end) for start, end in chunk_records.ranges())

    def _score_range(self, chunk_records: ChunkRecords, start: int, end: int | None) -> Scored:
        with self.times.measure("read"):
            rows = chunk_records.rows(start, end)
        with self.times.measure("predict"):
            return predict(self.release, rows, interval=self.planned.interval, path=self.planned.file.path)


class _PartFiles(NamedTuple):
    """The digests of the files of a part."""

    output: FileDigest
    rejects: FileDigest | None


def _write_files(folder: JobFolder, index: int, text: "_PartText") -> _PartFiles:
    with _background_calls(folder.bucket) as put:
        put(write_hashes, folder, index, text.key_hashes)
        output = write_file(folder, index, PartFile.PREDICTED, b"".join(text.predictions))
        rejects = write_file(folder, index, PartFile.REJECTED, b"".join(text.rejects)) if text.rejects else None
    return _PartFiles(output, rejects)


def _part_record(planned: PlannedChunk, release: Release, text: "_PartText", files: _PartFiles, times: _StageTimes) -> PartRecord:
    unpredicted = Unpredicted(rows=text.rows_unpredicted, predict=line_of(release.definition, "predict")) if text.rows_unpredicted else None
    return PartRecord(
        index=planned.index,
        chunk=planned.chunk,
        rows_in=text.rows_scored + text.rows_rejected,
        rows_scored=text.rows_scored,
        rows_clipped=text.rows_clipped,
        devices=text.devices,
        output=files.output,
        rejects=files.rejects,
        first_rejects=text.first_rejects,
        unpredicted=unpredicted,
        seconds=time.monotonic() - times.began,
        stages=times.stages,
    )


@dataclass(kw_only=True)
class _PartText:
    """Accumulates a chunk's compressed output and its statistics."""

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
        """Adds the next rows of the chunk."""
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
def _background_calls(bucket: Bucket) -> Iterator[Callable[..., None]]:
    """Yields a function that runs calls: in a thread on an object store, to overlap the requests. All calls are done at the exit."""
    if not bucket.is_remote:
        yield lambda do, *arguments: do(*arguments)
        return
    with BackgroundWriter() as background:
        yield background.submit
        background.wait()


def predict(release: Release, rows: table_rows.Rows, *, interval: bool = False, path: str = "the table") -> Scored:
    """Returns the scored rows with their rates, and with the bounds of these if ``interval`` is true.

    A row is rejected if its prediction or a bound is not finite, or if its rate is outside its bounds, so no such value is ever written.

    Raises:
        DefinitionError: the definition's code failed; the message names the first row, by its line in ``path``.
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
    """Returns what the definition predicts, float64, one per row; then the lower and upper bounds if requested."""

    def name_row(position: int) -> str:
        keys = zip(release.manifest.keys, rows.keys(release.manifest.keys), strict=True)
        shown = ", ".join(f"{name} {column[position]}" for name, column in keys)
        return f"line {rows.lines[np.array([position])][0]} of {path} ({shown})"

    frame = columns_for(release.definition, [column.name for column in release.manifest.columns], rows.frame)
    return predict_rows(release.definition, release.model, frame, interval=interval, name_row=name_row, table=path)


def _score_in_isolation(
    folder: JobFolder, index: int, chunk_records: ChunkRecords, score: Callable[[int, int], Scored], enter: Callable[[ChunkStage], None]
) -> Iterator[Scored]:
    """Scores the chunk in pieces that do not crash the process; single records that do become rejects.

    Yields range by range, as for an ordinary chunk.
    """
    found: dict[RecordSpan, Scored] = {}

    def attempt(start: int, end: int) -> None:
        if not found:
            enter(ChunkStage.SCORING)  # not earlier: only from here on does the job folder record which rows are tried
        found[start, end] = score(start, end)

    ranges = [(start, chunk_records.count() if end is None else end) for start, end in chunk_records.ranges()]
    cleared, poison = isolate_poison_rows(folder, index, ranges, attempt)
    enter(ChunkStage.GATHERING)
    for start, end in cleared:
        if (start, end) not in found:  # cleared by a process that crashed later
            found[start, end] = score(start, end)
    for start, end in ranges:
        scored = [found[piece] for piece in cleared if start <= piece[0] < end or start == end]
        yield _merged(scored, [reject for record, _ in poison if start <= record < end for reject in chunk_records.rejects(record)])


def _merged(scored: list[Scored], rejects: list[table_rows.Reject]) -> Scored:
    none = np.empty(0)
    return Scored(
        keys=[np.concatenate(column) for column in zip(*(piece.keys for piece in scored), strict=True)],
        device=np.concatenate([piece.device for piece in scored] or [np.empty(0, dtype=np.int8)]),
        cr=np.concatenate([none, *(piece.cr for piece in scored)]),
        bounds=[np.concatenate(bound) for bound in zip(*(piece.bounds for piece in scored), strict=True)],
        clipped=sum(piece.clipped for piece in scored),
        rejects=sorted([*rejects, *(reject for piece in scored for reject in piece.rejects)], key=lambda reject: reject.line),
    )


def _device_sums(scored: Scored, *, by_device: bool) -> dict[str, DeviceSum]:
    if not by_device:
        return {ALL_DEVICES: DeviceSum(rows=len(scored.cr), sum_cr=float(scored.cr.sum()))}
    rows = np.bincount(scored.device, minlength=len(schema.DEVICES))
    sums = np.bincount(scored.device, weights=scored.cr, minlength=len(schema.DEVICES))
    return {name: DeviceSum(rows=int(rows[code]), sum_cr=float(sums[code])) for code, name in enumerate(schema.DEVICES)}
