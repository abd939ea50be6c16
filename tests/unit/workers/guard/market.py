"""A made-up market: keywords with attributes, devices and clicks, tables of them week by week, and models that score them."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from shared.prediction_index import PredictionIndex
from tests.unit.workers.guard.made_up import index

SHARES = np.array([0.52, 0.43, 0.36, 0.35, 0.27, 0.25, 0.2, 0.13, 0.1, 0.07, 0.04, 0.02])
"""The share of keywords that have each attribute."""
EFFECTS = np.array([0.9, -0.35, 0.4, 0.3, -0.4, 0.25, 0.35, -0.3, 0.4, 0.5, -0.5, 0.6])
"""The log-odds of each attribute: the first one is the most important."""
DEVICE_EFFECTS = np.array([0.0, -0.35, -0.22])
LEVEL = -3.6
DEVICE_SETS = np.array([[1, 0, 0], [1, 1, 1], [1, 1, 0], [1, 0, 1], [0, 1, 0], [0, 0, 1], [0, 1, 1]], dtype=bool)
DEVICE_SET_SHARES = (0.38, 0.24, 0.15, 0.11, 0.065, 0.045, 0.01)
SEASON = 0.2
"""The amplitude of the yearly season, in log-odds."""


@dataclass(frozen=True)
class Table:
    """Rows of keywords and devices; ``attributes`` are bits."""

    entity: np.ndarray
    device: np.ndarray
    attributes: np.ndarray
    clicks: np.ndarray

    def __getitem__(self, rows: np.ndarray) -> Self:
        return type(self)(*(column[rows] for column in vars(self).values()))

    def __len__(self) -> int:
        return len(self.entity)

    def with_attributes(self, attributes: np.ndarray) -> Self:
        return replace(self, attributes=attributes)

    def swapped(self) -> Self:
        """Computer and Tablet exchange their names."""
        return replace(self, device=np.array([2, 1, 0])[self.device])


@dataclass(frozen=True)
class Market:
    """The keywords that may be in a table; each table has most of them."""

    whole: Table
    random: np.random.Generator

    @classmethod
    def of(cls, keywords: int, seed: int, *, all_devices: bool = True) -> Self:
        random = np.random.default_rng(seed)
        sets = np.ones((keywords, 3), dtype=bool) if all_devices else DEVICE_SETS[random.choice(7, keywords, p=DEVICE_SET_SHARES)]
        entity, device = np.nonzero(sets)
        attributes = (random.random((keywords, len(SHARES))) < SHARES).astype(np.uint64) @ (1 << np.arange(len(SHARES), dtype=np.uint64))
        mean_clicks = random.lognormal(1.0, 1.0, keywords)[entity] * np.array([1.0, 0.8, 0.3])[device]
        return cls(Table(entity + 1, device, attributes[entity], mean_clicks), random)

    def without_some(self, share: float) -> np.ndarray:
        """Whether each keyword is in the table."""
        return self.random.random(int(self.whole.entity.max()) + 1) >= share

    def table(self, is_there: np.ndarray) -> Table:
        """A table of the keywords that are there, with new clicks."""
        rows = self.whole[np.flatnonzero(is_there[self.whole.entity])]
        return replace(rows, clicks=self.random.poisson(rows.clicks).astype(float))

    def change_some_keywords(self, share: float) -> None:
        """Some rows get the attributes of others."""
        rows = np.flatnonzero(self.random.random(len(self.whole)) < share)
        self.whole.attributes[rows] = self.whole.attributes[self.random.permutation(len(self.whole))[: len(rows)]]


@dataclass(frozen=True)
class Model:
    """A release: the effects that it learned."""

    effects: np.ndarray
    level: float = LEVEL

    @classmethod
    def trained(cls, random: np.random.Generator, level: float = 0.0, error: float = 0.08) -> Self:
        return cls(EFFECTS + random.normal(0, error, len(EFFECTS)), LEVEL + level + random.normal(0, 0.03))

    @classmethod
    def true(cls) -> Self:
        """What really happens."""
        return cls(EFFECTS)

    @property
    def important_columns(self) -> list[str]:
        """The columns of its table, the most important first."""
        return [f"att{place + 1}" for place in np.argsort(-np.abs(self.effects))]

    def rates(self, table: Table, level: float = 0.0) -> np.ndarray:
        of_all = bits_of(np.arange(1 << len(SHARES), dtype=np.uint64)) @ self.effects
        return 1 / (1 + np.exp(-(self.level + level + of_all[table.attributes] + DEVICE_EFFECTS[table.device])))


def bits_of(attributes: np.ndarray) -> np.ndarray:
    """The bits of attributes, shape (n, attributes)."""
    return (attributes[:, None] >> np.arange(len(SHARES), dtype=np.uint64)) & np.uint64(1)


def scored(table: Table, rates: np.ndarray, *, with_clicks: bool = True) -> PredictionIndex:
    """The index of the result of a table."""
    every = np.arange(1 << len(SHARES), dtype=np.uint64)
    ones_of_all = np.bincount(table.attributes.astype(np.int64), minlength=len(every)) @ bits_of(every).astype(np.int64)
    ones = {f"att{place + 1}": int(count) for place, count in enumerate(ones_of_all)}
    clicks = table.clicks if with_clicks else None
    columns = tuple(ones)
    return index(table.entity << 2 | table.device, rates, features=table.attributes, clicks=clicks, ones=ones, columns=columns)


def season(week: int) -> float:
    """The log-odds of a week of the year."""
    return SEASON * float(np.sin(2 * np.pi * week / 52))
