"""A chunk that killed its worker several times is cut down by halves, until the row that does it stands alone and becomes a reject.

What is known of such a chunk lies in the job's folder, ``suspects/0000007.json``, and is written before each try: whoever comes after a
death reads from it which range of records was being tried. A range is ``[start, end)`` in records of the chunk, from 0.
"""

from collections.abc import Callable, Sequence

from shared.errors import MessageError, ModelError
from shared.jobs.files import Subfolder
from shared.jobs.folder import JobFolder
from shared.records import Record, decode_long

DEATHS_OF_ONE_ROW = 2
"""A single row must kill this often before it is called deadly: a worker may also be killed by its operator."""

MAX_POISON_ROWS = 10
"""With more single rows that kill, it is not the rows of the chunk that do it."""

RecordSpan = tuple[int, int]


class PoisonSearch(Record):
    """What is known of the records of one chunk."""

    pending: tuple[RecordSpan, ...]
    """Ranges still to be tried, the next one first."""
    cleared: tuple[RecordSpan, ...] = ()
    """Ranges that were scored and killed nobody."""
    deadly: tuple[RecordSpan, ...] = ()
    """Single records that killed."""
    trying: tuple[RecordSpan, ...] = ()
    """The range that is being tried, if any; still there after a death."""
    deaths: int = 0
    """How often the range that is tried next has killed alone."""

    def cover(self, records: int) -> bool:
        """True when every record of the chunk is in exactly one range."""
        at = 0
        for start, end in sorted([*self.pending, *self.cleared, *self.deadly, *self.trying]):
            if start != at or (end <= start and records):
                return False
            at = end
        return at == records and len(self.trying) <= 1

    def begin(self) -> "PoisonSearch":
        """The next pending range is being tried."""
        return self.model_copy(update={"trying": self.pending[:1], "pending": self.pending[1:]})

    def survived(self) -> "PoisonSearch":
        """The range that was tried killed nobody."""
        return self.model_copy(update={"trying": (), "deaths": 0, "cleared": (*self.cleared, *self.trying)})

    def died(self) -> "PoisonSearch":
        """The range that was tried killed its worker: try its halves, or call it deadly when it is one record."""
        if not self.trying:
            return self
        [(start, end)] = self.trying
        if end - start > 1:
            middle = (start + end) // 2
            return self.model_copy(update={"trying": (), "deaths": 0, "pending": ((start, middle), (middle, end), *self.pending)})
        if self.deaths + 1 < DEATHS_OF_ONE_ROW:
            return self.model_copy(update={"trying": (), "deaths": self.deaths + 1, "pending": (*self.trying, *self.pending)})
        return self.model_copy(update={"trying": (), "deaths": 0, "deadly": (*self.deadly, *self.trying)})


def is_isolated(folder: JobFolder, index: int) -> bool:
    """True when the chunk was begun to be tried in pieces."""
    return folder.bucket.exists(_file(folder, index))


def isolate_poison_rows(
    folder: JobFolder, index: int, ranges: Sequence[RecordSpan], attempt: Callable[[int, int], None]
) -> tuple[list[RecordSpan], list[RecordSpan]]:
    """Try these ranges, which are the chunk; returns the ranges that killed nobody and the single records that did, both sorted.

    ``attempt(start, end)`` may kill this process. The next call then goes on after that death.

    Raises:
        ModelError: so many single records killed that it cannot be the records.
    """
    path = _file(folder, index)
    known = _known(folder.bucket.read(path), ranges).died()
    while known.pending:
        if len(known.deadly) > MAX_POISON_ROWS:
            raise ModelError(
                f"{len(known.deadly)} single rows of chunk {index} killed the process that scored them, or never ended, "
                "so it is not the rows but the model that does it",
                next_step="Try its definition with: scoring models check NAME --table FILE, then score the table again.",
            )
        known = known.begin()
        folder.bucket.write(path, known.to_json())
        attempt(*known.trying[0])
        known = known.survived()
    folder.bucket.write(path, known.to_json())
    return sorted(known.cleared), sorted(known.deadly)


def _known(text: bytes | None, ranges: Sequence[RecordSpan]) -> PoisonSearch:
    """What is known of a chunk; when it is damaged, the chunk is tried from the start."""
    afresh = PoisonSearch(pending=tuple(ranges))
    try:
        known = afresh if text is None else decode_long(PoisonSearch, text)
    except MessageError:
        return afresh
    return known if known.cover(ranges[-1][1]) else afresh


def _file(folder: JobFolder, index: int) -> str:
    return folder.file(f"{Subfolder.SUSPECTS}/{index:07d}.json")
