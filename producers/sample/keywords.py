"""The keywords of a seed: their attributes, and the devices on which they run."""

from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from producers.sample.hashing import Floats, Integers, hashed

DEVICES = ("Computer", "Smartphone", "Tablet")
"""The names of the devices; a device's number is its index."""
ATTRIBUTES = 160

_DEVICE_SETS = np.array([[1, 0, 0], [1, 1, 1], [1, 1, 0], [1, 0, 1], [0, 1, 0], [0, 0, 1], [0, 1, 1]], dtype=bool)
_DEVICE_SET_SHARES = (0.38, 0.24, 0.15, 0.11, 0.065, 0.045, 0.01)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A choice with levels: each keyword has one level or none, and each level is an attribute."""

    name: str
    shares: tuple[float, ...]

    @property
    def bounds(self) -> Floats:
        return np.fromiter(accumulate(self.shares), dtype=np.float64)


def _falling(levels: int, steepness: float, total: float = 1.0) -> tuple[float, ...]:
    """Shares that fall like Zipf's law, summing to ``total``."""
    weights = np.arange(1, levels + 1, dtype=np.float64) ** -steepness
    # without the excess the last level could miss the keywords whose hash is next to 1
    return tuple(weights / weights.sum() * total * (1 + 1e-9))


CHOICES = (
    Choice(name="match", shares=(0.52, 0.35, 0.13 + 1e-9)),
    Choice(name="language", shares=(0.57, 0.43 + 1e-9)),
    Choice(name="brand", shares=_falling(40, 1.1, total=0.95)),
    Choice(name="category", shares=_falling(30, 0.9)),
    Choice(name="place", shares=_falling(36, 0.4, total=0.4)),
    Choice(name="page", shares=_falling(9, 1.3)),
    Choice(name="words", shares=(0.06, 0.27, 0.36, 0.2, 0.08, 0.03 + 1e-9)),
    Choice(name="price", shares=_falling(5, 0.8)),
    Choice(name="season", shares=_falling(4, 0.5, total=0.3)),
    Choice(name="campaign", shares=_falling(8, 0.7)),
    *(Choice(name=f"mark {share}", shares=(share,)) for share in (0.36, 0.25, 0.1, 0.07, 0.04, 0.02, 0.01, 0.004, 0.001, 0.0002)),
)
POSITION = {choice.name: place for place, choice in enumerate(CHOICES)}
_STARTS = tuple(accumulate((len(choice.shares) for choice in CHOICES), initial=0))


def attributes_of(entity_id: ArrayLike, seed: int) -> NDArray[np.int8]:
    """The attributes of keywords; they are the same in every table of ``seed``.

    Args:
        entity_id: keywords, shape (n,), positive integers.
        seed: seed of the tables.

    Returns:
        Shape (n, 160), 0 or 1: column j is ``att{j + 1}``.
    """
    keywords = np.asarray(entity_id, dtype=np.int64)
    return np.ascontiguousarray(attribute_columns(levels_of(keywords, seed), keywords, seed).T)


def levels_of(keywords: Integers, seed: int) -> NDArray[np.uint8]:
    """The level of each choice for each keyword, shape (choices, n); the number after the last level means none."""
    levels = np.empty((len(CHOICES), len(keywords)), dtype=np.uint8)
    for choice, of_choice in zip(CHOICES, levels, strict=True):
        of_choice[:] = np.searchsorted(choice.bounds, hashed(seed, choice.name, keywords), side="right")
    return levels


def attribute_columns(levels: NDArray[np.uint8], keywords: Integers, seed: int) -> NDArray[np.int8]:
    """The attributes of keywords, shape (160, n)."""
    held = np.empty((ATTRIBUTES, len(keywords)), dtype=bool)
    for (start, end), of_choice in zip(pairwise(_STARTS), levels, strict=True):
        np.equal(of_choice, np.arange(end - start, dtype=np.uint8)[:, None], out=held[start:end])
    # as in real tables: columns that repeat, contradict or nearly repeat another one, and constant columns
    match, language, season = (levels[POSITION[name]] for name in ("match", "language", "season"))
    derived = held[_STARTS[-1] :]
    derived[0] = match == 0
    derived[1] = language != 0
    derived[2] = season < len(CHOICES[POSITION["season"]].shares)
    derived[3] = (language == 0) ^ (hashed(seed, "language is mistaken", keywords) < 0.05)
    derived[4] = hashed(seed, "active", keywords) < 0.997
    derived[5] = True
    derived[6] = False
    return held.view(np.int8)


def devices_of(keywords: Integers, seed: int) -> NDArray[np.bool_]:
    """Returns whether a keyword runs on a device, shape (n, 3); each runs on at least one."""
    bounds = np.fromiter(accumulate(_DEVICE_SET_SHARES[:-1]), dtype=np.float64)
    return _DEVICE_SETS[np.searchsorted(bounds, hashed(seed, "devices", keywords), side="right")]
