"""The ``scoring`` command: a lazy group, and what its commands share."""

import producers.stack.early_stop  # noqa: F401 - sets the handler of SIGTERM before the slow imports
from producers.cli.root import main

__all__ = ["main"]
