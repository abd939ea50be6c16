"""The pause of a webhook that did not accept a notice."""

import contextlib

import redis

from shared.errors import TransientError

REST_SECONDS = 10
"""Pause after a failed try, in seconds."""
LONGEST_REST_SECONDS = 60
"""Maximum pause, whatever Retry-After says, because people wait for the notice."""

REST = "scoring:webhook:rest"


class NoticeError(TransientError):
    """Raised when the webhook did not accept the notice, which is tried again a few times."""

    def __init__(self, message: str, *, may_have_arrived: bool = False, rest_seconds: float = REST_SECONDS) -> None:
        super().__init__(message)
        self.may_have_arrived = may_have_arrived
        """False if the notice certainly reached nobody: it was refused, or nothing was sent."""
        self.rest_seconds = rest_seconds


def rest_seconds(retry_after: str | None) -> float:
    """Returns how many seconds the webhook rests after an answer with this header; values other than a number of seconds are ignored."""
    if retry_after is None or not retry_after.isascii() or not retry_after.isdigit() or len(retry_after) > 9:
        return REST_SECONDS
    return min(max(int(retry_after), 1), LONGEST_REST_SECONDS)


def rest(client: redis.Redis, seconds: float) -> None:
    """Keeps all processes from the webhook for ``seconds``; does nothing if Redis is unreachable."""
    with contextlib.suppress(redis.RedisError):
        client.set(REST, b"", px=int(seconds * 1000))


def rests(client: redis.Redis) -> bool:
    """Returns True while the webhook rests."""
    try:
        return bool(client.exists(REST))
    except redis.RedisError:
        return False
