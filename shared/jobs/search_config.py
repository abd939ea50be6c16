"""The configuration of a parameter search: ``params.yaml``, read and checked before any work.

    search: grid                # or random, or optuna; then candidates: how many
    folds: 3
    parameters:
      num_leaves: [15, 31, 63]                            # one of these
      learning_rate: {low: 0.01, high: 0.3, log: true}    # or a range, for random and optuna

A file that holds only parameters, each with its list, is a grid too: the format of the older service.
"""

import math
import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainValidator,
    StrictBool,
    StrictInt,
    Tag,
    ValidationError,
    model_validator,
)

from shared.errors import RequestError
from shared.records import MAX_MESSAGE_BYTES
from shared.text.field_errors import field_errors
from shared.text.yaml_files import NotYamlError, read_yaml

MOST_CANDIDATES = 100_000
"""The limit of ``candidates`` for any setting."""
MOST_FOLDS = 20
LONGEST_LIST = 1000
LONGEST_COUNT = 10**15
"""The largest count that a message shows: the product of a hundred lists has hundreds of digits."""

_EXPONENT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+")


def _read_exponent(value: object) -> object:
    """Reads a number like 1e-3, which YAML treats as text."""
    return float(value) if isinstance(value, str) and _EXPONENT.fullmatch(value) else value


def _check_value(value: object) -> object:
    value = _read_exponent(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("must be a finite number")
    if value is not None and not isinstance(value, bool | int | float | str):
        raise ValueError("must be a number, a text, true, false or null")
    return value


Number = Annotated[StrictInt | Annotated[float, Field(strict=True, allow_inf_nan=False)], BeforeValidator(_read_exponent)]
Value = Annotated[bool | int | float | str | None, PlainValidator(_check_value)]
Params = dict[str, Value]
"""The parameters of one candidate."""


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ParameterRange(_Config):
    """All numbers from ``low`` to ``high``; integers when both are integers."""

    low: Number
    high: Number
    log: StrictBool = False
    """True to draw the logarithm uniformly, so that small numbers are as likely as large ones."""

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if not self.low < self.high:
            raise ValueError("low must be below high")
        if self.log and self.low <= 0:
            raise ValueError("low must be above 0 where log is true")
        return self

    @property
    def is_whole(self) -> bool:
        """True when only integers are drawn."""
        return isinstance(self.low, int) and isinstance(self.high, int)


Choices = Annotated[list[Value], Field(min_length=1, max_length=LONGEST_LIST)]
Values = Annotated[
    Annotated[Choices, Tag("list")] | Annotated[ParameterRange, Tag("range")],
    Discriminator(lambda values: "range" if isinstance(values, dict | ParameterRange) else "list"),
]
ParameterName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$")]


class SearchConfig(_Config):
    """A search for the best parameters."""

    search: Literal["grid", "random", "optuna"] = "grid"
    folds: Annotated[StrictInt, Field(ge=2, le=MOST_FOLDS)] = 3
    """The most folds; a table of few weeks has fewer."""
    candidates: Annotated[StrictInt, Field(ge=1)] | None = None
    """The number of draws; not for a grid, whose lists determine it."""
    seed: Annotated[StrictInt, Field(ge=0, lt=1 << 32)] = 1
    stop_early: StrictBool = True
    """True to give no further folds to candidates that are clearly worse than the best."""
    parameters: Annotated[dict[ParameterName, Values], Field(min_length=1)]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        ranges = [name for name, values in self.parameters.items() if isinstance(values, ParameterRange)]
        if self.search == "grid" and ranges:
            raise ValueError(f"{ranges[0]} is a range, and a grid takes lists; choose search: random, or list its values")
        if self.search == "grid" and self.candidates is not None:
            raise ValueError("a grid has as many candidates as it has; leave candidates out, or choose search: random")
        if self.search != "grid" and self.candidates is None:
            raise ValueError(f"search: {self.search} needs candidates, the number to draw, like candidates: 40")
        return self

    @property
    def count(self) -> int:
        """The largest number of candidates."""
        if self.candidates is not None:
            return self.candidates
        return math.prod(len(values) for values in self.parameters.values() if isinstance(values, list))

    def grid(self) -> dict[str, list[Value]]:
        """Each parameter with its list; raises RequestError when one is a range."""
        lists = {name: values for name, values in self.parameters.items() if isinstance(values, list)}
        if len(lists) < len(self.parameters):
            raise RequestError("the definition's own grid_search takes lists, and the config names a range", next_step="List the values.")
        return lists


def read_config(text: bytes, name: str, most_candidates: int) -> SearchConfig:
    """The search of a ``params.yaml``; ``name`` is the file's name in messages.

    Raises:
        RequestError: it is not YAML, has an unknown or wrong entry, or more candidates than allowed; the message names the entry.
    """
    config = _checked(_as_entries(_parsed(text, name), name), name)
    if config.count > most_candidates:
        asked = f"{config.count:,}" if config.count < LONGEST_COUNT else f"more than {LONGEST_COUNT:,}"
        raise RequestError(
            f"{name} asks for {asked} candidates, more than the {most_candidates:,} that SCORING_MAX_CANDIDATES allows",
            next_step="Shorten its lists, choose search: random with candidates: 40, or raise SCORING_MAX_CANDIDATES.",
        )
    return config


def _parsed(text: bytes, name: str) -> object:
    if len(text) > MAX_MESSAGE_BYTES:
        raise _refused(name, f"it is {len(text):,} bytes long, more than the {MAX_MESSAGE_BYTES:,} allowed")
    try:
        return read_yaml(text)
    except NotYamlError as error:
        raise _refused(name, str(error)) from None


def _as_entries(raw: object, name: str) -> dict[Any, Any]:
    """The entries of the file; a file of parameters alone is a grid."""
    if not isinstance(raw, dict) or not raw:
        raise _refused(name, "it is empty" if not raw else "it has no entries")
    if raw.keys() & SearchConfig.model_fields.keys():
        return raw
    return {"parameters": raw}


def _checked(entries: dict[Any, Any], name: str) -> SearchConfig:
    for key in entries:
        if key not in SearchConfig.model_fields:
            known = ", ".join(SearchConfig.model_fields)
            raise _refused(name, f"it has the unknown entry {str(key)[:60]!r}; there are {known}, and a parameter belongs below parameters")
    if "parameters" not in entries:
        raise _refused(name, "it has no parameters: name below parameters what to try, like num_leaves: [15, 31]")
    parameters = entries.get("parameters")
    for key, values in parameters.items() if isinstance(parameters, dict) else ():
        if values in ([], None):
            raise _refused(name, f"the parameter {str(key)[:60]} has no values")
        if not isinstance(values, list | dict):
            raise _refused(name, f"the parameter {str(key)[:60]} must have a list of values, like [{str(values)[:60]}]")
    try:
        return SearchConfig.model_validate(entries)
    except ValidationError as error:
        raise _refused(name, _sentence(error)) from None


def _sentence(error: ValidationError) -> str:
    first = field_errors(error)[0]
    # pydantic appends the types that it tried to the name of a parameter
    place = first.path[:2]
    where = f"{'.'.join(place)}: " if place else ""
    shown = f" (got {str(first.value)[:60]!r})" if place and first.kind != "missing" else ""
    return f"{where}{first.reason}{shown}"


def _refused(name: str, why: str) -> RequestError:
    return RequestError(f"the config {name} cannot be used: {why}", next_step="See what it may hold with: scoring train --help")
