"""Asks a model what each column contributes to the rates of rows, and checks that this adds up to the rates that it predicts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import pandas as pd

from model_store.definitions import Definition
from model_store.foreign_code import calling
from model_store.shipped_contributions import shipped_contributions

METHOD = "contributions"
TOLERANCE = 1e-9
"""The largest difference between a rate and the sum of its contributions."""
_TABLE_DIMENSIONS = 2


class Link(StrEnum):
    """How a raw score becomes a rate."""

    IDENTITY = "identity"
    LOGIT = "logit"
    """The raw score is the logarithm of the odds."""

    def rates(self, raw: np.ndarray) -> np.ndarray:
        """Returns the rates of these raw scores."""
        return raw if self is Link.IDENTITY else 1 / (1 + np.exp(-raw))


class ContributionsError(Exception):
    """Raised when the contributions of a model are not what the contract of definitions says; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Contributions:
    """What makes the rates of some rows."""

    names: list[str]
    """The columns of the features."""
    base: np.ndarray
    """Raw score without any column, one per row."""
    columns: np.ndarray
    """What each column adds to the raw score; float64 of shape (rows, columns)."""
    reasons: Mapping[str, np.ndarray]
    """What else adds to the rate, by name, such as a history; one number per row."""
    link: Link

    @property
    def raw(self) -> np.ndarray:
        """The raw score of each row."""
        return self.base + self.columns.sum(axis=1)

    @property
    def without_reasons(self) -> np.ndarray:
        """The rate of each row from its columns alone, not cut to [0, 1]."""
        return self.link.rates(self.raw)

    @property
    def history(self) -> np.ndarray:
        """The sum of all reasons, one per row."""
        return sum(self.reasons.values(), np.zeros(len(self.base)))

    def check(self, rates: np.ndarray) -> None:
        """Raises ContributionsError unless they add up to these rates, cut to [0, 1], within ``TOLERANCE``."""
        apart = np.abs(np.clip(self.without_reasons + self.history, 0, 1) - np.clip(rates, 0, 1))
        worst = int(np.argmax(apart))
        if not apart[worst] <= TOLERANCE:
            raise ContributionsError(
                f"contributions add up to another rate for {int((~(apart <= TOLERANCE)).sum()):,} of {len(rates):,} rows; "
                f"row {worst} is {apart[worst]:.3g} apart"
            )


def contributions_of(definition: Definition, model: Any, features: Any) -> Contributions:  # noqa: ANN401 - a definition's own class, and what it prepares
    """Returns what a model says about the rates of rows of prepared features.

    Raises:
        ContributionsError: these are not finite numbers in the shapes of the contract.
        DefinitionError: the code of the definition failed.
    """
    if not isinstance(features, pd.DataFrame):
        raise ContributionsError(f"data_preparation gave a {type(features).__name__}, whose columns have no names")
    with calling(definition.name, definition.folder, METHOD):
        give, link = _way_of(model)
        given = give(features.copy(deep=False))
    if not isinstance(given, tuple) or len(given) not in (2, 3):
        raise ContributionsError(f"contributions gave a {type(given).__name__}, not (base, columns) or (base, columns, reasons)")
    base, columns, *reasons = given
    if link not in [*Link]:
        raise ContributionsError(f"LINK is {link!r}, not one of {', '.join(Link)}")
    rows, width = features.shape
    named = reasons[0] if reasons else {}
    if not isinstance(named, dict):
        raise ContributionsError(f"contributions gave reasons as a {type(named).__name__}, not a dict of a name and one number per row")
    return Contributions(
        names=[str(name) for name in features.columns],
        base=_numbers("base", base, (rows,)),
        columns=_numbers("columns", columns, (rows, width)),
        reasons={str(name): _numbers(f"the reason {name!r}", values, (rows,)) for name, values in named.items()},
        link=Link(link),
    )


def has_contributions(model: Any) -> bool:  # noqa: ANN401 - a definition's own class
    """Returns True if a model can say what each column contributes to a rate."""
    return callable(getattr(model, METHOD, None)) or shipped_contributions(model) is not None


def _way_of(model: Any) -> tuple[Callable[[pd.DataFrame], object], str]:  # noqa: ANN401
    """Returns what gives the contributions of a model, and how its raw score becomes a rate."""
    if callable(getattr(model, METHOD, None)):
        return getattr(model, METHOD), str(getattr(model, "LINK", Link.IDENTITY))
    shipped = shipped_contributions(model)
    if shipped is None:
        raise ContributionsError("there is no contributions")
    return shipped


def _numbers(what: str, given: object, shape: tuple[int, ...]) -> np.ndarray:
    try:
        numbers = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        raise ContributionsError(f"contributions gave {what} that are not numbers") from None
    if numbers.shape != shape:
        wanted = "one number per row" + (" and column" if len(shape) == _TABLE_DIMENSIONS else "")
        raise ContributionsError(f"contributions gave {what} of shape {numbers.shape}, not {wanted}, {shape}")
    if not np.isfinite(numbers).all():
        raise ContributionsError(f"contributions gave {what} with a value that is not finite")
    return numbers
