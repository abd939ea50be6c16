"""Cuts csv text so that each chunk can be read on its own."""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from shared.errors import TableError
from workers.tables.chunk_size import MAX_CHUNK_BYTES, MIN_CHUNK_BYTES, ChunkSize
from workers.tables.csv.dialects import COMMAS, Dialect
from workers.tables.csv.headers import MAX_HEADER_BYTES, parse_header
from workers.tables.csv.records import LINE_BREAK, LOOKED_AT_ONCE, open_quote, record_ends
from workers.tables.streams import Stream

MAX_RECORD_BYTES = 64 << 20
MAX_CHUNK_READ_BYTES = MAX_RECORD_BYTES + 2 * MAX_CHUNK_BYTES
"""Maximum bytes of a csv chunk: its last record may begin just before the chunk is full."""
HEADER_READ_BYTES = 1 << 16


_BLANK_LINES = re.compile(rb"[\r\n]*+")


@dataclass(frozen=True, kw_only=True)
class Cut:
    """One chunk of a csv stream: its bytes, their offset, the line on which they start, and the number of lines."""

    data: memoryview
    """Valid while the next cut is made; after that the memory may be overwritten."""
    start: int
    first_line: int
    lines: int


def open_csv(stream: Stream, path: str, size: ChunkSize, dialect: Dialect = COMMAS) -> tuple[list[str], Iterator[Cut]]:
    """Reads the header of a csv stream and returns its columns and an iterator over the cuts of what follows.

    Raises:
        TableError: the file is empty, is not text, or has an invalid header; the iterator raises it for a record that never ends.
    """
    head, end = b"", 0
    while not end and len(head) < MAX_HEADER_BYTES and (more := stream.read(min(size.bytes, HEADER_READ_BYTES))):
        head += more
        end = int(record_ends(head, dialect, final=False)[:1].sum())
    end = end or len(head)
    if not head.strip():
        raise TableError(f"{path} is empty", next_step="Give a table with a header and at least one row.")
    columns = parse_header(head[:end], path, dialect)
    return columns, _cuts(stream, path, size, dialect, carry=head[end:], start=end, line=1 + head.count(b"\n", 0, end))


class _Blocks:
    """Reads a stream block by block; counts lines and searches for quotes piece by piece, while a piece is in the CPU cache.

    It alternates between two buffers: one is filled while cuts of the other are still in use.
    """

    def __init__(self, stream: Stream, begun: bytes) -> None:
        self._stream, self._spare = stream, bytearray()
        self.data = bytearray()
        """The buffer that holds the block; it may be longer than the block."""
        self._begin(begun)

    def _begin(self, begun: bytes) -> None:
        self.size = 0
        self.lines = count_lines(begun)
        self.has_quote = b'"' in begun
        self._make_room(len(begun))
        self.data[: len(begun)] = begun
        self.size = len(begun)

    def _make_room(self, size: int) -> None:
        if len(self.data) < size:
            longer = bytearray(size)
            longer[: self.size] = memoryview(self.data)[: self.size]
            self.data = longer

    def read(self, size: int) -> bool:
        """Reads up to ``size`` more bytes into the block; returns False at the end of the stream."""
        before, end = self.size, self.size + size
        while self.size < end and (got := self._read_piece(end)):
            self.lines += count_lines(memoryview(self.data)[self.size : self.size + got])
            self.has_quote = self.has_quote or self.data.find(b'"', self.size, self.size + got) >= 0
            self.size += got
        return self.size > before

    def _read_piece(self, end: int) -> int:
        if len(self.data) == self.size:
            # grows with the bytes that are there: a block may be of 24 MB, and most tables are shorter
            self._make_room(min(max(16 * self.size, LOOKED_AT_ONCE), end))
        return self._stream.readinto(memoryview(self.data)[self.size : min(self.size + LOOKED_AT_ONCE, end)])

    def next(self, end: int) -> None:
        """Starts the next block with the bytes after ``end`` of this one."""
        rest = bytes(memoryview(self.data)[end : self.size])
        self.data, self._spare = self._spare, self.data
        self._begin(rest)
        self._make_room(len(self._spare))

    def whole(self) -> bytes:
        """Returns a copy of the block."""
        return bytes(memoryview(self.data)[: self.size])


def _cuts(  # noqa: PLR0913 - the stream, and where it stands
    stream: Stream, path: str, size: ChunkSize, dialect: Dialect, *, carry: bytes, start: int, line: int
) -> Iterator[Cut]:
    block = _Blocks(stream, carry)
    wanted = size.bytes - block.size
    while True:
        final = not block.read(max(wanted, 1))
        if size.rows is None and not block.has_quote and (end := block.size if final else block.data.rfind(b"\n", 0, block.size) + 1):
            ends, lines = [end], [block.lines]
        else:
            text = block.whole()
            if final and (quote := open_quote(text, dialect)) is not None:
                where = line + text.count(b"\n", 0, quote)
                raise TableError(
                    f"{path} has a quote on line {where} that is never closed", next_step="Correct that line and score it again."
                )
            ends = _chunk_ends(text, size, dialect, final=final)
            lines = [count_lines(memoryview(text)[begin:end]) for begin, end in itertools.pairwise([0, *ends])]
        if not ends and not final:
            if block.size > MAX_RECORD_BYTES:
                raise TableError(
                    f"{path} has a record of more than {MAX_RECORD_BYTES >> 20} MB on line {line}, perhaps a quote that is never closed",
                    next_step="Correct that line and score the table again.",
                )
            # double the size each time, because the block is scanned again from its start
            wanted = max(size.bytes, MIN_CHUNK_BYTES, min(block.size, MAX_CHUNK_BYTES))
            continue
        for (begin, end), count in zip(itertools.pairwise([0, *ends]), lines, strict=True):
            data = memoryview(block.data)[begin:end]
            if not _BLANK_LINES.fullmatch(data):
                yield Cut(data=data, start=start + begin, first_line=line, lines=count + (data[-1] != LINE_BREAK))
            line += count
        if final:
            return
        block.next(ends[-1])
        start += ends[-1]
        wanted = size.bytes - block.size


def count_lines(data: bytes | memoryview) -> int:
    """Counts line breaks, in pieces that stay in the CPU cache."""
    text = np.frombuffer(data, dtype=np.uint8)
    return sum(int(np.count_nonzero(text[at : at + LOOKED_AT_ONCE] == LINE_BREAK)) for at in range(0, len(text), LOOKED_AT_ONCE))


def _chunk_ends(block: bytes, size: ChunkSize, dialect: Dialect, *, final: bool) -> list[int]:
    """Returns the offsets at which the chunks of a block end; what follows the last one belongs to the next block."""
    ends = record_ends(block, dialect, final=final)
    if size.rows is None:
        return [int(end) for end in ends[-1:]]
    whole = ends[size.rows - 1 :: size.rows]
    # the byte limit is reached before the row limit: the chunk ends with the last complete record
    if final or (not len(whole) and len(block) >= size.bytes):
        whole = np.union1d(whole, ends[-1:])
    return [int(end) for end in whole]
