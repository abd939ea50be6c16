"""The tasks of maintenance, which belongs to no job: the sweep and the daily removal."""

import celery
import redis
from celery import shared_task

from shared.errors import TransientError
from shared.queue import routes
from shared.queue.state.maintenance_crashes import Maintenance
from workers.recovery import retention
from workers.runtime.expiry import MaintenanceTask
from workers.tasks import context
from workers.tasks.policies.maintenance import run_maintenance
from workers.tasks.sweeping import sweep_once


@shared_task(name=routes.SWEEP, bind=True, base=MaintenanceTask)
def sweep(self: celery.Task) -> None:
    """Sends lost messages again; runs in one process at a time."""
    run_maintenance(
        routes.SWEEP,
        lambda maintenance: sweep_once(self.app, maintenance),
        missed="sweep not finished, the next one is due soon",
        missed_on=(TransientError, redis.RedisError),
    )


@shared_task(name=routes.GC, base=MaintenanceTask)
def gc(*_: object, **__: object) -> None:
    """Runs the next step of the daily retention round; runs in one process at a time."""
    run_maintenance(routes.GC, _remove_old, missed="step of removal not made, the next one is due soon", may_run=_serves_stack)


def _remove_old(maintenance: Maintenance) -> None:
    retention.make_step(context.bucket(), maintenance.now, maintenance.may_enter)


def _serves_stack() -> bool:
    """Returns False if another stack handles retention, based on its knowledge of its own jobs."""
    return context.stack().claim().is_ours
