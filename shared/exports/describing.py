"""Says in sentences how an export was read and what its columns are for."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shared.exports.known_names import Concept
from shared.exports.roles.roles_file import ColumnRole, Roles
from shared.exports.table import ExportTable
from shared.exports.text.separators import WORDS


def describe_reading(export: ExportTable) -> str:
    """Returns how the file was read, and whether its own total agrees."""
    read = export.read
    form = (
        f"sheet {read.sheet}, header on row {read.header_line}"
        if read.sheet
        else f"{read.encoding}, {WORDS[read.separator or ',']}, header on line {read.header_line}"
    )
    parts = [f"{export.path}: {form}, {_counted(len(export.lines), 'row')}"]
    totals = export.totals
    if totals.lines:
        parts[0] += f", {_counted(len(totals.lines), 'row')} of totals left out"
        named = _agreeing(export)
        parts.append(
            f"its own total says {_number(totals.agreeing[named])} {_word(export, named)} as well"
            if named
            else "no total could be compared"
        )
    return "; ".join(parts) + "."


def _agreeing(export: ExportTable) -> str:
    agreeing = export.totals.agreeing
    clicks = [name for name in agreeing if export.concepts.get(name) == Concept.CLICKS]
    return (clicks or [*agreeing, ""])[0]


def _word(export: ExportTable, name: str) -> str:
    return "clicks" if export.concepts.get(name) == Concept.CLICKS else name


def describe_outcomes(export: ExportTable, roles: Roles) -> str:
    """Returns how many rows have clicks, and how many conversions are above the clicks of their row."""
    clicks = _floats(export.table[roles.clicks])
    text = f"{_counted(int((clicks > 0).sum()), 'row')} {'has' if (clicks > 0).sum() == 1 else 'have'} clicks."
    if roles.conversions is None:
        return f"{text} There are no conversions: the table can be scored, not trained on."
    conversions = _floats(export.table[roles.conversions])
    above = float(np.maximum(conversions - clicks, 0).sum())
    if not above:
        return f"{text} All {_number(conversions.sum())} conversions count."
    return (
        f"{text} {_number(conversions.sum() - above)} of {_number(conversions.sum())} conversions count: "
        f"{_number(above)} are above the clicks of their row."
    )


def describe_leaks(roles: Roles, roles_path: str) -> str:
    """Returns which columns are left out because they are known only with the conversions; empty if there are none."""
    leaks = [name for name, role in roles.columns.items() if role == ColumnRole.LEAK]
    if not leaks:
        return ""
    are = "are" if len(leaks) > 1 else "is"
    they = "they are" if len(leaks) > 1 else "it is"
    return f"{', '.join(leaks)} {are} left out: {they} known only with the conversions. Correct this in {roles_path}."


def _floats(column: pa.ChunkedArray) -> np.ndarray:
    return np.nan_to_num(pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False), nan=0.0)


def _counted(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == round(value) else f"{value:,.1f}"
