"""Findings: what a check found of one thing, and what to do about it."""

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """How a thing is; the values are those that ``scoring doctor --json`` prints."""

    OK = "well"
    WARNING = "warning"
    ERROR = "ill"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """How one thing is."""

    subject: str
    state: State
    text: str
    next_step: str = ""


def ok(subject: str, text: str) -> Finding:
    """The finding of a thing that needs nothing."""
    return Finding(subject=subject, state=State.OK, text=text)


def warning(subject: str, text: str, next_step: str) -> Finding:
    """The finding of a thing that does not keep jobs from being done."""
    return Finding(subject=subject, state=State.WARNING, text=text, next_step=next_step)


def error(subject: str, text: str, next_step: str) -> Finding:
    """The finding of a thing that keeps jobs from being done; ``scoring doctor`` then ends with an exit code."""
    return Finding(subject=subject, state=State.ERROR, text=text, next_step=next_step)
