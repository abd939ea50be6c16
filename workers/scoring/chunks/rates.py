"""Predicts the rates of rows, and rejects rows whose prediction must not be written."""

from dataclasses import dataclass

import numpy as np

from model_store.predicting import columns_for, predict_rows
from model_store.store import Release
from workers.guard.index.features import Features
from workers.guard.index.part_index import IndexedRows
from workers.tables import rows as table_rows

NOT_FINITE, OUTSIDE = "the prediction is not a finite number", "not within its interval"
"""Reasons for rejecting a row because of the definition's prediction."""


@dataclass(frozen=True, kw_only=True)
class Scored:
    """The scored rows of a chunk, or of a piece of one, with their rates."""

    keys: list[np.ndarray]
    """The key columns."""
    device: np.ndarray
    cr: np.ndarray
    """float64 in [0, 1], one per row."""
    bounds: list[np.ndarray]
    """Lower and upper bound of each rate, float64 in [0, 1]; empty unless requested."""
    clipped: int
    """How many predictions were outside [0, 1] and were set to the nearer end."""
    rejects: list[table_rows.Reject]
    indexed: IndexedRows
    """The digests of their features, their lines and their clicks."""

    @property
    def columns(self) -> list[np.ndarray]:
        """The columns of the result, in order."""
        return [*self.keys, self.cr, *self.bounds]


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """The rows that have a rate, with their rates."""

    rows: table_rows.Rows
    cr: np.ndarray
    """float64 in [0, 1], one per row."""
    bounds: list[np.ndarray]
    """Lower and upper bound of each rate, float64 in [0, 1]; empty unless requested."""
    clipped: int
    """How many predictions were outside [0, 1] and were set to the nearer end."""


def predict(release: Release, rows: table_rows.Rows, *, interval: bool = False, path: str = "the table") -> Scored:
    """Returns the scored rows with their rates, and with the bounds of these if ``interval`` is true; see ``predict_valid``."""
    found = predict_valid(release, rows, interval=interval, path=path)
    keys, rows = release.manifest.keys, found.rows
    return Scored(
        keys=rows.keys(keys),
        device=rows.device,
        cr=found.cr,
        bounds=found.bounds,
        clipped=found.clipped,
        rejects=rows.rejects,
        indexed=IndexedRows.of(rows.frame, Features.of(release.manifest.columns, keys), rows.lines.all(), rows.clicks),
    )


def predict_valid(release: Release, rows: table_rows.Rows, *, interval: bool = False, path: str = "the table") -> Predicted:
    """Returns the rows with a valid rate, and with the bounds of these if ``interval`` is true.

    A row is rejected if its prediction or a bound is not finite, or if its rate is outside its bounds, so no such value is ever written.

    Raises:
        DefinitionError: the definition's code failed; the message names the first row, by its line in ``path``.
        TableError: the definition refuses the table.
    """
    if rows.frame.empty:
        return Predicted(rows=rows, cr=np.empty(0), bounds=[np.empty(0)] * 2 if interval else [], clipped=0)
    cr, *bounds = _raw_predictions(release, rows, path, interval=interval)
    finite = np.isfinite(cr)
    for bound in bounds:
        finite &= np.isfinite(bound)
    if not finite.all():
        rows = table_rows.reject_rows(rows, ~finite, cr, NOT_FINITE)
        cr, *bounds = (values[finite] for values in (cr, *bounds))
    # adding zero turns -0.0, which would be written as -0, into 0.0
    rates, *bounds = (np.clip(values, 0.0, 1.0) + 0.0 for values in (cr, *bounds))
    for low, high in [bounds] if interval else []:
        inside: np.ndarray = (low <= rates) & (rates <= high)
        if not inside.all():
            rows = table_rows.reject_rows(rows, ~inside, rates, OUTSIDE)
            cr, rates, bounds = cr[inside], rates[inside], [low[inside], high[inside]]
    clipped = np.count_nonzero((cr < 0) | (cr > 1))
    return Predicted(rows=rows, cr=rates, bounds=bounds, clipped=int(clipped))


def _raw_predictions(release: Release, rows: table_rows.Rows, path: str, *, interval: bool) -> list[np.ndarray]:
    """Returns what the definition predicts, float64, one per row; then the lower and upper bounds if requested."""

    def name_row(position: int) -> str:
        keys = zip(release.manifest.keys, rows.keys(release.manifest.keys), strict=True)
        shown = ", ".join(f"{name} {column[position]}" for name, column in keys)
        return f"line {rows.lines[np.array([position])][0]} of {path} ({shown})"

    frame = columns_for(release.definition, [column.name for column in release.manifest.columns], rows.frame)
    return predict_rows(release.definition, release.model, frame, interval=interval, name_row=name_row, table=path)
