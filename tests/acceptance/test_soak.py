"""The short form of the soak: no process of the stack grows from job to job, and nothing gathers in Redis. The long form is a command."""

import pytest

from tests.acceptance.soak import growths, soak
from tests.conftest import Place

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.server, pytest.mark.timeout(600)]

JOBS = 40


def test_memory_and_keys_stay_flat_over_many_small_jobs(trained: Place) -> None:
    samples = list(soak(trained, JOBS, samples=30))
    if not all(growth.is_flat for growth in growths(samples)):
        # what a process does for the first time is one step; what leaks goes on
        samples = list(soak(trained, JOBS, samples=30))
    assert [growth for growth in growths(samples) if not growth.is_flat] == []
    assert max(sample.keys for sample in samples) <= min(sample.keys for sample in samples) + 5
