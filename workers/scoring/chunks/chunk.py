"""Scores one chunk: reads its rows, predicts, and writes its part."""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from model_store.library import ModelLibrary
from model_store.predicting import line_of
from model_store.store import Release
from shared.jobs.folder import JobFolder
from workers.guard.index.part_index import IndexedRows
from workers.scoring.chunks.chunk_reader import open_chunk
from workers.scoring.chunks.isolation import RecordSpan, isolate_poison_rows
from workers.scoring.chunks.part_text import PartFiles, PartText, write_files
from workers.scoring.chunks.rates import Scored, predict
from workers.scoring.fixes.records import fixed_records
from workers.scoring.parts import (
    PartRecord,
    Unpredicted,
    complete,
    read_part,
)
from workers.scoring.plan import PlannedChunk
from workers.tables import rows as table_rows
from workers.tables.formats import ChunkRecords


class ChunkStage(StrEnum):
    """A stage of scoring a chunk."""

    LOADING = "loading the release"
    READING = "opening its part of the table"
    SCORING = "scoring its rows"
    GATHERING = "putting its pieces together"
    WRITING = "writing its part"


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
        files = write_files(folder, planned, text)
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

    def score_rows(self, *, isolated: bool) -> PartText | None:
        """Returns the text of the part, or None if the job ended before all rows were scored."""
        self.enter(ChunkStage.READING)
        with self._opened() as chunk_records:
            table_schema = chunk_records.table_schema
            text = PartText(path=self.planned.file.path, keys=table_schema.keys, by_device=bool(table_schema.flags))
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
        indexed=IndexedRows.merged([piece.indexed for piece in scored]),
    )


def _part_record(planned: PlannedChunk, release: Release, text: PartText, files: PartFiles, times: _StageTimes) -> PartRecord:
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
