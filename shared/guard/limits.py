"""The kinds of limits in ``config/guard.yaml``: percentages, counts, numbers, durations and switches; each may be ``off``."""

from datetime import timedelta
from typing import Annotated, Any

from pydantic import Field, PlainSerializer, PlainValidator, WithJsonSchema

from shared.text.durations import in_words, read_duration
from shared.text.percentages import PATTERN, Percentage, read_percentage
from shared.text.yaml_files import shown

OFF = "off"
HIGHEST_COUNT = 1_000_000_000
HIGHEST_NUMBER = 1_000_000.0


def is_off(value: object) -> bool:
    """Returns True for ``off``; YAML 1.1 reads it as false when it has no quotes."""
    return value is False or value == OFF


def _read_percent(value: object) -> Percentage | None:
    return None if is_off(value) else read_percentage(value)


def _read_count(value: object) -> int | None:
    if is_off(value):
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= HIGHEST_COUNT:
        raise ValueError(f"{shown(value)} is not a count of rows")
    return value


def _read_number(value: object) -> float | None:
    if is_off(value):
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= HIGHEST_NUMBER:
        raise ValueError(f"{shown(value)} is not a number of at least 0")
    return float(value)


def _read_length(value: object) -> timedelta | None:
    if is_off(value) or isinstance(value, timedelta):
        return value if isinstance(value, timedelta) else None
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} has no unit")
    return read_duration(value)


def _read_switch(value: object) -> bool:
    if is_off(value):
        return False
    if value is not True:
        raise ValueError(f"{shown(value)} is neither true nor false")
    return True


def _or_off(**shape: Any) -> WithJsonSchema:  # noqa: ANN401 - JSON schema
    """The JSON schema of a limit; an editor that reads YAML 1.1 takes ``off`` as false."""
    return WithJsonSchema({"anyOf": [shape, {"enum": [OFF, False]}]})


PercentLimit = Annotated[
    Percentage | None,
    PlainValidator(_read_percent),
    PlainSerializer(lambda limit: OFF if limit is None else str(limit)),
    _or_off(type="string", pattern=PATTERN),
    Field(description="a percentage, like 5%, or off"),
]
CountLimit = Annotated[
    int | None,
    PlainValidator(_read_count),
    _or_off(type="integer", minimum=0, maximum=HIGHEST_COUNT),
    Field(description="a whole number of rows, like 0, or off"),
]
NumberLimit = Annotated[
    float | None,
    PlainValidator(_read_number),
    _or_off(type="number", minimum=0, maximum=HIGHEST_NUMBER),
    Field(description="a number, like 0.25, or off"),
]
LengthLimit = Annotated[
    timedelta | None,
    PlainValidator(_read_length),
    PlainSerializer(lambda limit: OFF if limit is None else in_words(limit)),
    _or_off(type="string", pattern="^ *[0-9]{1,9} ?(d|h|min|s) *$"),
    Field(description="a whole number with d, h, min or s, like 26h, or off"),
]
Switch = Annotated[
    bool,
    PlainValidator(_read_switch),
    WithJsonSchema({"enum": [True, False, OFF]}),
    Field(description="true or off"),
]
