"""``scoring doctor``: examines everything that a job needs, with a list of checks."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import redis

from producers.operations.checks.channels import check_channels
from producers.operations.checks.examined import PROBE_SECONDS, START_REDIS, Examined
from producers.operations.checks.finding import Finding, error
from producers.operations.checks.queues import check_queues
from producers.operations.checks.redis_server import check_redis
from producers.operations.checks.releases import check_aliases, check_libraries
from producers.operations.checks.schedule import check_schedule
from producers.operations.checks.serving import check_serving
from producers.operations.checks.storage import check_bucket, check_disks, check_stack
from producers.operations.checks.variables import check_variables
from producers.operations.checks.webhook import check_webhook
from producers.operations.checks.workers import (
    check_differences,
    check_heartbeats,
    check_killers,
    check_left_out_definitions,
    check_upkeep,
)
from shared.errors import ScoringError
from shared.settings import Settings

Check = Callable[[Examined], Iterator[Finding]]


@dataclass(frozen=True, kw_only=True)
class Group:
    """Checks with a common dependency: an error of it becomes a finding and ends only this group."""

    checks: list[Check]
    is_possible: Callable[[Examined], bool] = lambda _: True
    errors: tuple[type[Exception], ...] = ()
    finding: Callable[[Examined, Exception], Finding] = lambda _, reason: error("doctor", str(reason), "")

    def examine(self, examined: Examined) -> Iterator[Finding]:
        """Yields the findings of the checks in order."""
        if not self.is_possible(examined):
            return
        try:
            for check in self.checks:
                yield from check(examined)
        except self.errors as reason:
            yield self.finding(examined, reason)


GROUPS = [
    Group(checks=[check_variables, check_redis]),
    Group(
        checks=[check_bucket, check_stack, check_schedule, check_channels],
        errors=(ScoringError, OSError),
        finding=lambda examined, reason: error(
            "bucket", f"{examined.settings.bucket_url}: {reason}", "Check BUCKET_URL and its credentials."
        ),
    ),
    Group(checks=[check_disks]),
    Group(
        checks=[check_queues, check_differences, check_left_out_definitions, check_killers, check_upkeep, check_heartbeats],
        is_possible=lambda examined: examined.client is not None,
        errors=(redis.RedisError,),
        finding=lambda _, reason: error("Redis", f"it went away meanwhile: {reason}", START_REDIS),
    ),
    Group(checks=[check_webhook]),
    Group(
        checks=[check_libraries, check_aliases, check_serving],
        is_possible=lambda examined: examined.bucket is not None,
        errors=(ScoringError, OSError),
        finding=lambda _, reason: error("releases", f"they cannot be read: {reason}", "Check BUCKET_URL."),
    ),
]


def examine(settings: Settings, *, send_test_notice: bool = False, probe_seconds: float = PROBE_SECONDS) -> Iterator[Finding]:
    """Yields the findings of all checks as they are made."""
    examined = Examined(settings=settings, send_test_notice=send_test_notice, probe_seconds=probe_seconds)
    for group in GROUPS:
        yield from group.examine(examined)
