"""Detects in a worker's main process that a pool process crashed while it ran a step, and records it in Redis at once.

A chunk whose process crashed goes to the end of its queue. Without this record every other chunk of the job would start first, and would
load the release that killed the first one, before the crash is known.
"""

import re
from typing import Any

import celery.worker.request
from billiard.exceptions import WorkerLostError

from shared.errors import MessageError
from shared.queue.client import connect_to_redis
from shared.settings import read_settings
from workers.recovery.attempts import record_crash
from workers.recovery.shutdown import step_of


class Request(celery.worker.request.Request):
    """A received message, as Celery keeps it in the main process."""

    def on_failure(self, exc_info: Any, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - Celery's own signature
        error = getattr(exc_info, "exception", None)
        # billiard wraps it to keep its traceback
        lost = getattr(error, "exc", error)
        if isinstance(lost, WorkerLostError):
            self._record_crash(exit_code_in(str(lost)))
        return super().on_failure(exc_info, *arguments, **options)

    def on_timeout(self, soft: Any, timeout: Any) -> Any:  # noqa: ANN401 - Celery's own signature
        self._record_crash()
        return super().on_timeout(soft, timeout)

    def _record_crash(self, exit_code: int | None = None) -> None:
        try:
            message, _ = step_of(self)
        except MessageError:
            return
        client = connect_to_redis(read_settings().broker_url)
        record_crash(client, message.job_id, exit_code)
        client.close()


def exit_code_in(text: str) -> int | None:
    """Parses the exit code of a process that exited by itself from billiard's message; None for a process that a signal killed."""
    found = re.search(r"exited prematurely: exitcode (\d+)", text)
    return int(found[1]) if found else None
