"""Which test files run in the same process, when several processes share the tests (``--dist loadfile``)."""

import re
from functools import cache
from pathlib import Path

from xdist.scheduler.loadfile import LoadFileScheduling

REPOSITORY = Path(__file__).resolve().parents[1]
ASKS_FOR_THE_STACK = re.compile(r"^def \w+\([^)]*\b(stack: Place|trained)\b", re.MULTILINE)
HAS_ITS_OWN = re.compile(r"^def trained\(", re.MULTILINE)


class SharedStackScheduling(LoadFileScheduling):
    """Gives each process whole files, and to one process all files of a folder that use the shared stack."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return f"the shared stack of {Path(file).parts[1]}" if _uses_shared_stack(file) else file


@cache
def _uses_shared_stack(file: str) -> bool:
    text = (REPOSITORY / file).read_text()
    return bool(ASKS_FOR_THE_STACK.search(text)) and not HAS_ITS_OWN.search(text)
