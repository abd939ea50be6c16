"""Crashes in maintenance, which belongs to no job: the sweep and the daily removal. Each works in pieces: a job, or a group of files.

    scoring:upkeep:<step>           hash: the current piece and the memory of its process; deleted when the step ends
    scoring:upkeep:<step>:deaths    hash: piece -> the number of starts without an end, and the time of the last

A piece that killed or hung three processes is left out, and the others continue. When a step dies outside any known piece, the
whole step pauses. The caller sets the duration: a piece may be innocent (something else kills the worker), so it is tried again.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated

import redis
from pydantic import Field

from shared.errors import MessageError
from shared.records import Record, Timestamp, decode

MAX_CRASHES = 3
LEFT_OUT_FOR = timedelta(days=1)
"""The longest pause of a piece, and the time after which its crashes are forgotten."""
KEPT_SECONDS = 7 * 24 * 3600
OUTSIDE_PIECES = ""
"""The name for the work of a step that belongs to no piece."""


class Crashes(Record):
    """The number of consecutive starts of a piece without an end."""

    step: str
    piece: Annotated[str, Field(max_length=2000)]
    count: int
    at: Timestamp
    had: Annotated[str, Field(max_length=200)] = ""
    """The memory of the last process, in words."""


@dataclass(kw_only=True)
class Maintenance:
    """A running step of maintenance."""

    client: redis.Redis
    step: str
    now: datetime
    crashes: dict[str, Crashes] = field(default_factory=dict)
    """The recent crashes of each piece."""
    pause_after: Callable[[Crashes], timedelta] = lambda _: LEFT_OUT_FOR
    """How long a piece is left out after its last crash."""
    piece: str = OUTSIDE_PIECES

    @property
    def left_out(self) -> list[Crashes]:
        """The pieces that are skipped now."""
        return [crashes for crashes in self.crashes.values() if self._is_left_out(crashes)]

    @property
    def is_paused(self) -> bool:
        """True when the whole step is skipped now."""
        return any(crashes.piece == OUTSIDE_PIECES for crashes in self.left_out)

    def may_enter(self, piece: str) -> bool:
        """Starts a piece, which ends the one before; False when the piece is left out."""
        if piece in self.crashes and self._is_left_out(self.crashes[piece]):
            return False
        if self.piece != OUTSIDE_PIECES:
            self.forget(self.piece)
        self.piece = piece
        with contextlib.suppress(redis.RedisError):
            self.client.hset(_key(self.step), "piece", piece)
        return True

    def _is_left_out(self, crashes: Crashes) -> bool:
        return crashes.count >= MAX_CRASHES and self.now - crashes.at < self.pause_after(crashes)

    def leave(self) -> None:
        """Ends the current piece; the step continues outside its pieces."""
        if self.piece != OUTSIDE_PIECES:
            self.may_enter(OUTSIDE_PIECES)

    def end(self) -> None:
        """Ends the step, successful or not; does nothing while the step is paused."""
        if self.is_paused:
            return
        with contextlib.suppress(redis.RedisError):
            self.client.delete(_key(self.step))
        self.forget(self.piece)
        self.forget(OUTSIDE_PIECES)

    def forget(self, piece: str) -> None:
        """Forgets the crashes of a piece, because it ended or because they are counted elsewhere."""
        if piece in self.crashes:
            del self.crashes[piece]
            with contextlib.suppress(redis.RedisError):
                self.client.hdel(_crashes_key(self.step), piece)


def begin(
    client: redis.Redis, step: str, now: datetime, memory: str, pause_after: Callable[[Crashes], timedelta] = lambda _: LEFT_OUT_FOR
) -> Maintenance:
    """Starts a step, and counts a crash if the run before never ended. Only one process may run a step at a time.

    ``memory`` is that of this process, in words; ``pause_after`` gives the pause after the last crash, of a piece or of the whole step.

    Raises:
        redis.RedisError: Redis is unavailable.
    """
    maintenance = Maintenance(client=client, step=step, now=now, pause_after=pause_after)
    _load_crashes(maintenance)
    _count_unfinished_run(maintenance)
    if maintenance.is_paused:
        client.delete(_key(step))
    else:
        _record_start(maintenance, memory)
    return maintenance


def _load_crashes(maintenance: Maintenance) -> None:
    """Reads the recent crashes of each piece, and removes the older ones."""
    for crashes in _read(maintenance.client, maintenance.step):
        kept_for = maintenance.pause_after(crashes) if crashes.piece == OUTSIDE_PIECES else LEFT_OUT_FOR
        if timedelta(0) <= maintenance.now - crashes.at < kept_for:
            maintenance.crashes[crashes.piece] = crashes
        else:
            maintenance.client.hdel(_crashes_key(maintenance.step), crashes.piece)


def _count_unfinished_run(maintenance: Maintenance) -> None:
    """Counts a crash if the run before never ended."""
    interrupted_piece, interrupted_memory = maintenance.client.hmget(_key(maintenance.step), "piece", "had")
    if interrupted_piece is not None:
        _count_crash(maintenance, _decoded(interrupted_piece)[:2000], _decoded(interrupted_memory)[:200])


def _record_start(maintenance: Maintenance, memory: str) -> None:
    """Records that this run has started, outside its pieces."""
    with maintenance.client.pipeline(transaction=True) as pipe:
        pipe.hset(_key(maintenance.step), mapping={"piece": OUTSIDE_PIECES, "had": memory})
        pipe.expire(_key(maintenance.step), KEPT_SECONDS)
        pipe.execute()


def _count_crash(maintenance: Maintenance, piece: str, memory: str) -> None:
    """Counts a crash of a piece. Earlier crashes outside any known piece are attributed to it."""
    step_crashes = maintenance.crashes[OUTSIDE_PIECES].count if OUTSIDE_PIECES in maintenance.crashes else 0
    if piece != OUTSIDE_PIECES:
        maintenance.forget(OUTSIDE_PIECES)
    piece_crashes = maintenance.crashes[piece].count if piece != OUTSIDE_PIECES and piece in maintenance.crashes else 0
    crashes = Crashes(step=maintenance.step, piece=piece, count=step_crashes + piece_crashes + 1, at=maintenance.now, had=memory)
    maintenance.crashes[piece] = crashes
    with maintenance.client.pipeline(transaction=True) as pipe:
        pipe.hset(_crashes_key(maintenance.step), piece, crashes.to_json())
        pipe.expire(_crashes_key(maintenance.step), KEPT_SECONDS)
        pipe.execute()


def read_left_out(client: redis.Redis, step: str) -> list[Crashes]:
    """The pieces of a step that killed or hung three processes, the latest first; raises redis.RedisError."""
    found = [crashes for crashes in _read(client, step) if crashes.count >= MAX_CRASHES]
    return sorted(found, key=lambda crashes: crashes.at, reverse=True)


def _read(client: redis.Redis, step: str) -> Iterator[Crashes]:
    for text in client.hvals(_crashes_key(step)):
        with contextlib.suppress(MessageError):  # written by another version
            yield decode(Crashes, text)


def _decoded(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else ""


def _key(step: str) -> str:
    return f"scoring:upkeep:{step}"


def _crashes_key(step: str) -> str:
    return f"scoring:upkeep:{step}:deaths"
