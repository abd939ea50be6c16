"""Answers a request for rates: from the published result, else computed, row by row in the order of the request."""

import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

import orjson

from shared.catalog.manifests import KEYS
from shared.errors import TransientError
from workers.serving.rates.computing import Computed, compute
from workers.serving.rates.digits import rate_text
from workers.serving.rates.published import PublishedRate, PublishedResult
from workers.serving.rates.serving import Serving
from workers.tables.json_rows import JsonRow, JsonRows, device_key, text_key, whole_key
from workers.tables.rows import Reject
from workers.tables.schema import DEVICE, ENTITY


class Source(StrEnum):
    """Where a client wants a rate from."""

    AUTO = "auto"
    """Published if the row is in the result, else computed if it brings its columns."""
    PUBLISHED = "published"
    COMPUTED = "computed"


class Status(StrEnum):
    """What a client gets for a row."""

    PRESENT = "PRESENT"
    NOT_FOUND = "NOT_FOUND"
    """The row is not in the result, and brings no columns to compute a rate from."""
    OUTSIDE_MAX_AGE = "OUTSIDE_MAX_AGE"
    """The rate is there, but its result is older than the server's limit."""
    REJECTED = "REJECTED"
    """A score job would reject the row, for the reason in the answer."""


class NothingLoadedError(TransientError):
    """Raised when a rate is to be computed and no release is loaded."""


class RateAnswer(NamedTuple):
    """The answer for one row."""

    status: Status
    source: Source | None = None
    cr: float | None = None
    bounds: tuple[float, ...] = ()
    reject: Reject | None = None


