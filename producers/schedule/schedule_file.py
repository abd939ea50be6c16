"""Parses the schedule, ``config/schedule.yaml`` in the bucket, into entries, and into problems with a correction."""

import contextlib
import difflib
from dataclasses import dataclass

from pydantic import ValidationError

from producers.schedule.cron_advice import advise
from producers.schedule.entries import COMBINATION, Entry
from shared.text.field_errors import UNKNOWN_FIELD, FieldError, field_errors
from shared.text.yaml_files import SHOWN_CHARACTERS, NotYamlError, read_yaml, shown

SCHEDULE = "config/schedule.yaml"
MAX_SCHEDULE_BYTES = 256 * 1024

_SENTENCES = {
    "missing": "it is missing",
    "string_type": "{value} is not a text",
    "string_too_short": "{value} is not a text",
    "string_pattern_mismatch": "{value} cannot be a name",
    "literal_error": "{value} cannot be",
    "bool_type": "{value} is neither true nor false",
}
"""Kind of error, by pydantic's name -> the message."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A problem in the file."""

    entry: str
    field: str
    wrong: str
    write: str
    """The correction."""

    @property
    def place(self) -> str:
        """Entry and field, as far as known."""
        return ": ".join(part for part in (self.entry, self.field) if part)


def is_blank(text: bytes) -> bool:
    """Returns True for a file without content: empty, only comments, or ``null``. ``[]`` explicitly means no entries."""
    if all(not line.strip() or line.lstrip().startswith(b"#") for line in text.splitlines()):
        return True
    with contextlib.suppress(NotYamlError):
        return len(text) <= MAX_SCHEDULE_BYTES and read_yaml(text) is None
    return False


def read_schedule(text: bytes) -> tuple[list[Entry], list[Problem]]:
    """Parses the schedule: the valid entries, and the problems of the others."""
    whole = "the whole file"
    if len(text) > MAX_SCHEDULE_BYTES:
        return [], [Problem(entry=whole, field="", wrong=f"it has {len(text):,} bytes", write=f"at most {MAX_SCHEDULE_BYTES:,} bytes")]
    try:
        raw = read_yaml(text)
    except NotYamlError as error:
        write = (
            'cron: "30 5 * * *", in quotes, when a line begins with a star'
            if b"*" in text
            else "a list of entries, as docs/how-to/schedule.md shows it"
        )
        return [], [Problem(entry=whole, field="", wrong=str(error), write=write)]
    if raw is None:
        return [], []
    if not isinstance(raw, list):
        return [], [Problem(entry=whole, field="", wrong="it is not a list of entries", write="- name: daily, and the fields of it below")]
    return _read_entries(raw)


def _read_entries(raw: list[object]) -> tuple[list[Entry], list[Problem]]:
    entries: dict[str, Entry] = {}
    problems: list[Problem] = []
    for number, fields in enumerate(raw, 1):
        try:
            entry = Entry.model_validate(fields)
        except ValidationError as error:
            problems += _problems(fields, f"entry {number}", field_errors(error))
            continue
        if entry.name in entries:
            problems.append(Problem(entry=entry.name, field="name", wrong="another entry has it", write="a name of its own"))
        entries.setdefault(entry.name, entry)
    return list(entries.values()), problems


def _problems(fields: object, place: str, errors: list[FieldError]) -> list[Problem]:
    """The problems of one entry: wrong fields in the order of the file, then missing ones, then wrong combinations."""
    if not isinstance(fields, dict):
        return [Problem(entry=place, field="", wrong="it has no fields", write="name, cron, time_zone, and score or train")]
    name = fields["name"].strip()[:SHOWN_CHARACTERS] if isinstance(fields.get("name"), str) else place
    order = {str(field): number for number, field in enumerate(fields)}
    last = len(order)
    errors = sorted(errors, key=lambda error: last + 1 if error.kind == COMBINATION else order.get(error.field, last))
    return [_problem(name, error) for error in errors]


def _problem(entry: str, error: FieldError) -> Problem:
    if error.kind in UNKNOWN_FIELD:
        field = error.field[:SHOWN_CHARACTERS]
        close = difflib.get_close_matches(field, Entry.model_fields, 1)
        write = close[0] if close else f"one of {', '.join(Entry.model_fields)}"
        return Problem(entry=entry, field=field, wrong="there is no such field", write=write)
    meant = advise(error.value) if error.field == "cron" else ""
    wrong = _SENTENCES[error.kind].format(value=shown(error.value)) if error.kind in _SENTENCES else error.reason
    return Problem(entry=entry, field=error.field, wrong=wrong, write=meant or Entry.model_fields[error.field].description or "")
