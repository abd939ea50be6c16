"""The feature vectors of rows, as arrays whose form depends on the release alone and not on the way the rows were read."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from shared.catalog.manifests import Column
from workers.tables.schema import DEVICE, FLAGS

MISSING = "\n"
"""A missing text as it is hashed: no text of a row holds a line break."""


@dataclass(frozen=True, kw_only=True)
class Features:
    """The features of a release, in the order of its manifest.

    The device flags are left out if the device is a key: then they say nothing about a row that its key does not say.
    """

    binary: tuple[str, ...]
    numbers: tuple[str, ...]
    texts: tuple[str, ...]
    named: tuple[tuple[str, str], ...]
    """Name and type of all of them, in order."""

    @staticmethod
    def of(columns: Sequence[Column], keys: Sequence[str]) -> "Features":
        """Returns the features of a release with these columns and keys."""
        named = [(column.name, column.type) for column in columns if not (DEVICE in keys and column.name in FLAGS)]

        def of_type(kind: str) -> tuple[str, ...]:
            return tuple(name for name, its in named if its == kind)

        return Features(binary=of_type("binary"), numbers=of_type("number"), texts=of_type("text"), named=tuple(named))

    def seeds(self) -> np.ndarray:
        """Returns two 64-bit numbers that depend on the names, types and order of the features."""
        return np.frombuffer(hashlib.sha256(json.dumps(self.named).encode()).digest()[:16], dtype="<u8")


@dataclass(frozen=True, kw_only=True)
class FeatureValues:
    """The values of the features of some rows."""

    block: np.ndarray
    """uint8 of shape (rows, columns), row-major: 0 or 1; the last columns are the binary features, in order."""
    numbers: list[np.ndarray]
    """float64, without -0.0; one per number feature."""
    texts: list[np.ndarray]
    """Objects (str); one per text feature."""
    features: Features

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self.block)

    @property
    def binary(self) -> np.ndarray:
        """The binary features: uint8 of shape (rows, binary features), a view."""
        return self.block[:, self.block.shape[1] - len(self.features.binary) :]


def feature_values(frame: pd.DataFrame, features: Features) -> FeatureValues:
    """Returns the values of a frame of ``workers.tables.rows.Rows``; binary columns that are adjacent in one block are not copied."""
    return FeatureValues(
        block=_binary_block(frame, features.binary),
        # adding zero turns -0.0 into 0.0, which equals it
        numbers=[frame[name].to_numpy(dtype=np.float64) + 0.0 for name in features.numbers],
        texts=[_texts(frame[name]) for name in features.texts],
        features=features,
    )


def _binary_block(frame: pd.DataFrame, names: tuple[str, ...]) -> np.ndarray:
    """Returns the columns as one row-major block, with the device flags before them if these are beside them.

    A slice of adjacent columns that are stored as one block of memory, as ``workers.tables.rows`` stores them, is a view of this block.
    With the flags, its rows are adjacent in memory; other columns are copied.
    """
    if not names:
        return np.empty((len(frame), 0), dtype=np.uint8)
    there = frame.columns.tolist()
    start = there.index(names[0])
    if tuple(there[start : start + len(names)]) == names:
        first = start - len(FLAGS)
        if first >= 0 and tuple(there[first:start]) == FLAGS:
            start = first
        part = frame.iloc[:, start : there.index(names[-1]) + 1]
    else:
        part = frame[[*names]]
    return np.ascontiguousarray(part.to_numpy(), dtype=np.int8).view(np.uint8)


def _texts(column: "pd.Series[str]") -> np.ndarray:
    texts = column.to_numpy(dtype=object)
    return np.where(pd.isna(texts), MISSING, texts)
