"""Splits a single line of CSV text, for lines that a stray quote would join with others."""

import functools
import re


@functools.cache
def _field(separator: str) -> re.Pattern[str]:
    """A field. It is quoted only if the quotes close on the line and the separator follows; otherwise a quote is an ordinary character."""
    escaped = re.escape(separator)
    return re.compile(rf'"[^"]*+(?:""[^"]*+)*+"(?={escaped}|\Z)|[^{escaped}]*+')


def fields_of_line(line: str, separator: str = ",") -> list[tuple[int, str]]:
    """The raw fields of a line without its line break, each with its start offset."""
    fields, at, field = [], 0, _field(separator)
    while match := field.match(line, at):
        fields.append((at, match[0]))
        at = match.end() + 1
        if at > len(line):
            break
    return fields


def value_of(field: str) -> str:
    """The value of a field, without its quotes if it has any."""
    is_quoted = len(field) > 1 and field.startswith('"') and field.endswith('"')
    return field[1:-1].replace('""', '"') if is_quoted else field
