"""The maximum size of a chunk of a table."""

from dataclasses import dataclass

MIN_CHUNK_BYTES, MAX_CHUNK_BYTES = 1 << 20, 24 << 20
CHUNKS_WANTED = 16
"""A small table is still cut into about this many chunks, so that every process gets some of them."""

CUT_SHORT = 1.01
"""Slack for the size of a csv chunk, which ends with the last record that fits: without it, a tiny chunk would remain at the end of a
table.
"""


@dataclass(frozen=True, kw_only=True)
class ChunkSize:
    """The maximum size of a chunk, in bytes and in rows; the limit that is reached first applies."""

    bytes: int
    rows: int | None

    @classmethod
    def for_table(cls, total_bytes: int, rows: int | None) -> "ChunkSize":
        """Returns a size that keeps the overhead per chunk low, all processes busy and the memory bounded."""
        return cls(bytes=min(max(int(total_bytes / CHUNKS_WANTED * CUT_SHORT), MIN_CHUNK_BYTES), MAX_CHUNK_BYTES), rows=rows)
