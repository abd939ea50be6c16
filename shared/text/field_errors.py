"""The errors that pydantic finds in a file that people write, in the form in which its reader makes sentences of them."""

from dataclasses import dataclass

from pydantic import ValidationError

NO_MAPPING = frozenset({"model_type", "model_attributes_type"})
UNKNOWN_FIELD = frozenset({"extra_forbidden", "invalid_key"})
"""Kinds of errors, as pydantic names them."""


@dataclass(frozen=True, kw_only=True)
class FieldError:
    """One error: where it is, of which kind, why, and the value that is there."""

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
    """Every error, in pydantic's order: the fields as the model lists them, then unknown fields."""
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
    """The steps as text; a key that is no text, like ``true``, is shown as Python shows it and not as the number it equals."""
    path = tuple(str(step) for step in steps)
    return path if key is None else (*path[:-1], str(key))
