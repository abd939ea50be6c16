"""Rows in key order, as an index holds them."""

from dataclasses import dataclass

import pyarrow as pa

from shared.index_format import KEY, FeatureCounts
from shared.indexing.index_keys import stable_order


@dataclass(frozen=True, kw_only=True)
class SortedRows:
    """Rows in key order, with the columns of an index except the file."""

    batch: pa.RecordBatch
    counts: FeatureCounts
    file: int = 0
    """The position of their file among those of the table."""

    @property
    def keys(self) -> pa.Array:
        """The keys, int64 or text."""
        return self.batch.column(KEY)


def in_key_order(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Returns the rows in key order, those with the same key in their present order."""
    order = stable_order(batch.column(KEY))
    return batch if order is None else batch.take(pa.array(order))
