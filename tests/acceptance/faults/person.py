"""A command of a person that dies in the middle: ``python -m tests.acceptance.faults.person WRITES results approve JOB --reason TEXT``.

After so many writes into the bucket the process is killed, before the next one or with half of a file written; -1 kills it never.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

from shared.bucket.local import LocalBucket
from shared.bucket.remote import RemoteBucket


class Life:
    """The writes that are left to a process."""

    def __init__(self, writes: int) -> None:
        self._left = writes

    def spend(self) -> None:
        """Ends the process when nothing is left."""
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self._left -= 1


def mortal(kind: Any, life: Life) -> None:
    """Lets each write of a kind of bucket take one of the process's writes; a file that is written takes two, one of them in the middle."""
    real_writer = kind.writer

    @contextlib.contextmanager
    def writer(self: Any, path: str, *, durable: bool = False) -> Iterator[Any]:
        life.spend()
        with real_writer(self, path, durable=durable) as out:
            yield out
            out.flush()
            life.spend()

    kind.writer = writer
    for name in ("create", "copy", "delete"):
        setattr(kind, name, _after(life, getattr(kind, name)))


def _after(life: Life, real: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(*arguments: Any, **options: Any) -> Any:
        life.spend()
        return real(*arguments, **options)

    return wrapped


def main() -> None:
    life = Life(int(sys.argv[1]))
    for kind in (LocalBucket, RemoteBucket):
        mortal(kind, life)
    sys.argv = ["scoring", *sys.argv[2:]]
    from producers.cli.root import main as run

    run()


if __name__ == "__main__":
    main()
