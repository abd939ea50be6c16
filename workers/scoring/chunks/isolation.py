"""Isolates poison rows: bisects a chunk that killed its worker several times until single killing rows remain, which become rejects.

The state of the search is in the job's folder, ``suspects/0000007.json``, and is written before each attempt, so that the next process
reads from it which range of records killed the previous one. A range is ``[start, end)`` in records of the chunk, from 0.
"""

from collections.abc import Callable, Sequence

from pydantic import ConfigDict, Field

from shared.errors import MessageError, ModelError
from shared.jobs.files import Subfolder
from shared.jobs.folder import JobFolder
from shared.records import Record, decode_long

CRASHES_OF_ONE_ROW = 2
"""How often a single row must kill before it is rejected: an operator may also have killed the worker."""

MAX_POISON_ROWS = 10
"""With more single rows that kill, the cause is not in the rows of the chunk."""

RecordSpan = tuple[int, int]


class PoisonSearch(Record):
    """The state of the search in the records of one chunk."""

    model_config = ConfigDict(validate_by_name=True, serialize_by_alias=True)
    pending: tuple[RecordSpan, ...]
    """Ranges that have not been tried, the next one first."""
    cleared: tuple[RecordSpan, ...] = ()
    """Ranges that were scored without killing the process."""
    poison: tuple[RecordSpan, ...] = Field(default=(), alias="deadly")
    """Single records that killed the process."""
    trying: tuple[RecordSpan, ...] = ()
    """The range that is being tried, if any; after a crash it is still here."""
    crashes: int = Field(default=0, alias="deaths")
    """How often the next pending range has killed as a single record."""

    def cover(self, records: int) -> bool:
        """Returns True if every record of the chunk is in exactly one range."""
        at = 0
        for start, end in sorted([*self.pending, *self.cleared, *self.poison, *self.trying]):
            if start != at or (end <= start and records):
                return False
            at = end
        return at == records and len(self.trying) <= 1

    def begin(self) -> "PoisonSearch":
        """Marks the next pending range as being tried."""
        return self.model_copy(update={"trying": self.pending[:1], "pending": self.pending[1:]})

    def survived(self) -> "PoisonSearch":
        """Marks the range that was tried as cleared."""
        return self.model_copy(update={"trying": (), "crashes": 0, "cleared": (*self.cleared, *self.trying)})

    def crashed(self) -> "PoisonSearch":
        """Records that the range that was tried killed its worker: its halves become pending, or a single record becomes poison."""
        if not self.trying:
            return self
        [(start, end)] = self.trying
        if end - start > 1:
            middle = (start + end) // 2
            return self.model_copy(update={"trying": (), "crashes": 0, "pending": ((start, middle), (middle, end), *self.pending)})
        if self.crashes + 1 < CRASHES_OF_ONE_ROW:
            return self.model_copy(update={"trying": (), "crashes": self.crashes + 1, "pending": (*self.trying, *self.pending)})
        return self.model_copy(update={"trying": (), "crashes": 0, "poison": (*self.poison, *self.trying)})


def is_isolated(folder: JobFolder, index: int) -> bool:
    """Returns True if the isolation of the chunk has started."""
    return folder.bucket.exists(_file(folder, index))


def isolate_poison_rows(
    folder: JobFolder, index: int, ranges: Sequence[RecordSpan], attempt: Callable[[int, int], None]
) -> tuple[list[RecordSpan], list[RecordSpan]]:
    """Tries the ranges that make up the chunk; returns the ranges that did not kill and the single records that did, both sorted.

    ``attempt(start, end)`` may kill this process. The next call then continues after that crash.

    Raises:
        ModelError: more than ``MAX_POISON_ROWS`` single records killed, so the cause is not in the records.
    """
    path = _file(folder, index)
    known = _known(folder.bucket.read(path), ranges).crashed()
    while known.pending:
        if len(known.poison) > MAX_POISON_ROWS:
            raise ModelError(
                f"{len(known.poison)} single rows of chunk {index} killed the process that scored them, or never ended, "
                "so it is not the rows but the model that does it",
                next_step="Try its definition with: scoring models check NAME --table FILE, then score the table again.",
            )
        known = known.begin()
        folder.bucket.write(path, known.to_json())
        attempt(*known.trying[0])
        known = known.survived()
    folder.bucket.write(path, known.to_json())
    return sorted(known.cleared), sorted(known.poison)


def _known(text: bytes | None, ranges: Sequence[RecordSpan]) -> PoisonSearch:
    """Returns the state of a chunk; a chunk with a damaged state is tried from the start."""
    initial = PoisonSearch(pending=tuple(ranges))
    try:
        known = initial if text is None else decode_long(PoisonSearch, text)
    except MessageError:
        return initial
    return known if known.cover(ranges[-1][1]) else initial


def _file(folder: JobFolder, index: int) -> str:
    return folder.file(f"{Subfolder.SUSPECTS}/{index:07d}.json")
