"""The signals that ask ``scoring up`` to stop."""

import contextlib
import signal
import time
from collections.abc import Iterator
from types import FrameType

ONE_SIGNAL_SECONDS = 0.5
"""Signals within this time are one request: a script and the terminal may both forward the same Ctrl-C."""


class StopSignals:
    """Counts the requests to stop. Only the main thread can set the handlers."""

    def __init__(self) -> None:
        self.count = 0
        self.last = 0.0
        """Monotonic time of the last request."""

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """Counts SIGINT, SIGTERM and, except under nohup, SIGHUP while the block runs."""
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup
            numbers.append(signal.SIGHUP)
        before = {number: signal.signal(number, self._count) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _count(self, _number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if now - self.last > ONE_SIGNAL_SECONDS:
            self.count += 1
            self.last = now
