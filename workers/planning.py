"""Cuts a table into chunks that can each be read alone: csv at byte offsets, gzip while it is unpacked, Parquet at rows.

Nothing is parsed here. A csv cut always falls between two records: a line break inside a quoted field is not one. The same table and
the same sizes give the same chunks, and chunk i means the same rows for ever.
"""

import contextlib
import csv
import gzip
import hashlib
import io
import itertools
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, Annotated, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from isal import isal_zlib
from pydantic import Field, ValidationInfo, field_validator

from shared.bucket.interface import Bucket, FileInfo
from shared.catalog.manifests import TableFingerprint, WithInterval
from shared.errors import MessageError, StrayOrderError, TableError
from shared.jobs.folder import JobFolder
from shared.records import BucketPath, FileDigest, FileName, JobId, Moment, Part, Record, ReleaseId, decode_long
from shared.settings import MAX_UNPACKED_RATIO
from shared.table_files import FileKind, find_files
from workers.ahead import side_by_side
from workers.csv_records import LINE_BREAK, LOOKED_AT_ONCE, open_quote, record_ends
from workers.headers import MAX_HEADER_BYTES, parse_header
from workers.unpacking import LimitedText, Stream, UnpackedLimit, unpacked

BEGUN = "begun.json"
"""File in a job's folder with what is settled before the table is cut."""

VERSIONS = "versions.json"
"""File in a job's folder with the version of each file of the table, where the bucket tells versions apart."""

MIN_CHUNK_BYTES, MAX_CHUNK_BYTES = 1 << 20, 24 << 20
CHUNKS_WANTED = 16
"""A small table is still cut into about this many chunks, so that every process has some."""

CUT_SHORT = 1.01
"""A csv chunk ends with the last record that fits: with this much more room for each, the shares of a table leave no crumbs."""

GZIP_RATIO = 20
"""A keyword table in gzip is smaller by about this much."""

MIN_CHUNK_ROWS, MAX_CHUNK_ROWS = 20_000, 131_072
"""Rows of a Parquet chunk of several row groups; with 160 flags its values are the size of a csv chunk once they are read."""

MAX_VALUES_BYTES = 32 << 20
"""Columns of numbers are wider than flags: of a Parquet chunk so many bytes of values are read together, as the file's own types reckon
them, and no more than ``MAX_CHUNK_ROWS`` rows."""

TEXT_BYTES = 16
"""What a text is taken for."""

LAST_CHUNKS = 4
"""A Parquet chunk of several row groups is about this part of what is left."""

