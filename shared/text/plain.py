"""Escapes control characters in text of tables, messages and manifests before a terminal or a log shows it."""

import re

_COMMANDS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""Control characters (C0, DEL, C1), line and paragraph separators, and characters that change the direction of the following text."""
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def plain(text: object, *, lines: bool = False) -> str:
    r"""The text with each such character as its escape, like ``\x1b``; with ``lines``, line feeds stay."""
    return _COMMANDS.sub(lambda found: found[0] if lines and found[0] == "\n" else _escape(found[0]), str(text))


def _escape(character: str) -> str:
    if character in _SHORT:
        return _SHORT[character]
    return f"\\x{ord(character):02x}" if ord(character) < 0x100 else f"\\u{ord(character):04x}"
