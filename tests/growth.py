"""How the time of a piece of code grows with what it is given: the processor's time, which the load of the machine hardly changes."""

import time
from collections.abc import Callable

TRIES = 3


def best_of(do: Callable[[], object]) -> float:
    """The least of some times, in seconds of the processor."""
    times = []
    for _ in range(TRIES):
        began = time.process_time()
        do()
        times.append(time.process_time() - began)
    return min(times)
