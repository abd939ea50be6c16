"""Cuts removed slices of compressed tables again, for a job that is resumed or fixed after its slices were removed.

Slices are removed when a job is done, and a day after it failed. The stamp of the table shows that it was not changed since planning.
"""

from collections.abc import Collection, Iterator

from shared.bucket.interface import Bucket
from shared.errors import TableError
from shared.jobs.folder import JobFolder
from workers.scoring.plan import Chunk, FoundFile, Plan, numbered_slice_file, slice_file, slices_folder, unchanged_while_scored
from workers.tables.streams import Stream

FEW = 1
"""Up to this many chunks of a file are read from the table itself; for more, the table is unpacked once to write their slices."""

READ_AT_ONCE = 1 << 20


def read_chunk(bucket: Bucket, file: FoundFile, chunk: Chunk) -> bytes:
    """Returns the text of a chunk of a compressed table, unpacked from the table itself.

    Raises:
        TableError: the table was changed after planning.
    """
    with unchanged_while_scored(bucket, file):
        [(_, data)] = _read_each(bucket, file, [chunk])
    return data


def lacking_slices(folder: JobFolder, plan: Plan, indexes: Collection[int]) -> list[int]:
    """Returns those of these chunks that are in compressed files and whose slice was removed."""
    packed = [index for index in sorted(indexes) if plan.files[plan.chunks[index].file].table_format.is_compressed]
    if not packed:
        return []
    held = JobFolder(folder.bucket, plan.slices_in or plan.job_id)
    there = {info.path for info in folder.bucket.files(slices_folder(held, plan.slices))}
    return [
        index
        for index in packed
        if slice_file(held, plan.slices, plan.chunks[index]) not in there and numbered_slice_file(held, plan.slices, index) not in there
    ]


def cut_again(folder: JobFolder, plan: Plan, indexes: Collection[int]) -> None:
    """Writes the slices of these chunks, unpacking each file once; a file with at most ``FEW`` of them is left to ``read_chunk``.

    Raises:
        TableError: the table was changed after planning.
    """
    held = JobFolder(folder.bucket, plan.slices_in or plan.job_id)
    by_file: dict[int, list[Chunk]] = {}
    for index in sorted(indexes):
        by_file.setdefault(plan.chunks[index].file, []).append(plan.chunks[index])
    for number, chunks in by_file.items():
        if len(chunks) <= FEW:
            continue
        file = plan.files[number]
        with unchanged_while_scored(folder.bucket, file):
            for chunk, data in _read_each(folder.bucket, file, chunks):
                folder.bucket.write(slice_file(held, plan.slices, chunk), data)


def _read_each(bucket: Bucket, file: FoundFile, chunks: Collection[Chunk]) -> Iterator[tuple[Chunk, bytes]]:
    """Yields the texts of chunks of one file, in their order, in one pass over the file."""
    at = 0
    with bucket.open(file.path) as raw, file.table_format.open_text(raw, file.path) as text:
        for chunk in chunks:
            _skip(text, chunk.start - at)
            data = _read_exactly(text, chunk.end - chunk.start)
            at = chunk.start + len(data)
            if at < chunk.end:
                raise TableError(f"{file.path} ends before it should", next_step="Score it again.")
            yield chunk, data


def _skip(text: Stream, count: int) -> None:
    while count > 0 and (block := text.read(min(count, READ_AT_ONCE))):
        count -= len(block)


def _read_exactly(text: Stream, size: int) -> bytes:
    data = bytearray()
    while len(data) < size and (block := text.read(size - len(data))):
        data += block
    return bytes(data)
