"""A time limit for Celery's warm shutdown, which otherwise waits indefinitely for the running tasks.

Celery's alternative, the soft shutdown (``REMAP_SIGTERM=SIGQUIT``), has a limit but always waits for all of it: it sleeps in the signal
handler, where no result of a pool process is read, so it cannot see that the tasks are done.
"""

import os
import signal
from typing import Any

import celery

PRESS_SECONDS = 2.0
"""Seconds between the signals to a worker that did not end: the first returns its tasks to the queue, the third kills what hangs."""


def limit_shutdown(app: celery.Celery, seconds: float) -> None:
    """Returns the running tasks to the queue if they are not done within ``seconds``. Called in the main thread, by the handler of SIGTERM.

    It uses a kernel timer, because a thread that starts inside a signal handler may wait for a lock that its own thread holds.
    """

    def hand_back(*_: Any) -> None:  # noqa: ANN401 - what a signal handler is given
        # the limit is reached: SIGQUIT must not begin the soft shutdown, which would wait again
        app.conf.worker_soft_shutdown_timeout = 0
        os.kill(os.getpid(), signal.SIGQUIT)

    signal.signal(signal.SIGALRM, hand_back)
    # zero would disable the timer
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001), PRESS_SECONDS)
