"""Reads single rows of a table from their file and line, by the readers that scoring uses.

The digest of the parsed features in the index proves that a row is the one that was scored, whatever happened to its file since.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from shared.catalog.manifests import Column
from shared.errors import PermanentError, TableError
from workers.explaining.results import KeyValues, OpenResult
from workers.guard.index.feature_digests import digest_rows
from workers.guard.index.features import Features, feature_values
from workers.scoring.chunks.chunk_reader import open_columns
from workers.scoring.fixes.records import fixed_records
from workers.scoring.plan import PlannedChunk
from workers.tables import rows as table_rows
from workers.tables.formats import ChunkRecords


class NoRowError(Exception):
    """Raised when a row of a table cannot be read any more; the message is a sentence that says why."""


class _NotThisRowError(Exception):
    """Raised when what is at the place of a row now is not the row, or cannot be read."""


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """A row of the table of a result, by its place in the index."""

    result: OpenResult
    values: KeyValues
    digest: np.ndarray
    """uint64 of shape (2,)."""
    file: str | None
    line: int
    _frames: dict[tuple[Column, ...], pd.DataFrame] = field(default_factory=dict, repr=False)

    def read(self, columns: Sequence[Column]) -> pd.DataFrame:
        """Returns the row with these feature columns, as scoring would give them to a definition: a frame of one row.

        Raises:
            NoRowError: its table or the plan of its job is gone or changed, or the row lacks what these columns need.
        """
        wanted = tuple(columns)
        has_scored_ones = Features.of(wanted, self.result.index.keys).named == self.result.index.features
        scored = wanted if has_scored_ones else self._scored_columns
        where = f"line {self.line:,} of {self.file}"
        try:
            frame = self._frame(scored)
            self._check_unchanged(frame, scored)
        except _NotThisRowError as error:
            raise NoRowError(f"{where} is not the row that job {self.result.folder.job_id} scored: {error}") from error
        try:
            return frame if has_scored_ones else self._frame(wanted)
        except _NotThisRowError as error:
            raise NoRowError(f"{where} lacks what the other release needs: {error}") from error

    @functools.cached_property
    def _scored_columns(self) -> tuple[Column, ...]:
        """The columns in the digest of the row."""
        return tuple(Column.model_validate({"name": name, "type": kind}) for name, kind in self.result.index.features)

    def _frame(self, columns: tuple[Column, ...]) -> pd.DataFrame:
        """Reads the row with these columns, once: a compressed table is unpacked from its start for it."""
        if columns not in self._frames:
            self._frames[columns] = self._read_at(self._planned(), columns)
        return self._frames[columns]

    def _planned(self) -> PlannedChunk:
        job_id = self.result.folder.job_id
        if self.file is None or self.line < 1 or not self.result.index.has_digests:
            raise NoRowError(f"the index of the result of job {job_id} names no lines: it was built later, from the predictions alone")
        planned = self.result.chunk_at(self.file, self.line)
        if planned is None:
            raise NoRowError(f"the files of job {job_id} were removed, so the row cannot be found in its table")
        return planned

    def _check_unchanged(self, frame: pd.DataFrame, columns: Sequence[Column]) -> None:
        """Raises _NotThisRowError unless the row has the features that were scored."""
        found = digest_rows(feature_values(frame, Features.of(columns, self.result.index.keys)))[0]
        if not np.array_equal(found, self.digest):
            raise _NotThisRowError("it holds other values")

    def _read_at(self, planned: PlannedChunk, columns: Sequence[Column]) -> pd.DataFrame:
        try:
            with open_columns(self.result.folder.bucket, _as_it_is(self.result, planned), columns, self.result.index.keys) as opened:
                records = fixed_records(self.result.folder, planned.index, opened) if planned.may_be_fixed else opened
                rows = _rows_at(records, self.line)
                at = np.flatnonzero(rows.lines[np.arange(len(rows.frame))] == self.line)
        except (PermanentError, OSError) as error:
            raise _NotThisRowError(_message(error)) from error
        if not len(at):
            raise _NotThisRowError(next((str(reject) for reject in rows.rejects), "there is no row"))
        keys = [column[at[0]] for column in rows.keys(self.result.index.keys)]
        if any(found != wanted for found, wanted in zip(keys, self.values, strict=True)):
            raise _NotThisRowError("it holds another key")
        return rows.frame.iloc[at[:1]].reset_index(drop=True)


def _message(error: Exception) -> str:
    return error.message if isinstance(error, PermanentError) else str(error)


def _as_it_is(result: OpenResult, planned: PlannedChunk) -> PlannedChunk:
    """Returns the chunk with the file as it is now: whether it was changed is decided by the digest of the row."""
    info = result.folder.bucket.stat(planned.file.path)
    if info is None:
        raise TableError("the file is gone")
    file = planned.file.model_copy(update={"stamp": info.stamp, "version": info.version})
    return PlannedChunk(**{**vars(planned), "file": file})


def _rows_at(records: ChunkRecords, line: int) -> table_rows.Rows:
    """Reads the record that holds a line."""
    low, high = 0, records.count()
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if records.line(middle) <= line else (low, middle)
    return records.rows(low, low + 1)
