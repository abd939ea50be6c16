"""Deaths in upkeep, which belongs to no job: the sweep and the daily removal. Each works piece by piece: a job, or a group of files.

    scoring:upkeep:<step>           hash: the piece in hand and the memory of its process; gone once the step ends
    scoring:upkeep:<step>:deaths    hash: piece -> how often it was begun and never ended, and when last

A piece that killed or hung three processes is left out, and the others go on. What died in no piece that is known rests whole.
How long is for the caller to say: the piece may be a bystander of a worker that something else kills, so it is tried again.
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
"""A piece rests for so long at most, and after so long its deaths are forgotten."""
KEPT_SECONDS = 7 * 24 * 3600
WHOLE = ""
"""The piece of a step that is in none of its own."""


class Deaths(Record):
    """How often in a row a piece was begun and never ended."""

    step: str
    piece: Annotated[str, Field(max_length=2000)]
    count: int
    at: Timestamp
    had: Annotated[str, Field(max_length=200)] = ""
    """The memory that the last process had, in words."""


@dataclass(kw_only=True)
class Upkeep:
    """A step of upkeep that was begun."""

    client: redis.Redis
    step: str
    now: datetime
    deaths: dict[str, Deaths] = field(default_factory=dict)
    """What is known of each piece that died lately."""
    rest_for: Callable[[Deaths], timedelta] = lambda _: LEFT_OUT_FOR
    """How long a piece that is left out rests, since its last death."""
    piece: str = WHOLE

    @property
    def left_out(self) -> list[Deaths]:
        """The pieces that are not tried now."""
        return [deaths for deaths in self.deaths.values() if self._is_left_out(deaths)]

    @property
    def rests(self) -> bool:
        """True when the whole step is not tried now."""
        return any(deaths.piece == WHOLE for deaths in self.left_out)

    def may_enter(self, piece: str) -> bool:
        """Say that this piece is in hand from now on, and the one before ended; False for one that is left out."""
        if piece in self.deaths and self._is_left_out(self.deaths[piece]):
            return False
        if self.piece != WHOLE:
            self.forget(self.piece)
        self.piece = piece
        with contextlib.suppress(redis.RedisError):
            self.client.hset(_key(self.step), "piece", piece)
        return True

    def _is_left_out(self, deaths: Deaths) -> bool:
        return deaths.count >= MAX_DEATHS and self.now - deaths.at < self.rest_for(deaths)

    def leave(self) -> None:
        """Say that the piece in hand ended, and the step does something that is in none."""
        if self.piece != WHOLE:
            self.may_enter(WHOLE)

    def end(self) -> None:
        """Say that the step ended, well or with an error; nothing ends of one that rests."""
        if self.rests:
            return
        with contextlib.suppress(redis.RedisError):
            self.client.delete(_key(self.step))
        self.forget(self.piece)
        self.forget(WHOLE)

    def forget(self, piece: str) -> None:
        """Forget the deaths of a piece: it ended well, or they are counted elsewhere."""
        if piece in self.deaths:
            del self.deaths[piece]
            with contextlib.suppress(redis.RedisError):
                self.client.hdel(_deaths_key(self.step), piece)


def begin(
    client: redis.Redis, step: str, now: datetime, had: str, rest_for: Callable[[Deaths], timedelta] = lambda _: LEFT_OUT_FOR
) -> Upkeep:
    """Count that a step begins, and the death of the one before if it never ended; only one process at a time may.

    ``rest_for`` says how long what is left out is not tried after its last death: a piece, or the whole step.

    Raises:
        redis.RedisError: Redis cannot be asked.
    """
    upkeep = Upkeep(client=client, step=step, now=now, rest_for=rest_for)
    for deaths in _read(client, step):
        if timedelta(0) <= now - deaths.at < (rest_for(deaths) if deaths.piece == WHOLE else LEFT_OUT_FOR):
            upkeep.deaths[deaths.piece] = deaths
        else:
            client.hdel(_deaths_key(step), deaths.piece)
    in_hand, its_memory = client.hmget(_key(step), "piece", "had")
    if in_hand is not None:
        _count(upkeep, _text(in_hand)[:2000], _text(its_memory)[:200])
    if upkeep.rests:
        client.delete(_key(step))
        return upkeep
    with client.pipeline(transaction=True) as pipe:
        pipe.hset(_key(step), mapping={"piece": WHOLE, "had": had})
        pipe.expire(_key(step), KEPT_SECONDS)
        pipe.execute()
    return upkeep


def _count(upkeep: Upkeep, piece: str, had: str) -> None:
    """Count a death of a piece; what died before in no piece that is known counts as the same."""
    of_whole = upkeep.deaths[WHOLE].count if WHOLE in upkeep.deaths else 0
    if piece != WHOLE:
        upkeep.forget(WHOLE)
    known = upkeep.deaths[piece].count if piece != WHOLE and piece in upkeep.deaths else 0
    deaths = Deaths(step=upkeep.step, piece=piece, count=of_whole + known + 1, at=upkeep.now, had=had)
    upkeep.deaths[piece] = deaths
    with upkeep.client.pipeline(transaction=True) as pipe:
        pipe.hset(_deaths_key(upkeep.step), piece, deaths.to_json())
        pipe.expire(_deaths_key(upkeep.step), KEPT_SECONDS)
        pipe.execute()


def read_left_out(client: redis.Redis, step: str) -> list[Deaths]:
    """The pieces of a step that killed or hung three processes, the last of them first; raises redis.RedisError."""
    found = [deaths for deaths in _read(client, step) if deaths.count >= MAX_DEATHS]
    return sorted(found, key=lambda deaths: deaths.at, reverse=True)


def _read(client: redis.Redis, step: str) -> Iterator[Deaths]:
    for text in client.hvals(_deaths_key(step)):
        with contextlib.suppress(MessageError):  # of another version
            yield decode(Deaths, text)


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else ""


def _key(step: str) -> str:
    return f"scoring:upkeep:{step}"


def _deaths_key(step: str) -> str:
    return f"scoring:upkeep:{step}:deaths"
