"""How large a chunk of a table may become."""

from dataclasses import dataclass

MIN_CHUNK_BYTES, MAX_CHUNK_BYTES = 1 << 20, 24 << 20
CHUNKS_WANTED = 16
"""A small table is still cut into about this many chunks, so that every process has some."""

CUT_SHORT = 1.01
"""A csv chunk ends with the last record that fits: with this much more room for each, the shares of a table leave no crumbs."""


@dataclass(frozen=True, kw_only=True)
class ChunkSize:
    """How large a chunk may become; whichever is reached first."""

    bytes: int
    rows: int | None

    @classmethod
    def for_table(cls, total_bytes: int, rows: int | None) -> "ChunkSize":
        """Large enough to cost little each, small enough that all processes work and memory stays flat."""
        return cls(bytes=min(max(int(total_bytes / CHUNKS_WANTED * CUT_SHORT), MIN_CHUNK_BYTES), MAX_CHUNK_BYTES), rows=rows)
