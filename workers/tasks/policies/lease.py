"""The lease of a step: one process at a time works on it."""

from collections.abc import Callable

import structlog

from shared.queue.state.leases import leased
from workers.recovery.sweep import lease_name
from workers.tasks import context
from workers.tasks.step import StepRun

log = structlog.get_logger()


def run_leased(run: StepRun, work: Callable[[StepRun], None]) -> None:
    """Does the work under the lease of the step, repeated while the step asks for it; does nothing if another process holds the lease.

    If the other process dies, the sweep sends the step again.
    """
    while True:
        with leased(context.redis_client(), lease_name(run.name, run.message)) as is_ours:
            if not is_ours:
                log.info("left to another process", task=run.name)
                return
            work(run)
        # a message that arrived after the work was done, but before the lease was released, was dropped as taken
        if not run.step.repeat_while(run.folder):
            return
