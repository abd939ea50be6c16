"""Determines where a Parquet file may be cut, and how many of its rows fit into memory."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from shared.errors import TableError
from workers.tables.chunk_size import CHUNKS_WANTED

MIN_CHUNK_ROWS, MAX_CHUNK_ROWS = 20_000, 131_072
"""Rows of a Parquet chunk of several row groups; with 160 flags its values take as much memory as a csv chunk."""

MAX_VALUES_BYTES = 32 << 20
"""Bytes of Parquet values that are read together, at the widths of the file's types (numbers are wider than flags), and at most
``MAX_CHUNK_ROWS`` rows.
"""

TEXT_BYTES = 16
"""Estimated bytes of a text value."""

LAST_CHUNKS = 4
"""A Parquet chunk of several row groups holds about one in this many of the remaining rows."""

MAX_GROUP_ROWS = 1 << 19
"""Rows of a Parquet chunk in one large row group, which is read in ranges: Arrow's default of 1,048,576 rows makes two chunks.

With more rows, a slow model could exceed the time limit of a chunk.
"""

WANTED_GROUP_PIECES, MAX_GROUP_PIECES = 4, 16
"""Maximum pieces of a row group. Each piece decodes all rows before it again, so a group is cut into at most four pieces to get enough
chunks from a table with few groups, and into at most sixteen because it is very large.
"""


class ShareOfTable(NamedTuple):
    """How much of the table comes before and after a file, as multiples of the size of this file."""

    before: float = 0.0
    after: float = 0.0


ALONE = ShareOfTable()


def parquet_columns(file: pq.ParquetFile, path: str) -> list[str]:
    names: list[str] = file.schema_arrow.names
    if not names:
        raise TableError(f"{path} has no columns", next_step="Write it again with its columns.")
    return names


def cut_parquet(raw: IO[bytes], path: str, chunk_rows: int | None, place: ShareOfTable) -> list[tuple[int, int]]:
    with open_parquet(raw, path) as file:
        return parquet_cuts(file.metadata, chunk_rows, place)


def parquet_cuts(found: pq.FileMetaData, chunk_rows: int | None, place: ShareOfTable = ALONE) -> list[tuple[int, int]]:
    """Returns the (start, end) rows of the chunks of a Parquet file: small row groups are combined, large ones stay whole or are split.

    Chunks get smaller towards the end of the table, so that no process works for long when the others have nothing left.
    """
    limits = _limits(found.num_rows, chunk_rows, place)
    cuts: list[tuple[int, int]] = []
    start = end = 0
    for group in range(found.num_row_groups):
        count = found.row_group(group).num_rows
        enough = limits.enough(found.num_rows - start)
        if start < end and (end - start >= enough or end - start + count > limits.most):
            cuts.append((start, end))
            start = end
        end += count
        if count > limits.large:
            step = limits.rows_of_piece(count, enough)
            cuts += [(begin, min(begin + step, end)) for begin in range(start, end, step)]
            start = end
    return [*cuts, (start, end)] if start < end else cuts


@dataclass(frozen=True, kw_only=True)
class _Limits:
    """The numbers of rows by which row groups are combined to chunks, or split."""

    chunk_rows: int | None
    """The requested number of rows."""
    most: int
    """Groups are combined up to this many rows."""
    large: int
    """A group of more rows is split."""
    share: int
    """The rows of a chunk when all chunks of the table have the same size."""
    after: int
    """The rows of the table after this file."""

    def enough(self, left: int) -> int:
        """Returns the rows at which a chunk is complete when ``left`` rows of the file are not yet in a chunk."""
        return max(min(self.share, (left + self.after) // LAST_CHUNKS), min(MIN_CHUNK_ROWS, self.most))

    def rows_of_piece(self, count: int, enough: int) -> int:
        """Returns the rows of each piece of a row group of ``count`` rows."""
        pieces = MAX_GROUP_PIECES if self.chunk_rows else _pieces_of_group(count, enough)
        return max(min(self.chunk_rows or 0, MAX_GROUP_ROWS), -(-count // pieces))


def _limits(rows: int, chunk_rows: int | None, place: ShareOfTable) -> _Limits:
    most = min(chunk_rows or MAX_CHUNK_ROWS, MAX_CHUNK_ROWS)
    before, after = int(rows * place.before), int(rows * place.after)
    in_table = before + rows + after
    return _Limits(
        chunk_rows=chunk_rows,
        most=most,
        large=most if chunk_rows else min(most, max(in_table * 2 // 3, 2 * MIN_CHUNK_ROWS)),
        share=most if chunk_rows else in_table // CHUNKS_WANTED,
        after=after,
    )


def _pieces_of_group(count: int, enough: int) -> int:
    """Returns the number of pieces for a row group of ``count`` rows if a chunk of ``enough`` rows is large enough."""
    return max(min(-(-count // enough), WANTED_GROUP_PIECES), min(-(-count // MAX_GROUP_ROWS), MAX_GROUP_PIECES))


def rows_at_once(found: pq.FileMetaData, text_bytes: int = 0) -> int:
    """Returns how many rows of a Parquet file are read together so that their values stay small; each row takes ``text_bytes`` more."""
    return min(max(MAX_VALUES_BYTES // (bytes_of_row(found) + text_bytes), 1), MAX_CHUNK_ROWS)


def bytes_of_row(found: pq.FileMetaData) -> int:
    """Returns the bytes that the values of a row take in memory, by the file's types."""
    kinds = found.schema.to_arrow_schema().types
    return sum(-(-kind.bit_width // 8) if pa.types.is_primitive(kind) else TEXT_BYTES for kind in kinds) or 1


def open_parquet(raw: IO[bytes], path: str, known: pq.FileMetaData | None = None, texts: Sequence[str] = ()) -> pq.ParquetFile:
    """Opens a Parquet file, without reading its metadata if it is ``known``; raises TableError if it is not a Parquet file.

    The text columns in ``texts`` stay dictionaries, so that a long repeated text is in memory only once.
    """
    with parquet_errors(path):
        return pq.ParquetFile(raw, metadata=known, read_dictionary=[*texts])


@contextlib.contextmanager
def parquet_errors(path: str) -> Iterator[None]:
    """Raises TableError when a Parquet file that is read in this block is broken."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if getattr(error, "errno", None):
            raise  # the storage failed, not the file
        reason = " ".join(str(error).split()).rstrip(".")
        raise TableError(f"{path} is not a Parquet file: {reason}", next_step="Write it again; it may have been cut short.") from error
