"""Cuts a training table into folds that are as honest as the use: what is evaluated comes later than what was trained on.

A keyword in a week is never on both sides of a fold. A table of one week, or without weeks, is cut by keywords instead.
"""

import numpy as np
import pandas as pd

from shared.errors import TableError
from shared.records import Frozen
from workers.tables.training.table import TrainingTable

BLOCKS = 32
"""Losses are kept for so many groups of keywords, so that two candidates can be compared group by group."""


HALF_A_YEAR, LAST_WEEK = 26, 53


class Fold(Frozen):
    """One way to cut the table into a side to train on and one to evaluate on."""

    week: float | None = None
    """Evaluated is this week, trained on all earlier ones."""
    group: int = 0
    """Without a week: evaluated is this group of keywords out of ``groups``, trained on all others."""
    groups: int = 0
    words: str


def folds_of(table: TrainingTable, wanted: int) -> list[Fold]:
    """The folds of a table, at most as many as wanted: of the latest weeks, or of groups of keywords where there is one week.

    Raises:
        TableError: it has one keyword alone.
    """
    weeks = [] if table.week is None else weeks_in_order(table.week)
    if len(weeks) > 1:
        places = range(1, len(weeks))[-wanted:]
        return [Fold(week=weeks[place], words=f"week {weeks[place]:g} after {_span(weeks[:place])}") for place in places]
    groups = min(wanted, len(np.unique(table.outcomes.entity_id)))
    if groups < 2:
        raise TableError(
            f"{table.fingerprint.path} has one keyword in one week, too little to be cut into folds",
            next_step="Train on a larger table, or without --config.",
        )
    return [Fold(group=group, groups=groups, words=f"keywords {group} of {groups}") for group in range(1, groups + 1)]


def weeks_in_order(week: np.ndarray) -> list[float]:
    """The weeks that there are, the earliest first; weeks of a year, 1 to 53, with half a year between two go on over New Year."""
    weeks: list[float] = np.unique(week).tolist()
    gaps = np.diff(weeks)
    if len(gaps) and gaps.max() > HALF_A_YEAR and weeks[0] >= 1 and weeks[-1] <= LAST_WEEK:
        first = int(gaps.argmax()) + 1
        return weeks[first:] + weeks[:first]
    return weeks


def sides(table: TrainingTable, fold: Fold) -> tuple[np.ndarray, np.ndarray]:
    """The rows to train on and those to evaluate on, each as a mask."""
    if fold.week is not None:
        week = table.week if table.week is not None else np.full(len(table.frame), np.nan)
        weeks = weeks_in_order(week)
        return np.isin(week, weeks[: weeks.index(fold.week)]), week == fold.week
    evaluated = _ranks(table.outcomes.entity_id) % fold.groups == fold.group - 1
    return ~evaluated, evaluated


def blocks_of(keywords: np.ndarray) -> np.ndarray:
    """The block of each row, 0 to ``BLOCKS - 1``: that of its keyword, the same in every fold."""
    return ((_hashes(keywords) >> np.uint64(32)) % np.uint64(BLOCKS)).astype(np.int64)


def _ranks(keywords: np.ndarray) -> np.ndarray:
    """For each row the rank of its keyword in an order that has nothing to do with the keywords themselves, from 0."""
    hashes, place = np.unique(_hashes(keywords), return_inverse=True)
    return np.arange(len(hashes))[place]


def _hashes(keywords: np.ndarray) -> np.ndarray:
    return pd.util.hash_array(np.asarray(keywords), categorize=False)


def _span(earlier: list[float]) -> str:
    return f"week {earlier[0]:g}" if len(earlier) == 1 else f"weeks {earlier[0]:g} to {earlier[-1]:g}"
