"""The rows that differ between two results, as columns of a window and as single rows, and the rows whose change costs most."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from shared.guard.groups import Groups
from shared.guard.verdict import RowProblem


class Features(StrEnum):
    """Whether the features of a row are the same in both tables."""

    SAME = "same"
    """The release changed its rate."""
    CHANGED = "changed"
    """The table changed."""
    UNKNOWN = "unknown"
    """An index has no digests, or the releases read different columns."""


class ChangedRow(NamedTuple):
    """A row that is lost, new or doubled, or that has another rate. A tuple, because a comparison may make millions of them."""

    what: RowProblem
    key: str
    device: str
    rate_before: float | None
    rate_now: float | None
    clicks: float | None
    file: str | None
    line: int | None
    """In the table of the result; of a lost row, in the table before."""
    features: Features | None
    """None of rows that only one table has."""
    cost: float
    """Clicks times the change of the rate; the change alone without clicks."""


@dataclass(frozen=True, kw_only=True)
class ChangedRows:
    """Changed rows of one kind in the order of their keys, as columns of equal length."""

    what: RowProblem
    key: np.ndarray
    before: np.ndarray | None
    now: np.ndarray | None
    clicks: np.ndarray | None
    file: np.ndarray
    line: np.ndarray
    files: Sequence[str]
    is_same: np.ndarray | None = None
    """Whether the features are the same; None if that is unknown."""

    def __len__(self) -> int:
        return len(self.key)

    @property
    def costs(self) -> np.ndarray:
        """What each change costs."""
        zeros = np.zeros(len(self))
        change = np.abs((zeros if self.now is None else self.now) - (zeros if self.before is None else self.before))
        return change if self.clicks is None else change * self.clicks

    def at(self, positions: np.ndarray) -> "ChangedRows":
        """The rows at some positions."""
        before, now, clicks, is_same = (
            None if column is None else column[positions] for column in (self.before, self.now, self.clicks, self.is_same)
        )
        there = {"key": self.key[positions], "file": self.file[positions], "line": self.line[positions]}
        return replace(self, before=before, now=now, clicks=clicks, is_same=is_same, **there)

    def rows(self, groups: Groups) -> Iterator[tuple[int | str, ChangedRow]]:
        """Yields each row after its key as the index holds it."""
        columns = (self.key, self.before, self.now, self.clicks, self.file, self.line, self.is_same, self.costs)
        lists = ([None] * len(self) if column is None else column.tolist() for column in columns)
        for raw, before, now, clicks, file, line, is_same, cost in zip(*lists, strict=True):
            key, device = groups.key_in_words(raw)
            yield (
                raw,
                ChangedRow(
                    what=self.what,
                    key=key,
                    device=device,
                    rate_before=before,
                    rate_now=now,
                    clicks=clicks,
                    file=self.files[file] if 0 <= file < len(self.files) else None,
                    line=line if line > 0 else None,
                    features=self._features(is_same),
                    cost=cost,
                ),
            )

    def _features(self, is_same: bool | None) -> Features | None:
        if self.what != RowProblem.MOVED:
            return None
        if is_same is None:
            return Features.UNKNOWN
        return Features.SAME if is_same else Features.CHANGED


@dataclass
class TopRows:
    """The rows with the highest costs so far, the highest first."""

    count: int
    groups: Groups
    rows: list[ChangedRow] = field(default_factory=list)

    def add(self, changed: ChangedRows) -> None:
        """Keeps those of further rows that belong to the top."""
        costs = changed.costs
        floor = self.rows[-1].cost if len(self.rows) == self.count else -1.0
        above = np.flatnonzero(costs > floor)
        if len(above) > self.count:
            above = np.sort(above[np.argpartition(costs[above], -self.count)[-self.count :]])
        if len(above):
            found = [row for _, row in changed.at(above).rows(self.groups)]
            self.rows = sorted([*self.rows, *found], key=lambda row: -row.cost)[: self.count]
