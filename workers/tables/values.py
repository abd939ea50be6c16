"""Values of rows before they are checked, and the parsing of single values from text."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from shared.index_format import DEVICES

MAX_VALUE_SHOWN = 80
WHOLE = re.compile(r"([+-]?[0-9]+)(?:\.0*)?")
EXPONENT = re.compile(r"[+-]?[0-9]+(?:\.[0-9]*)?[eE][+-]?[0-9]+")
_TRUTHS = {"true": 1.0, "false": 0.0}
"""Words for 1 and 0, in any case: booleans of Parquet files, and what spreadsheets write for booleans."""
_CODES = {name.lower(): code for code, name in enumerate(DEVICES)} | {f"{code}{zero}": code for code in range(3) for zero in ("", ".0")}


@dataclass(frozen=True, kw_only=True)
class Values:
    """Columns before any check: NaN is a missing or invalid number, None is a missing text."""

    count: int
    """The number of rows."""
    entity: np.ndarray
    """Ids, int64, one per row, each with all its digits regardless of the other rows. Empty if the entity id is not a key."""
    not_whole: np.ndarray | None
    """Mask of the rows whose entity id is not a whole number; None if there are none."""
    numbers: dict[str, np.ndarray]
    """int8 (without missing values) or float64, by column name."""
    device: np.ndarray
    """Device codes, int8; -1 if the value is not a device; empty if the table has flags."""
    texts: dict[str, np.ndarray]
    """Objects (str or None), by column name."""
    shown: Callable[[int, str], str]
    """Returns the value of (row, column) as messages show it."""
    run: tuple[str, ...] = ()
    """Columns that were extracted together and hold only 0 and 1."""
    binary: np.ndarray | None = None
    """The values of the run, int8, one row each, after one spare column per device flag."""
    clicks: np.ndarray | None = None
    """Clicks as numbers, one per row, with any value where there is no valid one; None if they are not read."""


def device_code(text: str | None) -> int:
    return -1 if text is None else _CODES.get(text.strip().lower(), -1)


def read_number(text: str | None) -> float:
    try:
        # Python also accepts 1_000 and digits of other scripts; a table may not contain them
        return float(text) if text is not None and text.isascii() and "_" not in text else np.nan
    except ValueError:
        return _TRUTHS.get((text or "").strip().lower(), np.nan)


def read_floats(texts: Sequence[str | None]) -> np.ndarray:
    return np.fromiter(map(read_number, texts), dtype=np.float64, count=len(texts))


def read_whole(texts: Sequence[str | None]) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns the ids as int64, and a mask of the rows without a valid id (None if every row has one)."""
    numbers = [parse_entity_id(text) for text in texts]
    missing = np.array([number is None for number in numbers], dtype=bool)
    return np.array([number or 0 for number in numbers], dtype=np.int64), missing if missing.any() else None


def parse_entity_id(text: str | None) -> int | None:
    """Parses an id, which consists of digits only: a number with an exponent or a fraction may have lost some."""
    found = WHOLE.fullmatch(text.strip()) if text is not None else None
    # Python limits the number of digits that int() parses
    whole = int(found[1]) if found and len(found[1]) <= MAX_VALUE_SHOWN else None
    return whole if whole is not None and -(2**63) <= whole < 2**63 else None


def short(text: str) -> str:
    return text if len(text) <= MAX_VALUE_SHOWN else text[: MAX_VALUE_SHOWN - 3] + "..."
