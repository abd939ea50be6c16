"""The ``scoring`` command: a lazy group, one file per noun."""

import producers.stack.early_stop  # noqa: F401 - SIGTERM counts from here on
from producers.cli.root import main

__all__ = ["main"]
