"""Reads a single row of JSON whose values are all valid at first sight: the form of nearly all requests for one computed rate."""

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from shared.catalog.manifests import KEYS, Column
from workers.tables.json_rows import FLAGS_OF_DEVICE, JsonRow, pack_binary, whole_key
from workers.tables.schema import DEVICE, ENTITY, FLAGS
from workers.tables.values import device_code


class PlainRows:
    """The features of a release, to read from one row after another.

    Args:
        columns: the features of the release, in the order of its manifest; all of them numbers.
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        names = [column.name for column in columns]
        own = [column for column in columns if column.name not in FLAGS]
        self._binary = _getter([column.name for column in own if column.type == "binary"])
        self._numbers = tuple(column.name for column in own if column.type != "binary")
        self._count = len(names)
        self._flag_places = [names.index(flag) if flag in names else None for flag in FLAGS]
        self._binary_places = _as_slice([names.index(column.name) for column in own if column.type == "binary"])
        self._number_places = [names.index(name) for name in self._numbers]

    @staticmethod
    def can_read(columns: Sequence[Column], keys: tuple[str, ...]) -> bool:
        """Returns True for the usual keys, and features that are all numbers."""
        return keys == KEYS and all(column.type != "text" and column.name != ENTITY for column in columns)

    def values(self, row: JsonRow) -> np.ndarray | None:
        """Returns the features as a matrix (1, columns) of float64; None for a row that takes a closer look, and may be rejected."""
        entity_id, flags, packed = row.get(ENTITY), _flags(row), pack_binary(self._binary, (row,))
        if type(entity_id) is not int or whole_key(entity_id) is None or flags is None or packed is None:
            return None
        found = np.empty((1, self._count))
        try:
            for place, name in zip(self._number_places, self._numbers, strict=True):
                number = row[name]
                if not (type(number) is int or type(number) is float) or not math.isfinite(number):
                    return None
                found[0, place] = number
        except (KeyError, OverflowError):
            return None
        found[0, self._binary_places] = np.frombuffer(packed, dtype=np.uint8)
        for flag_place, flag in zip(self._flag_places, flags, strict=True):
            if flag_place is not None:
                found[0, flag_place] = flag
        return found


def _flags(row: JsonRow) -> tuple[int, int] | None:
    """Returns ``computer`` and ``smartphone`` of a row; None if they take a closer look."""
    device = row.get(DEVICE)
    if type(device) is int:
        return FLAGS_OF_DEVICE[device] if 0 <= device < len(FLAGS_OF_DEVICE) else None
    if isinstance(device, str):
        code = device_code(device)
        return FLAGS_OF_DEVICE[code] if code >= 0 else None
    if device is not None or DEVICE in row:
        return None
    found = tuple(row.get(flag) for flag in FLAGS)
    if not all(type(flag) is int for flag in found):
        return None
    return next((flags for flags in FLAGS_OF_DEVICE if flags == found), None)


def _getter(names: Sequence[str]) -> Callable[[JsonRow], tuple[Any, ...]]:
    if len(names) > 1:
        return operator.itemgetter(*names)
    return lambda row: tuple([row[name] for name in names])


def _as_slice(places: list[int]) -> slice | list[int]:
    """Returns neighbouring places as a slice, which numpy writes to in half the time."""
    if places and places == list(range(places[0], places[-1] + 1)):
        return slice(places[0], places[-1] + 1)
    return places
