"""Runs a function over items in a thread pool and yields the results in order, a bounded number of items ahead of the consumer."""

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from shared.bucket.interface import Bucket

ON_DISK, ON_STORE = 2, 8
"""Threads. On a disk more than two bring nothing, and each holds memory; on an object store each thread waits for its response."""

MOST_BYTES = 24 << 20
"""Bytes of prefetched items: the parts of ten typical chunks, which take three times as much memory when unpacked."""

Item = TypeVar("Item")
Done = TypeVar("Done")


def at_once(bucket: Bucket) -> int:
    """Returns the number of threads that read from the bucket concurrently."""
    return ON_STORE if bucket.is_remote else ON_DISK


def prefetch_each(
    do: Callable[[Item], Done], items: Iterable[Item], threads: int = ON_DISK, size: Callable[[Item], int] = lambda _: 0
) -> Iterator[Done]:
    """Yields ``do(item)`` for each item in order; raises the exception of the first item that fails.

    At most ``threads`` results wait for the consumer. If more than one waits, their items, measured by ``size``, hold at most
    ``MOST_BYTES``.
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
    """Yields ``read(item)`` of one small file per item, prefetched on an object store; on a disk threads would triple the time."""
    return prefetch_each(read, items, ON_STORE) if bucket.is_remote else map(read, items)


def run_concurrently(
    call: Callable[[int, Callable[[Sequence[Item]], None]], Done], count: int, on_items: Callable[[Sequence[Item]], None], threads: int
) -> list[Done]:
    """Returns the results of ``call(0, emit)`` to ``call(count - 1, emit)``, run concurrently in threads (in this thread if one at a time).

    What a call passes to ``emit`` is passed to ``on_items`` in this thread: the items of call 0 first, while the other calls run, then
    those of call 1, and so on. An exception of a call or of ``on_items`` is raised, and stops every other call at its next ``emit``.
    """
    if min(count, threads) == 1:
        return [call(number, on_items) for number in range(count)]
    stopped = threading.Event()
    running: deque[tuple[queue.SimpleQueue[Sequence[Item] | _End], Future[Done]]] = deque()
    done: list[Done] = []

    def run(number: int, emitted: queue.SimpleQueue[Sequence[Item] | _End]) -> Done:
        def emit(items: Sequence[Item]) -> None:
            if stopped.is_set():
                raise _StoppedError
            emitted.put(items)

        try:
            return call(number, emit)
        finally:
            emitted.put(_END)

    with ThreadPoolExecutor(threads) as pool:
        try:
            # a call starts only when an earlier one is finished with: the items of those that wait are held in memory
            for number in range(count + threads):
                if number < count:
                    emitted: queue.SimpleQueue[Sequence[Item] | _End] = queue.SimpleQueue()
                    running.append((emitted, pool.submit(run, number, emitted)))
                if number + 1 >= threads and running:
                    emitted, future = running.popleft()
                    while not isinstance(items := emitted.get(), _End):
                        on_items(items)
                    done.append(future.result())
        finally:
            stopped.set()
            for _, future in running:
                future.cancel()
    return done


class _End:
    """Marks the end of a queue of emitted items."""


_END = _End()


class _StoppedError(Exception):
    """Raised by ``emit`` after another call has failed."""
