"""The policy of steps that belong to no job: one process at a time, crashes counted; an unreachable Redis skips one run."""

from collections.abc import Callable

import redis
import structlog

from shared.queue.state.leases import leased
from shared.queue.state.maintenance_crashes import Maintenance
from workers.recovery.maintenance import counted_maintenance
from workers.tasks import context

log = structlog.get_logger()


def run_maintenance(
    step: str,
    work: Callable[[Maintenance], None],
    *,
    missed: str,
    missed_on: tuple[type[Exception], ...] = (redis.RedisError,),
    may_run: Callable[[], bool] = lambda: True,
) -> None:
    """Runs a step of maintenance, unless another process runs it, the step rests after crashes, or ``may_run`` returns False.

    ``missed`` is the log line of a run that ended with an error of ``missed_on``; beat sends the next one.
    """
    with leased(context.redis_client(), step) as is_ours:
        if not is_ours or not may_run():
            return
        try:
            with counted_maintenance(context.redis_client(), context.bucket(), step) as maintenance:
                if not maintenance.is_paused:
                    work(maintenance)
        except missed_on as error:
            log.warning(missed, error=str(error))
