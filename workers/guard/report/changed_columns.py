"""The columns whose values changed most between two tables, and how."""

from collections.abc import Mapping
from dataclasses import dataclass

from shared.prediction_index import PredictionIndex
from workers.guard.checks.table_checks import in_order, psi_of_column, shared_columns
from workers.guard.checks.words import percent
from workers.guard.index.feature_counts import bin_edges

MOST_COLUMNS = 10


@dataclass(frozen=True, kw_only=True)
class ChangedColumn:
    """A column, its population stability index above chance, and its values in words."""

    name: str
    psi: float
    before: str
    now: str


def changed_columns(old: PredictionIndex, new: PredictionIndex) -> list[ChangedColumn]:
    """Returns the columns of both tables whose values changed by more than chance, the most changed first, at most ten."""
    if not (old.rows and new.rows):
        return []
    values = {name: psi_of_column(name, old, new) for name in shared_columns(old.feature_counts, new.feature_counts)}
    first = sorted((name for name in values if values[name] > 0), key=lambda name: -values[name])[:MOST_COLUMNS]
    return [ChangedColumn(name=name, psi=values[name], before=_in_words(old, name), now=_in_words(new, name)) for name in first]


def _in_words(index: PredictionIndex, name: str) -> str:
    ones = index.feature_counts.ones.get(name)
    if ones is not None:
        return f"{percent(ones / index.rows)} are 1"
    return f"median {_median(index.feature_counts.bins[name]):.3g}"


def _median(bins: Mapping[int, int]) -> float:
    """The middle of the bin that holds the median; 0 if nothing is counted."""
    left = sum(bins.values()) / 2
    for place in in_order(bins):
        left -= bins[place]
        if left <= 0:
            near, far = bin_edges(place)
            return (near + far) / 2 if near else 0.0
    return 0.0
