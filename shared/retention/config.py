"""The retention rules, ``config/retention.yaml`` in the bucket::

    jobs:      {parts: 1d, done: 30d, failed: 90d}
    revisions: {keep_last: 3, keep_daily: 14, keep_weekly: 8, keep_within: 7d}
    notices: 90d
    results: 400d

A missing key removes nothing, except ``parts``: its default is one day. Without the file only slices and parts are removed, after a day.
"""

from datetime import timedelta
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.bucket.interface import Bucket
from shared.errors import RequestError
from shared.text.durations import Length
from shared.text.field_errors import NO_MAPPING, UNKNOWN_FIELD, FieldError, field_errors
from shared.text.yaml_files import NotYamlError, read_yaml, shown

RETENTION = "config/retention.yaml"
MAX_BYTES = 64 * 1024
A_YEAR = timedelta(days=367)
"""Requests, outcomes and manifests of jobs stay this long: longer than the schedule looks back, or it would repeat old runs."""
HELD = timedelta(days=90)
"""A failed job keeps its release this long when no age is set for failed jobs."""
SHORTEST_NOTICES = timedelta(days=2)
"""The schedule looks back one day for the notices that it has sent."""
EXAMPLE = "jobs: {parts: 1d, done: 30d, failed: 90d}"


Count = Annotated[int, Field(ge=0, le=100_000, strict=True)]


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class JobAges(_Closed):
    """How long each part of a job stays after its end, by default for ever. Request, outcome and manifest stay at least a year."""

    parts: Length = timedelta(days=1)
    """Slices of every job, and parts of finished jobs; a fix recreates those that it needs."""
    done: Length | None = None
    failed: Length | None = None
    """Of failed and cancelled jobs, which can be resumed and fixed until then."""


class KeptRevisions(_Closed):
    """The revisions of a place that stay: those that any rule keeps, and always the newest and the published one."""

    keep_last: Count = 0
    keep_daily: Count = 0
    """The newest revision of each of this many days that have one, in UTC."""
    keep_weekly: Count = 0
    keep_within: Length = timedelta(0)


class Retention(_Closed):
    """The rules of ``config/retention.yaml``."""

    jobs: JobAges = JobAges()
    revisions: KeptRevisions | None = None
    """Without it all revisions stay."""
    notices: Length | None = None
    results: Length | None = None
    """A place without a new result for this long is removed with all its revisions. Without it all stay."""
    is_set: Annotated[bool, Field(exclude=True)] = False
    """False when the file does not exist: then leftovers stay too."""
    records: Annotated[timedelta, Field(exclude=True)] = A_YEAR

    @property
    def held(self) -> timedelta:
        """How long after its end a failed job can be resumed or fixed."""
        return HELD if self.jobs.failed is None else self.jobs.failed

    @property
    def records_stay(self) -> timedelta | None:
        """How long requests, outcomes and manifests stay; None (for ever) when no age is set for jobs."""
        ages = [age for age in (self.jobs.done, self.jobs.failed) if age is not None]
        return max(self.records, *ages) if ages else None


INTERNAL = {"is_set", "records"}
KEYS = {
    "": sorted(set(Retention.model_fields) - INTERNAL),
    "jobs": sorted(JobAges.model_fields),
    "revisions": sorted(KeptRevisions.model_fields),
}


def read_retention(bucket: Bucket) -> Retention:
    """Reads the retention rules of this bucket.

    Raises:
        RequestError: the file cannot be used; the message names the key, the problem and a valid value.
    """
    info = bucket.stat(RETENTION)
    if info is None:
        return Retention()
    if info.size > MAX_BYTES:
        raise _wrong(f"it is {info.size:,} bytes long, more than the {MAX_BYTES:,} allowed", f"Write a few lines, like {EXAMPLE}")
    return parse_retention(bucket.read(RETENTION) or b"")


def parse_retention(text: bytes) -> Retention:
    """Reads the rules from a text; raises RequestError like ``read_retention``."""
    found = _load(text)
    if not isinstance(found, dict):
        raise _wrong("it says nothing" if found is None else "it is not a mapping", f"Write for example {EXAMPLE}, or remove the file")
    for key in INTERNAL & found.keys():
        raise _unknown("", str(key))
    try:
        rules = Retention.model_validate(found)
    except ValidationError as error:
        raise _request_error(field_errors(error)[0]) from None
    if rules.notices is not None and rules.notices < SHORTEST_NOTICES:
        raise _wrong("notices: it is shorter than 2d, for which the schedule looks back", "Write 2d or more, like 90d")
    return rules.model_copy(update={"is_set": True})


def _load(text: bytes) -> object:
    try:
        found: object = read_yaml(text)
    except NotYamlError as error:
        raise _wrong(str(error), f"Write for example {EXAMPLE}") from None
    return found


def _request_error(first: FieldError) -> RequestError:
    parent, path = ".".join(first.path[:-1]), ".".join(first.path)
    value = shown(first.value)
    if first.kind in UNKNOWN_FIELD:
        return _unknown(parent, first.field)
    if first.kind in NO_MAPPING:
        return _wrong(f"{path}: {value} is not a mapping", f"Write for example {path}: {{{KEYS.get(path, ['key'])[0]}: ...}}")
    if first.field.startswith("keep_") and first.field != "keep_within":
        return _wrong(f"{path}: {value} is not a count", "Write a whole number from 0 to 100000, like 3")
    why = first.reason.partition(": write ")[0]
    return _wrong(f"{path}: {why}", "Write a whole number with d, h, min or s after it, like 30d")


def _unknown(parent: str, key: str) -> RequestError:
    where = f"{parent}.{key}".strip(".")
    return _wrong(f"there is no key {shown(where)}", f"Write one of {', '.join(KEYS.get(parent, []))}")


def _wrong(what: str, write: str) -> RequestError:
    return RequestError(f"{RETENTION} cannot be used: {what}", next_step=f"{write}; nothing is removed until then.")
