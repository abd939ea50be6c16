"""The roles of the columns of an export, ``FILE.roles.yaml``::

clicks: Clicks
conversions: Conversions
keyword: Search term             # what folds, intervals and history go by
keys: [Search term, Match type]  # what names a row in the result
columns: {Search term: text, Campaign: group, Match type: category, Avg. CPC: number, Conv. rate: leak, Status: ignore}
read: {encoding: utf-8, separator: ",", decimal: ".", header_line: 3, sheet: null, totals: drop}
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from shared.errors import RequestError
from shared.exports.headers import LONGEST_NAME, MOST_COLUMNS
from shared.exports.options import ReadOptions
from shared.text.field_errors import field_errors
from shared.text.yaml_files import NotYamlError, read_yaml, shown

ENDING = ".roles.yaml"
MOST_KEYS = 10
_LONGEST_UNIQUE = LONGEST_NAME + 10
"""A repeated name gets a number."""

ColumnName = Annotated[str, Field(min_length=1, max_length=_LONGEST_UNIQUE)]


class ColumnRole(StrEnum):
    """What a column is for."""

    TEXT = "text"
    """Words, such as those of a search term."""
    GROUP = "group"
    """A level of the account; the groups in their order are its hierarchy."""
    CATEGORY = "category"
    NUMBER = "number"
    LEAK = "leak"
    """Known only with the conversions, so it is left out."""
    IGNORE = "ignore"


FEATURES = frozenset({ColumnRole.TEXT, ColumnRole.GROUP, ColumnRole.CATEGORY, ColumnRole.NUMBER})


class Roles(BaseModel):
    """The roles of all columns of an export."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    clicks: ColumnName
    conversions: ColumnName | None = None
    """None for a table that is only scored."""
    keyword: ColumnName
    """What folds, intervals and history go by."""
    keys: Annotated[tuple[ColumnName, ...], Field(min_length=1, max_length=MOST_KEYS)]
    """What names a row in the result."""
    columns: Annotated[dict[ColumnName, ColumnRole], Field(max_length=MOST_COLUMNS)]
    """The role of every other column."""
    read: ReadOptions = ReadOptions()
    """How the file is read."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.clicks == self.conversions:
            raise ValueError("clicks and conversions must be two columns")
        for name in (self.clicks, self.conversions):
            if name in self.columns:
                raise ValueError(f"{name!r} has two roles: remove it from columns")
        for name in (self.keyword, *self.keys):
            if name not in self.columns:
                raise ValueError(f"{name!r} names rows, so it must be one of the columns")
        if len(set(self.keys)) < len(self.keys):
            raise ValueError("a column is there twice in keys")
        return self

    @property
    def names(self) -> list[str]:
        """The names of all columns."""
        return [*self.columns, self.clicks, *([self.conversions] if self.conversions else [])]


def parse_roles(text: bytes, path: str) -> Roles:
    """Reads a roles file.

    Raises:
        RequestError: it is not YAML, or a field is missing, unknown or invalid.
    """
    next_step = f"Correct {path}, or write it again: scoring columns FILE"
    try:
        content = read_yaml(text)
    except NotYamlError as error:
        raise RequestError(f"the roles file {path} cannot be read: {error}", next_step=next_step) from None
    try:
        return Roles.model_validate(content, strict=False)
    except ValidationError as error:
        first = field_errors(error)[0]
        where = f" in {'.'.join(first.path)}" if first.path else ""
        value = f", not {shown(first.value)}" if first.path and not isinstance(first.value, dict) else ""
        raise RequestError(f"the roles file {path} is invalid{where}: {first.reason}{value}", next_step=next_step) from None


def roles_text(roles: Roles, reasons: Mapping[str, str]) -> str:
    """Returns the text of a roles file, each role with its reason as a comment."""
    lines = [
        "# What each column is for; correct it by hand and give it with --roles.",
        f"clicks: {_scalar(roles.clicks)}",
        f"conversions: {_scalar(roles.conversions)}",
        f"keyword: {_scalar(roles.keyword)}  # what folds, intervals and history go by",
        f"keys: [{', '.join(map(_scalar, roles.keys))}]  # what names a row in the result",
        "columns:  # text, group, category, number, leak (known only with the conversions) or ignore",
    ]
    for name, role in roles.columns.items():
        reason = " ".join(reasons.get(name, "").split())
        lines.append(f"  {_scalar(name)}: {role}" + (f"  # {reason}" if reason.isprintable() and reason else ""))
    lines += ["read:", *(f"  {name}: {_scalar(value)}" for name, value in roles.read.model_dump().items())]
    return "\n".join(lines) + "\n"


def _scalar(value: Any) -> str:  # noqa: ANN401 - any plain value
    """A value in one line of YAML."""
    return yaml.safe_dump([value], default_flow_style=True, allow_unicode=True, width=float("inf")).strip()[1:-1]
