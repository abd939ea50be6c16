"""Runs ``python -m producers.cli``, the same as ``scoring``."""

from producers.cli.root import main

main()
