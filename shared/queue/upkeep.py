"""Deaths in upkeep, which belongs to no job: the sweep and the daily removal. Each works in pieces: a job, or a group of files.

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

MAX_DEATHS = 3
LEFT_OUT_FOR = timedelta(days=1)
"""The longest pause of a piece, and the time after which its crashes are forgotten."""
KEPT_SECONDS = 7 * 24 * 3600
OUTSIDE_PIECES = ""
"""The name for the work of a step that belongs to no piece."""


class Deaths(Record):
    """The number of consecutive starts of a piece without an end."""

    step: str
    piece: Annotated[str, Field(max_length=2000)]
    count: int
    at: Timestamp
    had: Annotated[str, Field(max_length=200)] = ""
    """The memory of the last process, in words."""


@dataclass(kw_only=True)
class Upkeep:
    """A running step of upkeep."""

    client: redis.Redis
    step: str
    now: datetime
    deaths: dict[str, Deaths] = field(default_factory=dict)
    """The recent deaths of each piece."""
    pause_after: Callable[[Deaths], timedelta] = lambda _: LEFT_OUT_FOR
    """How long a piece is left out after its last crash."""
    piece: str = OUTSIDE_PIECES

    @property
    def left_out(self) -> list[Deaths]:
        """The pieces that are skipped now."""
        return [deaths for deaths in self.deaths.values() if self._is_left_out(deaths)]

    @property
    def is_paused(self) -> bool:
        """True when the whole step is skipped now."""
        return any(deaths.piece == OUTSIDE_PIECES for deaths in self.left_out)

    def may_enter(self, piece: str) -> bool:
        """Start a piece, which ends the one before; False when the piece is left out."""
        if piece in self.deaths and self._is_left_out(self.deaths[piece]):
            return False
        if self.piece != OUTSIDE_PIECES:
            self.forget(self.piece)
        self.piece = piece
        with contextlib.suppress(redis.RedisError):
            self.client.hset(_key(self.step), "piece", piece)
        return True

    def _is_left_out(self, deaths: Deaths) -> bool:
        return deaths.count >= MAX_DEATHS and self.now - deaths.at < self.pause_after(deaths)

    def leave(self) -> None:
        """End the current piece; the step continues outside its pieces."""
        if self.piece != OUTSIDE_PIECES:
            self.may_enter(OUTSIDE_PIECES)

    def end(self) -> None:
        """End the step, successful or not; does nothing while the step is paused."""
        if self.is_paused:
            return
        with contextlib.suppress(redis.RedisError):
            self.client.delete(_key(self.step))
        self.forget(self.piece)
        self.forget(OUTSIDE_PIECES)

    def forget(self, piece: str) -> None:
        """Forget the deaths of a piece, because it ended or because they are counted elsewhere."""
        if piece in self.deaths:
            del self.deaths[piece]
            with contextlib.suppress(redis.RedisError):
                self.client.hdel(_deaths_key(self.step), piece)


def begin(
    client: redis.Redis, step: str, now: datetime, memory: str, pause_after: Callable[[Deaths], timedelta] = lambda _: LEFT_OUT_FOR
) -> Upkeep:
    """Starts a step, and counts a crash if the run before never ended. Only one process may run a step at a time.

    ``memory`` is that of this process, in words; ``pause_after`` gives the pause after the last crash, of a piece or of the whole step.

    Raises:
        redis.RedisError: Redis is unavailable.
    """
    upkeep = Upkeep(client=client, step=step, now=now, pause_after=pause_after)
    _load_crashes(upkeep)
    _count_unfinished_run(upkeep)
    if upkeep.is_paused:
        client.delete(_key(step))
    else:
        _record_start(upkeep, memory)
    return upkeep


def _load_crashes(upkeep: Upkeep) -> None:
    """Reads the recent crashes of each piece, and removes the older ones."""
    for deaths in _read(upkeep.client, upkeep.step):
        kept_for = upkeep.pause_after(deaths) if deaths.piece == OUTSIDE_PIECES else LEFT_OUT_FOR
        if timedelta(0) <= upkeep.now - deaths.at < kept_for:
            upkeep.deaths[deaths.piece] = deaths
        else:
            upkeep.client.hdel(_deaths_key(upkeep.step), deaths.piece)


def _count_unfinished_run(upkeep: Upkeep) -> None:
    """Counts a crash if the run before never ended."""
    interrupted_piece, interrupted_memory = upkeep.client.hmget(_key(upkeep.step), "piece", "had")
    if interrupted_piece is not None:
        _count_crash(upkeep, _decoded(interrupted_piece)[:2000], _decoded(interrupted_memory)[:200])


def _record_start(upkeep: Upkeep, memory: str) -> None:
    """Records that this run has started, outside its pieces."""
    with upkeep.client.pipeline(transaction=True) as pipe:
        pipe.hset(_key(upkeep.step), mapping={"piece": OUTSIDE_PIECES, "had": memory})
        pipe.expire(_key(upkeep.step), KEPT_SECONDS)
        pipe.execute()


def _count_crash(upkeep: Upkeep, piece: str, memory: str) -> None:
    """Counts a crash of a piece. Earlier crashes outside any known piece are attributed to it."""
    step_crashes = upkeep.deaths[OUTSIDE_PIECES].count if OUTSIDE_PIECES in upkeep.deaths else 0
    if piece != OUTSIDE_PIECES:
        upkeep.forget(OUTSIDE_PIECES)
    piece_crashes = upkeep.deaths[piece].count if piece != OUTSIDE_PIECES and piece in upkeep.deaths else 0
    deaths = Deaths(step=upkeep.step, piece=piece, count=step_crashes + piece_crashes + 1, at=upkeep.now, had=memory)
    upkeep.deaths[piece] = deaths
    with upkeep.client.pipeline(transaction=True) as pipe:
        pipe.hset(_deaths_key(upkeep.step), piece, deaths.to_json())
        pipe.expire(_deaths_key(upkeep.step), KEPT_SECONDS)
        pipe.execute()


def read_left_out(client: redis.Redis, step: str) -> list[Deaths]:
    """The pieces of a step that killed or hung three processes, the latest first; raises redis.RedisError."""
    found = [deaths for deaths in _read(client, step) if deaths.count >= MAX_DEATHS]
    return sorted(found, key=lambda deaths: deaths.at, reverse=True)


def _read(client: redis.Redis, step: str) -> Iterator[Deaths]:
    for text in client.hvals(_deaths_key(step)):
        with contextlib.suppress(MessageError):  # written by another version
            yield decode(Deaths, text)


def _decoded(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else ""


def _key(step: str) -> str:
    return f"scoring:upkeep:{step}"


def _deaths_key(step: str) -> str:
    return f"scoring:upkeep:{step}:deaths"
