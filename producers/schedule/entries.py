"""An entry of the schedule: its fields, and their valid combinations."""

import hashlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    StrictBool,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic.config import JsonDict
from pydantic_core import InitErrorDetails, PydanticCustomError

from producers.schedule.cron import FURTHEST, Cron, moments, read_cron
from producers.schedule.dated_paths import DatedPath
from shared.catalog.channels import NO_CHANNEL
from shared.records import ModelRef, Name, Promote
from shared.text.durations import Length
from shared.text.yaml_files import shown

COMBINATION = "combination"
"""The kind of a validation error about a combination of fields."""
SCORE_FIELDS = ("model", "interval", "channel")
TRAIN_FIELDS = ("table", "eval", "alias", "promote", "force")
"""Fields that are valid in only one kind of entry."""
_JSON_SCHEMA_OF_COMBINATIONS: JsonDict = {
    "oneOf": [
        {"required": ["score", "model"], "properties": dict.fromkeys(("train", *TRAIN_FIELDS), False)},
        {"required": ["train"], "properties": dict.fromkeys(("score", *SCORE_FIELDS), False)},
    ],
    "dependentRequired": {"eval": ["table"]},
    "if": {"required": ["promote", "table"], "properties": {"promote": {"const": "auto"}}},
    "then": {"required": ["eval"]},
}
"""The rules of ``_wrong_combinations`` as JSON schema, for editors."""


def _check_cron(text: str) -> str:
    line, today = read_cron(text), datetime.now(UTC)
    if next(moments(line, ZoneInfo("UTC"), today, today + FURTHEST), None) is None:
        raise ValueError(f"{shown(text)} never comes")
    return text


def _check_time_zone(text: str) -> str:
    try:
        return ZoneInfo(text).key
    except (OSError, ValueError, KeyError):  # ZoneInfoNotFoundError is a KeyError
        raise ValueError(f"there is no time zone {shown(text)}") from None


CatchUp = Literal["none", "last", "all"]

_TEXT = StringConstraints(strip_whitespace=True, min_length=1)
_SWITCH = Field(description="true or false")


class Entry(BaseModel):
    """An entry of the schedule: a request and its times.

    The description of a field is the advice in messages about it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra=_JSON_SCHEMA_OF_COMBINATIONS)

    name: Annotated[
        str,
        _TEXT,
        StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,39}$"),
        Field(description="up to 40 small letters, digits and -, a letter first, like daily"),
    ]
    """Its name, unique in the schedule."""
    cron: Annotated[
        str,
        _TEXT,
        AfterValidator(_check_cron),
        Field(description='minute, hour, day of month, month, day of week, like "30 5 * * *"'),
    ]
    """The times at which it runs."""
    time_zone: Annotated[
        str,
        _TEXT,
        AfterValidator(_check_time_zone),
        Field(description="a zone of the IANA list, like Europe/Berlin, or UTC"),
    ]
    """The clock of its times."""
    score: Annotated[DatedPath, Field(description="a path in the bucket, like data/predict/input/{date:%Y/%m/%d}")] = ""
    """The table to score; an entry that trains has none."""
    model: Annotated[ModelRef, _TEXT, Field(description="a definition, release or alias, like champion")] = ""
    """The model that scores."""
    interval: Annotated[StrictBool, _SWITCH] = False
    """Whether the bounds of each rate are computed too."""
    channel: Annotated[Name, _TEXT, Field(description=f"a name like live, or {NO_CHANNEL}")] = ""
    """The channel on which the result is published if the guard lets it pass; by default that of the entry's name."""
    train: Annotated[Name, _TEXT, Field(description="a definition, like v2")] = ""
    """The definition to train; an entry that scores has none."""
    table: Annotated[DatedPath, Field(description="a path in the bucket, like data/train/{date:%Y/%m/%d}/train.csv.gz")] = ""
    """The table to train on; by default the newest."""
    eval: Annotated[DatedPath, Field(description="a path in the bucket, like data/train/{date:%Y/%m/%d}/eval.csv.gz")] = ""
    """The table on which the release is evaluated."""
    alias: Annotated[Name, _TEXT, Field(description="an alias, like challenger")] = ""
    """An alias for the release."""
    promote: Annotated[Promote, Field(description="never, auto (if it is better beyond chance) or always")] = "never"
    """Whether the release becomes the champion."""
    force: Annotated[StrictBool, _SWITCH] = False
    """Whether it trains on a table that is refused as too small or implausible."""
    catch_up: Annotated[CatchUp, Field(description="none, last or all")] = "last"
    """Which missed runs are started later."""
    wait_for: Annotated[Length, Field(description="a whole number with d, h, min or s, like 2h")] = timedelta(hours=2)
    """How long a run waits for its table and its model to exist."""
    late_after: Annotated[Length, Field(description="a whole number with d, h, min or s, like 6h")] = timedelta(hours=6)
    """How long after its time a run that has not ended is late."""
    enabled: Annotated[StrictBool, _SWITCH] = True
    """Whether the entry runs at all."""

    @model_validator(mode="wrap")
    @classmethod
    def _check_combinations(cls, fields: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:  # noqa: ANN401 - anything YAML can say
        """Adds errors about combinations of fields to errors about values, so that one check reports all errors of an entry."""
        wrong = [
            InitErrorDetails(type=PydanticCustomError(COMBINATION, "{why}", {"why": why}), loc=(field,), input=fields.get(field))
            for field, why in (_wrong_combinations(fields) if isinstance(fields, dict) else ())
        ]
        try:
            entry = handler(fields)
        except ValidationError as error:
            wrong = [
                InitErrorDetails(type=found["type"], loc=found["loc"], input=found["input"], ctx=found.get("ctx", {}))
                for found in error.errors(include_url=False)
            ] + wrong
        if wrong:
            raise ValidationError.from_exception_data(cls.__name__, wrong)
        return entry

    @property
    def kind(self) -> Literal["score", "train"]:
        """The kind of its jobs."""
        return "score" if self.score else "train"

    @property
    def shown_on(self) -> str | None:
        """The channel of its results; None if it has none."""
        return None if self.channel == NO_CHANNEL or not self.score else self.channel or self.name

    @property
    def line(self) -> Cron:
        """The times that the cron line allows."""
        return read_cron(self.cron)

    @property
    def zone(self) -> ZoneInfo:
        """The clock of its times."""
        return ZoneInfo(self.time_zone)

    @property
    def timing(self) -> str:
        """A digest of the times at which it runs."""
        return hashlib.sha256(f"{self.cron} {self.time_zone}".encode()).hexdigest()[:12]


def _wrong_combinations(fields: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Yields each field that is present or missing in conflict with others, with the reason."""
    scores, trains = "score" in fields, "train" in fields
    if scores == trains:
        yield "score", "an entry either scores or trains" if scores else "it is missing, and so is train"
        return
    if scores and "model" not in fields:
        yield "model", "it is missing"
    for field in TRAIN_FIELDS if scores else SCORE_FIELDS:
        if field in fields:
            yield field, f"it does not belong to an entry that {'scores' if scores else 'trains'}"
    if "eval" in fields and "table" not in fields and trains:
        yield "table", "it is missing, and eval is there"
    if trains and fields.get("promote") == "auto" and "table" in fields and "eval" not in fields:
        yield "eval", "it is missing, and promote: auto judges on it"
