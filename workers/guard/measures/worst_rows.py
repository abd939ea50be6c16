"""Keeps the rows whose change costs most: clicks times the change of the rate."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from shared.guard.windows import MOST_QUOTED, Run, Window


@dataclass(frozen=True)
class QuotedRow:
    """A row with its rates and its place in the table that has it."""

    cost: float
    key: object
    before: float | None
    now: float | None
    clicks: float | None
    file: int
    """Position in the files of the index."""
    line: int
    """-1 when it is unknown."""


@dataclass
class TopRows:
    """The rows with the highest cost so far, at most ten, the highest first."""

    rows: list[QuotedRow] = field(default_factory=list)

    def candidates(self, costs: np.ndarray) -> Iterator[int]:
        """Yields the positions that may be among the top, the most of one call."""
        floor = self.rows[-1].cost if len(self.rows) == MOST_QUOTED else 0.0
        above = np.flatnonzero(costs > floor)
        if len(above) > MOST_QUOTED:
            above = above[np.argpartition(costs[above], -MOST_QUOTED)[-MOST_QUOTED:]]
        yield from above.tolist()

    def keep(self, rows: list[QuotedRow]) -> None:
        """Keeps the rows that belong to the top."""
        if rows:
            self.rows = sorted([*self.rows, *rows], key=lambda row: -row.cost)[:MOST_QUOTED]


@dataclass
class WorstRows:
    """The worst moved, lost and new rows."""

    moved: TopRows = field(default_factory=TopRows)
    lost: TopRows = field(default_factory=TopRows)
    appeared: TopRows = field(default_factory=TopRows)

    def add_moved(self, window: Window, change: np.ndarray, clicks: np.ndarray | None) -> None:
        """Compares the keys that both tables have; ``change`` and ``clicks`` are theirs."""
        costs = change if clicks is None else change * clicks
        found = list(self.moved.candidates(costs))
        if found:
            olds, news = (found, found) if window.pairs is None else (window.pairs[0][found], window.pairs[1][found])
            before = window.old.cr[olds].tolist()
            rows = _quoted(window.new, news, costs[found], None if clicks is None else clicks[found])
            self.moved.keep([replace(row, before=rate) for row, rate in zip(rows, before, strict=True)])

    def add_others(self, window: Window) -> None:
        """Compares the keys that only one table has, by clicks times rate."""
        self._add(self.lost, window.old, window.lost, is_lost=True)
        self._add(self.appeared, window.new, window.appeared, is_lost=False)

    @staticmethod
    def _add(top: TopRows, run: Run, positions: np.ndarray, *, is_lost: bool) -> None:
        if not len(positions):
            return
        clicks = None if run.clicks is None else run.clicks[positions]
        costs = run.cr[positions] if clicks is None else run.cr[positions] * clicks
        found = list(top.candidates(costs))
        rows = _quoted(run, positions[found], costs[found], None if clicks is None else clicks[found])
        top.keep([replace(row, before=row.now, now=None) if is_lost else row for row in rows])


def _quoted(run: Run, positions: "np.ndarray | list[int]", costs: np.ndarray, clicks: np.ndarray | None) -> list[QuotedRow]:
    """Rows of a run with their rates as ``now``."""
    return [
        QuotedRow(
            cost=float(costs[place]),
            key=run.key[position],
            before=None,
            now=float(run.cr[position]),
            clicks=None if clicks is None else float(clicks[place]),
            file=int(run.file[position]),
            line=int(run.line[position]),
        )
        for place, position in enumerate(positions)
    ]


def quoted_rows(run: Run) -> list[QuotedRow]:
    """All rows of a run, in its order."""
    return _quoted(run, np.arange(len(run)), run.cr, run.clicks)
