"""Crashes of maintenance, which belongs to no job: the sweep and the daily removal. Each works in pieces: a job, or a group of files.

    scoring:upkeep:<step>           hash: the current piece and the memory of its process; deleted when the step ends
    scoring:upkeep:<step>:deaths    hash: piece -> the number of starts without an end, and the time of the last

A piece that killed or hung three processes is left out, and the others continue. When a step dies outside any known piece, the
whole step rests. The caller sets the duration: a piece may be innocent (something else kills the worker), so it is tried again.
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
"""The longest rest of a piece, and the time after which its crashes are forgotten."""
KEPT_SECONDS = 7 * 24 * 3600
WHOLE = ""
"""The name for work of a step outside its pieces."""


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
    rest_for: Callable[[Crashes], timedelta] = lambda _: LEFT_OUT_FOR
    """How long a piece that is left out rests after its last crash."""
    piece: str = WHOLE

    @property
    def left_out(self) -> list[Crashes]:
        """The pieces that are skipped now."""
        return [crashes for crashes in self.crashes.values() if self._is_left_out(crashes)]

    @property
    def rests(self) -> bool:
        """True when the whole step is skipped now."""
        return any(crashes.piece == WHOLE for crashes in self.left_out)

    def may_enter(self, piece: str) -> bool:
        """Start a piece, which ends the one before; False when the piece is left out."""
        if piece in self.crashes and self._is_left_out(self.crashes[piece]):
            return False
        if self.piece != WHOLE:
            self.forget(self.piece)
        self.piece = piece
        with contextlib.suppress(redis.RedisError):
            self.client.hset(_key(self.step), "piece", piece)
        return True

    def _is_left_out(self, crashes: Crashes) -> bool:
        return crashes.count >= MAX_CRASHES and self.now - crashes.at < self.rest_for(crashes)

    def leave(self) -> None:
        """End the current piece; the step continues outside its pieces."""
        if self.piece != WHOLE:
            self.may_enter(WHOLE)

    def end(self) -> None:
        """End the step, successful or not; does nothing while the step rests."""
        if self.rests:
            return
        with contextlib.suppress(redis.RedisError):
            self.client.delete(_key(self.step))
        self.forget(self.piece)
        self.forget(WHOLE)

    def forget(self, piece: str) -> None:
        """Forget the crashes of a piece, because it ended or because they are counted elsewhere."""
        if piece in self.crashes:
            del self.crashes[piece]
            with contextlib.suppress(redis.RedisError):
                self.client.hdel(_crashes_key(self.step), piece)


def begin(
    client: redis.Redis, step: str, now: datetime, had: str, rest_for: Callable[[Crashes], timedelta] = lambda _: LEFT_OUT_FOR
) -> Maintenance:
    """Start a step, and count a crash if the one before never ended. Only one process may run a step at a time.

    ``rest_for`` gives the rest after the last crash, of a piece or of the whole step.

    Raises:
        redis.RedisError: Redis is unavailable.
    """
    maintenance = Maintenance(client=client, step=step, now=now, rest_for=rest_for)
    for crashes in _read(client, step):
        if timedelta(0) <= now - crashes.at < (rest_for(crashes) if crashes.piece == WHOLE else LEFT_OUT_FOR):
            maintenance.crashes[crashes.piece] = crashes
        else:
            client.hdel(_crashes_key(step), crashes.piece)
    in_hand, its_memory = client.hmget(_key(step), "piece", "had")
    if in_hand is not None:
        _count(maintenance, _text(in_hand)[:2000], _text(its_memory)[:200])
    if maintenance.rests:
        client.delete(_key(step))
        return maintenance
    with client.pipeline(transaction=True) as pipe:
        pipe.hset(_key(step), mapping={"piece": WHOLE, "had": had})
        pipe.expire(_key(step), KEPT_SECONDS)
        pipe.execute()
    return maintenance


def _count(maintenance: Maintenance, piece: str, had: str) -> None:
    """Count a crash of a piece. Earlier crashes outside any known piece are attributed to it."""
    of_whole = maintenance.crashes[WHOLE].count if WHOLE in maintenance.crashes else 0
    if piece != WHOLE:
        maintenance.forget(WHOLE)
    known = maintenance.crashes[piece].count if piece != WHOLE and piece in maintenance.crashes else 0
    crashes = Crashes(step=maintenance.step, piece=piece, count=of_whole + known + 1, at=maintenance.now, had=had)
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


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else ""


def _key(step: str) -> str:
    return f"scoring:upkeep:{step}"


def _crashes_key(step: str) -> str:
    return f"scoring:upkeep:{step}:deaths"
