"""Percentages as people write them: ``5%``, ``0.1%``."""

import re
from typing import Annotated

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from shared.text.yaml_files import shown

HIGHEST_PERCENT = 1_000_000
PATTERN = r"^ *[0-9]{1,7}(\.[0-9]{1,6})? ?% *$"


class Percentage(float):
    """A share as a number, 0.05, that prints as it is written: ``5%``."""

    def __str__(self) -> str:
        return f"{float(self) * 100:.10g}%"


def read_percentage(value: object) -> Percentage:
    """Reads a number with a percent sign; raises ValueError with an example."""
    if isinstance(value, Percentage):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError(f"{shown(value)} has no unit")
    if not isinstance(value, str) or not re.fullmatch(PATTERN, value):
        raise ValueError(f"{shown(value)} is not a percentage")
    number = float(value.strip(" %"))
    if number > HIGHEST_PERCENT:
        raise ValueError(f"{shown(value)} is above {HIGHEST_PERCENT:,}%")
    return Percentage(number / 100)


Percent = Annotated[
    Percentage,
    PlainValidator(read_percentage),
    PlainSerializer(str),
    WithJsonSchema({"type": "string", "pattern": PATTERN}),
]
"""A percentage in a file that people write."""
