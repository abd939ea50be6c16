"""Celery's command line, as ``python -m celery`` has it, but SIGTERM counts while it still imports its libraries."""

import producers.stack.early_stop  # noqa: F401  # isort: split

from celery.__main__ import main

if __name__ == "__main__":
    main()
