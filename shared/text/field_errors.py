"""Validation errors of pydantic for files that people write, in a form for error messages."""

from dataclasses import dataclass

from pydantic import ValidationError

NO_MAPPING = frozenset({"model_type", "model_attributes_type"})
UNKNOWN_FIELD = frozenset({"extra_forbidden", "invalid_key"})
"""Kinds of errors, by pydantic's names."""


@dataclass(frozen=True, kw_only=True)
class FieldError:
    """One error: its path, kind and reason, and the invalid value."""

    path: tuple[str, ...]
    """From the outermost field to the one with the error; empty for the file itself."""
    kind: str
    reason: str
    value: object

    @property
    def field(self) -> str:
        """The last step of the path."""
        return self.path[-1] if self.path else ""


def field_errors(error: ValidationError) -> list[FieldError]:
    """All errors in pydantic's order: the fields as the model lists them, then unknown fields."""
    return [
        FieldError(
            path=_path(found["loc"], found["input"] if found["type"] == "invalid_key" else None),
            kind=found["type"],
            reason=found["msg"].removeprefix("Value error, "),
            value=found["input"],
        )
        for found in error.errors(include_url=False, include_context=False)
    ]


def _path(steps: tuple[int | str, ...], key: object) -> tuple[str, ...]:
    """The steps as text; a key that is not text, like ``true``, is shown as in Python, not as the number that it equals."""
    path = tuple(str(step) for step in steps)
    return path if key is None else (*path[:-1], str(key))
