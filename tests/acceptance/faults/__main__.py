"""The long form: ``python -m tests.acceptance.faults --runs 200 --seed 1`` plays random faults and prints a table of what came of them."""

import argparse
import collections
import contextlib
import random
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from tests.acceptance.faults.faults import FAULTS, is_over
from tests.acceptance.faults.stage import Ending, Stage, stage
from tests.conftest import wait_until


@dataclass(frozen=True, kw_only=True)
class Run:
    """What came of one fault."""

    kind: str
    ending: Ending
    identical: bool
    recovered: bool
    leftovers: list[str]
    seconds: float

    @property
    def good(self) -> bool:
        return self.identical and self.ending.notices == 1 and self.recovered and not self.leftovers


def play(playing: Stage, kind: str, expected: bytes, chance: random.Random) -> Run:
    """One job with one fault, and what came of it."""
    fault = FAULTS[kind]
    playing.disarm()
    if place := getattr(fault, "place", None):
        playing.arm(place, fault.action)  # type: ignore[attr-defined]
    job_id = playing.enqueue()
    began = time.monotonic()
    fault(playing, job_id, chance)
    ending = playing.end_of(job_id)
    seconds = time.monotonic() - began
    recovered = bool(wait_until(lambda: is_over(playing), 90, f"both workers consuming again after {kind!r}"))
    return Run(
        kind=kind,
        ending=ending,
        identical=ending.state == "done" and ending.text == expected,
        recovered=recovered,
        leftovers=cleared(playing),
        seconds=seconds,
    )


def cleared(playing: Stage) -> list[str]:
    """What a sweep or two did not clear away."""
    with contextlib.suppress(pytest.fail.Exception):
        wait_until(lambda: not playing.leftovers(), 20, "the clearing away")
    return playing.leftovers()


def print_table(console: Console, runs: list[Run]) -> None:
    by_kind = collections.defaultdict(list)
    for run in runs:
        by_kind[run.kind].append(run)
    table = Table("fault", "runs", "identical", "one notice", "clean", "seconds, median", "seconds, most", box=None)
    for kind, found in sorted(by_kind.items()):
        seconds = [run.seconds for run in found]
        table.add_row(
            kind,
            str(len(found)),
            str(sum(run.identical for run in found)),
            str(sum(run.ending.notices == 1 for run in found)),
            str(sum(not run.leftovers for run in found)),
            f"{statistics.median(seconds):.1f}",
            f"{max(seconds):.1f}",
        )
    console.print(table)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.faults", description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help="Play only the kinds that contain this.")
    options = parser.parse_args()
    chance = random.Random(options.seed)
    console = Console(width=140)
    console.print(f"{options.runs} runs, seed {options.seed}")
    runs: list[Run] = []
    kinds = [kind for kind in FAULTS if not options.only or options.only in kind]
    order = [kinds[number % len(kinds)] for number in range(options.runs)]
    chance.shuffle(order)
    with tempfile.TemporaryDirectory() as root, stage(Path(root)) as playing:
        _, expected = playing.prepare()
        for number, kind in enumerate(order, 1):
            run = play(playing, kind, expected, chance)
            runs.append(run)
            verdict = "ok" if run.good else f"BAD {run.ending.state}, {run.ending.notices} notices, {run.leftovers}"
            console.print(f"{number:4} {kind:60} {run.seconds:6.1f} s  {verdict}", highlight=False)
    print_table(console, runs)
    return 0 if all(run.good for run in runs) else 1


if __name__ == "__main__":
    sys.exit(main())
