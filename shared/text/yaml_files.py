"""Reads YAML files that people write: plain data, no aliases, unique keys, a few levels deep.

A file of 500 bytes with nested aliases can fill any memory, and 16,000 nested brackets take the scanner 17 s. So the scanner refuses
both before anything is built.
"""

from typing import Any, NoReturn

import yaml

MOST_BYTES = 256 * 1024
MOST_TOKENS = 100_000
"""Scalars and punctuation; this many take about 2 s."""
MOST_LEVELS = 20
MOST_REASON_CHARACTERS = 200
SHOWN_CHARACTERS = 60
LONGEST_NUMBER = 100
"""In characters; Python refuses to print an integer of more than 4,300 digits."""
MOST_BITS = 63
_KIND = "tag:yaml.org,2002:"
TIMESTAMP, INTEGER, FLOAT, TEXT, SWITCH = (f"{_KIND}{name}" for name in ("timestamp", "int", "float", "str", "bool"))
_SPECIAL = {f"{_KIND}{name}" for name in ("timestamp", "binary", "omap", "pairs", "set")}
"""YAML types that are not plain data."""


class NotYamlError(ValueError):
    """Raised with the reason why a text cannot be read, like ``it is not YAML: expected ',' or ']' in line 2``."""


def shown(value: object) -> str:
    """A value as a message quotes it, cut to 60 characters."""
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 3]}..."


def read_yaml(text: bytes) -> Any:  # noqa: ANN401 - any plain data
    """Reads the plain data of a file; dates and times stay text, and integers have at most 64 bits.

    Raises:
        NotYamlError: it is not YAML, is too long or too deep, uses an alias or a type that is not plain, or repeats a key.
    """
    if len(text) > MOST_BYTES:
        raise NotYamlError(f"it has {len(text):,} bytes, more than the {MOST_BYTES:,} allowed")
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a kind of SafeLoader
    except NotYamlError:
        raise
    except yaml.MarkedYAMLError as error:
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        reason = " ".join(filter(None, [error.context, error.problem]))
        raise NotYamlError(f"it is not YAML: {_shortened(reason)}{line}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise NotYamlError(f"it is not YAML: {_shortened(str(error))}") from None


def _shortened(text: str) -> str:
    return " ".join(text.split())[:MOST_REASON_CHARACTERS]


class _Loader(yaml.SafeLoader):
    """Loads plain data with unique keys, without the timestamps that YAML sees in an unquoted date."""

    _tokens = 0

    def fetch_more_tokens(self) -> None:
        self._tokens += 1
        if self._tokens > MOST_TOKENS:
            self._refuse(f"it has more than {MOST_TOKENS:,} names, values and signs", "write less")
        super().fetch_more_tokens()

    def fetch_alias(self) -> NoReturn:
        super().fetch_alias()  # refuses a star that is not an alias, as in a cron line without quotes
        self._refuse("it uses an alias (*name)", "write the value out")

    def fetch_flow_collection_start(self, token: Any) -> None:  # noqa: ANN401 - a class of yaml's tokens
        self._check_depth()
        super().fetch_flow_collection_start(token)

    def add_indent(self, column: int) -> bool:
        self._check_depth()
        return bool(super().add_indent(column))

    def _check_depth(self) -> None:
        if self.flow_level + len(self.indents) >= MOST_LEVELS:
            self._refuse(f"it is not YAML: more than {MOST_LEVELS} levels, one inside the other,", "write it flat")

    def _refuse(self, what: str, write: str) -> NoReturn:
        raise NotYamlError(f"{what} in line {self.line + 1}: {write}")


def _mapping(loader: _Loader, node: yaml.Node) -> dict[Any, Any]:
    seen: set[str] = set()
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    for key in (key for key, _ in pairs if isinstance(key, yaml.ScalarNode)):
        if key.value in seen:
            raise yaml.constructor.ConstructorError(None, None, f"the field {shown(key.value)} is there twice", key.start_mark)
        seen.add(key.value)
    return loader.construct_mapping(node, deep=True)


def _number(loader: _Loader, node: yaml.ScalarNode) -> int | float | str:
    """A number; ``1:30``, which YAML reads as 90, stays text, as a date does."""
    text = str(loader.construct_scalar(node))
    line = node.start_mark.line + 1
    if ":" in text:
        return text
    if len(text) > LONGEST_NUMBER:
        raise NotYamlError(f"the number {text[:SHOWN_CHARACTERS]}... in line {line} has {len(text):,} characters: write fewer")
    try:
        number: int | float = loader.construct_yaml_int(node) if node.tag == INTEGER else loader.construct_yaml_float(node)
    except (ValueError, IndexError):  # !!int ""
        raise yaml.constructor.ConstructorError(None, None, f"{shown(text)} is not a number", node.start_mark) from None
    if isinstance(number, int) and number.bit_length() > MOST_BITS:
        raise NotYamlError(f"the integer {text[:SHOWN_CHARACTERS]} in line {line} has more than 64 bits: write a smaller one")
    return number


def _switch(loader: _Loader, node: yaml.ScalarNode) -> bool:
    try:
        return bool(loader.construct_yaml_bool(node))
    except KeyError:  # !!bool x
        raise yaml.constructor.ConstructorError(None, None, f"{shown(node.value)} is neither true nor false", node.start_mark) from None


def _text(loader: _Loader, node: yaml.ScalarNode) -> str:
    """A text that can be written to a file again: an escape may produce half a surrogate pair."""
    text = str(loader.construct_scalar(node))
    if not text.isascii() and text.encode(errors="replace").decode() != text:
        raise NotYamlError(f"the text {shown(text)} in line {node.start_mark.line + 1} is not Unicode: write whole characters")
    return text


_Loader.yaml_constructors = {tag: make for tag, make in yaml.SafeLoader.yaml_constructors.items() if tag not in _SPECIAL}
_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
_Loader.add_constructor(INTEGER, _number)
_Loader.add_constructor(FLOAT, _number)
_Loader.add_constructor(TEXT, _text)
_Loader.add_constructor(SWITCH, _switch)
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != TIMESTAMP]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
