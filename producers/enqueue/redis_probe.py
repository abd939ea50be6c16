"""Asks Redis for a sign of life before a message is sent: what answers nothing, or not as Redis does, is named within seconds."""

import redis
from kombu.utils.url import maybe_sanitize_url
from redis.backoff import NoBackoff
from redis.retry import Retry

from shared.errors import BrokerError

CONNECT_SECONDS, ANSWER_SECONDS = 2, 5
"""A Redis under load answers within a second; a port that belongs to something else may never do."""


def check_redis(url: str) -> None:
    """Raise BrokerError when what listens at this address does not answer as Redis does.

    A refusal, such as of a user who may not ask this, is an answer; and whether anybody listens at all is found out by who sends.
    """
    client = redis.Redis.from_url(
        url, socket_connect_timeout=CONNECT_SECONDS, socket_timeout=ANSWER_SECONDS, retry=Retry(NoBackoff(), 0), retry_on_timeout=False
    )
    where = maybe_sanitize_url(url)
    try:
        client.ping()
    except (redis.TimeoutError, redis.InvalidResponse) as error:
        how = f"answers nothing within {ANSWER_SECONDS} s" if isinstance(error, redis.TimeoutError) else f"answers otherwise: {error}"
        raise BrokerError(
            f"what listens at {where} is no Redis, or one that hangs: it {how}",
            next_step="Check the port in REDIS_URL or SCORING_REDIS_PORT (for a local stack: scoring up).",
        ) from error
    except redis.RedisError:
        return
    finally:
        client.close()
