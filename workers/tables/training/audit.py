"""Audits a training table: counts what is used and what is left out, and finds implausible rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shared.catalog.manifests import TableAudit
from workers.tables import output, schema
from workers.tables import rows as table_rows
from workers.tables.training.left_out_rows import HALF_A_CLICK, LeftOutRow, weigh

MOST_TOTALS = 10
"""How many rows of totals are searched for: a report has one for each of its parts and one for the whole account."""

FEWEST_ROWS = 5
"""With fewer rows, one may hold as much as all others by chance."""

CLICKS, CONVERSIONS = schema.LABELS[1], schema.LABELS[2]


@dataclass(frozen=True, kw_only=True)
class Block:
    """Rows of one file with their location."""

    rows: table_rows.Rows
    in_file: str
    """The name of the file followed by a space if the table has several files, else empty."""
    unclicked: table_rows.Rows | None = None
    """The rows with conversions but no clicks, which are not part of ``rows``."""

    def where(self, row: int) -> str:
        """Returns the file and line of a row, for messages."""
        return f"{self.in_file}line {int(self.rows.lines[np.array([row])][0])}"


def audit_table(
    blocks: Sequence[Block], clicks: np.ndarray, conversions: np.ndarray, left_out: Sequence[LeftOutRow], *, has_clicks: bool
) -> TableAudit:
    """Audits a table; ``clicks`` and ``conversions`` (not capped at the clicks) hold the counts of all rows, block after block."""
    total = float(clicks.sum())
    weight, totals = weigh(left_out, len(clicks), total)
    above = np.flatnonzero(conversions > clicks)
    unclicked = [(block.in_file, block.unclicked) for block in blocks if block.unclicked is not None and len(block.unclicked.frame)]
    unclicked_rows = sum(len(rows.frame) for _, rows in unclicked)
    lost = sum(float(rows.frame[CONVERSIONS].sum()) for _, rows in unclicked)
    first_unclicked = _first_unclicked(*unclicked[0]) if unclicked else ""
    fraction = _first_fraction(clicks)
    total_row = _total_row(clicks, conversions) if has_clicks else None
    return TableAudit(
        has_clicks=has_clicks,
        clicks=total,
        conversions=float(np.minimum(conversions, clicks).sum()),
        left_out_clicks=weight,
        first_left_out=[row.text for row in left_out[: output.REJECTS_QUOTED]],
        totals=totals[: output.REJECTS_QUOTED],
        above_rows=len(above) + unclicked_rows,
        above_clicks=float(clicks[above].sum()),
        conversions_cut=float((conversions[above] - clicks[above]).sum()) + lost,
        first_above=_where(blocks, int(above[0]), f"{_number(conversions[above[0]], 'conversion')} of {_number(clicks[above[0]], 'click')}")
        if len(above)
        else first_unclicked,
        unclicked_rows=unclicked_rows,
        unclicked_conversions=lost,
        first_unclicked=first_unclicked,
        total_row="" if total_row is None else _where(blocks, total_row, _number(clicks[total_row], "click")),
        fractional="" if fraction is None else _where(blocks, fraction, _number(clicks[fraction], "click")),
        is_thousands_dot=fraction is not None and _are_thousands(clicks[clicks % 1 != 0]),
    )


def _first_unclicked(in_file: str, rows: table_rows.Rows) -> str:
    line = int(rows.lines[np.array([0])][0])
    return f"{in_file}line {line}: {_number(rows.frame[CONVERSIONS].iloc[0], 'conversion')} of 0 clicks"


def _number(value: float, what: str) -> str:
    return f"{value:g} {what}{'' if value == 1 else 's'}"


def _where(blocks: Sequence[Block], row: int, what: str) -> str:
    for block in blocks:
        if row < len(block.rows.frame):
            return f"{block.where(row)}: {what}"
        row -= len(block.rows.frame)
    raise IndexError(row)


def _total_row(clicks: np.ndarray, conversions: np.ndarray) -> int | None:
    """Returns the row whose clicks and conversions are the sums of all rows except the largest ones; None if there is none."""
    most = max(min(MOST_TOTALS, len(clicks) - FEWEST_ROWS), 0)
    largest = np.argsort(-clicks, kind="stable")[:most].tolist()
    rest_clicks, rest_conversions = float(clicks.sum()), float(conversions.sum())
    for count, row in enumerate(largest, 1):
        rest_clicks, rest_conversions = rest_clicks - clicks[row], rest_conversions - conversions[row]
        for total in largest[:count]:
            is_sum = abs(clicks[total] - rest_clicks) < HALF_A_CLICK and abs(conversions[total] - rest_conversions) < HALF_A_CLICK
            if is_sum:
                return int(total)
    return None


def _first_fraction(clicks: np.ndarray) -> int | None:
    """Returns the first row with fractional clicks if most rows have whole clicks; a table of weights has fractions everywhere."""
    fractions = np.flatnonzero(clicks % 1 != 0)
    return int(fractions[0]) if 0 < len(fractions) < len(clicks) / 2 else None


def _are_thousands(clicks: np.ndarray) -> bool:
    """Returns True if these fractions look like thousands with a dot before three digits, and at least one needs all three digits."""
    thousands = clicks * 1000
    has_three_digits = np.abs(clicks * 100 - np.round(clicks * 100)) > 1e-6
    return bool((clicks >= 1).all() and (np.abs(thousands - np.round(thousands)) < 1e-6).all() and has_three_digits.any())
