"""Which columns a table has, and which of them a definition needs."""

import functools
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from shared.catalog.manifests import KEYS, Column, ColumnType
from workers.tables.csv.headers import missing_columns, refuse_doubled
from workers.tables.packed_flags import FlagBlock, find_flag_block

DEVICES = ("Computer", "Smartphone", "Tablet")
"""Device names; the place in this tuple is the code in the output."""

OTHER_DEVICES = {
    **dict.fromkeys(["computers", "desktop", "desktops", "pc", "desktop computers", "laptop"], "Computer"),
    **dict.fromkeys(
        ["mobile", "mobiles", "mobile phone", "mobile phones", "mobile devices with full browsers", "phone", "phones", "smartphones"],
        "Smartphone",
    ),
    **dict.fromkeys(["tablets", "tablets with full browsers", "ipad"], "Tablet"),
}
"""What advertising platforms call the devices; a reject says which name to write, since none of these is taken for one."""

OTHER_NUMBERS = ("3", "4", "5", "6")
"""Numbers of Google Ads beside its 2, which is a mobile phone there and a tablet here."""

FLAGS = ("computer", "smartphone")
"""The device in the prepared layout; a tablet is neither."""

ENTITY, DEVICE = "entity_id", "device"
_ID_IS_WORD = re.compile(rf"column {ENTITY}: '[^']*[^\W\d_][^']*' is not a whole number(?!:)")
RATE = "cr"
LABELS = (RATE, "Clicks", "Conversions", "week")
"""Columns of a training table that are no features."""

BOUNDS = ("cr_low", "cr_high")
"""Between what the rate lies, where that was asked for."""

_ATTRIBUTE = re.compile(r"att\d+")


@dataclass(frozen=True, kw_only=True)
class TableSchema:
    """Which columns of a file are read, and as what."""

    path: str
    columns: list[str]
    """All columns of the file, in its order."""
    wanted: list[Column]
    """The features, in the order of the frame."""
    extra: list[Column] = field(default_factory=list)
    """Labels to read beside the features when training."""
    keys: tuple[str, ...] = KEYS
    """The columns that name a row."""
    flags: tuple[str, ...] = FLAGS
    """The device as features; empty where nobody asks for it."""

    @property
    def has_device(self) -> bool:
        """True for the raw layout with one device column, False for flags, or where the device is not read."""
        return bool(self.flags) and DEVICE in self.columns

    @property
    def ids(self) -> list[str]:
        """The entity id, where it is a key."""
        return [ENTITY] if ENTITY in self.keys else []

    @functools.cached_property
    def texts(self) -> list[str]:
        """The columns that are read as text: keys of a definition's own, and features."""
        own_keys = [name for name in self.keys if name not in KEYS]
        return list(dict.fromkeys([*own_keys, *(column.name for column in self.wanted if column.type == "text")]))

    @functools.cached_property
    def run(self) -> FlagBlock | None:
        """The run of binary columns that is worth to be lifted out of csv text."""
        return find_flag_block(self.columns, {column.name for column in [*self.wanted, *self.extra] if column.type == "binary"})

    def without(self, names: Collection[str]) -> "TableSchema":
        """The layout of the same file once these columns were taken out of it."""
        out = set(names)
        return replace(
            self,
            columns=[name for name in self.columns if name not in out],
            wanted=[column for column in self.wanted if column.name not in out],
            extra=[column for column in self.extra if column.name not in out],
        )

    @property
    def numbers(self) -> list[Column]:
        """Every column that is read as numbers besides the entity id."""
        flags = [] if self.has_device else [Column(name=name, type="binary") for name in self.flags]
        return [*flags, *(column for column in self.wanted if column.type != "text"), *self.extra]

    @property
    def needed(self) -> list[str]:
        """The names of all columns that are read."""
        return [*self.ids, *([DEVICE] if self.has_device else []), *self.texts, *(column.name for column in self.numbers)]


def keys_advice(quoted: str) -> str:
    """What to do about ids that are words, where these rejects have some; empty where they have none."""
    if not _ID_IS_WORD.search(quoted):
        return ""
    return " If the ids are words, name rows by other keys: KEYS in a definition, docs/how-to/add-a-model.md."


def table_schema_for(
    path: str, columns: list[str], wanted: Sequence[Column], extra: Sequence[Column] = (), *, keys: tuple[str, ...] = KEYS
) -> TableSchema:
    """The layout of a file for these features and keys; the device is read where it is a key or a feature.

    Raises:
        TableError: the file lacks a column that is needed, or has it twice; the sentence names it.
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
    return table_schema


def feature_columns(columns: Sequence[str], keys: Collection[str] = KEYS, text: Collection[str] = ()) -> list[Column]:
    """What a training table offers as features: every named column that is neither key nor label, and the device if it is there or a key.

    Those named in ``text`` are text, keys among them as well; ``att<n>`` holds 0 and 1, and the others are numbers.
    """
    taken = {"", ENTITY, DEVICE, *FLAGS, *LABELS, *keys} - set(text)
    has_device = DEVICE in keys or DEVICE in columns or all(flag in columns for flag in FLAGS)
    flags = [Column(name=name, type="binary") for name in FLAGS if has_device]
    return flags + [Column(name=name, type=_type_of(name, text)) for name in columns if name not in taken]


def _type_of(name: str, text: Collection[str]) -> ColumnType:
    return "text" if name in text else "binary" if _ATTRIBUTE.fullmatch(name) else "number"
