"""Splits the change of a rate exactly into what the model, the row and the history changed.

With the rate ``f(x)`` of a row ``x`` under a release ``f``, cut to [0, 1] as it is published:

    now - before = [new(old row) - old(old row)] + [new(new row) - new(old row)]
                 = model                        + row

What releases add for the history of a keyword (``contributions`` names it) is taken out of both and stands alone.
``row`` is split by column.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from model_store.contributing import TOLERANCE, Contributions, ContributionsError, contributions_of, has_contributions
from model_store.predicting import columns_for, predict_rows, prepare
from model_store.store import Release
from shared.guard.explanation import Split
from workers.explaining.column_changes import ColumnParts, by_contributions, by_substitution

OLD, NEW = 0, 1
"""The positions of the rows in a frame of two."""


class OtherRateError(Exception):
    """Raised when a release gives another rate for a row than was published."""


@dataclass(frozen=True, kw_only=True)
class RatesBefore:
    """The rate that was published before, and the history in it."""

    rate: float
    reasons: dict[str, float] | None
    """What the old release added to it for the history of the keyword, by name; None if the old release cannot say."""


def split_change(release: Release, rows: pd.DataFrame, before: RatesBefore, now: float, table: str) -> tuple[Split, list[str]]:
    """Returns the parts of the change from ``before`` to the published rate ``now``, and notes.

    Args:
        release: the new release.
        rows: the old row and the new row, with the columns that the new release needs.
        before: what was published before.
        now: the rate that the new release published.
        table: the name of the new table, for messages.

    Raises:
        OtherRateError: the release gives another rate for the new row than was published.
        DefinitionError: the code of the definition failed.
        TableError: the definition refuses a row.
    """
    frame = columns_for(release.definition, [column.name for column in release.manifest.columns], rows)
    rates = rates_of(release, frame, table)
    notes = check_rate(release, rates[NEW], now)
    parts, found = _column_parts(release, frame, rates, table, notes)
    in_rows = {} if found is None else {name: float(values[NEW] - values[OLD]) for name, values in found.reasons.items()}
    of_model = _history_of_model(found, before, notes)
    reasons = {name: in_rows.get(name, 0.0) + of_model.get(name, 0.0) for name in {**in_rows, **of_model}}
    row = now - rates[OLD] - sum(in_rows.values())
    split = Split(
        model=rates[OLD] - before.rate - sum(of_model.values()),
        history=sum(reasons.values()),
        row=row,
        columns=parts.columns,
        rests=parts.with_rest(row),
        reasons=reasons,
        method=parts.method,
    )
    return split, notes


def rates_of(release: Release, frame: pd.DataFrame, table: str) -> list[float]:
    """Returns the rates of rows as they are published: cut to [0, 1], and 0 without a sign."""
    [raw] = predict_rows(release.definition, release.model, frame, table=table)
    return [float(rate) for rate in np.clip(raw, 0.0, 1.0) + 0.0]


def check_rate(release: Release, rate: float, published: float) -> list[str]:
    """Returns a note if the last digits of a rate are not the published ones.

    Raises:
        OtherRateError: the rates are further apart.
    """
    if rate == published:
        return []
    name = release.manifest.release
    if abs(rate - published) <= TOLERANCE:
        return [f"{name} gives this row alone {rate!r}, and gave it {published!r} among others: its rates depend on the block of rows"]
    raise OtherRateError(f"{name} gives this row the rate {rate!r} now, and {published!r} was published")


def history_of(release: Release, frame: pd.DataFrame, table: str) -> dict[str, float]:
    """Returns what a release adds to the rate of one row for the history of its keyword, by name; empty if it adds nothing.

    Raises:
        ContributionsError: its contributions are not what the contract says.
    """
    if not has_contributions(release.model):
        return {}
    features = prepare(release.definition, frame, None, table)[0]
    return {name: float(values[0]) for name, values in contributions_of(release.definition, release.model, features).reasons.items()}


def _column_parts(
    release: Release, frame: pd.DataFrame, rates: list[float], table: str, notes: list[str]
) -> tuple[ColumnParts, Contributions | None]:
    if has_contributions(release.model):
        features = prepare(release.definition, frame, None, table)[0]
        try:
            found = contributions_of(release.definition, release.model, features)
            found.check(np.array(rates))
        except ContributionsError as error:
            notes.append(f"{error}, so the columns were replaced one by one instead")
        else:
            return by_contributions(found, features, rates), found
    return by_substitution(frame, rates[OLD], lambda several: rates_of(release, several, table)), None


def _history_of_model(found: Contributions | None, before: RatesBefore, notes: list[str]) -> dict[str, float]:
    """Returns what the history added to the old row, under the new release minus under the old one."""
    now = {} if found is None else {name: float(values[OLD]) for name, values in found.reasons.items()}
    if before.reasons is None:
        if now:
            notes.append("the old release cannot be asked, so what its history added is within the model")
        return {}
    return {name: now.get(name, 0.0) - before.reasons.get(name, 0.0) for name in {**now, **before.reasons}}
