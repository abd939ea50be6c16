"""Finds the encoding of a text: its byte order mark, else strict UTF-8, else a guess by charset-normalizer."""

import codecs
import re
from collections.abc import Sequence

from shared.errors import TableError
from shared.exports.known_names import concept_of

_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Byte order marks; that of UTF-32 begins with that of UTF-16."""
_GUESSED_BYTES = 1 << 20
"""A guess needs some text, and takes time in proportion to it."""
_LOOKED_AT_BYTES = 1 << 16
_SHARE_OF_ZEROS = 0.3
_MULTIBYTE = re.compile(rb"[\xc3-\xf4][\x80-\xbf]+")
_USUAL = ("cp1252", "mac_roman", "cp1250")
_LINES_WITH_NAMES = 20
_SEPARATOR = re.compile(r"[,;\t|]")
_CONTROL = re.compile("[\x00-\x08\x0b\x0e-\x1f\ufffe\uffff]")
SAVE_AS = "Save it again as CSV UTF-8, or say `encoding:` in the roles file."


def decode(data: bytes, path: str, encoding: str | None = None) -> tuple[str, str]:
    """Returns the text of a file without its byte order mark, and the name of its encoding.

    Args:
        data: the whole file.
        path: its name for messages.
        encoding: the encoding that a person named; None finds it.

    Raises:
        TableError: the file is no text in any encoding, or not in the one that was named.
    """
    name = encoding or next((name for mark, name in _MARKS.items() if data.startswith(mark)), None) or _unmarked(data)
    if name:
        text = _decoded(data, path, name)
    else:
        text, name = _decoded_utf8_or_guess(data, path)
    text = text.removeprefix("\ufeff")
    _refuse_control_characters(text, path)
    return text, "utf-8" if name == "utf-8-sig" else name


def _unmarked(data: bytes) -> str | None:
    """Returns the kind of UTF-16 whose zero bytes a text without byte order mark shows, or None."""
    head = data[:_LOOKED_AT_BYTES]
    if head[1::2].count(0) > _SHARE_OF_ZEROS * len(head) / 2:
        return "utf-16-le"
    return "utf-16-be" if head[::2].count(0) > _SHARE_OF_ZEROS * len(head) / 2 else None


def _decoded(data: bytes, path: str, name: str) -> str:
    try:
        return data.decode(name)
    except LookupError:
        raise TableError(f"{path} cannot be read: {name!r} is not an encoding", next_step="Name one like utf-8 or cp1252.") from None
    except (UnicodeError, ValueError) as error:
        raise _damaged(data, path, name, error) from None


def _damaged(data: bytes, path: str, name: str, error: Exception) -> TableError:
    at = error.start if isinstance(error, UnicodeDecodeError) else len(data)
    where = f" at byte {at:,}" + (f" (line {data.count(10, 0, at) + 1:,})" if not name.startswith("utf-16") else "")
    return TableError(f"{path} is damaged: it is {name}, but not{where}", next_step="Export it again, or copy it again whole.")


def _decoded_utf8_or_guess(data: bytes, path: str) -> tuple[str, str]:
    try:
        return data.decode("utf-8"), "utf-8"
    except UnicodeDecodeError as error:
        # text in another encoding has next to no valid sequences of UTF-8: then the file is UTF-8 with a damaged byte
        if _is_mostly_utf8(data):
            raise _damaged(data, path, "utf-8", error) from None
    name = _guess(data)
    if name is None:
        raise TableError(f"{path} is not text in an encoding that can be recognized", next_step=SAVE_AS)
    return _decoded(data, path, name), name


def _is_mostly_utf8(data: bytes) -> bool:
    valid = sum(_is_utf8(found[0]) for found in _MULTIBYTE.finditer(data))
    return valid > data.decode("utf-8", errors="replace").count("\ufffd")


def _is_utf8(some: bytes) -> bool:
    try:
        some.decode()
    except UnicodeDecodeError:
        return False
    return True


def _guess(data: bytes) -> str | None:
    """Returns the most probable encoding: that in which most names of columns are known, or else the guess of charset-normalizer."""
    from charset_normalizer import from_bytes  # noqa: PLC0415 - takes 50 ms, and most files are UTF-8

    # what is not ASCII may come late: the lines that have it are enough
    lines = [line for line in data.split(b"\n") if not line.isascii()]
    guessed = [match.encoding for match in from_bytes(b"\n".join(lines)[:_GUESSED_BYTES])]
    known = {name: _known_names(lines[:_LINES_WITH_NAMES], name) for name in (*_USUAL, *guessed)}
    best = max(known, key=known.__getitem__)
    return best if known[best] > 0 else next(iter(guessed), None)


def _known_names(lines: Sequence[bytes], encoding: str) -> int:
    """Returns how many cells that are not ASCII are known names of columns in this encoding; -1 if the lines are not text in it."""
    try:
        cells = [cell.strip(' "\r') for line in lines for cell in _SEPARATOR.split(line.decode(encoding))]
    except (UnicodeError, LookupError):
        return -1
    return sum(not cell.isascii() and concept_of(cell) is not None for cell in cells)


def _refuse_control_characters(text: str, path: str) -> None:
    found = _CONTROL.search(text)
    if found is not None:
        line = text.count("\n", 0, found.start()) + 1
        raise TableError(
            f"{path} is not a text, or damaged: line {line:,} has the control character {found[0]!r}",
            next_step="Export it again; a workbook's name ends in .xlsx or .xls.",
        )
