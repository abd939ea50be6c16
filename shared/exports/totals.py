"""Rows of totals: which rows they are, and whether the other rows add up to one of them."""

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shared.errors import TableError
from shared.exports.headers import is_number
from shared.exports.known_names import ADDITIVE, Concept
from shared.exports.table import RawTable, Totals

_WORD = (
    r"(?:grand total|overall total|sub-?total|total general|total général|total global|total geral|totals?|totales|totaux|"
    r"gesamtergebnis|gesamtsumme|gesamtwerte?|gesamt|insgesamt|summe|somme|suma)"
)
_BEGIN = rf"(?i)^{_WORD}\s*(?:$|[:(–—-])"
_COLON = re.compile(rf"{_WORD}\s*:", re.IGNORECASE)
_LABEL = re.compile(_BEGIN.replace("(?i)", ""), re.IGNORECASE)
_LABEL_COLUMNS = 6
"""The label of a total stands in one of the first columns."""
_MOST_UNNAMED = 10
"""More rows without a name than this are no totals."""
_GROUPS, _KEYWORDS = (Concept.CAMPAIGN, Concept.AD_GROUP), (Concept.SEARCH_TERM, Concept.KEYWORD)
_FEWEST_ROWS = 4
_MOST_DECIMALS = 6
_DEVIATION = 1.2
"""Four standard deviations of the rounding of one number, in units of its last digit."""
_ROW_COUNT = re.compile(r"\s*(rows|row count|zeilen|zeilenanzahl|lignes|filas)\s*:?\s*([\d.,' ]*\d)?\s*", re.IGNORECASE)


def is_total_label(cell: str) -> bool:
    """Returns True for a text that names a row of totals, like ``Total: Account`` or ``Gesamt``."""
    return _LABEL.match(cell.strip()) is not None


def find_totals(raw: RawTable, concepts: Mapping[str, Concept]) -> np.ndarray:
    """Returns the mask of the rows that are totals: named so, or without the name of a campaign, a group or a keyword.

    The cells of ``raw`` are cleaned.
    """
    found = np.zeros(len(raw.lines), dtype=bool)
    if not len(found):
        return found
    label = pc.coalesce(*raw.texts[:_LABEL_COLUMNS])
    for place in np.flatnonzero(pc.fill_null(pc.match_substring_regex(label, _BEGIN), False).to_numpy(zero_copy_only=False)):
        found[place] = _is_total(raw, int(place), label[int(place)].as_py(), concepts)
    return found | _unnamed(raw, concepts)


def _is_total(raw: RawTable, place: int, label: str, concepts: Mapping[str, Concept]) -> bool:
    """Returns False for a keyword that begins like a total: its row also names a campaign, a match type or the like."""
    if _COLON.match(label):
        return True
    for name, texts in zip(raw.names, raw.texts, strict=True):
        cell = texts[place].as_py()
        if cell is not None and cell != label and not is_number(cell) and concepts.get(name) != Concept.IGNORED:
            return False
    return True


def _unnamed(raw: RawTable, concepts: Mapping[str, Concept]) -> np.ndarray:
    """Returns the mask of the rows that name no campaign and no ad group or, where there are no such columns, no keyword."""
    unnamed = np.zeros(len(raw.lines), dtype=bool)
    for naming in (_GROUPS, _KEYWORDS):
        places = [place for place, name in enumerate(raw.names) if concepts.get(name) in naming]
        if places:
            nothing = np.logical_and.reduce([_is_missing(raw, place) for place in places])
            unnamed |= nothing if nothing.sum() <= _MOST_UNNAMED else False
    return unnamed


def _is_missing(raw: RawTable, place: int) -> np.ndarray:
    numbers = raw.numbers[place]
    missing = pc.is_null(raw.texts[place]).to_numpy(zero_copy_only=False)
    return missing if numbers is None else missing & pc.is_null(numbers).to_numpy(zero_copy_only=False)


