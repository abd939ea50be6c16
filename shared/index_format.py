"""The format of a prediction index: its columns, its metadata, and the form of its keys.

An index is an uncompressed Arrow IPC file of record batches in key order. Each batch holds ``BATCH_ROWS`` rows; the last one holds the
rest, perhaps none, and carries the feature counts. The columns:

    key               int64 ``entity_id << 2 | device``, or text if a key is neither or does not fit
    cr                float64; cr_low and cr_high follow if the result has an interval
    digest            16 bytes of the parsed features; absent if the index was built from a result alone
    clicks            float64; absent if no file of the table has the column
    file              int32, the position in ``files``; absent if the table is one file
    line              uint32, from 1; 0 if it is unknown
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

BATCH_ROWS = 1 << 16
"""Rows of each record batch but the last: the bytes of an index must not depend on the chunks of its job."""

KEY, CR, LOW, HIGH, DIGEST, CLICKS, FILE, LINE = "key", "cr", "cr_low", "cr_high", "digest", "clicks", "file", "line"

ENTITY, DEVICE = "entity_id", "device"
DEVICE_BITS = 2
DEVICES = ("Computer", "Smartphone", "Tablet")
"""Device names; the index in this tuple is the code in results and keys."""
SMALLEST_ID, LARGEST_ID = -(1 << 61), (1 << 61) - 1
"""The entity ids that fit into a whole key."""

MAX_KEY_CHARACTERS = 256
"""A longer text key is stored as its first characters and the SHA-256 of all of them."""
_FIRST_CHARACTERS = 190

_INDEX, _COUNTS = b"prediction_index", b"feature_counts"


@dataclass(frozen=True, kw_only=True)
class FeatureCounts:
    """The distribution of each feature of a table over its scored rows; counts of parts add up."""

    ones: Mapping[str, int] = field(default_factory=dict)
    """Binary column -> rows with 1."""
    bins: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    """Number column -> bin -> rows; ``workers.guard.index.feature_counts`` defines the bins."""

    def plus(self, other: "FeatureCounts") -> "FeatureCounts":
        """Returns the counts over the rows of both."""
        ones = Counter(self.ones)
        ones.update(other.ones)
        names = dict.fromkeys([*self.bins, *other.bins])
        bins = {name: _added(self.bins.get(name, {}), other.bins.get(name, {})) for name in names}
        return FeatureCounts(ones=dict(ones), bins=bins)

    def encode(self) -> bytes:
        """Returns the counts as JSON; equal counts give the same text."""
        bins = {name: sorted(of_column.items()) for name, of_column in self.bins.items()}
        return json.dumps({"ones": self.ones, "bins": bins}, sort_keys=True).encode()

    @staticmethod
    def decode(text: bytes) -> "FeatureCounts":
        """Returns the counts that ``encode`` wrote; raises ValueError, KeyError or TypeError for another text."""
        found = json.loads(text)
        return FeatureCounts(ones=dict(found["ones"]), bins={name: dict(pairs) for name, pairs in found["bins"].items()})


def _added(one: Mapping[int, int], other: Mapping[int, int]) -> dict[int, int]:
    total = Counter(one)
    total.update(other)
    return dict(total)


@dataclass(frozen=True, kw_only=True)
class IndexShape:
    """What an index holds; equal for all rows of a result."""

    keys: tuple[str, ...]
    """The key columns of the result."""
    has_whole_keys: bool
    features: tuple[tuple[str, str], ...] = ()
    """Name and type of each column in a digest, in the order of the digest."""
    files: tuple[str, ...] = ()
    """The files of the table, in the order of the job."""
    has_interval: bool = False
    has_digests: bool = True
    has_clicks: bool = False
    built_from: str = ""
    """The SHA-256 of the text of the predictions that the index was built from; empty if it was written with them."""

    def schema(self) -> pa.Schema:
        """Returns the Arrow schema; its metadata describes the index."""
        optional = [
            (LOW, pa.float64(), self.has_interval),
            (HIGH, pa.float64(), self.has_interval),
            (DIGEST, pa.binary(16), self.has_digests),
            (CLICKS, pa.float64(), self.has_clicks),
            (FILE, pa.int32(), len(self.files) > 1),
        ]
        columns = [
            (KEY, pa.int64() if self.has_whole_keys else pa.string()),
            (CR, pa.float64()),
            *((name, kind) for name, kind, is_there in optional if is_there),
            (LINE, pa.uint32()),
        ]
        about = {"keys": self.keys, "features": self.features, "files": self.files, "built_from": self.built_from}
        metadata = {_INDEX: json.dumps(about).encode()}
        return pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns], metadata=metadata)

    @staticmethod
    def of(schema: pa.Schema) -> "IndexShape":
        """Returns the shape that a schema describes; raises ValueError, KeyError or TypeError if it is not the schema of an index."""
        about = json.loads((schema.metadata or {})[_INDEX])
        shape = IndexShape(
            keys=tuple(about["keys"]),
            has_whole_keys=schema.field(KEY).type == pa.int64(),
            features=tuple((name, kind) for name, kind in about["features"]),
            files=tuple(about["files"]),
            has_interval=LOW in schema.names,
            has_digests=DIGEST in schema.names,
            has_clicks=CLICKS in schema.names,
            built_from=about["built_from"],
        )
        if not shape.schema().equals(schema):
            raise ValueError("it has other columns than an index")
        return shape


def counts_metadata(counts: FeatureCounts) -> dict[bytes, bytes]:
    """Returns the metadata of the last batch of an index."""
    return {_COUNTS: counts.encode()}


def counts_of(metadata: Mapping[bytes, bytes] | None) -> FeatureCounts:
    """Returns the counts in the metadata of the last batch of an index; raises KeyError, ValueError or TypeError if there are none."""
    return FeatureCounts.decode((metadata or {})[_COUNTS])


def may_be_whole(keys: Sequence[str]) -> bool:
    """Returns True if the keys are whole numbers, at least while every entity id fits."""
    return ENTITY in keys and set(keys) <= {ENTITY, DEVICE}


def index_key(keys: Sequence[str], values: Sequence[int | str], *, whole: bool) -> int | str:
    """Returns the key of a row as an index holds it.

    Args:
        keys: the names of the key columns.
        values: their values: whole numbers for ``entity_id`` and ``device``, text for others.
        whole: ``has_whole_keys`` of the index.

    A whole key is ``entity_id << 2 | device``, with the device 0 if it is not a key. A text key holds the values in the order of the
    columns with ``|`` between them; ``|`` and the backslash inside a value follow a backslash.
    """
    if not whole:
        return shortened("|".join(escaped(str(value)) for value in values))
    value_of = dict(zip(keys, values, strict=True))
    return int(value_of[ENTITY]) << DEVICE_BITS | int(value_of.get(DEVICE, 0))


def escaped(value: str) -> str:
    """Returns a value as it is in a text key."""
    return value.replace("\\", "\\\\").replace("|", "\\|")


def shortened(key: str) -> str:
    """Returns a text key as an index stores it: whole, or its first characters and the digest of all of them."""
    if len(key) <= MAX_KEY_CHARACTERS:
        return key
    return key[:_FIRST_CHARACTERS] + "\\:" + hashlib.sha256(key.encode()).hexdigest()


def total(counts: Iterable[FeatureCounts]) -> FeatureCounts:
    """Returns the counts over the rows of all."""
    whole = FeatureCounts()
    for one in counts:
        whole = whole.plus(one)
    return whole
