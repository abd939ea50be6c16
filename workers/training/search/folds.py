"""Cuts a training table into folds that imitate the use of a model: evaluation rows are later than training rows.

A keyword in a week is never on both sides of a fold. A table of one week, or without weeks, is cut by keyword instead.
"""

import numpy as np
import pandas as pd

from shared.errors import TableError
from shared.records import Frozen
from workers.tables.training.table import TrainingTable

BLOCKS = 32
"""Losses are stored for this many groups of keywords, so that two candidates can be compared group by group."""


HALF_A_YEAR, LAST_WEEK = 26, 53


class Fold(Frozen):
    """One way to cut the table into training and evaluation rows."""

    week: float | None = None
    """The evaluation week; all earlier weeks are used for training."""
    group: int = 0
    """Without a week: the group of keywords, out of ``groups``, for evaluation; all others are used for training."""
    groups: int = 0
    words: str


def folds_of(table: TrainingTable, wanted: int) -> list[Fold]:
    """Returns up to ``wanted`` folds of a table: the latest weeks, or groups of keywords if the table has only one week.

    Raises:
        TableError: the table has only one keyword.
    """
    weeks = [] if table.week is None else weeks_in_order(table.week)
    if len(weeks) > 1:
        places = range(1, len(weeks))[-wanted:]
        return [Fold(week=weeks[place], words=f"week {weeks[place]:g} after {_span(weeks[:place])}") for place in places]
    groups = min(wanted, len(np.unique(table.observations.entity_id)))
    if groups < 2:
        raise TableError(
            f"{table.fingerprint.path} has one keyword in one week, too little to be cut into folds",
            next_step="Train on a larger table, or without --config.",
        )
    return [Fold(group=group, groups=groups, words=f"keywords {group} of {groups}") for group in range(1, groups + 1)]


def weeks_in_order(week: np.ndarray) -> list[float]:
    """Returns the weeks in order of time; week numbers from 1 to 53 with a gap of half a year are taken to continue over New Year."""
    weeks: list[float] = np.unique(week).tolist()
    gaps = np.diff(weeks)
    if len(gaps) and gaps.max() > HALF_A_YEAR and weeks[0] >= 1 and weeks[-1] <= LAST_WEEK:
        first = int(gaps.argmax()) + 1
        return weeks[first:] + weeks[:first]
    return weeks


def sides(table: TrainingTable, fold: Fold) -> tuple[np.ndarray, np.ndarray]:
    """Returns the training rows and the evaluation rows of a fold, each as a mask."""
    if fold.week is not None:
        week = table.week if table.week is not None else np.full(len(table.frame), np.nan)
        weeks = weeks_in_order(week)
        return np.isin(week, weeks[: weeks.index(fold.week)]), week == fold.week
    evaluated = _ranks(table.observations.entity_id) % fold.groups == fold.group - 1
    return ~evaluated, evaluated


def blocks_of(keywords: np.ndarray) -> np.ndarray:
    """Returns the block of each row, 0 to ``BLOCKS - 1``, which depends only on its keyword and is the same in every fold."""
    return ((_hashes(keywords) >> np.uint64(32)) % np.uint64(BLOCKS)).astype(np.int64)


def _ranks(keywords: np.ndarray) -> np.ndarray:
    """Returns the rank of each row's keyword, from 0, in an order that is independent of the keywords' values."""
    hashes, place = np.unique(_hashes(keywords), return_inverse=True)
    return np.arange(len(hashes))[place]


def _hashes(keywords: np.ndarray) -> np.ndarray:
    return pd.util.hash_array(np.asarray(keywords), categorize=False)


def _span(earlier: list[float]) -> str:
    return f"week {earlier[0]:g}" if len(earlier) == 1 else f"weeks {earlier[0]:g} to {earlier[-1]:g}"
