"""What the benchmark takes from the workers, all of it here: how a table is cut, read, scored and written, without any job or queue."""

import functools
import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.lanes import BenchmarkError
from model_store.store import Release, load_release
from shared.bucket.local import LocalBucket
from shared.catalog.manifests import KEYS
from shared.table_files import FileKind, promised_kind
from workers.scoring import chunk
from workers.scoring.chunk_reader import parquet_pieces
from workers.tables import output, schema
from workers.tables import rows as table_rows
from workers.tables.chunk_size import ChunkSize
from workers.tables.csv import rows as csv_rows
from workers.tables.csv.cuts import count_lines, open_csv
from workers.tables.parquet.cuts import parquet_cuts
from workers.tables.prefetch import ahead
from workers.tables.streams import GZIP_RATIO, Beside, Hashing, Stream, unpacked

HEADER = output.output_header(KEYS, interval=False)
DEVICES = schema.DEVICES

compress = output.compress


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A chunk of a file: bytes ``start`` to ``end`` of a csv file or of a slice of an unpacked one, rows of a Parquet file."""

    file: Path
    kind: FileKind
    start: int
    end: int
    first_line: int
    columns: list[str]


@dataclass(frozen=True, kw_only=True)
class Part:
    """What was written of one piece."""

    file: Path
    sha256: str
    rows: int


def files_of(table: Path) -> list[Path]:
    """The files of a table in the order of their rows."""
    return sorted(table.iterdir()) if table.is_dir() else [table]


def cut(table: Path, aside: Path) -> Iterator[Piece]:
    """The pieces of a table as our planning would cut them, with its digest worked out on the way.

    The text of a compressed file is written into ``aside``, slice by slice.
    """
    files = [(file, promised_kind(file.name)) for file in files_of(table)]
    size = ChunkSize.for_table(sum(file.stat().st_size * (GZIP_RATIO if kind == "csv.gz" else 1) for file, kind in files), None)
    for file, kind in files:
        yield from _cut_parquet(file) if kind == "parquet" else _cut_csv(file, kind, size, aside)


def _cut_csv(file: Path, kind: FileKind, size: ChunkSize, aside: Path) -> Iterator[Piece]:
    written, waiting = Beside(), None
    with file.open("rb") as raw:
        hashed = Hashing(raw)
        stream: Stream = unpacked(hashed) if kind == "csv.gz" else hashed
        columns, cuts = open_csv(stream, str(file), size)
        for cut_out in cuts:
            start, end = cut_out.start, cut_out.start + len(cut_out.data)
            if kind == "csv":
                yield Piece(file=file, kind=kind, start=start, end=end, first_line=cut_out.first_line, columns=columns)
                continue
            source = aside / f"{file.name}.{start:012d}"
            written.add(source.write_bytes, cut_out.data)
            if waiting is not None:
                yield waiting
            waiting = Piece(file=source, kind=kind, start=0, end=end - start, first_line=cut_out.first_line, columns=columns)
    written.wait()
    if waiting is not None:
        yield waiting


def _cut_parquet(file: Path) -> Iterator[Piece]:
    found = _known_of(file)
    columns = found.schema.to_arrow_schema().names
    for start, end in parquet_cuts(found, None):
        yield Piece(file=file, kind="parquet", start=start, end=end, first_line=start + 1, columns=columns)
    with file.open("rb") as raw:
        hashlib.file_digest(raw, "sha256")


@functools.lru_cache(maxsize=1)
def _known_of(file: Path) -> pq.FileMetaData:
    return pq.read_metadata(file)


def fetch(piece: Piece) -> bytes:
    """The bytes of a piece of csv; none for Parquet, which is read by rows."""
    if piece.kind == "parquet":
        return b""
    with piece.file.open("rb") as raw:
        raw.seek(piece.start)
        return raw.read(piece.end - piece.start)


def read(piece: Piece, data: bytes, release: Release) -> Iterator[table_rows.Rows]:
    """The rows of a piece, checked, range after range."""
    layout = schema.layout_for(str(piece.file), piece.columns, release.manifest.columns)
    if piece.kind != "parquet":
        yield csv_rows.read_csv_rows(data, layout, piece.first_line)
        return
    with piece.file.open("rb") as raw:
        pieces = parquet_pieces(raw, layout, piece.start, piece.end, _known_of(piece.file))
        for start, end in pieces.ranges():
            yield pieces.rows(start, end)


predict = chunk.predict


def text_of(scored: chunk.Scored) -> bytes:
    """The lines of the result for these rows."""
    return output.prediction_text(*scored.columns)


def write(file: Path, member: bytes, rows: int) -> Part:
    """Write what was scored of a piece."""
    file.write_bytes(member)
    return Part(file=file, sha256=hashlib.sha256(member).hexdigest(), rows=rows)


@functools.cache
def bucket_at(root: Path) -> LocalBucket:
    """One bucket for each folder, so that a release is loaded once in a process."""
    return LocalBucket(root)


def release_of(root: Path, release: str) -> Release:
    """A release from the bucket in this folder, kept in memory."""
    return load_release(bucket_at(root), release, root / "not-used-by-a-local-bucket")


def join(parts: list[Part], target: Path) -> dict[str, str]:
    """Put gzip members behind a header into one file, each checked; the digests of the file and of its text."""
    file, text = hashlib.sha256(), hashlib.sha256()
    with target.open("wb") as out:
        for member, lines in itertools.chain([(compress(HEADER), HEADER)], ahead(_checked, parts)):
            text.update(lines)
            file.update(member)
            out.write(member)
    return {"file": file.hexdigest(), "text": text.hexdigest()}


def _checked(part: Part) -> tuple[bytes, bytes]:
    member = part.file.read_bytes()
    if hashlib.sha256(member).hexdigest() != part.sha256:
        raise BenchmarkError(f"{part.file} is not what was written")
    lines = output.decompress(member)
    if count_lines(lines) != part.rows:
        raise BenchmarkError(f"{part.file} does not hold {part.rows:,} rows")
    return member, lines
