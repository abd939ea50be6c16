"""Records for ``scoring doctor`` which releases crashed the process that loaded them."""

import contextlib
from datetime import UTC, datetime

import redis

from shared.jobs.folder import JobFolder
from shared.queue.state import crashing_releases
from workers.tasks import context


def record_crashing_release(release: str, folder: JobFolder, what: str) -> None:
    """Records that a release killed its loader in this job."""
    killer = crashing_releases.CrashingRelease(release=release, at=datetime.now(UTC), job_id=folder.job_id, what=what[:500])
    with contextlib.suppress(redis.RedisError):
        crashing_releases.record_crashing_release(context.redis_client(), killer)


def forget_crashing_release(release: str) -> None:
    """Removes the record of a release that can be loaded again, for example after a correction of its definition."""
    with contextlib.suppress(redis.RedisError):
        crashing_releases.forget_crashing_release(context.redis_client(), release)
