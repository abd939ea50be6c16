"""Drops what a process cached for one kind of work when it turns to another: a process serves several queues one after another.

The module of a kind of work registers its cache; a step that begins another kind calls ``drop_caches_of_other_work``.
"""

from collections.abc import Callable

_caches: dict[str, Callable[[], None]] = {}


def register_cache(work: str, clear: Callable[[], None]) -> None:
    """Register the function that clears what a kind of work keeps between its steps."""
    _caches[work] = clear


def drop_caches_of_other_work(work: str) -> None:
    """Clear what every other kind of work keeps; costs less than a microsecond if there is nothing."""
    for owner, clear in _caches.items():
        if owner != work:
            clear()
