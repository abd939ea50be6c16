"""Who changes something at this terminal, and why: recorded with every change that a person makes."""

import contextlib
import getpass
import os
import socket

from shared.errors import RequestError

LONGEST_REASON = 500


def who() -> str:
    """The person at this terminal, as ``user@host``."""
    user = str(os.getuid())
    with contextlib.suppress(OSError, KeyError):  # a container may run as a user without a name
        user = getpass.getuser()
    return f"{user}@{socket.gethostname()}"[:200]


def check_reason(reason: str) -> None:
    """Raises RequestError when a reason is too long to be stored."""
    if len(reason) > LONGEST_REASON:
        raise RequestError(f"the reason has {len(reason):,} characters, more than the {LONGEST_REASON} allowed", next_step="Shorten it.")
