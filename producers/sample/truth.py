"""Defines the true conversion rate of each keyword and device."""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from producers.sample.hashing import Floats, Integers, hashed, hashed_normal
from producers.sample.keywords import CHOICES, DEVICES, POSITION, devices_of, levels_of

HIGHEST_CR = 0.25
MEAN_CR = 0.05

_DEVICE_LOG_ODDS = np.array([0.0, -0.35, -0.22])
_ATTRIBUTES_SD = 0.45  # standard deviation of the log-odds over the keywords: the part that a model can learn
_KEYWORD_SD = 0.25  # standard deviation of the log-odds: the part that only a keyword's own history shows
_PAIRS = (("match", "words"), ("language", "category"), ("page", "price"))


def true_cr(entity_id: ArrayLike, device: ArrayLike, seed: int) -> Floats:
    """The probability that a click becomes a conversion, for each keyword and device in the tables of ``seed``.

    Its mean over the rows of a table is 0.05 within a few thousandths; its maximum is ``HIGHEST_CR``.

    Args:
        entity_id: keywords, shape (n,), positive integers; every keyword has a truth, whether it was written or not.
        device: device numbers, shape (n,): 0 computer, 1 smartphone, 2 tablet.
        seed: seed of the tables.

    Returns:
        Shape (n,), each in (0, ``HIGHEST_CR``].
    """
    keywords, devices = np.asarray(entity_id, dtype=np.int64), np.asarray(device, dtype=np.int64)
    return truth_of(seed).cr(keywords, levels_of(keywords, seed), devices)


@dataclass(frozen=True, kw_only=True)
class Truth:
    """The log-odds of a conversion: a sum of effects of choices, pairs of choices, device and keyword."""

    seed: int
    intercept: float
    scale: float
    level_effects: tuple[Floats, ...]
    pair_effects: tuple[Floats, ...]
    device_page_effects: Floats

    def cr(self, keywords: Integers, levels: NDArray[np.uint8], devices: Integers) -> Floats:
        return _rate(self.intercept + self.log_odds(keywords, levels, devices))

    def log_odds(self, keywords: Integers, levels: NDArray[np.uint8], devices: Integers) -> Floats:
        """The log-odds without the intercept, shape (n,)."""
        own = _KEYWORD_SD * hashed_normal(self.seed, "keyword effect", keywords)
        page = levels[POSITION["page"]]
        return self.scale * self.attribute_effects(levels) + own + _DEVICE_LOG_ODDS[devices] + self.device_page_effects[devices, page]

    def attribute_effects(self, levels: NDArray[np.uint8]) -> Floats:
        """The effect of the attributes before scaling, shape (n,).

        Summed table by table, because a matrix product may round a row differently by its position in the block.
        """
        total = np.zeros(levels.shape[1])
        for table, choice_levels in zip(self.level_effects, levels, strict=True):
            total += table[choice_levels]
        for table, (one, other) in zip(self.pair_effects, _PAIRS, strict=True):
            total += table[levels[POSITION[one]], levels[POSITION[other]]]
        return total


@lru_cache(maxsize=8)
def truth_of(seed: int) -> Truth:
    """The truth of a seed: sparse random effects, scaled so that every seed has the same spread and mean."""
    known = np.arange(1, 4_097, dtype=np.int64)
    levels = levels_of(known, seed)
    unscaled = Truth(
        seed=seed,
        intercept=0.0,
        scale=1.0,
        level_effects=tuple(_effects(seed, choice.name, len(choice.shares) + 1) for choice in CHOICES),
        pair_effects=tuple(
            _effects(seed, f"{a} and {b}", *(len(CHOICES[POSITION[name]].shares) + 1 for name in (a, b))) / 2 for a, b in _PAIRS
        ),
        device_page_effects=_effects(seed, "device and page", len(DEVICES), len(CHOICES[POSITION["page"]].shares) + 1) / 8,
    )
    scale = _ATTRIBUTES_SD / float(unscaled.attribute_effects(levels).std())
    scaled = replace(unscaled, scale=scale)

    keyword, device = np.nonzero(devices_of(known, seed))
    log_odds = scaled.log_odds(known[keyword], levels[:, keyword], device)
    low, high = -20.0, 20.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if _rate(middle + log_odds).mean() < MEAN_CR else (low, middle)
    return replace(scaled, intercept=low)


def _effects(seed: int, name: str, *shape: int) -> Floats:
    """Effects on the log-odds, about half of them zero."""
    places = np.arange(np.prod(shape), dtype=np.int64)
    effects = np.where(hashed(seed, f"{name} matters", places) < 0.5, hashed_normal(seed, f"{name} effect", places), 0.0)
    return effects.reshape(shape)


def _rate(log_odds: Floats) -> Floats:
    return np.minimum(1 / (1 + np.exp(-log_odds)), HIGHEST_CR)
