"""Looks up published rates in the memory-mapped index of a result."""

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from shared.catalog.manifests import ResultManifest
from shared.index_format import DEVICE_BITS, LARGEST_ID, SMALLEST_ID
from shared.prediction_index import PredictionIndex


class PublishedRate(NamedTuple):
    """A rate of a result, with its bounds if the result has an interval."""

    cr: float
    bounds: tuple[float, ...]


class _Slice(NamedTuple):
    keys: Sequence[int | str]
    rates: memoryview
    bounds: list[np.ndarray]


@dataclass(frozen=True, kw_only=True)
class PublishedResult:
    """The result that a channel shows, opened for lookups. The memory map is shared by all processes that open the same file."""

    channel: str
    change: int
    """The number of the change of the channel that shows it."""
    manifest: ResultManifest
    index: PredictionIndex
    slices: list[_Slice]
    first_keys: list[int | str]

    @staticmethod
    def of(channel: str, change: int, manifest: ResultManifest, index: PredictionIndex) -> "PublishedResult":
        """Returns a result with its index, mapped slice by slice; nothing is copied.

        Raises:
            UnreadableIndexError: a slice of the index is damaged.
        """
        # of a memory view, a single value is read several times as fast as of an array
        slices = [_Slice(keys, rates.data, bounds) for keys, rates, bounds in index.mapped()]
        first_keys = [piece.keys[0] for piece in slices]
        return PublishedResult(channel=channel, change=change, manifest=manifest, index=index, slices=slices, first_keys=first_keys)

    @property
    def keys(self) -> tuple[str, ...]:
        """The key columns."""
        return self.index.keys

    def find(self, values: Sequence[int | str]) -> PublishedRate | None:
        """Returns the rate of the first row with these values of the key columns, in the order of ``keys``; None if there is none."""
        if self.index.has_whole_keys and not all(type(value) is int and SMALLEST_ID <= value <= LARGEST_ID for value in values):
            return None
        return self._find(self.index.key_of(values))

    def find_row(self, entity_id: int, device: int) -> PublishedRate | None:
        """Does the same for the usual keys, in a third of the time."""
        if not self.index.has_whole_keys:
            return self.find((entity_id, device))
        return self._find(entity_id << DEVICE_BITS | device) if SMALLEST_ID <= entity_id <= LARGEST_ID else None

    def _find(self, key: int | str) -> PublishedRate | None:
        # equal keys may end one slice and begin the next: the first of them is in the slice before
        number = max(bisect.bisect_left(self.first_keys, key) - 1, 0)
        for piece in self.slices[number : number + 2]:
            place = bisect.bisect_left(piece.keys, key)
            if place < len(piece.keys):
                if piece.keys[place] != key:
                    return None
                bounds = tuple([float(bound[place]) for bound in piece.bounds]) if piece.bounds else ()
                return PublishedRate(piece.rates[place], bounds)
        return None
