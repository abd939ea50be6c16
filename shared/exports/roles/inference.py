"""Infers the roles of the columns of an export: from known names first, then from values."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shared.errors import TableError
from shared.exports.known_names import LEAKS, Concept, rank_of
from shared.exports.roles.leaks import leak_by_values
from shared.exports.roles.roles_file import MOST_KEYS, ColumnRole, Roles
from shared.exports.table import ExportTable

_MOST_CATEGORIES = 50
_CATEGORY_SHARE = 0.05
"""A text column with fewer distinct values than this share of its rows is a category."""
_FEWEST_CATEGORIES = 12
_BY_CONCEPT = {
    Concept.KEYWORD: ColumnRole.TEXT,
    Concept.SEARCH_TERM: ColumnRole.TEXT,
    Concept.TEXT: ColumnRole.TEXT,
    Concept.CAMPAIGN: ColumnRole.GROUP,
    Concept.AD_GROUP: ColumnRole.GROUP,
    Concept.GROUP: ColumnRole.GROUP,
    Concept.MATCH_TYPE: ColumnRole.CATEGORY,
    Concept.DEVICE: ColumnRole.CATEGORY,
    Concept.CATEGORY: ColumnRole.CATEGORY,
    Concept.ID: ColumnRole.IGNORE,
    Concept.IGNORED: ColumnRole.IGNORE,
}
_KEYWORDS = (Concept.SEARCH_TERM, Concept.KEYWORD)
_KEY_ORDER = (Concept.MATCH_TYPE, Concept.DEVICE, Concept.KEYWORD, Concept.AD_GROUP, Concept.CAMPAIGN, Concept.GROUP, Concept.CATEGORY)
_LEVELS = (Concept.GROUP, Concept.CAMPAIGN, Concept.AD_GROUP)
_NAME_IT = "Name it in a roles file, and give that with --roles; write one by hand from docs/how-to/exports.md."


@dataclass(frozen=True, kw_only=True)
class InferredRoles:
    """The roles of an export, and why each column was taken for it."""

    roles: Roles
    reasons: dict[str, str]
    repeated_rows: int
    """Rows that have the same keys as an earlier one."""


def infer_roles(export: ExportTable) -> InferredRoles:
    """Infers the roles of all columns.

    Raises:
        TableError: the export has no or several columns of clicks, no column that names a keyword, or more conversions than clicks.
    """
    clicks = only_column(export, Concept.CLICKS)
    if clicks is None:
        shown = ", ".join(export.names[:12]) + (", ..." if len(export.names) > 12 else "")
        raise TableError(f"{export.path} has no column that is known as clicks; it has {shown}", next_step=_NAME_IT)
    conversions = only_column(export, Concept.CONVERSIONS)
    refuse_exchanged(export, clicks, conversions)
    columns: dict[str, ColumnRole] = {}
    reasons: dict[str, str] = {}
    for name in export.names:
        if name not in (clicks, conversions):
            columns[name], reasons[name] = _role_of(export, name, clicks, conversions)
    keyword = _keyword(export, columns)
    keys, repeated = _keys(export, keyword, columns)
    roles = Roles(
        clicks=clicks, conversions=conversions, keyword=keyword, keys=tuple(keys), columns=_in_levels(export, columns), read=export.read
    )
    return InferredRoles(roles=roles, reasons=reasons, repeated_rows=repeated)


def only_column(export: ExportTable, concept: Concept) -> str | None:
    """Returns the most usual column of a concept, or None; raises TableError if that name is there twice."""
    found = sorted(export.named(concept), key=rank_of)
    found = [name for name in found if not pa.types.is_string(export.table.schema.field(name).type)]
    if not found:
        return None
    twice = next((name for name in found if name.startswith(f"{found[0]} (") and name[len(found[0]) + 2 : -1].isdecimal()), None)
    if twice is not None:
        raise TableError(
            f"{export.path} has more than one column {found[0]}; the later one is read as {twice}",
            next_step="Export one of them, or, for a pivot with a column for each device, export rows with a column of devices.",
        )
    return found[0]


def refuse_exchanged(export: ExportTable, clicks: str, conversions: str | None) -> None:
    """Raises TableError for a table with more conversions than clicks."""
    if conversions is None:
        return
    total, converted = (float(pc.sum(export.table[name]).as_py() or 0) for name in (clicks, conversions))
    if converted > total:
        raise TableError(
            f"{export.path} has {converted:,.10g} in {conversions}, more than the {total:,.10g} in {clicks}: are the two exchanged?",
            next_step="Correct `clicks:` and `conversions:` in a roles file, and give it with --roles.",
        )


def _role_of(export: ExportTable, name: str, clicks: str, conversions: str | None) -> tuple[ColumnRole, str]:
    reason = _leak(export, name, clicks, conversions)
    if reason:
        return ColumnRole.LEAK, reason
    reason = _useless(export, name, clicks)
    return (ColumnRole.IGNORE, reason) if reason else _feature(export, name)


def _leak(export: ExportTable, name: str, clicks: str, conversions: str | None) -> str:
    """Returns why a column is known only with the conversions, or nothing."""
    column, concept = export.table[name], export.concepts.get(name)
    if concept in LEAKS or concept == Concept.CONVERSIONS:
        return "it is known only with the conversions" if column.null_count < len(column) else ""
    return "" if conversions is None else leak_by_values(export.table, name, clicks, conversions)


def _useless(export: ExportTable, name: str, clicks: str) -> str:
    """Returns why a column says nothing about a click, or nothing."""
    column, concept = export.table[name], export.concepts.get(name)
    if column.null_count == len(column):
        return "it is empty"
    if concept in (Concept.ID, Concept.IGNORED):
        return "known name: an identifier" if concept == Concept.ID else "known name: a date, a status or a currency"
    if column.equals(export.table[clicks]):
        return f"it repeats {clicks}"
    is_named = concept is not None and _BY_CONCEPT.get(concept) in (ColumnRole.TEXT, ColumnRole.GROUP)
    if not is_named and not column.null_count and pc.count_distinct(column).as_py() == 1:
        return "it has one value"
    return "its values are dates" if concept is None and pa.types.is_string(column.type) and _are_dates(column) else ""


def _feature(export: ExportTable, name: str) -> tuple[ColumnRole, str]:
    column, concept = export.table[name], export.concepts.get(name)
    if concept in _BY_CONCEPT:
        return _BY_CONCEPT[concept], f"known name: {concept}"
    if not pa.types.is_string(column.type):
        return ColumnRole.NUMBER, f"known name: {concept}" if concept else "its values are numbers"
    distinct = pc.count_distinct(column).as_py()
    if distinct <= min(_MOST_CATEGORIES, max(_FEWEST_CATEGORIES, _CATEGORY_SHARE * len(column))):
        return ColumnRole.CATEGORY, f"it has {distinct} different values"
    return ColumnRole.TEXT, f"it has {distinct:,} different texts"


def _are_dates(column: pa.ChunkedArray) -> bool:
    dates = pc.match_substring_regex(column, r"^\d{1,4}[-./]\d{1,2}[-./]\d{1,4}\.?(?:[ T].*)?$")
    return bool(pc.all(dates).as_py())


def _keyword(export: ExportTable, columns: dict[str, ColumnRole]) -> str:
    """Returns the column of keywords: by its name, or the text with the most different values."""
    for concept in _KEYWORDS:
        for name in sorted(export.named(concept), key=rank_of):
            if columns.get(name) == ColumnRole.TEXT:
                return name
    texts = [name for name, role in columns.items() if role in (ColumnRole.TEXT, ColumnRole.GROUP, ColumnRole.CATEGORY)]
    texts = [name for name in texts if pa.types.is_string(export.table.schema.field(name).type)]
    if not texts:
        raise TableError(f"{export.path} has no column that could name a keyword", next_step=_NAME_IT)
    return max(texts, key=lambda name: (columns[name] == ColumnRole.TEXT, pc.count_distinct(export.table[name]).as_py()))


def _keys(export: ExportTable, keyword: str, columns: dict[str, ColumnRole]) -> tuple[list[str], int]:
    """Returns the fewest columns in their usual order that tell the rows apart, and the number of rows that they do not."""
    keys = [keyword]
    codes = _codes(export.table[keyword])
    different = len(np.unique(codes))
    others = [name for concept in _KEY_ORDER for name in export.named(concept) if name in columns and name != keyword]
    others += [name for name, role in columns.items() if role in (ColumnRole.TEXT, ColumnRole.CATEGORY) and name not in (*others, keyword)]
    for name in others:
        if different == len(codes) or len(keys) == MOST_KEYS:
            break
        if columns[name] in (ColumnRole.LEAK, ColumnRole.NUMBER):
            continue
        _, finer = np.unique(np.stack([codes, _codes(export.table[name])]), axis=1, return_inverse=True)
        finer = np.ravel(finer)
        count = int(finer.max()) + 1
        if count > different:
            keys.append(name)
            codes, different = finer, count
    return keys, len(codes) - different


def _codes(column: pa.ChunkedArray) -> np.ndarray:
    encoded = column.combine_chunks().dictionary_encode(null_encoding="encode")
    encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
    return encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)


def _in_levels(export: ExportTable, columns: dict[str, ColumnRole]) -> dict[str, ColumnRole]:
    """Returns the columns with the known groups in the order of the account: campaign before ad group."""
    groups: Sequence[str] = [name for name, role in columns.items() if role == ColumnRole.GROUP]
    ordered = iter(sorted(groups, key=lambda name: _LEVELS.index(export.concepts[name])))
    return {(chosen := next(ordered) if role == ColumnRole.GROUP else name): columns[chosen] for name, role in columns.items()}
