"""Which test files run in the same process and which begin first, when several processes share the tests (``--dist loadfile``)."""

import re
from functools import cache
from pathlib import Path

import pytest
from xdist.scheduler.loadfile import LoadFileScheduling

REPOSITORY = Path(__file__).resolve().parents[1]
ASKS_FOR_THE_STACK = re.compile(r"^def \w+\([^)]*\b(stack: Place|trained)\b", re.MULTILINE)
HAS_ITS_OWN = re.compile(r"^def trained\(", re.MULTILINE)
LONGEST = (
    "tests/acceptance/faults/test_faults.py",
    "the shared stack of integration",
    "the shared stack of acceptance",
    "tests/integration/test_refusing_redis.py",
    "tests/acceptance/test_scheduled_minutes.py",
    "tests/acceptance/test_up.py",
    "tests/integration/test_health.py",
)
"""What would end alone if it began late: it takes minutes, or waits for most of its time."""


class SharedStackScheduling(LoadFileScheduling):
    """Gives each process whole files, and to one process all files of a folder that use the shared stack."""

    def _split_scope(self, nodeid: str) -> str:
        return _scope_of(nodeid.split("::", 1)[0])


def sort_longest_first(items: list[pytest.Item]) -> None:
    """Sort tests so that the longest scopes are given out first; the order within a scope stays."""
    places = {scope: place for place, scope in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(_scope_of(item.nodeid.split("::", 1)[0]), len(LONGEST)))


@cache
def _scope_of(file: str) -> str:
    text = (REPOSITORY / file).read_text()
    if ASKS_FOR_THE_STACK.search(text) and not HAS_ITS_OWN.search(text):
        return f"the shared stack of {Path(file).parts[1]}"
    return file
