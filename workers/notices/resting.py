"""How long a webhook is left alone that took no message."""

import contextlib

import redis

from shared.errors import TransientError

REST_SECONDS = 10
"""After a try that failed."""
LONGEST_REST_SECONDS = 60
"""More than this is not granted, whatever Retry-After says: people wait for the notice."""

REST = "scoring:webhook:rest"


class NoticeError(TransientError):
    """Raised when the webhook did not take the notice; it is tried again a few times."""

    def __init__(self, message: str, *, perhaps_told: bool = False, rest_seconds: float = REST_SECONDS) -> None:
        super().__init__(message)
        self.perhaps_told = perhaps_told
        """False when it is certain that nobody read the notice: it was refused, or nothing was sent."""
        self.rest_seconds = rest_seconds


def rest_seconds(retry_after: str | None) -> float:
    """How long the webhook rests after an answer with this header; what is no number of seconds is ignored."""
    if retry_after is None or not retry_after.isascii() or not retry_after.isdigit() or len(retry_after) > 9:
        return REST_SECONDS
    return min(max(int(retry_after), 1), LONGEST_REST_SECONDS)


def rest(client: redis.Redis, seconds: float) -> None:
    """Let no process ask the webhook for so long. Redis being away is no reason to stop."""
    with contextlib.suppress(redis.RedisError):
        client.set(REST, b"", px=int(seconds * 1000))


def rests(client: redis.Redis) -> bool:
    """True while the webhook is left alone."""
    try:
        return bool(client.exists(REST))
    except redis.RedisError:
        return False