@dataclass(frozen=True, kw_only=True)
class Answers:
    """The answers for all rows of a request."""

    serving: Serving
    age_seconds: int | None
    """The age of the published result."""
    answers: list[RateAnswer]
    keys: tuple[str, ...]
    """The key columns by which the rows are answered."""
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Rows by source and status; the source is empty if there is no rate."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """Which rates are wanted from where."""

    source: Source = Source.AUTO
    max_age: timedelta | None = None


def answer_rows(serving: Serving, rows: Sequence[JsonRow], question: Question, now: datetime) -> Answers:
    """Returns a rate or a reason for each row.

    Raises:
        NothingLoadedError: a rate is to be computed, and no release is loaded.
    """
    published = serving.published if question.source is not Source.COMPUTED else None
    age = None if serving.published is None else max(int((now - serving.published.manifest.finished).total_seconds()), 0)
    is_fresh = age is None or question.max_age is None or age <= question.max_age.total_seconds()
    status = Status.PRESENT if is_fresh else Status.OUTSIDE_MAX_AGE
    answers: list[RateAnswer | None] = [None] * len(rows)
    left: list[int] = []
    for place, row in enumerate(rows):
        found = None if published is None else _look_up(published, row)
        if found is not None:
            answers[place] = RateAnswer(status=status, source=Source.PUBLISHED, cr=found.cr, bounds=found.bounds)
        else:
            left.append(place)
    if left:
        _answer_others(serving, rows, left, question.source, answers)
    done = [answer for answer in answers if answer is not None]
    counts: Counter[tuple[str, str]] = Counter([(answer.source or "", answer.status) for answer in done])
    keys = serving.loaded.release.manifest.keys if question.source is Source.COMPUTED and serving.loaded is not None else serving.keys
    return Answers(serving=serving, age_seconds=age, answers=done, keys=keys, counts=counts)


def needs_computing(serving: Serving, rows: Sequence[JsonRow], source: Source) -> bool:
    """Returns True unless every row is answered from the published result alone."""
    if source is Source.COMPUTED:
        return True
    loaded, published = serving.loaded, serving.published
    if source is Source.PUBLISHED or loaded is None or serving.why_not_computed:
        return False
    return any(loaded.json_rows.has_features(row) and (published is None or _look_up(published, row) is None) for row in rows)


def _look_up(published: PublishedResult, row: JsonRow) -> PublishedRate | None:
    if published.keys == KEYS:
        entity, device = whole_key(row.get(ENTITY)), device_key(row)
        return None if entity is None or device < 0 else published.find_row(entity, device)
    values = [_key_value(name, row) for name in published.keys]
    return published.find([value for value in values if value is not None]) if None not in values else None


def _key_value(name: str, row: JsonRow) -> int | str | None:
    if name == ENTITY:
        return whole_key(row.get(ENTITY))
    if name == DEVICE:
        device = device_key(row)
        return device if device >= 0 else None
    return text_key(row.get(name))


def _answer_others(
    serving: Serving, rows: Sequence[JsonRow], places: Sequence[int], source: Source, answers: list[RateAnswer | None]
) -> None:
    """Answers the rows that are not published."""
    loaded, why_not = serving.loaded, serving.why_not_computed
    to_compute: list[int] = []
    by_key: list[int] = []
    for place in places:
        brings_columns = source is Source.AUTO and loaded is not None and loaded.json_rows.has_features(rows[place])
        if brings_columns and why_not:
            answers[place] = RateAnswer(status=Status.NOT_FOUND, reject=_unnamed_reject(f"not computed: {why_not}"))
        else:
            (to_compute if brings_columns or source is Source.COMPUTED else by_key).append(place)
    if by_key:
        json_rows = _key_rows(serving.keys) if loaded is None or why_not else loaded.json_rows
        rejects = json_rows.key_rejects([rows[place] for place in by_key])
        for place, reject in zip(by_key, rejects, strict=True):
            answers[place] = RateAnswer(status=Status.NOT_FOUND if reject is None else Status.REJECTED, reject=reject)
    if not to_compute:
        return
    if loaded is None:
        raise NothingLoadedError("no release is loaded", next_step="Promote a release: scoring models promote RELEASE --alias champion")
    for place, computed in zip(to_compute, compute(loaded, [rows[place] for place in to_compute]), strict=True):
        answers[place] = _of_computed(computed)


def _unnamed_reject(reason: str) -> Reject:
    return Reject(line=0, column="", value="", reason=reason)


@functools.lru_cache(maxsize=8)
def _key_rows(keys: tuple[str, ...]) -> JsonRows:
    """Returns the check of rows of which only the keys matter."""
    return JsonRows((), keys)


def _of_computed(computed: Computed) -> RateAnswer:
    if computed.reject is not None:
        return RateAnswer(status=Status.REJECTED, reject=computed.reject)
    return RateAnswer(status=Status.PRESENT, source=Source.COMPUTED, cr=computed.cr)


def answer_text(rows: Sequence[JsonRow], given: Answers) -> bytes:
    """Returns the answer as JSON, with the digits of a prediction file."""
    published = given.serving.published
    head: dict[str, str | None] = {"release": given.serving.release or None, "channel": None, "job_id": None, "published_release": None}
    if published is not None:
        head |= {"channel": published.channel, "job_id": published.manifest.job_id, "published_release": published.manifest.release}
    texts = [row_text(row, answer, given) for row, answer in zip(rows, given.answers, strict=True)]
    return b'%b,"rates":[%b]}' % (orjson.dumps(head)[:-1], ",".join(texts).encode())


def row_text(row: JsonRow, answer: RateAnswer, given: Answers) -> str:
    """Returns the answer for one row as JSON."""
    if answer.source is Source.PUBLISHED and not answer.bounds and type(entity := row.get(ENTITY)) is int and given.keys == KEYS:
        rate = rate_text(answer.cr) if answer.cr is not None else "null"
        status, age = answer.status.value, given.age_seconds
        return (
            f'{{"entity_id":{entity},"device":{device_key(row)},"cr":{rate},"status":"{status}","source":"published","age_seconds":{age}}}'
        )
    parts = [_key_text(name, row) for name in given.keys if name == DEVICE or name in row]
    if answer.cr is not None:
        parts.append(f'"cr":{rate_text(answer.cr)}')
        parts += [f'"{name}":{rate_text(bound)}' for name, bound in zip(("cr_low", "cr_high"), answer.bounds, strict=False)]
    parts.append(f'"status":"{answer.status.value}"')
    if answer.source is not None:
        parts.append(f'"source":"{answer.source.value}"')
    if answer.source is Source.PUBLISHED:
        parts.append(f'"age_seconds":{given.age_seconds}')
    if answer.reject is not None:
        reject = answer.reject
        parts.append(orjson.dumps({"column": reject.column, "value": reject.value, "reason": reject.reason}).decode()[1:-1])
    return "{" + ",".join(parts) + "}"


def _key_text(name: str, row: JsonRow) -> str:
    if name == DEVICE:
        device = device_key(row)
        value = row.get(DEVICE) if device < 0 else device
    else:
        value = row.get(name)
    if isinstance(value, dict | list):
        value = None  # of any depth and length; the reject says what it is
    return f'"{name}":{value}' if type(value) is int else f"{orjson.dumps(name).decode()}:{orjson.dumps(value).decode()}"