MOST_FILES_AT_ONCE = max(1, min(4, (os.cpu_count() or 1) // 2))
"""Files of a table that are cut at once; each takes two pieces of memory of the size of a chunk."""

MAX_RECORD_BYTES = 64 << 20
MAX_CHUNK_READ_BYTES = MAX_RECORD_BYTES + 2 * MAX_CHUNK_BYTES
"""No chunk of csv text is longer: its last record may begin where it is full."""
HEADER_READ_BYTES = 1 << 16

MAX_GROUP_ROWS = 1 << 19
"""Rows of a Parquet chunk in one large row group, which is read in ranges: Arrow's usual 1,048,576 are two chunks.

With more, a slow model would need longer for a chunk than it may."""

WANTED_GROUP_PIECES, MAX_GROUP_PIECES = 4, 16
"""Each piece of a row group decodes what lies before it once more. So there are at most four because a table has few groups, and at most
sixteen because a group is enormous."""

# what bounds a field is MAX_RECORD_BYTES; csv's own limit is one for the whole process and far smaller
csv.field_size_limit(sys.maxsize)

BAD_GZIP: Any = (EOFError, gzip.BadGzipFile, isal_zlib.error)
"""What reading a broken gzip stream raises; any other OSError is the storage's."""


_BLANK_LINES = re.compile(rb"[\r\n]*+")


_ANEW = "Ask for the job anew, with --again; this one cannot go on."


class FoundFile(Part):
    """One file of the table as it was before it was cut."""

    path: BucketPath
    kind: FileKind
    stamp: str
    """The bucket's stamp: when it is another one, the table changed under the job."""
    columns: list[str]
    version: Annotated[str, Field(exclude=True)] = ""
    """The bucket's version; empty where it is not known. It lies in a file of its own: earlier versions know no such field."""


class PlannedFile(FoundFile):
    """One file of the table as it was when it was cut."""

    digest: FileDigest
    rows_at_most: int | None = None
    """Lines of a csv file behind its header, rows of a Parquet file; None in plans of an older version."""


class Chunk(NamedTuple):
    """A slice of one file: bytes for csv, rows for Parquet, or a slice file that the plan wrote for gzip."""

    file: int
    start: int
    end: int
    first_line: int
    """Line of the file on which the chunk starts, from 1; for Parquet the row, from 1."""


@dataclass(frozen=True, kw_only=True)
class PlannedChunk:
    """All that is needed to score one chunk."""

    index: int
    chunk: Chunk
    file: FoundFile
    release: ReleaseId
    slices: str
    slices_in: JobId
    """The job in whose folder the slices of compressed files lie."""
    may_be_fixed: bool
    """True when the job puts fixed rows in the place of another job's rejects."""
    interval: bool
    """True when bounds are written behind each rate."""


class Begun(Record):
    """What is settled before the table is cut, so that chunks can be scored while it still is."""

    job_id: JobId
    release: ReleaseId
    slices: FileName
    """Name of the folder with the slices of compressed files."""
    files: list[FoundFile]
    interval: WithInterval = False

    def chunk(self, index: int, cut: Sequence[int]) -> PlannedChunk:
        """A chunk that was cut, though the plan is not there yet; raises StrayOrderError when there can be no such one."""
        chunk = Chunk(*cut)
        is_possible = chunk.file < len(self.files) and 0 <= chunk.start < chunk.end
        if not is_possible or (self.files[chunk.file].kind != "parquet" and chunk.end - chunk.start > MAX_CHUNK_READ_BYTES):
            raise StrayOrderError(f"the table of job {self.job_id} has no chunk {tuple(chunk)}")
        return PlannedChunk(
            index=index,
            chunk=chunk,
            file=self.files[chunk.file],
            release=self.release,
            slices=self.slices,
            slices_in=self.job_id,
            may_be_fixed=False,
            interval=self.interval,
        )


class Plan(Record):
    """The chunks of one job, with the release pinned."""

    job_id: JobId
    release: ReleaseId
    made: Moment
    files: list[PlannedFile]
    slices: FileName
    """Name of the folder with the slices of compressed files."""
    slices_in: JobId | None = None
    """The job in whose folder they lie, where it is another one, whose rejects this one fixes."""
    chunks: list[Chunk]
    fixed_rows: FileDigest | None = None
    """The file of fixed rows that the job puts in the place of another job's rejects."""
    interval: WithInterval = False

    @property
    def rows_at_most(self) -> int | None:
        """No table of these files has more rows; None where an older version did not count them."""
        counts = [file.rows_at_most for file in self.files]
        return None if None in counts else sum(count or 0 for count in counts)

    @field_validator("chunks")
    @classmethod
    def _tile(cls, chunks: list[Chunk], known: ValidationInfo) -> list[Chunk]:
        at = (0, 0)
        for file, start, end, first_line in chunks:
            if not (at <= (file, start) and file < len(known.data.get("files", ())) and 0 <= start < end and first_line >= 1):
                raise ValueError("must lie one behind the other in the files of the table")
            at = (file, end)
        return chunks

    def chunk(self, index: int) -> PlannedChunk:
        """A chunk of the plan; raises StrayOrderError when there is none of this number."""
        if not index < len(self.chunks):
            raise StrayOrderError(f"job {self.job_id} has {len(self.chunks)} chunks; there is no chunk {index}")
        chunk = self.chunks[index]
        return PlannedChunk(
            index=index,
            chunk=chunk,
            file=self.files[chunk.file],
            release=self.release,
            slices=self.slices,
            slices_in=self.slices_in or self.job_id,
            may_be_fixed=self.fixed_rows is not None,
            interval=self.interval,
        )

    def fingerprint(self, path: str, *, rows: int, rejected: int) -> TableFingerprint:
        """What the manifest of a result or release says of this table."""
        return TableFingerprint(path=path, files={file.path: file.digest for file in self.files}, rows=rows, rejected=rejected)


@dataclass(frozen=True, kw_only=True)
class ChunkSize:
    """How large a chunk may become; whichever is reached first."""

    bytes: int
    rows: int | None

    @classmethod
    def for_table(cls, total_bytes: int, rows: int | None) -> "ChunkSize":
        """Large enough to cost little each, small enough that all processes work and memory stays flat."""
        return cls(bytes=min(max(int(total_bytes / CHUNKS_WANTED * CUT_SHORT), MIN_CHUNK_BYTES), MAX_CHUNK_BYTES), rows=rows)


class Place(NamedTuple):
    """How much of the table stands before and behind a file, in sizes of this file."""

    before: float = 0.0
    behind: float = 0.0


ALONE = Place()


@dataclass(frozen=True, kw_only=True)
class Cut:
    """One chunk of a csv stream: its bytes, where they start, the line on which they start, and how many lines they are."""

    data: memoryview
    """Stays as it is while the next cut is made; after that it may be overwritten."""
    start: int
    first_line: int
    lines: int


Ready = Callable[[Sequence[Chunk]], None]
"""Is told of all chunks so far; they can be scored."""


def find_table(bucket: Bucket, table: str) -> list[FoundFile]:
    """The files of a table with their columns.

    Raises:
        TableError: a file cannot be read or has no usable header.
    """
    return [_found(bucket, info, kind) for info, kind in find_files(bucket, table)]


def _found(bucket: Bucket, info: FileInfo, kind: FileKind) -> FoundFile:
    file = FoundFile(path=info.path, kind=kind, stamp=info.stamp, columns=[], version=info.version)
    with _unless_changed(bucket, file):
        return file.model_copy(update={"columns": _columns(bucket, info.path, kind)})


@contextlib.contextmanager
def _unless_changed(bucket: Bucket, file: FoundFile) -> Iterator[None]:
    """Raises what this block raises of a file, unless it was changed meanwhile: half of one file and half of another look damaged."""
    try:
        yield
    except TableError:
        check_stamp(bucket, file)
        raise


def _columns(bucket: Bucket, path: str, kind: FileKind) -> list[str]:
    with bucket.open(path) as raw:
        if kind == "parquet":
            with open_parquet(raw, path) as file:
                return _parquet_columns(file, path)
        return open_csv(unpacked(raw) if kind == "csv.gz" else raw, path, ChunkSize(bytes=HEADER_READ_BYTES, rows=None))[0]


def _parquet_columns(file: pq.ParquetFile, path: str) -> list[str]:
    names: list[str] = file.schema_arrow.names
    if not names:
        raise TableError(f"{path} has no columns", next_step="Write it again with its columns.")
    return names


def cut_table(
    folder: JobFolder, begun: Begun, chunk_rows: int | None, ready: Ready, max_unpacked_ratio: float = MAX_UNPACKED_RATIO
) -> tuple[list[PlannedFile], list[Chunk]]:
    """Cut every file of a table; what a compressed file holds is written into the job's folder, slice by slice.

    Where there are processors for it, a few files are cut side by side; their chunks are told of in the order of the table.

    Raises:
        TableError: a file cannot be read or was changed since it was found, unpacks to too much text, or there is not a single row.
    """
    infos = [check_stamp(folder.bucket, file) for file in begun.files]
    sizes = [info.size * (GZIP_RATIO if file.kind == "csv.gz" else 1) for info, file in zip(infos, begun.files, strict=True)]
    size = ChunkSize.for_table(sum(sizes), chunk_rows)
    ends = list(itertools.accumulate(sizes))
    limit = UnpackedLimit(
        [info.size for info, file in zip(infos, begun.files, strict=True) if file.kind == "csv.gz"], ratio=max_unpacked_ratio
    )

    def cut(number: int, found: Callable[[Sequence[Chunk]], None]) -> PlannedFile:
        own = max(sizes[number], 1)
        place = Place(before=(ends[number] - own) / own, behind=(ends[-1] - ends[number]) / own)
        return _cut_file(folder, begun, number, size, place, found, limit)

    chunks: list[Chunk] = []

    def tell(more: Sequence[Chunk]) -> None:
        chunks.extend(more)
        ready(chunks)

    files = side_by_side(cut, len(begun.files), tell, MOST_FILES_AT_ONCE)
    if not chunks:
        table = begun.files[0].path if len(begun.files) == 1 else begun.files[0].path.rpartition("/")[0]
        raise TableError(f"{table} has a header but no rows", next_step="Give a table with at least one row.")
    return files, chunks


def _cut_file(  # noqa: PLR0913, PLR0917 - what belongs to the table and what to the file
    folder: JobFolder,
    begun: Begun,
    number: int,
    size: ChunkSize,
    place: Place,
    found: Callable[[Sequence[Chunk]], None],
    limit: UnpackedLimit,
) -> PlannedFile:
    """Cut one file, and tell of chunks when they can be read."""
    bucket, file = folder.bucket, begun.files[number]
    rows = 0
    with _unless_changed(bucket, file), bucket.open(file.path) as raw:
        hashed = Hashing(raw)
        if file.kind == "parquet":
            cuts = _cut_parquet(raw, file.path, size.rows, place)
            rows = cuts[-1][1] if cuts else 0
            # all at once: the digest takes its time
            found([Chunk(number, start, end, start + 1) for start, end in cuts])
            raw.seek(0)
            while hashed.read(1 << 20):
                found([])
        else:
            stream: Stream = LimitedText(hashed, limit, file.path) if file.kind == "csv.gz" else hashed
            being_written: list[Chunk] = []
            with Beside() as written:
                for cut in refusing_bad_gzip(open_csv(stream, file.path, size)[1], file.path):
                    chunk = Chunk(number, cut.start, cut.start + len(cut.data), cut.first_line)
                    rows += cut.lines
                    if file.kind == "csv":
                        found([chunk])
                        continue
                    written.add(bucket.write, slice_file(folder, begun.slices, chunk), cut.data)
                    found(being_written)
                    being_written = [chunk]
                written.wait()
            found(being_written)
    check_stamp(bucket, file)
    return PlannedFile(**dict(file), digest=hashed.digest(), rows_at_most=rows)


def check_stamp(bucket: Bucket, file: FoundFile) -> FileInfo:
    """What the bucket says of a file of the table; raises TableError when it is not the one that was found."""
    info = _as_it_is(bucket, file)
    if info is None:
        raise TableError(f"{file.path} was changed or removed while it was scored", next_step="Score it again.")
    return info


def check_still(bucket: Bucket, file: FileInfo, next_step: str) -> None:
    """Raises TableError when a file that is read outside of a plan is no longer the one that was found."""
    if _as_it_is(bucket, file) is None:
        raise TableError(f"{file.path} was changed or removed while it was read", next_step=next_step)


def _as_it_is(bucket: Bucket, file: FoundFile | FileInfo) -> FileInfo | None:
    """What the bucket says of a file; None when it is not the one that was found."""
    info = bucket.stat(file.path)
    is_same = info is not None and info.stamp == file.stamp and (not file.version or info.version == file.version)
    return info if is_same else None


@contextlib.contextmanager
def unchanged_while_read(bucket: Bucket, file: FileInfo, next_step: str) -> Iterator[None]:
    """Raises TableError when a file is changed while this block reads it: then it may look damaged, being half of each."""
    try:
        yield
    except TableError:
        check_still(bucket, file, next_step)
        raise
    check_still(bucket, file, next_step)


def write_versions(folder: JobFolder, files: Sequence[FoundFile]) -> None:
    """Keep the versions of the files of a table, where there are any; whoever comes first."""
    versions = {file.path: file.version for file in files if file.version}
    if versions:
        folder.bucket.create(folder.file(VERSIONS), json.dumps(versions).encode())


def _with_versions(folder: JobFolder, files: Sequence[FoundFile]) -> list[FoundFile]:
    """The files as they were written down, with their versions where these are known."""
    text = None if folder.bucket.is_remote else folder.bucket.read(folder.file(VERSIONS))
    try:
        versions = json.loads(text) if text is not None else {}
    except ValueError:
        versions = {}
    known = versions if isinstance(versions, dict) else {}
    return [file.model_copy(update={"version": str(known.get(file.path, ""))}) for file in files]


def read_begun(folder: JobFolder) -> Begun | None:
    """What is settled of a job's plan; None when nothing is."""
    text = folder.bucket.read(folder.file(BEGUN))
    if text is None:
        return None
    try:
        begun = decode_long(Begun, text)
    except MessageError as error:
        raise MessageError(f"{folder.file(BEGUN)} is damaged: {error.message}", next_step=_ANEW) from error
    if begun.job_id != folder.job_id:
        raise MessageError(f"{folder.file(BEGUN)} says that it is of job {begun.job_id}", next_step=_ANEW)
    return begun.model_copy(update={"files": _with_versions(folder, begun.files)})


def read_plan(folder: JobFolder) -> Plan:
    """The plan of a job; raises StrayOrderError when there is none."""
    text = folder.bucket.read(folder.file("plan.json"))
    if text is None:
        raise StrayOrderError(f"job {folder.job_id} has no plan", next_step=f"See what it waits for: scoring jobs show {folder.job_id}")
    try:
        plan = decode_long(Plan, text)
    except MessageError as error:
        raise MessageError(f"the plan of job {folder.job_id} is damaged: {error.message}", next_step=_ANEW) from error
    if plan.job_id != folder.job_id:
        raise MessageError(f"the plan of job {folder.job_id} says that it is of job {plan.job_id}", next_step=_ANEW)
    return plan.model_copy(update={"files": _with_versions(folder, plan.files)})


def slice_file(folder: JobFolder, slices: str, chunk: Chunk) -> str:
    """Where the slice of a compressed file lies that is this chunk."""
    return folder.file(f"slices/{slices}/{chunk.file:06d}-{chunk.start:015d}.csv")


def open_csv(stream: Stream, path: str, size: ChunkSize) -> tuple[list[str], Iterator[Cut]]:
    """Read the header of a csv stream and return its columns and the cuts of what follows, made as they are asked for.

    Raises:
        TableError: empty, not text, or a header that cannot be one; the cuts raise it for an endless record.
    """
    head, end = b"", 0
    try:
        while not end and len(head) < MAX_HEADER_BYTES and (more := stream.read(min(size.bytes, HEADER_READ_BYTES))):
            head += more
            end = int(record_ends(head, final=False)[:1].sum())
    except BAD_GZIP as error:
        raise bad_gzip(path, error) from error
    end = end or len(head)
    if not head.strip():
        raise TableError(f"{path} is empty", next_step="Give a table with a header and at least one row.")
    columns = parse_header(head[:end], path)
    return columns, _cuts(stream, path, size, carry=head[end:], start=end, line=1 + head.count(b"\n", 0, end))


class _Blocks:
    """Reads a stream block by block; counts lines and looks for quotes piece by piece, while a piece is in the processor's cache.

    Of two pieces of memory one is filled while cuts of the other are still in use.
    """

    def __init__(self, stream: Stream, begun: bytes) -> None:
        self._stream, self._spare = stream, bytearray()
        self.data = bytearray()
        """The memory that holds the block, at least as long."""
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
        """Read up to so many bytes more into the block; False at the end of the stream."""
        end = self.size + size
        self._make_room(end)
        before, room = self.size, memoryview(self.data)
        while self.size < end and (got := self._stream.readinto(room[self.size : min(self.size + LOOKED_AT_ONCE, end)])):
            self.lines += count_lines(room[self.size : self.size + got])
            self.has_quote = self.has_quote or self.data.find(b'"', self.size, self.size + got) >= 0
            self.size += got
        return self.size > before

    def next(self, end: int) -> None:
        """Begin the next block with what stands behind ``end`` in this one."""
        rest = bytes(memoryview(self.data)[end : self.size])
        self.data, self._spare = self._spare, self.data
        self._begin(rest)

    def whole(self) -> bytes:
        """A copy of the block."""
        return bytes(memoryview(self.data)[: self.size])


def _cuts(stream: Stream, path: str, size: ChunkSize, *, carry: bytes, start: int, line: int) -> Iterator[Cut]:
    block = _Blocks(stream, carry)
    wanted = size.bytes - block.size
    while True:
        final = not block.read(max(wanted, 1))
        if size.rows is None and not block.has_quote and (end := block.size if final else block.data.rfind(b"\n", 0, block.size) + 1):
            ends, lines = [end], [block.lines]
        else:
            text = block.whole()
            if final and (quote := open_quote(text)) is not None:
                where = line + text.count(b"\n", 0, quote)
                raise TableError(
                    f"{path} has a quote on line {where} that is never closed", next_step="Correct that line and score it again."
                )
            ends = _chunk_ends(text, size, final=final)
            lines = [count_lines(memoryview(text)[begin:end]) for begin, end in itertools.pairwise([0, *ends])]
        if not ends and not final:
            if block.size > MAX_RECORD_BYTES:
                raise TableError(
                    f"{path} has a record of more than {MAX_RECORD_BYTES >> 20} MB on line {line}, perhaps a quote that is never closed",
                    next_step="Correct that line and score the table again.",
                )
            # twice as much each time: what is here is looked at again from its start
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
    """How many line breaks there are, counted in pieces that stay in the processor's cache."""
    text = np.frombuffer(data, dtype=np.uint8)
    return sum(int(np.count_nonzero(text[at : at + LOOKED_AT_ONCE] == LINE_BREAK)) for at in range(0, len(text), LOOKED_AT_ONCE))


def _chunk_ends(block: bytes, size: ChunkSize, *, final: bool) -> list[int]:
    """Where the chunks of a block end; what follows the last one belongs to the next block."""
    ends = record_ends(block, final=final)
    if size.rows is None:
        return [int(end) for end in ends[-1:]]
    whole = ends[size.rows - 1 :: size.rows]
    # the bytes are full before the rows are: the chunk ends with the last record that is here
    if final or (not len(whole) and len(block) >= size.bytes):
        whole = np.union1d(whole, ends[-1:])
    return [int(end) for end in whole]


def _cut_parquet(raw: IO[bytes], path: str, chunk_rows: int | None, place: Place) -> list[tuple[int, int]]:
    with open_parquet(raw, path) as file:
        return parquet_cuts(file.metadata, chunk_rows, place)


def parquet_cuts(found: pq.FileMetaData, chunk_rows: int | None, place: Place = ALONE) -> list[tuple[int, int]]:
    """Where the chunks of a Parquet file start and end: small row groups together, a large one whole or in pieces.

    Towards the end of the table chunks are smaller, so that no process works for long when all others have nothing left.
    """
    most = min(chunk_rows or MAX_CHUNK_ROWS, MAX_CHUNK_ROWS)
    before, behind = int(found.num_rows * place.before), int(found.num_rows * place.behind)
    in_table = before + found.num_rows + behind
    share = most if chunk_rows else in_table // CHUNKS_WANTED
    large = most if chunk_rows else min(most, max(in_table * 2 // 3, 2 * MIN_CHUNK_ROWS))
    cuts: list[tuple[int, int]] = []
    start = end = 0
    for group in range(found.num_row_groups):
        count = found.row_group(group).num_rows
        enough = max(min(share, (found.num_rows - start + behind) // LAST_CHUNKS), min(MIN_CHUNK_ROWS, most))
        if start < end and (end - start >= enough or end - start + count > most):
            cuts.append((start, end))
            start = end
        end += count
        if count > large:
            pieces = MAX_GROUP_PIECES if chunk_rows else _pieces_of_group(count, enough)
            step = max(min(chunk_rows or 0, MAX_GROUP_ROWS), -(-count // pieces))
            cuts += [(begin, min(begin + step, end)) for begin in range(start, end, step)]
            start = end
    return [*cuts, (start, end)] if start < end else cuts


def _pieces_of_group(count: int, enough: int) -> int:
    """Into how many pieces a row group of ``count`` rows is cut where a chunk of ``enough`` is large enough."""
    return max(min(-(-count // enough), WANTED_GROUP_PIECES), min(-(-count // MAX_GROUP_ROWS), MAX_GROUP_PIECES))


def rows_at_once(found: pq.FileMetaData, text_bytes: int = 0) -> int:
    """How many rows of a Parquet file are read together, so that their values stay small; ``text_bytes`` a row come on top."""
    return min(max(MAX_VALUES_BYTES // (bytes_of_row(found) + text_bytes), 1), MAX_CHUNK_ROWS)


def bytes_of_row(found: pq.FileMetaData) -> int:
    """What the values of a row take once they are read, as the file's own types reckon them."""
    kinds = found.schema.to_arrow_schema().types
    return sum(-(-kind.bit_width // 8) if pa.types.is_primitive(kind) else TEXT_BYTES for kind in kinds) or 1


def open_parquet(raw: IO[bytes], path: str, known: pq.FileMetaData | None = None, texts: Sequence[str] = ()) -> pq.ParquetFile:
    """A Parquet file, of which something may be ``known``; raises TableError when it is none.

    The columns ``texts`` stay dictionaries where they are text: a long text that many rows have is in memory once.
    """
    with refusing_bad_parquet(path):
        return pq.ParquetFile(raw, metadata=known, read_dictionary=[*texts])


@contextlib.contextmanager
def refusing_bad_parquet(path: str) -> Iterator[None]:
    """Raises TableError in one sentence when a Parquet file that is read in this block turns out to be broken."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if getattr(error, "errno", None):
            raise  # the storage failed, not the file
        reason = " ".join(str(error).split()).rstrip(".")
        raise TableError(f"{path} is not a Parquet file: {reason}", next_step="Write it again; it may have been cut short.") from error


class Beside:
    """A thread that does one thing after another while its owner goes on; what it is given waits until the thing before is done."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._last: Future[object] | None = None

    def add(self, do: Callable[..., object], *arguments: object) -> None:
        """Have this done as well; raises what the thing before raised."""
        self.wait()
        self._last = self._thread.submit(do, *arguments)

    def __enter__(self) -> "Beside":
        return self

    def __exit__(self, *_: object) -> None:
        # whatever went wrong, nothing is written any more once this is left
        self._thread.shutdown()

    def wait(self) -> None:
        """Return when all is done; raises what the last thing raised."""
        if self._last is not None:
            self._last.result()


class Hashing(io.RawIOBase):
    """Passes a stream through and works out the digest of what goes by, while it is in the processor's cache."""

    def __init__(self, raw: Stream) -> None:
        self._raw, self._sha256, self._size = raw, hashlib.sha256(), 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # any writable buffer
        count = self._raw.readinto(buffer)
        self._sha256.update(memoryview(buffer)[:count])
        self._size += count
        return count

    def read(self, size: int = -1, /) -> bytes:
        data = self._raw.read(size)
        self._sha256.update(data)
        self._size += len(data)
        return data

    def digest(self) -> FileDigest:
        """Size and sha256 of all that was read."""
        return FileDigest(sha256=self._sha256.hexdigest(), size=self._size)


def refusing_bad_gzip(cuts: Iterator[Cut], path: str) -> Iterator[Cut]:
    """The same cuts; raises TableError in one sentence when the gzip stream under them turns out to be broken."""
    try:
        yield from cuts
    except BAD_GZIP as error:
        raise bad_gzip(path, error) from error


def bad_gzip(path: str, error: Exception) -> TableError:
    """What reading a broken gzip stream comes to, in one sentence."""
    return TableError(
        f"{path} is not a whole gzip file: {error}", next_step="Copy it again, it may have been cut short; a plain csv is named .csv."
    )
