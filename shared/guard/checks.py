"""The checks of a channel in ``config/guard.yaml``: their names, options and default limits."""

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.guard.limits import CountLimit, LengthLimit, NumberLimit, PercentLimit, Switch
from shared.text.percentages import Percent, Percentage


class CheckName(StrEnum):
    """The checks, in the order of pages and messages."""

    ROWS = "rows"
    KEYS_LOST = "keys_lost"
    KEYS_NEW = "keys_new"
    KEYS_DOUBLED = "keys_doubled"
    CLIPPED = "clipped"
    CONSTANT = "constant"
    MEAN_CR = "mean_cr"
    P99_CR = "p99_cr"
    MOVED = "moved"
    PSI_CR = "psi_cr"
    PSI_FEATURES = "psi_features"
    SAME_TABLE = "same_table"


class Weight(StrEnum):
    """What a row counts: its clicks, or one."""

    CLICKS = "clicks"
    ROWS = "rows"


class Grouping(StrEnum):
    """The rows that are judged together: those of a device, or all."""

    DEVICE = "device"
    ALL = "all"


class Unit(StrEnum):
    """The unit of a value and its limits."""

    SHARE = "share"
    """0.05 is 5 %."""
    ROWS = "rows"
    NUMBER = "number"
    SECONDS = "seconds"
    SWITCH = "switch"
    """1 is true."""


class Closed(BaseModel):
    """A frozen mapping that refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_enum_values=False)


WeightBy = Annotated[Weight, Field(description="clicks or rows")]
GroupBy = Annotated[Grouping, Field(description="device or all")]


class CheckConfig(Closed):
    """The options that every check has. A value above ``warn`` warns, a value above ``block`` holds the result."""

    unit: ClassVar[Unit] = Unit.SHARE
    min_rows: Annotated[int, Field(ge=1, le=1_000_000_000, strict=True, description="a whole number of at least 1, like 100")] = 100
    """Groups with fewer rows are skipped."""

    def limits(self) -> tuple[float | None, float | None]:
        """The limits ``warn`` and ``block`` as numbers in ``unit``; None is no limit."""
        return _as_number(self.warn), _as_number(self.block)  # type: ignore[attr-defined]

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        """A written ``warn`` above a written ``block`` is a mistake; a default ``warn`` above a written ``block`` never fires."""
        warn, block = self.limits()
        if {"warn", "block"} <= self.model_fields_set and warn is not None and block is not None and warn > block:
            raise ValueError("its warn is above its block, so it would never warn")
        return self


def _as_number(limit: Any) -> float | None:  # noqa: ANN401 - any kind of limit
    if limit is None or limit is False:
        return None
    if isinstance(limit, timedelta):
        return limit.total_seconds()
    return 0.0 if limit is True else float(limit)


class Rows(CheckConfig):
    """The change of the number of rows, up or down."""

    warn: PercentLimit = Percentage(0.05)
    block: PercentLimit = Percentage(0.10)


class KeysLost(CheckConfig):
    """The share of the base's keys that have no row any more."""

    warn: PercentLimit = Percentage(0.02)
    block: PercentLimit = Percentage(0.10)
    weight: WeightBy = Weight.CLICKS


class KeysNew(CheckConfig):
    """The share of the keys that the base does not have."""

    warn: PercentLimit = Percentage(0.20)
    block: PercentLimit = None
    weight: WeightBy = Weight.ROWS


class KeysDoubled(CheckConfig):
    """The rows whose key occurs in an earlier row."""

    unit: ClassVar[Unit] = Unit.ROWS
    warn: CountLimit = None
    block: CountLimit = 0


class Clipped(CheckConfig):
    """The share of the rows whose prediction was outside 0 to 1."""

    warn: PercentLimit = Percentage(0.001)
    block: PercentLimit = Percentage(0.01)


class Constant(CheckConfig):
    """One rate for all rows of a device, or one value of an important column that varied in the base."""

    unit: ClassVar[Unit] = Unit.SWITCH
    warn: Switch = False
    block: Switch = True
    columns: Annotated[int, Field(ge=0, le=1000, strict=True, description="a whole number from 0 to 1000, like 10")] = 10
    """How many columns, by their importance in the release; 0 for rates alone."""


class MeanCr(CheckConfig):
    """The change of the mean rate, up or down."""

    warn: PercentLimit = Percentage(0.10)
    block: PercentLimit = Percentage(0.25)
    by: GroupBy = Grouping.DEVICE
    weight: WeightBy = Weight.CLICKS


class P99Cr(CheckConfig):
    """The change of the 99th percentile of the rates, up or down."""

    warn: PercentLimit = Percentage(0.25)
    block: PercentLimit = Percentage(1.0)
    by: GroupBy = Grouping.DEVICE


class Moved(CheckConfig):
    """The share of the rows with a base whose rate changed by more than ``by_more_than``."""

    warn: PercentLimit = Percentage(0.05)
    block: PercentLimit = Percentage(0.20)
    by_more_than: Annotated[Percent, Field(description="a percentage, like 50%")] = Percentage(0.50)
    """The change of a rate, up or down, as a share of the rate before."""
    weight: WeightBy = Weight.CLICKS


class PsiCr(CheckConfig):
    """The population stability index of the rates, above what chance gives."""

    unit: ClassVar[Unit] = Unit.NUMBER
    warn: NumberLimit = 0.1
    block: NumberLimit = 0.25
    by: GroupBy = Grouping.DEVICE


class PsiFeatures(CheckConfig):
    """The population stability index of the values of the most important columns, above what chance gives."""

    unit: ClassVar[Unit] = Unit.NUMBER
    warn: NumberLimit = 0.1
    block: NumberLimit = None
    columns: Annotated[int, Field(ge=1, le=1000, strict=True, description="a whole number from 1 to 1000, like 10")] = 10
    """How many columns, by their importance in the release."""


class SameTable(CheckConfig):
    """The age of the base's first result on this table, when the base has the same table."""

    unit: ClassVar[Unit] = Unit.SECONDS
    warn: LengthLimit = timedelta(hours=26)
    block: LengthLimit = timedelta(hours=50)


class Checks(Closed):
    """The checks of a channel, each with its limits; a check or option that is not named has its default."""

    rows: Rows = Rows()
    keys_lost: KeysLost = KeysLost()
    keys_new: KeysNew = KeysNew()
    keys_doubled: KeysDoubled = KeysDoubled()
    clipped: Clipped = Clipped()
    constant: Constant = Constant()
    mean_cr: MeanCr = MeanCr()
    p99_cr: P99Cr = P99Cr()
    moved: Moved = Moved()
    psi_cr: PsiCr = PsiCr()
    psi_features: PsiFeatures = PsiFeatures()
    same_table: SameTable = SameTable()


CHECK_MODELS: tuple[type[CheckConfig], ...] = (
    Rows,
    KeysLost,
    KeysNew,
    KeysDoubled,
    Clipped,
    Constant,
    MeanCr,
    P99Cr,
    Moved,
    PsiCr,
    PsiFeatures,
    SameTable,
)
