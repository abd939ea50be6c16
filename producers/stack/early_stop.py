"""Lets SIGTERM end process 1 of a container from the import of this module on.

The kernel drops a signal that process 1 has no handler for, so a container that is stopped while Python still imports would wait for
its whole grace. Programs that have work in hand set a handler of their own later.
"""

import os
import signal


def _end(*_: object) -> None:
    # nothing is in hand yet, and an exception could be caught by what is being imported
    os._exit(128 + signal.SIGTERM)


if os.getpid() == 1 and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
    signal.signal(signal.SIGTERM, _end)
# what came while this program took the place of another was kept back for us
signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
