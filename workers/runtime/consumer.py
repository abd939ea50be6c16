"""Celery's consumer with three changes: task events are sent in batches, a failed connection is closed, and reconnections back off.

A task makes three events. Each in a message of its own, they took a third of the time of a worker's main process, and most of Flower's.

A Redis that accepts connections but refuses commands (read-only, out of memory, no more clients) fails after Celery has connected.
Celery then drops the connection without closing it and tries again at once: two sockets lost at each try, six tries a second.
"""

import time
from typing import Any

import celery.worker.consumer
from celery.worker.state import maybe_shutdown
from kombu.common import ignore_errors

EVENTS_PAUSE_SECONDS = 0.25
"""An event waits this long for others to go with it; more than Celery's own 24 wait for nothing."""

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 8.0
"""Between connections that fail soon after they were made: the pause doubles from the first to the longest."""
STABLE_SECONDS = 30.0
"""A connection that lasted this long was a good one: the next reconnection does not wait."""
SIGNAL_LOOK_SECONDS = 0.1
"""How often a pause looks whether the worker is asked to stop."""


class Consumer(celery.worker.consumer.Consumer):
    """Sends task events in batches, closes connections that failed half-made, and waits between reconnections."""

    hub: Any  # the types of Celery know none of these
    amqheartbeat: Any
    _flush_events: Any
    _flush_is_due = False
    _connected_at: float | None = None
    _pause_seconds = 0.0

    def connect(self) -> Any:  # noqa: ANN401 - kombu's connection
        """The connection to Redis, watched by the event loop; an error closes it, so no socket is left open."""
        self._wait_before_reconnecting()
        connection = self.connection_for_read(heartbeat=self.amqheartbeat)
        try:
            if self.hub:
                connection.transport.register_with_event_loop(connection.connection, self.hub)
        except BaseException:
            ignore_errors(connection, connection.close)
            raise
        return connection

    def _wait_before_reconnecting(self) -> None:
        now = time.monotonic()
        if self._connected_at is None or now - self._connected_at > STABLE_SECONDS + self._pause_seconds:
            self._pause_seconds = 0.0
        else:
            self._pause_seconds = min(max(2 * self._pause_seconds, FIRST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)
        self._pause(self._pause_seconds)
        self._connected_at = time.monotonic()

    def _pause(self, seconds: float) -> None:
        limit = time.monotonic() + seconds
        while time.monotonic() < limit:
            maybe_shutdown()
            time.sleep(SIGNAL_LOOK_SECONDS)

    def on_send_event_buffered(self) -> None:  # type: ignore[override]  # and are wrong here: nothing is given back
        if self.hub and not self._flush_is_due:
            self._flush_is_due = True
            self.hub.call_later(EVENTS_PAUSE_SECONDS, self._flush_batch)

    def _flush_batch(self) -> None:
        self._flush_is_due = False
        self._flush_events()
