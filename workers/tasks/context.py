"""The singletons of a worker process: its settings, bucket, connection and stack."""

import functools
from collections.abc import Callable

import redis

from model_store.library import ModelLibrary
from shared.bucket.interface import Bucket
from shared.bucket.opening import open_bucket
from shared.queue.client import connect_to_redis
from shared.queue.state.stacks import OwnStack
from shared.settings import Settings, read_settings
from workers.notices.notifier import Notifier, choose_notifier

# created on first use, because connections do not survive a fork
settings: Callable[[], Settings] = functools.cache(read_settings)


@functools.cache
def bucket() -> Bucket:
    """Returns the bucket of this process."""
    return open_bucket(settings().bucket_url, settings().signer)


@functools.cache
def redis_client() -> redis.Redis:
    """Returns the connection of this process for hints and leases; messages use their own."""
    return connect_to_redis(settings().broker_url)


@functools.cache
def stack() -> OwnStack:
    """Returns the stack of this process."""
    return OwnStack(bucket(), redis_client(), settings().cluster)


def notifier() -> Notifier | None:
    """Returns the notifier of the settings; None without a webhook."""
    return choose_notifier(settings().webhook_url.get_secret_value(), settings().webhook_format)


def library() -> ModelLibrary:
    """Returns the releases and definitions of this process."""
    return ModelLibrary(bucket(), settings().home / "releases", settings().definitions)
