"""A line of csv text read by itself, for lines that a stray quote joins with others."""

import re

_FIELD = re.compile(r'"[^"]*+(?:""[^"]*+)*+"(?=,|\Z)|[^,]*+')
"""In quotes only if they close on the line and nothing follows up to the comma; otherwise a quote is a letter."""


def fields_of_line(line: str) -> list[tuple[int, str]]:
    """The fields of a line without its line break, as they stand, each with the offset at which it starts."""
    fields, at = [], 0
    while match := _FIELD.match(line, at):
        fields.append((at, match[0]))
        at = match.end() + 1
        if at > len(line):
            break
    return fields


def value_of(field: str) -> str:
    """What a field says: without the quotes around it, if it has some."""
    is_quoted = len(field) > 1 and field.startswith('"') and field.endswith('"')
    return field[1:-1].replace('""', '"') if is_quoted else field
