"""The cells of an export before they are read: spaces at both ends go, and the signs for a missing value become null."""

import pyarrow as pa
import pyarrow.compute as pc

MISSING = ("", "--", "—", "–", "-", "- -")
NOT_AVAILABLE = ("n/a", "na", "#n/a", "n. a.", "n.a.", "k. a.", "nicht verfügbar", "non disponible", "no disponible")
"""Words for a missing number; in a column of texts they are values."""
_NO_BREAK_SPACES = "[\u00a0\u202f\u2009\u2007]"


def clean(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Returns the texts without spaces at both ends, null where nothing stands."""
    trimmed = pc.utf8_trim_whitespace(texts)
    return pc.if_else(pc.is_in(trimmed, value_set=pa.array(MISSING)), pa.scalar(None, pa.string()), trimmed)


def with_plain_spaces(texts: pa.Array) -> pa.Array:
    """Returns texts in which each kind of space is the usual one."""
    return pc.replace_substring_regex(texts, _NO_BREAK_SPACES, " ")


def first_place(mask: pa.ChunkedArray | pa.Array) -> int:
    """Returns the first place where a mask is true, or -1."""
    return int(pc.index(mask, True).as_py())
