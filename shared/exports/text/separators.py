"""Finds the character between the cells of a line: that which gives the most regular width."""

import csv
import itertools
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from shared.errors import TableError
from shared.exports.options import Separator

SEPARATORS: tuple[Separator, ...] = (",", "\t", ";", "|")
WORDS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
LOOKED_AT_RECORDS = 500
_LOOKED_AT_CHARACTERS = 1 << 20
_STATED = re.compile(r'\s*"?sep=(?P<mark>.)"?[,;\t|\s]*', re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How the lines of a text are divided."""

    separator: Separator
    width: int
    """The number of cells in most records."""
    first: int
    """The number of lines before the records: 1 if the first line only names the separator."""


def find_layout(text: str, path: str, separator: Separator | None = None) -> Layout:
    """Finds the separator of a text.

    Raises:
        TableError: no separator gives columns, or the first line names one that does not.
    """
    stated = _STATED.fullmatch(text[:100].partition("\n")[0].rstrip("\r"))
    head = text[: _LOOKED_AT_CHARACTERS + 1]
    body = head.partition("\n")[2] if stated else head
    found = {one: _regularity(body, one) for one in SEPARATORS}
    best = max(SEPARATORS, key=found.__getitem__)
    chosen = separator or (_stated_separator(stated["mark"], found, best, path) if stated else best)
    if found[chosen][1] < 2:
        words = ", ".join(WORDS.values())
        raise TableError(
            f"{path} has no columns: its lines are not divided by {words}" if body.strip() else f"{path} is empty",
            next_step="Export it again as csv.",
        )
    return Layout(separator=chosen, width=found[chosen][1], first=int(stated is not None))


def _stated_separator(mark: str, found: dict[Separator, tuple[int, int]], best: Separator, path: str) -> Separator:
    stated = next((one for one in SEPARATORS if one == mark), None)
    if stated is None or found[stated][0] < found[best][0]:
        raise TableError(
            f"line 1 of {path} says that {mark!r} separates its columns, but {WORDS[best]} do",
            next_step="Correct or remove that line.",
        )
    return stated


def _regularity(text: str, separator: str) -> tuple[int, int]:
    """Returns the number of records with the most frequent width above 1, and that width."""
    widths = Counter(len(record) for record in _some_records(text, separator))
    widths[0] = widths[1] = 0
    width, count = max(widths.items(), key=lambda found: (found[1], found[0]))
    return (count, width) if count else (0, 0)


def _some_records(text: str, separator: str) -> Iterator[list[str]]:
    lines = text[:_LOOKED_AT_CHARACTERS].splitlines(keepends=True)
    if len(text) > _LOOKED_AT_CHARACTERS and len(lines) > 1:
        lines.pop()
    reader = csv.reader(lines, delimiter=separator)
    try:
        yield from itertools.islice(reader, LOOKED_AT_RECORDS)
    except csv.Error:
        return
