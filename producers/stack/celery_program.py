"""Celery's command line, like ``python -m celery``, except that SIGTERM is handled while the libraries are imported."""

# the order of the imports matters
# isort: off
import producers.stack.early_stop  # noqa: F401
from celery.__main__ import main
# isort: on

if __name__ == "__main__":
    main()
