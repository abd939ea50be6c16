"""Celery's consumer with three changes: task events are sent in batches, a failed connection is closed, and reconnections back off.

A task emits three events. With a message for each, they took a third of the time of a worker's main process, and most of Flower's.

A Redis that accepts connections but refuses commands (read-only, out of memory, too many clients) fails after Celery has connected.
Celery then drops the connection without closing it and retries at once: two sockets lost per try, six tries per second.
"""

import time
from typing import Any

import celery.worker.consumer
from celery.worker.state import maybe_shutdown
from kombu.common import ignore_errors

EVENTS_PAUSE_SECONDS = 0.25
"""An event waits this long for others to share its message; more than Celery's own limit of 24 are sent without waiting."""

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 8.0
"""Pauses between connections that fail soon after they were made: the pause doubles from the first to the longest."""
STABLE_SECONDS = 30.0
"""A connection that lasted this long was stable: the next reconnection does not wait."""
SIGNAL_LOOK_SECONDS = 0.1
"""How often a pause checks whether the worker must stop."""


class Consumer(celery.worker.consumer.Consumer):
    """Sends task events in batches, closes connections that failed half-made, and waits between reconnections."""

    hub: Any  # not in Celery's types
    amqheartbeat: Any
    _flush_events: Any
    _flush_is_due = False
    _connected_at: float | None = None
    _pause_seconds = 0.0

    def connect(self) -> Any:  # noqa: ANN401 - kombu's connection
        """Returns the connection to Redis, registered with the event loop; closes it on an error, so that no socket leaks."""
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

    def on_send_event_buffered(self) -> None:  # type: ignore[override]  # Celery's types are wrong here: it returns nothing
        if self.hub and not self._flush_is_due:
            self._flush_is_due = True
            self.hub.call_later(EVENTS_PAUSE_SECONDS, self._flush_batch)

    def _flush_batch(self) -> None:
        self._flush_is_due = False
        self._flush_events()
