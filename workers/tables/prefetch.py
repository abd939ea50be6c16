"""Works things out a few items ahead of whoever takes them, in the order of the items."""

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from shared.bucket.interface import Bucket

ON_DISK, ON_STORE = 2, 8
"""Threads. On a disk two are busy, and each keeps some memory; on an object store each waits for its answer."""

MOST_BYTES = 24 << 20
"""Parts of ten usual chunks; unpacked they take three times as much."""

Item = TypeVar("Item")
Done = TypeVar("Done")


def at_once(bucket: Bucket) -> int:
    """How many threads read from it at once."""
    return ON_STORE if bucket.is_remote else ON_DISK


def prefetch_each(
    do: Callable[[Item], Done], items: Iterable[Item], threads: int = ON_DISK, size: Callable[[Item], int] = lambda _: 0
) -> Iterator[Done]:
    """What ``do`` gives for each item, in order, and raises for the first one that fails.

    Never more than there are ``threads`` wait to be taken, and of more than one item no more than ``MOST_BYTES``, by the ``size`` of each.
    """
    waiting: deque[tuple[int, Future[Done]]] = deque()
    held = 0
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                bytes_more = size(item)
                while waiting and (len(waiting) > threads or held + bytes_more > MOST_BYTES):
                    taken, future = waiting.popleft()
                    held -= taken
                    yield future.result()
                waiting.append((bytes_more, pool.submit(do, item)))
                held += bytes_more
            while waiting:
                yield waiting.popleft()[1].result()
        finally:
            for _, future in waiting:
                future.cancel()


def read_each(bucket: Bucket, read: Callable[[Item], Done], items: Iterable[Item]) -> Iterator[Done]:
    """What ``read`` gives of one small file for each item: ahead on an object store; on a disk threads take three times as long as none."""
    return prefetch_each(read, items, ON_STORE) if bucket.is_remote else map(read, items)


def side_by_side(
    do: Callable[[int, Callable[[Sequence[Item]], None]], Done], count: int, tell: Callable[[Sequence[Item]], None], at_once: int
) -> list[Done]:
    """What ``do(0, found)`` to ``do(count - 1, found)`` give, some of them at once, each in a thread; one at a time needs none.

    What they say was ``found`` is told here, in this thread: that of 0 first, while the others go on, then that of 1, and so on. Whatever
    one of them or ``tell`` raises is raised, and stops all others when they find something, or nothing, the next time.
    """
    if min(count, at_once) == 1:
        return [do(number, tell) for number in range(count)]
    stopped = threading.Event()
    running: deque[tuple[queue.SimpleQueue[Sequence[Item] | _End], Future[Done]]] = deque()
    done: list[Done] = []

    def run(number: int, told: queue.SimpleQueue[Sequence[Item] | _End]) -> Done:
        def found(items: Sequence[Item]) -> None:
            if stopped.is_set():
                raise _StoppedError
            told.put(items)

        try:
            return do(number, found)
        finally:
            told.put(_END)

    with ThreadPoolExecutor(at_once) as threads:
        try:
            for number in range(count + at_once):
                if number < count:
                    told: queue.SimpleQueue[Sequence[Item] | _End] = queue.SimpleQueue()
                    running.append((told, threads.submit(run, number, told)))
                if number + 1 >= at_once and running:
                    told, future = running.popleft()
                    while not isinstance(items := told.get(), _End):
                        tell(items)
                    done.append(future.result())
        finally:
            stopped.set()
            for _, future in running:
                future.cancel()
    return done


class _End:
    """Stands behind the last thing that was found."""


_END = _End()


class _StoppedError(Exception):
    """Raised where something is found that nobody waits for any more."""
