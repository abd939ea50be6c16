"""Days of small jobs with gc: what the bucket and Redis hold stays as it is. The thousand days of the documentation in short."""

import os
from datetime import timedelta

import pytest
import structlog

from shared.retention.config import Retention, parse_retention
from tests.acceptance.lasting import growing, replay

SHORT = b"""
jobs: {parts: 1d, done: 2d, failed: 3d}
revisions: {keep_last: 1}
notices: 2d
results: 3d
"""


@pytest.fixture(autouse=True)
def _as_it_was():
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ |= before
    structlog.reset_defaults()


def test_what_days_of_jobs_leave_stays_the_same_with_gc(tmp_path):
    from workers.tasks import context

    for cached in (context.settings, context.bucket, context.redis_client):
        cached.cache_clear()
    rules: Retention = parse_retention(SHORT).model_copy(update={"records": timedelta(days=5)})
    samples = replay(tmp_path, 16, 1, rules, release_days=1)
    for cached in (context.settings, context.bucket, context.redis_client):
        cached.cache_clear()
    assert [measure for measure in growing(samples) if not measure.startswith(("sweep_seconds", "gc_seconds"))] == []
    assert samples[-1].inodes < 2 * samples[4].inodes
