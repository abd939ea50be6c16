"""The files of fixed rows in the folder of a job.

jobs/<job id>/fixes/0000007.csv               the fixed rows of chunk 7: line, then the columns that are read
jobs/<job id>/fixes/0000007.rejects.csv.gz    the rejects of chunk 7 that were not fixed
"""

import csv
import io
from bisect import bisect_right
from collections.abc import Callable, Mapping

from shared.jobs.files import PartFile, Subfolder
from shared.jobs.folder import JobFolder
from workers.scoring.plan import Plan

FixedValues = dict[int, list[str]]
"""Maps a line of the table to the values of the columns that are read."""


def encode(fixed: Mapping[int, list[str]]) -> bytes:
    """Returns fixed rows as csv text: the line, then the values."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([line, *fixed[line]] for line in sorted(fixed))
    return out.getvalue().encode()


def decode_fixed(text: bytes) -> FixedValues:
    """Returns the fixed rows of a text that ``encode`` wrote."""
    return {int(line): values for line, *values in csv.reader(io.StringIO(text.decode(), newline=""))}


def fixed_file(folder: JobFolder, index: int) -> str:
    """Returns the path of the fixed rows of a chunk."""
    return folder.file(f"{Subfolder.FIXES}/{index:07d}.csv")


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
