"""Celery's command line, as ``python -m celery`` has it, but SIGTERM counts while it still imports its libraries."""

# the order is the purpose of this module
# isort: off
import producers.stack.early_stop  # noqa: F401
from celery.__main__ import main
# isort: on

if __name__ == "__main__":
    main()
