"""Answers rows for all routes that give rates: in the event loop if they are few, else in the thread for predictions."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from workers.serving.http.answers import HttpError
from workers.serving.http.service import Service
from workers.serving.rates.answering import Answers, NothingLoadedError, Question, Source, answer_rows
from workers.serving.rates.serving import Serving
from workers.tables.json_rows import JsonRow

FEW_ROWS = 64
"""So many rows take less time than handing them to another thread, and keep the event loop for at most some milliseconds."""


async def answer(service: Service, serving: Serving, rows: Sequence[JsonRow], source: Source) -> Answers:
    """Returns the answers for rows; raises HttpError (503) if none can be computed now."""
    question = Question(source=source, max_age=service.max_age)
    now = datetime.now(UTC)
    try:
        if len(rows) <= FEW_ROWS and not service.computing:
            given = answer_rows(serving, rows, question, now)
        else:
            given = await _answer_aside(service, serving, rows, question, now)
    except NothingLoadedError as error:
        raise HttpError(503, error.message, next_step=error.next_step, headers=((b"retry-after", b"1"),)) from None
    service.metrics.note_rows(given)
    return given


async def _answer_aside(service: Service, serving: Serving, rows: Sequence[JsonRow], question: Question, now: datetime) -> Answers:
    if not service.computing:
        service.computing_since = service.now()
    service.computing += 1
    running = asyncio.get_running_loop().run_in_executor(service.executor, answer_rows, serving, rows, question, now)
    running.add_done_callback(lambda _: _note_done(service))
    return await asyncio.shield(running)


def _note_done(service: Service) -> None:
    service.computing -= 1
    service.computing_since = service.now()


def check_rows_given(service: Service, rows: Any) -> list[JsonRow]:  # noqa: ANN401 - whatever JSON may hold
    """Returns rows that a request brings; raises HttpError if they are none, or too many."""
    if not isinstance(rows, list):
        raise HttpError(422, "rows must be a list of objects")
    if len(rows) > service.settings.serve_max_rows:
        raise HttpError(
            413,
            f"the request has {len(rows):,} rows, more than the {service.settings.serve_max_rows:,} allowed",
            next_step="Send several requests, or score a whole table: POST /v1/jobs",
        )
    for place, row in enumerate(rows):
        if not isinstance(row, dict):
            raise HttpError(422, f"row {place} is not an object")
    return rows
