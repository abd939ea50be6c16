"""How an export is read: what was found, or what a person said instead."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Separator = Literal[",", ";", "\t", "|"]
DecimalMark = Literal[".", ","]
TotalsRule = Literal["drop", "unchecked", "keep"]


class ReadOptions(BaseModel):
    """The options of a reading; None is found out from the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    encoding: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,40}$")] | None = None
    """The encoding of a text, by its name in Python."""
    separator: Separator | None = None
    """The character between the cells of a line."""
    decimal: DecimalMark | None = None
    """The decimal mark of all numbers in the file."""
    header_line: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """The line (of a workbook: the row of the sheet) with the names of the columns, from 1."""
    sheet: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    """The sheet of a workbook; None is the only one that holds a table."""
    totals: TotalsRule = "drop"
    """``drop`` leaves rows of totals out and compares them with the rows, ``unchecked`` does not compare, ``keep`` keeps them as rows."""
