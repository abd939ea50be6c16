"""Separators of csv records, and the patterns that find records and quoted values with them.

A quote opens a value only at the start of a field, regardless of the separator; line ends and doubled quotes mean the same in every
dialect.
"""

import functools
import re
from dataclasses import dataclass

_QUOTED_FIELD = rb'"[^"]*+(?:""[^"]*+)*+(?:"|\Z)'


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """Csv text with one separator."""

    separator: str
    """One ASCII character."""
    separators: str
    """The separator's name in messages, in the plural."""

    @functools.cached_property
    def byte(self) -> int:
        """The separator as a byte."""
        return ord(self.separator)

    @functools.cached_property
    def record(self) -> re.Pattern[bytes]:
        """Matches one record; group 1 is None if the text ends before the record does."""
        field = rb"(?:%b)?+[^%b\n]*+" % (_QUOTED_FIELD, self._escaped)
        return re.compile(rb"%b(?:%b%b)*+(\n)?" % (field, self._escaped, field))

    @functools.cached_property
    def quoted(self) -> re.Pattern[bytes]:
        """Matches a quoted value; group 1 is set if it never closes."""
        return re.compile(rb'(?:\A|(?<=[%b\n]))"[^"]*+(?:""[^"]*+)*+(?:"|(\Z))' % self._escaped)

    @functools.cached_property
    def value_of_lines(self) -> re.Pattern[str]:
        """Matches a quoted value in decoded text."""
        return re.compile(r"(?:\A|(?<=[" + self._escaped.decode() + r'\n]))"[^"]*+(?:""[^"]*+)*+(?:"|\Z)')

    @functools.cached_property
    def _escaped(self) -> bytes:
        return re.escape(self.separator).encode()


COMMAS = Dialect(separator=",", separators="commas")
TABS = Dialect(separator="\t", separators="tabs")
