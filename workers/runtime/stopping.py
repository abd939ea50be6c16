"""An end to Celery's warm shutdown, which waits for the work in hand without a limit.

Celery's other way, the soft shutdown (``REMAP_SIGTERM=SIGQUIT``), has a limit but always waits for all of it: it sleeps in the signal
handler, where no result of a pool process is read, so it cannot see that the work is done.
"""

import os
import signal
from typing import Any

import celery

PRESS_SECONDS = 2.0
"""Between the signals to a worker that did not end: the first hands its work back, the third ends whatever hangs."""


def limit_shutdown(app: celery.Celery, seconds: float) -> None:
    """Hand back the work in hand when it is not done within this time. Called in the main thread, by the handler of SIGTERM.

    A timer of the kernel, because a thread that starts inside a signal handler may wait for a lock that its own thread holds.
    """

    def hand_back(*_: Any) -> None:  # noqa: ANN401 - what a signal handler is given
        # the waiting is over: SIGQUIT must not begin the soft shutdown, which would wait again
        app.conf.worker_soft_shutdown_timeout = 0
        os.kill(os.getpid(), signal.SIGQUIT)

    signal.signal(signal.SIGALRM, hand_back)
    # zero would switch the timer off
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001), PRESS_SECONDS)
