"""Values of rows before they are checked, and how one is read from text."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from workers.tables.schema import DEVICES

MAX_VALUE_SHOWN = 80
WHOLE = re.compile(r"([+-]?[0-9]+)(?:\.0*)?")
EXPONENT = re.compile(r"[+-]?[0-9]+(?:\.[0-9]*)?[eE][+-]?[0-9]+")
_TRUTHS = {"true": 1.0, "false": 0.0}
"""Words for 1 and 0, in any case: a boolean of a Parquet file, and what a spreadsheet writes for one."""
_CODES = {name.lower(): code for code, name in enumerate(DEVICES)} | {f"{code}{zero}": code for code in range(3) for zero in ("", ".0")}


@dataclass(frozen=True, kw_only=True)
class Values:
    """Columns as they were read, before any check: NaN marks what is missing or no number, None what is missing of text."""

    count: int
    """Rows."""
    entity: np.ndarray
    """int64, one a row; each id keeps every digit, whatever stands in the other rows. Empty where it is no key."""
    not_whole: np.ndarray | None
    """Where the entity id is no whole number; None if nowhere."""
    numbers: dict[str, np.ndarray]
    """int8 (known to be complete) or float64, by name."""
    device: np.ndarray
    """Codes, int8; -1 where the value is no device; empty for flags."""
    texts: dict[str, np.ndarray]
    """Objects (str or None), by name."""
    shown: Callable[[int, str], str]
    """The value of (row, column) as people will see it."""
    run: tuple[str, ...] = ()
    """Columns that were lifted out together, and are known to hold 0 and 1 alone."""
    binary: np.ndarray | None = None
    """Their values, int8, one row each, with two spare columns before them for the flags."""


def device_code(text: str | None) -> int:
    return -1 if text is None else _CODES.get(text.strip().lower(), -1)


def read_number(text: str | None) -> float:
    try:
        # Python also reads 1_000 and digits of other scripts; a table does not
        return float(text) if text is not None and text.isascii() and "_" not in text else np.nan
    except ValueError:
        return _TRUTHS.get((text or "").strip().lower(), np.nan)


def read_floats(texts: Sequence[str | None]) -> np.ndarray:
    return np.fromiter(map(read_number, texts), dtype=np.float64, count=len(texts))


def read_whole(texts: Sequence[str | None]) -> tuple[np.ndarray, np.ndarray | None]:
    """Ids as int64, and where there is none (None if nowhere)."""
    numbers = [id(text) for text in texts]
    missing = np.array([number is None for number in numbers], dtype=bool)
    return np.array([number or 0 for number in numbers], dtype=np.int64), missing if missing.any() else None


def id(text: str | None) -> int | None:
    """An id is digits: a number that was written with an exponent or a fraction may have lost some."""
    found = WHOLE.fullmatch(text.strip()) if text is not None else None
    # Python refuses to read thousands of digits at once
    whole = int(found[1]) if found and len(found[1]) <= MAX_VALUE_SHOWN else None
    return whole if whole is not None and -(2**63) <= whole < 2**63 else None


def short(text: str) -> str:
    return text if len(text) <= MAX_VALUE_SHOWN else text[: MAX_VALUE_SHOWN - 3] + "..."
