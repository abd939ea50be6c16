"""Recognizes numbers in human notation, as spreadsheets and reports write them: ``1,801``, ``6.14%``, ``$5``."""

import re
import unicodedata
from collections.abc import Sequence

_CURRENCY_CODE = re.compile(r"^[A-Z]{3}\s*(?=\S*\d)|(?<=\d)\s*[A-Z]{3}$")
_SHORTENED = re.compile(r"(?<=\d)\s*[kKmM]$")
_SEPARATORS = frozenset(".,'`_()%\u00b4\u2019\u2030\u066b\u066c")
_SIGNS = "+-\u2212"
_HEAD_OF_THOUSANDS, _GROUP_OF_THOUSANDS = re.compile(r"[+-]?\d{1,3}"), re.compile(r"\d{3}(\.\d+)?")


def is_written_number(text: str) -> bool:
    """Returns True for a number with separators, signs or a currency, which programs parse in different ways or not at all."""
    bare = _SHORTENED.sub("", _CURRENCY_CODE.sub("", text.strip())).lstrip(_SIGNS)
    return any(map(str.isdecimal, bare)) and all(map(_may_stand_in_number, bare)) and not _is_plain(text)


def split_thousands(record: Sequence[str], fields: int) -> str:
    """Returns the number whose own commas split it into several values, if that explains why a record is too long; else an empty string."""
    too_many = len(record) - fields
    start = 0
    while too_many > 0 and start < len(record):
        end = start + 1
        if _HEAD_OF_THOUSANDS.fullmatch(record[start]):
            while end < len(record) and _GROUP_OF_THOUSANDS.fullmatch(record[end]):
                end += 1
            if end - start > too_many:
                return ",".join(record[start : start + 1 + too_many])
        start = end  # a number that starts inside these groups would end with them, and be shorter
    return ""


def _may_stand_in_number(char: str) -> bool:
    return char.isdecimal() or char.isspace() or char in _SEPARATORS or unicodedata.category(char) == "Sc"


def _is_plain(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.isascii() and "_" not in text
