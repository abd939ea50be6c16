"""Determines the columns of a table and which of them a definition needs."""

import functools
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from shared.catalog.manifests import KEYS, Column, ColumnType
from workers.tables.csv.headers import missing_columns, refuse_doubled
from workers.tables.packed_flags import FlagBlock, find_flag_block

OTHER_DEVICES = {
    **dict.fromkeys(["computers", "desktop", "desktops", "pc", "desktop computers", "laptop"], "Computer"),
    **dict.fromkeys(
        ["mobile", "mobiles", "mobile phone", "mobile phones", "mobile devices with full browsers", "phone", "phones", "smartphones"],
        "Smartphone",
    ),
    **dict.fromkeys(["tablets", "tablets with full browsers", "ipad"], "Tablet"),
}
"""Names that advertising platforms use for the devices. A reject says which name to write instead; none of them is accepted."""

OTHER_NUMBERS = ("3", "4", "5", "6")
"""Device numbers of Google Ads other than its 2, which is a mobile phone there and a tablet here."""

FLAGS = ("computer", "smartphone")
"""The device columns of the prepared layout; a tablet is 0 in both."""

ENTITY, DEVICE = "entity_id", "device"
_ID_IS_WORD = re.compile(rf"column {ENTITY}: '[^']*[^\W\d_][^']*' is not a whole number(?!:)")
RATE = "cr"
CLICKS = "Clicks"
LABELS = (RATE, CLICKS, "Conversions", "week")
"""Columns of a training table that are not features."""

BOUNDS = ("cr_low", "cr_high")
"""The interval around the rate, if requested."""

_ATTRIBUTE = re.compile(r"att\d+")


@dataclass(frozen=True, kw_only=True)
class TableSchema:
    """The columns of a file that are read, and their types."""

    path: str
    columns: list[str]
    """All columns of the file, in file order."""
    wanted: list[Column]
    """The features, in the order of the frame."""
    extra: list[Column] = field(default_factory=list)
    """Label columns that are also read for training."""
    keys: tuple[str, ...] = KEYS
    """The key columns."""
    flags: tuple[str, ...] = FLAGS
    """The device as features; empty if neither key nor feature needs it."""
    clicks: tuple[str, ...] = ()
    """The column of clicks if it is read, as a weight: a row without a valid number is no reject, it has 0 clicks."""

    @property
    def has_device(self) -> bool:
        """True for the raw layout with one device column; False for flags, or if the device is not read."""
        return bool(self.flags) and DEVICE in self.columns

    @property
    def ids(self) -> list[str]:
        """The entity id, if it is a key."""
        return [ENTITY] if ENTITY in self.keys else []

    @functools.cached_property
    def texts(self) -> list[str]:
        """The columns that are read as text: text features, and the keys that a definition defines itself."""
        own_keys = [name for name in self.keys if name not in KEYS]
        return list(dict.fromkeys([*own_keys, *(column.name for column in self.wanted if column.type == "text")]))

    @functools.cached_property
    def run(self) -> FlagBlock | None:
        """The run of binary columns that is worth extracting from csv text."""
        return find_flag_block(self.columns, {column.name for column in [*self.wanted, *self.extra] if column.type == "binary"})

    def without(self, names: Collection[str]) -> "TableSchema":
        """Returns the schema of the same file without these columns."""
        out = set(names)
        return replace(
            self,
            columns=[name for name in self.columns if name not in out],
            wanted=[column for column in self.wanted if column.name not in out],
            extra=[column for column in self.extra if column.name not in out],
        )

    @functools.cached_property
    def numbers(self) -> list[Column]:
        """Every column that is read as numbers, except the entity id."""
        flags = [] if self.has_device else [Column(name=name, type="binary") for name in self.flags]
        return [*flags, *(column for column in self.wanted if column.type != "text"), *self.extra]

    @property
    def needed(self) -> list[str]:
        """The names of all columns that each row must have."""
        return [*self.ids, *([DEVICE] if self.has_device else []), *self.texts, *(column.name for column in self.numbers)]

    @property
    def read(self) -> list[str]:
        """The names of all columns that are read, also of those that a row may lack."""
        return [*self.needed, *self.clicks]


def keys_advice(quoted: str) -> str:
    """Returns advice for rejects whose ids are words; empty if there are none."""
    if not _ID_IS_WORD.search(quoted):
        return ""
    return " If the ids are words, name rows by other keys: KEYS in a definition, docs/how-to/add-a-model.md."


def table_schema_for(
    path: str,
    columns: list[str],
    wanted: Sequence[Column],
    extra: Sequence[Column] = (),
    *,
    keys: tuple[str, ...] = KEYS,
    reads_clicks: bool = False,
) -> TableSchema:
    """Returns the schema of a file for these features and keys; the device is read if it is a key or a feature.

    If ``reads_clicks`` is true, the clicks are read as a weight from a file that has exactly one such column.

    Raises:
        TableError: the file lacks a needed column or has it twice; the message names the column.
    """
    features = [column for column in wanted if column.name not in FLAGS]
    flags = FLAGS if DEVICE in keys or len(features) < len(wanted) else ()
    table_schema = TableSchema(path=path, columns=columns, wanted=features, extra=list(extra), keys=keys, flags=flags)
    needed = dict.fromkeys([*table_schema.ids, *table_schema.texts, *(column.name for column in [*features, *extra])])
    there = set(columns)
    missing = [name for name in needed if name not in there]
    if flags and not table_schema.has_device and not there.issuperset(FLAGS):
        missing.append(f"{DEVICE} (or {' and '.join(FLAGS)})")
    if missing:
        raise missing_columns(missing, columns, path)
    refuse_doubled(table_schema.needed, columns, path)
    if reads_clicks and columns.count(CLICKS) == 1 and CLICKS not in table_schema.needed:
        return replace(table_schema, clicks=(CLICKS,))
    return table_schema


def feature_columns(columns: Sequence[str], keys: Collection[str] = KEYS, text: Collection[str] = ()) -> list[Column]:
    """Returns the features that a training table offers: each named column except keys and labels, and the device if it exists or is a key.

    Columns in ``text`` are text, even if they are keys; ``att<n>`` columns are binary, and all others are numbers.
    """
    taken = {"", ENTITY, DEVICE, *FLAGS, *LABELS, *keys} - set(text)
    has_device = DEVICE in keys or DEVICE in columns or all(flag in columns for flag in FLAGS)
    flags = [Column(name=name, type="binary") for name in FLAGS if has_device]
    return flags + [Column(name=name, type=_type_of(name, text)) for name in columns if name not in taken]


def _type_of(name: str, text: Collection[str]) -> ColumnType:
    return "text" if name in text else "binary" if _ATTRIBUTE.fullmatch(name) else "number"