def refuse_hidden_total(rows: pa.Table, lines: np.ndarray, concepts: Mapping[str, Concept], path: str) -> None:
    """Raises TableError if one row is the sum of all others in each column that can be added up: it is a total without its name."""
    counts = [name for name in _additive(rows, concepts) if _sum(rows[name])]
    if len(lines) < _FEWEST_ROWS or len(counts) < 2:
        return
    place = int(np.argmax(_values(rows[counts[0]])))
    if all(abs(2 * _values(rows[name])[place] - _sum(rows[name])) <= _tolerance(rows[name], _sum(rows[name]) / 2) for name in counts):
        raise TableError(
            f"line {int(lines[place]):,} of {path} is the sum of all other lines: is it a row of totals?",
            next_step="Remove that line, or name it Total.",
        )


def compare_totals(rows: pa.Table, totals: pa.Table, lines: Sequence[int], concepts: Mapping[str, Concept], path: str) -> Totals:
    """Compares the sums of the rows with the rows of totals, one of which must agree in every column that can be added up.

    Args:
        rows: the rows of the table.
        totals: the rows of totals, with the same columns.
        lines: the lines of the rows of totals.
        concepts: the known names among the columns.
        path: the name of the file for messages.

    Raises:
        TableError: no row of totals agrees; the message names both numbers.
    """
    additive = _additive(rows, concepts)
    sums = {name: _sum(rows[name]) for name in additive or rows.column_names}
    best: tuple[int, int, list[str]] | None = None
    for place in range(len(lines)):
        stated = {name: value for name in sums if isinstance(value := totals[name][place].as_py(), int | float)}
        agreeing = [name for name, value in stated.items() if abs(value - sums[name]) <= _tolerance(rows[name], value)]
        if agreeing and (len(agreeing) == len(stated) or not additive):
            return Totals(lines=list(lines), agreeing={name: sums[name] for name in agreeing})
        if stated and (best is None or len(agreeing) > best[1]):
            best = place, len(agreeing), [name for name in stated if name not in agreeing]
    if best is None:
        return Totals(lines=list(lines))
    place, _, differing = best
    name = differing[0]
    raise TableError(
        f"the rows of {path} have {_shown(sums[name])} in {name}, but its total on line {lines[place]:,} says "
        f"{_shown(totals[name][place].as_py())}",
        next_step="Export it again whole. If the total counts something else, say `totals: unchecked` under `read:` of the roles file.",
    )


def _additive(rows: pa.Table, concepts: Mapping[str, Concept]) -> list[str]:
    """Returns the known columns of numbers that can be added up, clicks first."""
    found = [name for name in rows.column_names if concepts.get(name) in ADDITIVE and not pa.types.is_string(rows.schema.field(name).type)]
    return sorted(found, key=lambda name: list(Concept).index(concepts[name]))


def _values(column: pa.ChunkedArray) -> np.ndarray:
    return np.nan_to_num(pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False), nan=0.0)


def _sum(column: pa.ChunkedArray) -> float:
    return float(pc.sum(column).as_py() or 0)


def _tolerance(column: pa.ChunkedArray, total: float) -> float:
    """Returns by how much the sum of rounded numbers may miss the rounded sum; whole numbers add up exactly."""
    values = np.append(pc.drop_null(column).to_numpy(zero_copy_only=False).astype(np.float64), total)
    decimals = next(
        (count for count in range(_MOST_DECIMALS) if np.allclose(values * 10**count, np.rint(values * 10**count), rtol=1e-12, atol=1e-5)),
        _MOST_DECIMALS,
    )
    if not decimals:
        return 1e-9
    fractional = int((values != np.rint(values)).sum())
    return 10.0**-decimals * (0.5 + _DEVIATION * fractional**0.5) + 1e-9 * abs(total)


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value == round(value) else f"{value:,.2f}"


def check_row_count(raw: RawTable, totals: int, path: str) -> None:
    """Compares the number of rows, with or without totals, with the one that a line above the header states, as Microsoft Ads does.

    Raises:
        TableError: they differ; the message names both.
    """
    for cells in raw.above:
        text = " ".join(filter(None, (cell.strip() for cell in cells)))
        found = _ROW_COUNT.fullmatch(text)
        stated = int(re.sub(r"\D", "", found[2])) if found and found[2] else None
        if stated is not None and stated not in (len(raw.lines), len(raw.lines) + totals):
            raise TableError(
                f"{path} has {len(raw.lines):,} rows, but says above its header that it has {stated:,}",
                next_step="Export it again whole, or remove that line.",
            )
