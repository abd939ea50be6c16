"""The files of fixed rows in the folder of a job.

jobs/<job id>/fixes/0000007.csv               the fixed rows of chunk 7: line, then the columns that each row must have
jobs/<job id>/fixes/0000007.clicks.csv        their clicks, if the table has a column of clicks: line, clicks
jobs/<job id>/fixes/0000007.rejects.csv.gz    the rejects of chunk 7 that were not fixed
"""

import csv
import io
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from shared.jobs.files import PartFile, Subfolder
from shared.jobs.folder import JobFolder
from workers.scoring.plan import Plan


@dataclass(frozen=True)
class FixedRow:
    """A row that replaces a reject."""

    values: list[str]
    """The values of the columns that each row must have."""
    clicks: str = ""
    """Its clicks as text; empty if they are unknown."""


FixedRows = dict[int, FixedRow]
"""Maps a line of the table to the row that replaces it."""


def read_fixed(folder: JobFolder, index: int) -> FixedRows | None:
    """Returns the fixed rows of a chunk, or None if it has none."""
    text = folder.bucket.read(fixed_file(folder, index))
    if text is None:
        return None
    clicks = dict(_decode(folder.bucket.read(_clicks_file(folder, index)) or b""))
    return {line: FixedRow(values, "".join(clicks.get(line, []))) for line, values in _decode(text)}


def write_fixed(folder: JobFolder, index: int, fixed: Mapping[int, FixedRow]) -> None:
    """Writes the fixed rows of a chunk."""
    rows = sorted(fixed.items())
    if any(row.clicks for row in fixed.values()):
        folder.bucket.write(_clicks_file(folder, index), encode([line, row.clicks] for line, row in rows))
    folder.bucket.write(fixed_file(folder, index), encode([line, *row.values] for line, row in rows))


def encode(records: Iterable[list[int | str]]) -> bytes:
    """Returns records as csv text."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(records)
    return out.getvalue().encode()


def _decode(text: bytes) -> list[tuple[int, list[str]]]:
    """Returns the line and the values of each record."""
    return [(int(line), values) for line, *values in csv.reader(io.StringIO(text.decode(), newline=""))]


def fixed_file(folder: JobFolder, index: int) -> str:
    """Returns the path of the fixed rows of a chunk."""
    return folder.file(f"{Subfolder.FIXES}/{index:07d}.csv")


def _clicks_file(folder: JobFolder, index: int) -> str:
    return folder.file(f"{Subfolder.FIXES}/{index:07d}.clicks.csv")


def left_file(folder: JobFolder, index: int) -> str:
    """Returns the path of the rejects of a chunk that were not fixed."""
    return folder.file(f"{Subfolder.FIXES}/{index:07d}.{PartFile.REJECTED}")


def chunk_finder(plan: Plan) -> Callable[[str, int], int | None]:
    """Returns a function that finds the chunk of the plan with a line of a file; it returns None if there is none."""
    numbers = {file.path: number for number, file in enumerate(plan.files)}

    def find(path: str, line: int) -> int | None:
        file = numbers.get(path, -1)
        index = bisect_right(plan.chunks, (file, line), key=lambda chunk: (chunk.file, chunk.first_line)) - 1
        return None if index < 0 or plan.chunks[index].file != file else index

    return find
