"""uvicorn's server, which keeps answering for a while after SIGTERM, so that clients have time to notice."""

import time
from types import FrameType

import uvicorn

from workers.serving.http.front import Front
from workers.serving.http.protocol import LimitedProtocol
from workers.serving.http.service import Service

DRAIN_SECONDS = 3.0
"""From SIGTERM on a process is not ready, and closes each connection after its answer; for so long it takes new ones."""
LAST_SECONDS = 5
"""Then requests in hand have this time."""
KEEP_ALIVE_SECONDS = 75
BACKLOG = 2048


class Server(uvicorn.Server):
    """The server of one process."""

    def __init__(self, app: Front, service: Service) -> None:
        config = uvicorn.Config(
            app,
            http=LimitedProtocol,
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=LAST_SECONDS,
        )
        super().__init__(config)
        self._service = service
        self._drained = 0.0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begins to drain; a further signal ends at once, but only after the drain.

        Ctrl-C reaches a process twice: from the terminal, and through its supervisor.
        """
        del sig, frame
        if not self._service.is_draining:
            self._service.is_draining = True
            self._drained = time.monotonic() + DRAIN_SECONDS
        elif time.monotonic() > self._drained:
            self.should_exit = self.force_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Records the state once a second; returns True when it is time to end."""
        if counter % 10 == 0:
            self._service.metrics.note_state(self._service.serving, is_ready=self._service.is_ready)
        if self._service.is_draining and time.monotonic() > self._drained:
            self.should_exit = True
        return await super().on_tick(counter)
