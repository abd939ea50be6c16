"""Paths of tables that contain a date: ``data/predict/input/{date:%Y/%m/%d}``."""

import contextlib
import re
from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, StringConstraints

from shared.records import check_bucket_path
from shared.text.yaml_files import shown

_DATE = re.compile(r"\{date:([^{}]*)\}")
_EXAMPLE = datetime(2026, 11, 23, 5, 30)


def fill_date(pattern: str, moment: datetime) -> str:
    """Fills in the date of a moment."""
    return _DATE.sub(lambda found: moment.strftime(found[1]), pattern)


def _check(pattern: str) -> str:
    unknown = _unknown_directive(pattern)
    if unknown:
        codes = "the year is %Y, the month %m, the day %d, the hour %H, the minute %M"
        raise ValueError(f"{shown(pattern)} has a date that cannot be written so: {unknown!r} means nothing, {codes}")
    try:
        path = fill_date(pattern, _EXAMPLE)
    except ValueError:  # raised by strftime
        raise ValueError(f"{shown(pattern)} has a date that cannot be written so") from None
    if "{" in path or "}" in path:
        raise ValueError(f"{shown(pattern)} has braces that are not {{date:...}}")
    try:
        check_bucket_path(path)
    except ValueError as error:
        raise ValueError(f"{shown(pattern)} {error}") from None
    return pattern


def _unknown_directive(pattern: str) -> str:
    """The first directive of a date that strftime does not know, and would copy into the path."""
    for found in _DATE.finditer(pattern):
        for directive in re.findall(r"%[-_0^#]?.?", found[1], re.DOTALL):
            with contextlib.suppress(ValueError):
                if _EXAMPLE.strftime(directive) == directive:
                    return str(directive)
    return ""


DatedPath = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1), AfterValidator(_check)]
