"""Finds out whether a row that is missing in a result was rejected, and why."""

import csv
import io
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from shared.catalog.manifests import REJECTS
from shared.errors import PermanentError
from workers.explaining.results import KeyValues, OpenResult
from workers.scoring.chunks.chunk_reader import open_columns
from workers.scoring.fixes.records import fixed_records
from workers.scoring.plan import PlannedChunk
from workers.tables import output
from workers.tables.rows import Reject

SEARCH_SECONDS = 3.0
"""Time limit of the search in the chunks that have rejects."""


@dataclass(frozen=True, kw_only=True)
class FoundReject:
    """The rejected row of a key."""

    file: str
    chunk: int
    reject: Reject


@dataclass(frozen=True, kw_only=True)
class RejectSearch:
    """The result of a search for a key among the rejected rows."""

    found: FoundReject | None = None
    note: str = ""
    """What the search could not cover; empty if it covered all rejects."""


def find_reject(result: OpenResult, values: KeyValues) -> RejectSearch:
    """Searches the rejected rows of a result for a key: reads the keys of the chunks that have rejects, for ``SEARCH_SECONDS`` at most."""
    if result.manifest.rejects is None:
        return RejectSearch()
    rejects = _rejects_by_file(result)
    if rejects is None:
        return RejectSearch(note="its rejected rows cannot be read, so the row may be one of them")
    limit, unread = time.monotonic() + SEARCH_SECONDS, 0
    for planned, on_lines in _chunks_with_rejects(result, rejects):
        if planned is None or time.monotonic() > limit:
            unread += len(on_lines)
            continue
        try:
            line = _line_of(result, planned, values, on_lines)
        except (PermanentError, OSError):
            unread += len(on_lines)
            continue
        if line is not None:
            return RejectSearch(found=FoundReject(file=planned.file.path, chunk=planned.index, reject=on_lines[line]))
    return RejectSearch(note=f"{unread:,} rejected rows could not be read again, and it may be one of them" if unread else "")


def _rejects_by_file(result: OpenResult) -> dict[str, dict[int, Reject]] | None:
    data = result.folder.bucket.read(f"{result.manifest.revision}/{REJECTS}")
    try:
        records = csv.reader(io.StringIO(output.decompress(data or b"").decode(), newline=""))
        next(records)
        found: dict[str, dict[int, Reject]] = {}
        for file, line, column, value, reason in records:
            found.setdefault(file, {}).setdefault(int(line), Reject(line=int(line), column=column, value=value, reason=reason))
    except (OSError, EOFError, ValueError, StopIteration, csv.Error):
        return None
    return found


def _chunks_with_rejects(
    result: OpenResult, rejects: dict[str, dict[int, Reject]]
) -> Iterator[tuple[PlannedChunk | None, dict[int, Reject]]]:
    """Yields each chunk that has rejects with these by line; None for lines in no chunk, or without a plan."""
    for file, on_lines in rejects.items():
        by_chunk: dict[int, dict[int, Reject]] = {}
        chunks: dict[int, PlannedChunk | None] = {}
        for line, reject in on_lines.items():
            planned = result.chunk_at(file, line)
            number = -1 if planned is None else planned.index
            chunks[number] = planned
            by_chunk.setdefault(number, {})[line] = reject
        for number, lines in by_chunk.items():
            yield chunks[number], lines


def _line_of(result: OpenResult, planned: PlannedChunk, values: KeyValues, on_lines: dict[int, Reject]) -> int | None:
    """Returns the line of the first rejected row of a chunk with this key."""
    keys = result.index.keys
    with open_columns(result.folder.bucket, planned, [], keys) as opened:
        records = fixed_records(result.folder, planned.index, opened) if planned.may_be_fixed else opened
        for start, end in records.ranges():
            rows = records.rows(start, end)
            has_key = np.ones(len(rows.frame), dtype=bool)
            for column, value in zip(rows.keys(keys), values, strict=True):
                has_key &= np.asarray(column == value, dtype=bool)
            for line in rows.lines[np.flatnonzero(has_key)].tolist():
                if line in on_lines:
                    return int(line)
    return None
