"""A line of csv text read by itself, for lines that a stray quote joins with others."""

import functools
import re


@functools.cache
def _field(separator: str) -> re.Pattern[str]:
    """A field: in quotes only if they close on the line and nothing follows up to the separator; otherwise a quote is a letter."""
    escaped = re.escape(separator)
    return re.compile(rf'"[^"]*+(?:""[^"]*+)*+"(?={escaped}|\Z)|[^{escaped}]*+')


def fields_of_line(line: str, separator: str = ",") -> list[tuple[int, str]]:
    """The fields of a line without its line break, as they stand, each with the offset at which it starts."""
    fields, at, field = [], 0, _field(separator)
    while match := field.match(line, at):
        fields.append((at, match[0]))
        at = match.end() + 1
        if at > len(line):
            break
    return fields


def value_of(field: str) -> str:
    """What a field says: without the quotes around it, if it has some."""
    is_quoted = len(field) > 1 and field.startswith('"') and field.endswith('"')
    return field[1:-1].replace('""', '"') if is_quoted else field
