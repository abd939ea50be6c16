"""Reads the YAML files that people write: plain data, no aliases, each key once.

An alias of an alias of an alias is a file of 500 bytes that fills any memory, so aliases are refused before anything is built.
"""

from typing import Any

import yaml

MOST_REASON_CHARACTERS = 200
SHOWN_CHARACTERS = 60
TIMESTAMP = "tag:yaml.org,2002:timestamp"


class NotYamlError(ValueError):
    """Raised with the reason why a text cannot be read, like ``it is not YAML: expected ',' or ']' in line 2``."""


def shown(value: object) -> str:
    """A value of such a file as a sentence quotes it, at most 60 characters of it."""
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 3]}..."


def read_yaml(text: bytes) -> Any:  # noqa: ANN401 - whatever YAML can say
    """The plain data of a file; dates stay text.

    Raises:
        NotYamlError: it is not YAML, uses an alias, or has a key twice.
    """
    try:
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text, Loader=yaml.SafeLoader)):
            raise NotYamlError("it uses an alias (*name): write the value out")
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
    """Plain data, each key once; no time stamps, which YAML sees in an unquoted date."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[str] = set()
    for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
        if key.value in seen:
            raise yaml.constructor.ConstructorError(None, None, f"the field {shown(key.value)} is there twice", key.start_mark)
        seen.add(key.value)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != TIMESTAMP]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
