"""The functions of the workers that the benchmark uses: cutting, reading, scoring and writing a table, without jobs or the queue."""

import copy
import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.lanes import BenchmarkError
from model_store.store import Release, load_release
from shared.bucket.local import LocalBucket
from shared.catalog.manifests import KEYS
from shared.table_files import FileKind, promised_kind
from workers.concurrency import prefetch_each
from workers.scoring.chunks import rates
from workers.tables import output, schema
from workers.tables import rows as table_rows
from workers.tables.chunk_size import ChunkSize
from workers.tables.compression import UnpackedLimit
from workers.tables.csv.cuts import count_lines
from workers.tables.formats import ChunkSource, format_of
from workers.tables.parquet.cuts import ALONE
from workers.tables.streams import BackgroundWriter, Hashing

HEADER = output.output_header(KEYS, interval=False)

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
    """The output of one piece."""

    file: Path
    sha256: str
    rows: int


def files_of(table: Path) -> list[Path]:
    """Returns the files of a table in the order of their rows."""
    return sorted(table.iterdir()) if table.is_dir() else [table]


def cut(table: Path, aside: Path) -> Iterator[Piece]:
    """Yields the pieces of a table as our planning step would cut them, and hashes the table as the planning step does.

    The text of a compressed file is written into ``aside``, slice by slice.
    """
    files = [(file, promised_kind(file.name)) for file in files_of(table)]
    size = ChunkSize.for_table(sum(format_of(kind).text_bytes(file.stat().st_size) for file, kind in files), None)
    for file, kind in files:
        yield from _cut_file(file, kind, size, aside)


def _cut_file(file: Path, kind: FileKind, size: ChunkSize, aside: Path) -> Iterator[Piece]:
    form, limit = format_of(kind), UnpackedLimit([file.stat().st_size])
    with file.open("rb") as raw:
        columns = form.columns(raw, str(file))
    written, waiting = BackgroundWriter(), None
    with file.open("rb") as raw:
        for cut_out in itertools.chain.from_iterable(form.cut(raw, Hashing(raw), str(file), size, ALONE, limit)):
            start, end = cut_out.start, cut_out.end
            if not form.is_compressed:
                yield Piece(file=file, kind=kind, start=start, end=end, first_line=cut_out.first_line, columns=columns)
                continue
            source = aside / f"{file.name}.{start:012d}"
            written.submit(source.write_bytes, cut_out.text)
            if waiting is not None:
                yield waiting
            waiting = Piece(file=source, kind=kind, start=0, end=end - start, first_line=cut_out.first_line, columns=columns)
    written.wait()
    if waiting is not None:
        yield waiting


def fetch(piece: Piece) -> bytes:
    """Returns the text of a piece of a compressed file; empty for other files, which are read directly."""
    return piece.file.read_bytes() if format_of(piece.kind).is_compressed else b""


@functools.lru_cache(maxsize=1)
def _bucket_of(folder: Path) -> LocalBucket:
    return LocalBucket(folder)


def read(piece: Piece, data: bytes, release: Release) -> Iterator[table_rows.Rows]:
    """Yields the checked rows of a piece, range after range."""
    table_schema = schema.table_schema_for(str(piece.file), piece.columns, release.manifest.columns)
    place = ChunkSource(
        bucket=_bucket_of(piece.file.parent),
        path=piece.file.name,
        version="",
        start=piece.start,
        end=piece.end,
        first_line=piece.first_line,
        opened=lambda: piece.file.open("rb"),
        unpacked=lambda: data,
    )
    with format_of(piece.kind).open_chunk(place, table_schema) as chunk_records:
        for start, end in chunk_records.ranges():
            yield chunk_records.rows(start, end)


predict = rates.predict


def text_of(scored: rates.Scored) -> bytes:
    """Returns the lines of the result for these rows."""
    return output.prediction_text(*scored.columns)


def write(file: Path, member: bytes, rows: int) -> Part:
    """Writes the output of a piece."""
    file.write_bytes(member)
    return Part(file=file, sha256=hashlib.sha256(member).hexdigest(), rows=rows)


@functools.cache
def bucket_at(root: Path) -> LocalBucket:
    """Returns the bucket of a folder, cached, so that a process loads a release once."""
    return LocalBucket(root)


def release_of(root: Path, release: str) -> Release:
    """Returns a release from the bucket in this folder, cached in memory."""
    return load_release(bucket_at(root), release, root / "not-used-by-a-local-bucket")


@functools.cache
def stock_release_of(root: Path, release: str) -> Release:
    """Returns a release whose trees LightGBM itself evaluates, as in the old service and with Dask."""
    found = release_of(root, release)
    booster = getattr(getattr(found.model, "_booster", None), "booster", None)
    if booster is None:
        return found
    model = copy.copy(found.model)
    model._booster = booster
    return dataclasses.replace(found, model=model)


def join(parts: list[Part], target: Path) -> dict[str, str]:
    """Concatenates the verified gzip members after a header into one file; returns the digests of the file and of its text."""
    file, text = hashlib.sha256(), hashlib.sha256()
    with target.open("wb") as out:
        for member, lines in itertools.chain([(compress(HEADER), HEADER)], prefetch_each(_checked, parts)):
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
