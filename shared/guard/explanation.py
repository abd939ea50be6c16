"""The records of ``scoring why``: a question about one rate, and its answer.

The parts of a change add up to it: ``model + history + row``, where ``row`` is the sum over ``columns`` and ``rests``.
"""

import secrets
from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from shared.records import BucketPath, Frozen, JobId, Record, ReleaseId, Timestamp

MAX_KEYS = 20
MAX_SENTENCE = 2000
"""The longest sentence of an answer, in characters."""


class Question(Record):
    """A question about the rate of one row of a result."""

    token: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")] = Field(default_factory=lambda: secrets.token_hex(8))
    job_id: JobId
    """The job whose result is explained."""
    against: JobId | None
    """The job whose result it is compared with; None if there is no earlier one."""
    keys: Annotated[list[Annotated[str, Field(max_length=1000)]], Field(min_length=1, max_length=MAX_KEYS)]
    """The values of the key columns of the result, in their order; a device is 0, 1 or 2."""


class RowState(StrEnum):
    """What became of a row in one result."""

    SCORED = "scored"
    REJECTED = "rejected"
    ABSENT = "not in the table"


class ExplainedRow(Frozen):
    """The row of one result."""

    state: RowState
    job_id: JobId
    release: ReleaseId
    result: BucketPath
    """The folder of the revision."""
    table: BucketPath
    finished: Timestamp
    is_held: bool
    """True if the result is held back from its channel."""
    rate: float | None = None
    low: float | None = None
    high: float | None = None
    clicks: float | None = None
    """Clicks of the row in its table; None if the table has none."""
    file: str | None = None
    line: int | None = None
    """Where the row is; None if the index of the result does not say so."""
    chunk: int | None = None
    """The chunk that scored it; None once the files of the job are removed."""
    rows: int = 0
    """Rows of the result with this key; the first one is explained."""
    reason: str = ""
    """Why it was rejected."""
    may_be_rejected: bool = False
    """True if it was not found, and some of the rejected rows could not be read."""


class ColumnChange(Frozen):
    """What the change of one column did to the rate."""

    column: str
    before: str
    """The value in the earlier row."""
    now: str
    change: float


class Split(Frozen):
    """The parts of the change of a rate."""

    model: float
    """The old row under the new release, minus the rate before; without what ``history`` holds."""
    history: float
    """What changed in that a release adds for the history of a keyword; 0 for definitions without one."""
    row: float
    """The new row minus the old row, both under the new release; without what ``history`` holds."""
    columns: list[ColumnChange] = Field(default_factory=list)
    """What makes ``row``, the largest change first."""
    rests: dict[str, float] = Field(default_factory=dict)
    """What else makes ``row``, by name, such as ``cut to [0, 1]``."""
    reasons: dict[str, float] = Field(default_factory=dict)
    """What makes ``history``, by name."""
    method: str
    """How ``row`` was split by column, in words."""

    @property
    def parts(self) -> list[float]:
        """All parts; some of them may add up to nothing."""
        return [self.model, *self.reasons.values(), *(one.change for one in self.columns), *self.rests.values()]

    @property
    def total(self) -> float:
        """The sum of all parts."""
        return self.model + self.history + self.row


class Explanation(Record):
    """Where a rate comes from, and why it is another one than before."""

    keys: dict[str, str]
    """The key columns and their values."""
    now: ExplainedRow
    before: ExplainedRow | None = None
    """The same row in the result that it is compared with; None without an earlier result."""
    change: float | None = None
    """The rate now minus the rate before; None unless both are known."""
    split: Split | None = None
    why_not: str = ""
    """Why there is no split; empty if there is one."""
    notes: list[str] = Field(default_factory=list)

    @property
    def rows(self) -> list[ExplainedRow]:
        """The row in both results, or in the one that there is."""
        return [self.now] if self.before is None else [self.now, self.before]

    @property
    def is_nowhere(self) -> bool:
        """True if neither result has the row, and it is not among their rejected rows."""
        return all(row.state == RowState.ABSENT and not row.may_be_rejected for row in self.rows)


class Answer(Record):
    """The answer to a question: an explanation, or why there is none."""

    explanation: Explanation | None = None
    error: Annotated[str, Field(max_length=MAX_SENTENCE)] = ""
    next_step: Annotated[str, Field(max_length=MAX_SENTENCE)] = ""
    exit_code: int = 0
    """The exit code of the command; 0 with an explanation."""
