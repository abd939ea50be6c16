"""Works things out a few items ahead of whoever takes them, in the order of the items."""

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from shared.bucket import Bucket

THREADS = 8
"""On an object store each waits for its answer; on a disk two are busy."""

Item = TypeVar("Item")
Done = TypeVar("Done")


def ahead(do: Callable[[Item], Done], items: Iterable[Item]) -> Iterator[Done]:
    """What ``do`` gives for each item, in order, and raises for the first one that fails; never more than ``THREADS`` wait to be taken."""
    waiting: deque[Future[Done]] = deque()
    with ThreadPoolExecutor(THREADS) as threads:
        try:
            for item in items:
                waiting.append(threads.submit(do, item))
                if len(waiting) > THREADS:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def read_each(bucket: Bucket, read: Callable[[Item], Done], items: Iterable[Item]) -> Iterator[Done]:
    """What ``read`` gives of one small file for each item: ahead on an object store; on a disk threads take three times as long as none."""
    return ahead(read, items) if bucket.is_remote else map(read, items)


def side_by_side(do: Callable[[int, Callable[[Item], None]], Done], count: int, tell: Callable[[Item], None], at_once: int) -> list[Done]:
    """What ``do(0, found)`` to ``do(count - 1, found)`` give, some of them at once, each in a thread.

    What they say was ``found`` is told here, in this thread: that of 0 first, while the others go on, then that of 1, and so on. Whatever
    one of them or ``tell`` raises is raised, and stops all others when they find something the next time.
    """
    stopped = threading.Event()
    running: deque[tuple[queue.SimpleQueue[Item | _End], Future[Done]]] = deque()
    done: list[Done] = []

    def run(number: int, told: "queue.SimpleQueue[Item | _End]") -> Done:
        def found(item: Item) -> None:
            if stopped.is_set():
                raise _StoppedError
            told.put(item)

        try:
            return do(number, found)
        finally:
            told.put(_END)

    with ThreadPoolExecutor(at_once) as threads:
        try:
            for number in range(count + at_once):
                if number < count:
                    told: queue.SimpleQueue[Item | _End] = queue.SimpleQueue()
                    running.append((told, threads.submit(run, number, told)))
                if number + 1 >= at_once and running:
                    told, future = running.popleft()
                    while not isinstance(item := told.get(), _End):
                        tell(item)
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
