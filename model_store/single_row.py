"""Predicts one row with a shipped definition, without the pandas frames that take most of the time of a single row.

The definition's own ``predict`` runs, and so gives its own digits. In place of a frame it gets an object with that part of the interface
of a frame which the shipped definitions use. Any other definition gets a frame, from ``model_store.predicting``.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from model_store.definitions import ENTITY, PACKAGE_FOLDER, Definition
from model_store.predicting import columns_for, predict_rows
from shared.catalog.manifests import KEYS

PROBES = 16
"""Made-up rows on which the rates without a frame must be those with a frame."""

_INT8, _INT64, _FLOAT64 = (np.dtype(kind) for kind in ("int8", "int64", "float64"))


class SingleRowPredictor:
    """A model of a shipped definition, asked for one row at a time."""

    def __init__(self, model: Any, shape: "_Shape", *, has_entity: bool) -> None:  # noqa: ANN401 - a definition's own class
        """``has_entity`` is true for a definition that keeps ``entity_id`` among its features."""
        self._model, self._shape, self._has_entity = model, shape, has_entity
        self._with_entity = _Shape([ENTITY, *shape.names], [_INT64, *shape.kinds])

    @staticmethod
    def of(definition: Definition, model: Any, features: Sequence[str], binary: Sequence[str]) -> "SingleRowPredictor | None":  # noqa: ANN401
        """Returns it for a release; None for a definition that is not shipped, or that uses more of a frame than a row here has.

        Args:
            definition: the definition of the release.
            model: the loaded model.
            features: the columns of the release, in their order.
            binary: those of them that hold 0 and 1 only.
        """
        if definition.folder.parent != PACKAGE_FOLDER or definition.keys != KEYS:
            return None
        small = frozenset(binary)
        shape = _Shape(list(features), [_INT8 if name in small else _FLOAT64 for name in features])
        probes = _probes(shape)
        frame = columns_for(definition, features, _frame_of(shape, probes))
        try:
            prepared = definition.prepare(frame, target_col=None)[0]
            rates = predict_rows(definition, model, frame)[0]
        except Exception:  # noqa: BLE001 - a definition may refuse made-up rows
            return None
        for has_entity, expected in ((False, frame[list(features)]), (True, frame)):
            if isinstance(prepared, pd.DataFrame) and prepared.equals(expected):
                found = SingleRowPredictor(model, shape, has_entity=has_entity)
                return found if found._gives(rates, probes) else None
        return None

    def _gives(self, rates: np.ndarray, probes: np.ndarray) -> bool:
        """Returns True if each probe has its rate, to the last digit."""
        try:
            alone = [self.predict(number, probes[number : number + 1]) for number in range(len(probes))]
        except Exception:  # noqa: BLE001 - whatever a definition raises that needs more of a frame
            return False
        return alone == [_written(rate) for rate in rates.tolist()]

    def predict(self, entity_id: int, values: np.ndarray) -> float | None:
        """Returns the rate for the values of the features, a matrix (1, features) of float64; None if it is not a finite number.

        Raises:
            Exception: whatever the definition raises; asked with a frame, it has a sentence for it.
        """
        row = _Row(self._shape, values)
        features = _RowWithEntity(self._with_entity, row, entity_id) if self._has_entity else row
        rates = self._model.predict(features)
        if not isinstance(rates, np.ndarray) or rates.shape != (1,) or rates.dtype != np.float64:
            return None
        return _written(float(rates[0]))


def _written(rate: float) -> float | None:
    """Returns a rate as it is written; None for one that is not a finite number."""
    # adding zero turns -0.0, which would be written as -0, into 0.0
    return min(max(rate, 0.0), 1.0) + 0.0 if math.isfinite(rate) else None


def _probes(shape: "_Shape") -> np.ndarray:
    """Returns made-up features, (rows, features) of float64, the same in every process."""
    random = np.random.default_rng(0)
    values = random.normal(size=(PROBES, len(shape.names)))
    is_binary = np.array([kind == _INT8 for kind in shape.kinds], dtype=bool)
    values[:, is_binary] = values[:, is_binary] > 0
    return values


def _frame_of(shape: "_Shape", values: np.ndarray) -> pd.DataFrame:
    columns = {name: values[:, place].astype(kind) for place, (name, kind) in enumerate(zip(shape.names, shape.kinds, strict=True))}
    return pd.DataFrame({ENTITY: np.arange(len(values))} | columns)


class _Names(list[str]):
    """The names of columns, as a list and as the index of a frame."""

    def tolist(self) -> list[str]:
        return self


class _Shape:
    """What the rows of one release have in common: names and types, and where a part of the columns is."""

    def __init__(self, names: list[str], kinds: list[np.dtype[Any]]) -> None:
        self.names, self.kinds = _Names(names), kinds
        self.places = {name: place for place, name in enumerate(names)}
        self.common = kinds[0] if len(set(kinds)) == 1 else _FLOAT64
        self._parts: dict[Any, tuple[_Shape, np.ndarray]] = {}

    def part(self, key: Any, places: list[int]) -> "tuple[_Shape, np.ndarray]":  # noqa: ANN401 - a key of a dict
        known = self._parts.get(key)
        if known is None:
            shape = _Shape([self.names[place] for place in places], [self.kinds[place] for place in places])
            known = self._parts[key] = shape, np.array(places, dtype=np.intp)
        return known

    def chosen(self, names: list[str]) -> "tuple[_Shape, np.ndarray]":
        """Returns the part with these columns, in this order."""
        key = tuple(names)
        return self._parts.get(key) or self.part(key, [self.places[name] for name in names])

    def masked(self, mask: np.ndarray) -> "tuple[_Shape, np.ndarray]":
        """Returns the part with the columns where the mask is true."""
        key = mask.tobytes()
        return self._parts.get(key) or self.part(key, np.flatnonzero(mask).tolist())


class _Row:
    """One row of numbers: whole numbers of one byte and float64, held as float64, which represents all of them."""

    __slots__ = ("_shape", "_values")

    def __init__(self, shape: _Shape, values: np.ndarray) -> None:
        self._shape, self._values = shape, values

    def __len__(self) -> int:
        return 1

    @property
    def columns(self) -> _Names:
        return self._shape.names

    @property
    def dtypes(self) -> list[np.dtype[Any]]:
        return self._shape.kinds

    @property
    def iloc(self) -> "_ByPlace":
        return _ByPlace(self)

    @property
    def loc(self) -> "_ByMask":
        return _ByMask(self)

    def __getitem__(self, names: Any) -> Any:  # noqa: ANN401 - as a frame
        if isinstance(names, str):
            place = self._shape.places[names]
            return _Column(self._values[:, place].astype(self._shape.kinds[place]))
        return self.part(*self._shape.chosen(names))

    def part(self, shape: _Shape, places: np.ndarray) -> "_Row":
        return _Row(shape, self._values[:, places])

    def to_numpy(self, dtype: Any = None) -> np.ndarray:  # noqa: ANN401 - as numpy has it
        return self._values.astype(self._shape.common if dtype is None else dtype)


class _RowWithEntity:
    """One row with its ``entity_id`` as the first column, which float64 may not represent."""

    __slots__ = ("_entity_id", "_row", "_shape")

    def __init__(self, shape: _Shape, row: _Row, entity_id: int) -> None:
        self._shape, self._row, self._entity_id = shape, row, entity_id

    def __len__(self) -> int:
        return 1

    @property
    def columns(self) -> _Names:
        return self._shape.names

    def __getitem__(self, names: Any) -> Any:  # noqa: ANN401 - as a frame
        if names == ENTITY:
            return _Column(np.array([self._entity_id], dtype=np.int64))
        if ENTITY not in names:
            return self._row[names]
        rest = [name for name in names if name != ENTITY]
        return _RowWithEntity(self._shape.chosen(names)[0], self._row[rest], self._entity_id)


class _Column:
    """One column of one row."""

    __slots__ = ("_values",)

    def __init__(self, values: np.ndarray) -> None:
        self._values = values

    def to_numpy(self, dtype: Any = None) -> np.ndarray:  # noqa: ANN401 - as numpy has it
        return self._values if dtype is None else self._values.astype(dtype)


class _ByPlace:
    __slots__ = ("_row",)

    def __init__(self, row: _Row) -> None:
        self._row = row

    def __getitem__(self, rows: slice) -> _Row:
        if rows.start not in (None, 0):
            raise IndexError("there is one row")
        return self._row


class _ByMask:
    __slots__ = ("_row",)

    def __init__(self, row: _Row) -> None:
        self._row = row

    def __getitem__(self, key: tuple[slice, np.ndarray]) -> _Row:
        return self._row.part(*self._row._shape.masked(key[1]))
