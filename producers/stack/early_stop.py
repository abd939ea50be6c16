"""Lets SIGTERM end process 1 of a container from the import of this module on.

The kernel drops a signal for which process 1 has no handler, so a container that is stopped during Python's imports would wait for its
whole grace period. Programs with running work replace the handler later.
"""

import os
import signal


def _end(*_: object) -> None:
    # no work is running yet; an exception could be caught by the modules that are being imported
    os._exit(128 + signal.SIGTERM)


if os.getpid() == 1 and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
    signal.signal(signal.SIGTERM, _end)
# SIGTERM was blocked while this program replaced another: deliver it now
signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
