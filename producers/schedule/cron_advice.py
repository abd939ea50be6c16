"""Suggests a valid cron line for an invalid one, if its meaning is clear."""

import re

from producers.schedule.cron import read_cron

NAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
FIELDS = 5
HIGHEST = (59, 23, 31, 12, 6)
LOWEST = (0, 0, 1, 1, 0)
WEEKDAY = 4
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def advise(line: object) -> str:
    """The line that was probably meant, in quotes; empty when it is unclear."""
    if not isinstance(line, str):
        return ""
    text = NAMES.get(line.strip().lower(), "")
    fields = line.split()
    if not text and len(fields) in (FIELDS + 1, FIELDS + 2) and fields[0] == "0":
        fields = fields[1 : FIELDS + 1]  # other programs' cron lines have seconds and possibly a year
    if not text and len(fields) == FIELDS:
        text = " ".join(_advised(field, place) for place, field in enumerate(fields))
    try:
        read_cron(text)
    except ValueError:
        return ""
    return f'"{text}"' if text != line.strip() else ""


def _advised(field: str, place: int) -> str:
    return ",".join(_advised_part(part, place) for part in field.split(","))


def _advised_part(part: str, place: int) -> str:
    if part == "?":
        return "*"
    span, slash, step = part.partition("/")
    first, dash, last = (_short(word, place) for word in span.partition("-"))
    if not dash:
        return f"{_in_range(first, place)}{slash}{step}"
    start, end = _number(first, place), _number(last, place)
    if start is None or end is None or start <= end or slash:
        return f"{first}{dash}{last}{slash}{step}"
    if place == WEEKDAY and end == 0:
        return f"{start}-7"
    return f"{_range(start, HIGHEST[place])},{_range(LOWEST[place], end)}"


def _short(word: str, place: int) -> str:
    """Shortens ``Monday`` and ``Januar`` to the first three letters, which are valid in a cron line."""
    names = {3: MONTHS, WEEKDAY: DAYS}.get(place, ())
    return word[:3].lower() if len(word) > 3 and word.isalpha() and word[:3].lower() in names else word


def _in_range(word: str, place: int) -> str:
    """Replaces hour 24 and minute 60 by 0."""
    return "0" if (place, word) in {(0, "60"), (1, "24")} else word


def _number(word: str, place: int) -> int | None:
    if re.fullmatch(r"[0-9]{1,2}", word):
        return int(word)
    if place == WEEKDAY and word.lower() in DAYS:
        return DAYS.index(word.lower())
    return MONTHS.index(word.lower()) + 1 if place == 3 and word.lower() in MONTHS else None


def _range(start: int, end: int) -> str:
    return str(start) if start == end else f"{start}-{end}"
