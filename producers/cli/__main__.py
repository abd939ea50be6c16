"""``python -m producers.cli`` is the same as ``scoring``."""

from producers.cli.root import main

main()
