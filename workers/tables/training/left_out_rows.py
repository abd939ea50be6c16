"""Weighs the rows of a training table that are left out by the clicks that they hold.

One percent of the rows may hold a third of the clicks, because reports write their largest numbers as ``1,801``. Therefore such numbers
fail the training, and every other left-out row is weighed.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO

import pyarrow.parquet as pq

from shared.errors import TableError
from shared.text.csv_lines import fields_of_line, value_of
from workers.tables import rows as table_rows
from workers.tables import schema
from workers.tables.csv.dialects import COMMAS, Dialect
from workers.tables.parquet import cuts
from workers.tables.training.written_numbers import is_written_number, split_thousands

HALF_A_CLICK = 0.5
"""Sums of clicks that differ by less are considered equal."""


@dataclass(frozen=True, kw_only=True)
class LeftOutRow:
    """The location of a left-out row with the reason, as text, and its clicks; None if they cannot be read."""

    text: str
    clicks: float | None


@dataclass(frozen=True, kw_only=True)
class Source:
    """A piece of a file in which left-out rows can be looked up."""

    clicks_on: Callable[[int], float | None]
    """Maps a line to its clicks, or None if they cannot be read."""
    record_on: Callable[[int], list[str]]
    """Maps a line to its raw values; empty for formats in which a comma cannot split a number."""

    def left_out(self, reject: table_rows.Reject, in_file: str) -> LeftOutRow:
        """Returns a reject with its clicks."""
        return LeftOutRow(text=f"{in_file}{reject}", clicks=self.clicks_on(reject.line))


def csv_source(data: bytes, first_line: int, names: Sequence[str], clicks: str, dialect: Dialect = COMMAS) -> Source:
    """Returns the source for a piece of csv text; ``clicks`` is the column of clicks (1 per row if the table has none)."""
    lines: list[bytes] = []
    # looked up once: a table may have as many columns as lines
    place = names.index(clicks) if clicks in names else None

    def record_on(line: int) -> list[str]:
        if not lines:
            lines.extend(data.split(b"\n"))
        text = lines[line - first_line].decode("utf-8", errors="replace").rstrip("\r")
        return [value_of(field) for _, field in fields_of_line(text, dialect.separator)]

    def clicks_on(line: int) -> float | None:
        if place is None:
            return 1.0
        record = record_on(line)
        return _weight(record[place]) if len(record) == len(names) else None

    return Source(clicks_on=clicks_on, record_on=record_on if dialect == COMMAS else lambda line: [])


def parquet_source(raw: IO[bytes], path: str, names: Sequence[str], clicks: str) -> Source:
    """Does the same for a Parquet file, whose lines are rows from 1; the column of clicks is read once, on first use."""
    values: list[object] = []
    has_clicks = clicks in names

    def clicks_on(line: int) -> float | None:
        if not has_clicks:
            return 1.0
        if not values:
            raw.seek(0)
            with cuts.parquet_errors(path):
                values.extend(pq.ParquetFile(raw).read(columns=[clicks]).column(0).to_pylist())
        return _weight(values[line - 1])

    return Source(clicks_on=clicks_on, record_on=lambda line: [])


def _weight(value: object) -> float | None:
    try:
        weight = abs(float(str(value)))
    except ValueError:
        return None
    return weight if math.isfinite(weight) else None


def refuse_written_numbers(rejects: Sequence[table_rows.Reject], source: Source, table_schema: schema.TableSchema, path: str) -> None:
    """Raises TableError when a row would be left out only because of a number in human notation."""
    numbers = {schema.ENTITY, *(column.name for column in table_schema.numbers)}
    for reject in rejects:
        if reject.column in numbers and is_written_number(reject.value):
            found = f"column {reject.column}: {reject.value!r}"
        elif not reject.column and (number := split_thousands(source.record_on(reject.line), len(table_schema.columns))):
            found = f"{number!r} without quotes"
        else:
            continue
        raise TableError(
            f"{path} line {reject.line}, {found} is a number written for people, with a separator or a sign in it",
            next_step="Write all numbers as digits with at most one decimal point, like 1801 or 0.0614, and train again.",
        )


def weigh(rows: Sequence[LeftOutRow], used_rows: int, used_clicks: float) -> tuple[float, list[str]]:
    """Returns the clicks of the left-out rows and the texts of the rows of totals, which are not counted.

    A row is a total if its clicks are the sum of all others. A row whose clicks cannot be read counts as the mean of the used rows.
    """
    known = sum(row.clicks for row in rows if row.clicks is not None)
    are_totals = [bool(row.clicks) and used_rows > 1 and _is_total(row.clicks or 0.0, used_clicks, known) for row in rows]
    mean = used_clicks / used_rows if used_rows else 0.0
    counted = [mean if row.clicks is None else row.clicks for row, is_total in zip(rows, are_totals, strict=True) if not is_total]
    return sum(counted), [row.text for row, is_total in zip(rows, are_totals, strict=True) if is_total]


def _is_total(clicks: float, used_clicks: float, left_out_clicks: float) -> bool:
    """Returns True if the clicks are the sum of all used rows, or of all used and other left-out rows."""
    with_others = used_clicks + left_out_clicks - clicks
    return min(abs(clicks - used_clicks), abs(clicks - with_others)) < HALF_A_CLICK
