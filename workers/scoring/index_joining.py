"""Joins the indexes of the parts into the index of the result, in a thread, while the predictions are joined."""

import contextlib
import itertools
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from shared.catalog.manifests import ReleaseManifest
from shared.index_format import IndexShape, may_be_whole
from shared.indexing.index_files import WrittenIndex, write_index
from shared.indexing.sorted_rows import SortedRows
from shared.jobs.files import PartFile
from shared.jobs.folder import JobFolder
from workers.concurrency import read_each
from workers.guard.index.features import Features
from workers.guard.index.part_index import BrokenPartIndexError, read_part_index
from workers.scoring.parts import BrokenPartError, PartRecord
from workers.scoring.plan import Plan
from workers.tables.schema import CLICKS


def shape_of(release: ReleaseManifest, plan: Plan) -> IndexShape:
    """Returns what the index of a job's result holds."""
    return IndexShape(
        keys=release.keys,
        has_whole_keys=may_be_whole(release.keys),
        features=Features.of(release.columns, release.keys).named,
        files=tuple(file.path for file in plan.files),
        has_interval=plan.interval,
        has_clicks=any(file.columns.count(CLICKS) == 1 for file in plan.files),
    )


class IndexJoin:
    """The join of the indexes of a job, which takes the parts as they arrive."""

    def __init__(self, arrivals: "_Arrivals", written: Future[WrittenIndex | None]) -> None:
        self._arrivals, self._written = arrivals, written

    def add(self, parts: Sequence[PartRecord]) -> None:
        """Adds the next parts of the job."""
        self._arrivals.add(parts)

    def complete(self) -> None:
        """Lets the index be completed: it has all parts, and none of the checks of the join has failed."""
        self._arrivals.end()

    def result(self) -> WrittenIndex | None:
        """Waits for the index of all parts and returns it; None if one of them, written by an earlier version, has no index.

        Raises:
            BrokenPartError: the index of a part does not match its record.
        """
        return self._written.result()


@contextlib.contextmanager
def joining_indexes(folder: JobFolder, shape: IndexShape, path: str) -> Iterator[IndexJoin]:
    """Runs the join of the indexes of a job; no index is written if the block raises an exception."""
    arrivals = _Arrivals()
    with ThreadPoolExecutor(1) as thread:
        try:
            yield IndexJoin(arrivals, thread.submit(_join, folder, shape, path, arrivals))
        finally:
            arrivals.abandon()


def _join(folder: JobFolder, shape: IndexShape, path: str, arrivals: "_Arrivals") -> WrittenIndex | None:
    try:
        return write_index(folder.bucket, path, shape, _PartIndexes(folder=folder, arrivals=arrivals))
    except (_NoIndexError, _AbandonedError):
        return None


class _NoIndexError(Exception):
    """Raised at a part without an index."""


class _AbandonedError(Exception):
    """Raised in the thread of the join after another part of the finish step has failed."""


class _Arrivals:
    """The parts that have arrived: one thread adds them, another iterates over them, as often as it needs to."""

    def __init__(self) -> None:
        self._parts: list[PartRecord] = []
        self._is_complete = self._is_abandoned = False
        self._changed = threading.Condition()

    def add(self, parts: Sequence[PartRecord]) -> None:
        with self._changed:
            self._parts += parts
            self._changed.notify_all()

    def end(self) -> None:
        with self._changed:
            self._is_complete = True
            self._changed.notify_all()

    def abandon(self) -> None:
        with self._changed:
            self._is_abandoned = True
            self._changed.notify_all()

    def __iter__(self) -> Iterator[PartRecord]:
        for number in itertools.count():
            with self._changed:
                while not (number < len(self._parts) or self._is_complete or self._is_abandoned):
                    self._changed.wait()
                if self._is_abandoned:
                    raise _AbandonedError
                if number == len(self._parts):
                    return
            yield self._parts[number]


@dataclass(frozen=True, kw_only=True)
class _PartIndexes:
    """The rows of the parts, in their order; each iteration reads their files."""

    folder: JobFolder
    arrivals: _Arrivals

    def __iter__(self) -> Iterator[SortedRows]:
        return iter(read_each(self.folder.bucket, self._read, self.arrivals))

    def _read(self, part: PartRecord) -> SortedRows:
        data = self.folder.bucket.read(self.folder.part_file(part.index, PartFile.INDEX))
        if data is None:
            raise _NoIndexError
        try:
            rows = read_part_index(data, part.output.sha256)
        except BrokenPartIndexError as error:
            raise BrokenPartError(part.index) from error
        if rows.batch.num_rows != part.rows_scored:
            raise BrokenPartError(part.index)
        return rows
