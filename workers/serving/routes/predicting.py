"""Answers rows for all routes that give rates: in the event loop if they are few, else in the thread for predictions."""

import asyncio
import contextlib
from collections.abc import Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import Any

from workers.serving.http.answers import HttpError
from workers.serving.http.front import RETRY_AFTER
from workers.serving.http.service import Service
from workers.serving.rates.answering import Answers, NothingLoadedError, Question, Source, answer_rows, needs_computing
from workers.serving.rates.serving import Serving
from workers.tables.json_rows import JsonRow

LONGEST_QUEUE = 64
"""Requests that may wait for the thread for predictions; more are refused with 503."""
LOOP_ROWS = 2000
"""So many published rows are looked up in the event loop; more in a thread that computes nothing."""
FEW_ROWS = 64
"""So many rows take less time than handing them to another thread, and keep the event loop for at most some milliseconds."""


async def answer(service: Service, serving: Serving, rows: Sequence[JsonRow], source: Source) -> Answers:
    """Returns the answers for rows; raises HttpError (503) if they cannot be found or computed now."""
    if source is not Source.COMPUTED:
        check_result_open(serving)
    question = Question(source=source, max_age=service.max_age)
    now = datetime.now(UTC)
    try:
        if len(rows) <= FEW_ROWS and not service.computing:
            given = answer_rows(serving, rows, question, now)
        elif not needs_computing(serving, rows, source):
            if len(rows) <= LOOP_ROWS:
                given = answer_rows(serving, rows, question, now)
            else:
                given = await asyncio.to_thread(answer_rows, serving, rows, question, now)
        else:
            given = await _answer_aside(service, serving, rows, question, now)
    except NothingLoadedError as error:
        raise HttpError(503, error.message, next_step=error.next_step, headers=(RETRY_AFTER,)) from None
    service.metrics.note_rows(given)
    return given


def check_result_open(serving: Serving) -> None:
    """Raises HttpError (503) while the channel shows a result that is not open: its rows would be answered as not found."""
    if serving.lacks_result:
        raise HttpError(503, "the result that the channel shows is not open yet", headers=(RETRY_AFTER,))


async def _answer_aside(service: Service, serving: Serving, rows: Sequence[JsonRow], question: Question, now: datetime) -> Answers:
    if service.computing > LONGEST_QUEUE:
        raise HttpError(503, f"{LONGEST_QUEUE} requests wait for a prediction already", headers=(RETRY_AFTER,))
    if not service.computing:
        service.computing_since = service.now()
    service.computing += 1
    loop = asyncio.get_running_loop()
    running = service.executor.submit(answer_rows, serving, rows, question, now)

    def note(done: "Future[Answers]") -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(_note_done, service, done)

    running.add_done_callback(note)
    # a timeout cancels it, which has an effect if it still waits in the queue
    return await asyncio.wrap_future(running)


def _note_done(service: Service, done: "Future[Answers]") -> None:
    service.computing -= 1
    if not done.cancelled():
        # one that is cancelled in the queue says nothing about the one that runs, which may hang
        service.computing_since = service.now()


def check_rows_given(service: Service, rows: Any) -> list[JsonRow]:  # noqa: ANN401 - whatever JSON may hold
    """Returns rows that a request brings; raises HttpError if they are none, or too many."""
    if not isinstance(rows, list):
        raise HttpError(422, "rows must be a list of objects")
    check_row_count(service, len(rows))
    for place, row in enumerate(rows):
        if not isinstance(row, dict):
            raise HttpError(422, f"row {place} is not an object")
    return rows


def check_row_count(service: Service, count: int) -> None:
    """Raises HttpError (413) for more rows than are allowed; called before rows are built."""
    if count > service.settings.serve_max_rows:
        raise HttpError(
            413,
            f"the request has {count:,} rows, more than the {service.settings.serve_max_rows:,} allowed",
            next_step="Send several requests, or score a whole table: POST /v1/jobs",
        )
