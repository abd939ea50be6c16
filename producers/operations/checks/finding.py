"""Findings: the result of a check for one subject, with the next step."""

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """The state of a subject. ``scoring doctor --json`` prints these values, which scripts read, so they stay as they are."""

    OK = "well"
    WARNING = "warning"
    ERROR = "ill"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The result of a check for one subject."""

    subject: str
    state: State
    text: str
    next_step: str = ""


def ok(subject: str, text: str) -> Finding:
    """A finding that needs no action."""
    return Finding(subject=subject, state=State.OK, text=text)


def warning(subject: str, text: str, next_step: str) -> Finding:
    """A finding that does not stop jobs from running."""
    return Finding(subject=subject, state=State.WARNING, text=text, next_step=next_step)


def error(subject: str, text: str, next_step: str) -> Finding:
    """A finding that stops jobs from running; ``scoring doctor`` then exits with code 6."""
    return Finding(subject=subject, state=State.ERROR, text=text, next_step=next_step)
