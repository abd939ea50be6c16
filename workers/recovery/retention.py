"""Runs one step of the daily retention round in a worker, which takes a few seconds of one process."""

import hashlib
from datetime import datetime

import structlog

from shared.bucket.interface import Bucket
from shared.errors import PermanentError, TransientError
from shared.jobs.messages import Notice
from shared.jobs.outbox import announce
from shared.retention import round as daily
from shared.retention.config import read_retention

STEP_SECONDS = 5.0
"""The control queue also plans and finishes jobs, so a step occupies one of its processes no longer."""

log = structlog.get_logger()


def make_step(bucket: Bucket, now: datetime, may_enter: daily.MayEnter = lambda _: True) -> None:
    """Continues the round, if there is something to do; with invalid rules it removes nothing and announces a notice.

    ``now`` comes from one clock for all workers: with its own clock, a worker that is a day ahead would remove what was just marked.
    """
    try:
        progress = daily.make_step(bucket, read_retention(bucket), now, STEP_SECONDS, may_enter)
    except PermanentError as error:
        log.error("nothing is removed", error=str(error))
        digest = hashlib.sha256(error.message.encode()).hexdigest()[:12]
        notice = Notice(good=False, title="nothing old is removed", facts={"reason": error.message}, next_step=error.next_step)
        announce(bucket, f"retention-problem-{digest}", notice)
    except TransientError as error:
        log.warning("step of removal not finished, the next one is due soon", error=str(error))
    else:
        if progress is not None:
            log.info("removal", phase=progress.phase or "over", marked=progress.marked, removed=progress.removed)
