"""The results that the guard compares: a sorted index of the rows with the manifest."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import numpy as np

from shared.catalog.manifests import KEYS, ResultManifest
from workers.tables.schema import DEVICES


class Rows(Protocol):
    """A run of rows in the order of their keys."""

    @property
    def key(self) -> np.ndarray:
        """int64 ``entity_id << 2 | device``, or text."""

    @property
    def cr(self) -> np.ndarray:
        """float64 rates."""

    @property
    def digest(self) -> np.ndarray | None:
        """uint64 (n, 2), of the parsed features; None in an index that was made from an old result."""

    @property
    def clicks(self) -> np.ndarray | None:
        """float64; None when the table has no clicks."""

    @property
    def file(self) -> np.ndarray | None:
        """int32 positions in the index's ``files``."""

    @property
    def line(self) -> np.ndarray | None:
        """int64 line numbers."""


class Index(Protocol):
    """The part of a prediction index that the guard reads."""

    @property
    def rows(self) -> int: ...
    @property
    def files(self) -> list[str]: ...
    @property
    def has_whole_keys(self) -> bool: ...
    @property
    def columns(self) -> list[str]: ...
    @property
    def feature_counts(self) -> Mapping[str, np.ndarray]: ...
    def slices(self, rows_at_once: int = ...) -> Iterator[Rows]: ...


@dataclass(frozen=True, kw_only=True)
class IndexAndManifest:
    """A result: its index, its manifest, and since when the channel has had results on the same table in a row."""

    index: Index
    manifest: ResultManifest
    table_since: datetime | None = None
    """From the verdict of the result; None without one: then the end of the result counts."""

    @property
    def has_devices(self) -> bool:
        """True when the last two bits of a key are the device."""
        return self.index.has_whole_keys and self.manifest.keys == KEYS and bool(set(DEVICES) & set(self.manifest.devices))
