"""The long form: ``python -m tests.acceptance.faults --runs 200 --seed 1`` plays faults and chaos and prints what came of them."""

import argparse
import collections
import contextlib
import itertools
import random
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from tests.acceptance.faults import decisions, faults
from tests.acceptance.faults.faults import Fault, is_whole
from tests.acceptance.faults.stage import SAMPLE, Ending, Stage, stage
from tests.conftest import wait_until

UNDISTURBED_JOBS = 3
"""Before the faults, to know how long a job takes by itself."""

CHAOS_EVERY = 4
"""Every so many runs several faults are played in one job."""
CHAOS = faults.CHAOS | decisions.CHAOS
OF_HELD = decisions.HELD | decisions.DECIDED | decisions.ON_S3
"""The kinds with a held, approved or rolled back result: half of the runs without chaos."""
FAULTS = faults.FAULTS | CHAOS | OF_HELD


@dataclass(frozen=True, kw_only=True)
class Run:
    """What came of one fault."""

    kind: str
    endings: list[Ending]
    identical: bool
    problems: list[str]
    """What else was promised and did not hold."""
    extra_seconds: float
    """What the job took longer than one that nothing happened to."""

    @property
    def notified_once(self) -> bool:
        return all(ending.notices == 1 for ending in self.endings)

    @property
    def good(self) -> bool:
        return self.identical and self.notified_once and not self.problems


@dataclass(frozen=True, kw_only=True)
class Undisturbed:
    """What a job comes to when nothing happens."""

    text: bytes
    seconds: float
    model: bytes
    """What a training comes to."""

    def expected(self, fault: Fault, ending: Ending, playing: Stage) -> bytes:
        """What a job must come to in spite of a fault; nothing where it has to fail."""
        if fault.verdict:
            return b""
        return self.model if fault.is_training else playing.texts[ending.table]


def undisturbed(playing: Stage, jobs: int = UNDISTURBED_JOBS) -> Undisturbed:
    text = playing.prepare()
    model = playing.end_of(playing.enqueue_training()).text
    seconds = statistics.median(playing.end_of(playing.enqueue()).seconds for _ in range(jobs))
    return Undisturbed(text=text, seconds=seconds, model=model)


def play(playing: Stage, kind: str, before: Undisturbed, chance: random.Random) -> Run:
    """One job, or two at once, with one kind of fault, and what came of it."""
    problems: list[str] = []
    endings: list[Ending] = []
    try:
        playing.disarm()
        endings = _endings(playing, FAULTS[kind], chance, problems)
    except (pytest.fail.Exception, AssertionError) as error:
        problems.append(str(error))
        playing.let_all_end()  # what went wrong here must not be found in the runs after it
    return Run(
        kind=kind,
        endings=endings,
        identical=bool(endings) and all(ending.text == before.expected(FAULTS[kind], ending, playing) for ending in endings),
        problems=problems,
        extra_seconds=max((ending.seconds for ending in endings), default=0.0) - before.seconds,
    )


def _endings(playing: Stage, fault: Fault, chance: random.Random, problems: list[str]) -> list[Ending]:
    if fault.scene is not None:
        return fault.scene(playing, chance, problems)
    base = playing.channel().job_id
    fault.before(playing, chance)
    twice = playing.saying("twice") if fault.every_message_twice else contextlib.nullcontext()
    with twice:
        # requests that differ in nothing are one job
        jobs = [_enqueue(playing, fault, number) for number in range(fault.jobs)]
        fault.deed(playing, jobs[0], chance)
        endings = [playing.end_of(job_id) for job_id in jobs]
        playing.disarm()
    wait_until(lambda: is_whole(playing), 90, "both workers consuming again")
    problems += playing.problems(jobs, fault.verdict)
    if fault.table != SAMPLE:
        playing.clear_channel(base)
    return endings


def _enqueue(playing: Stage, fault: Fault, number: int) -> str:
    if fault.is_training:
        return playing.enqueue_training()
    return playing.enqueue(fault.table, fewer=number, twice=fault.every_message_twice, held=fault.table != SAMPLE)


def print_table(console: Console, runs: list[Run]) -> None:
    by_kind = collections.defaultdict(list)
    for run in runs:
        by_kind[run.kind].append(run)
    table = Table("fault", "runs", "identical", "one notice", "clean", "extra seconds, median", "extra seconds, most", box=None)
    for kind, found in sorted(by_kind.items()):
        seconds = [run.extra_seconds for run in found]
        table.add_row(
            kind,
            str(len(found)),
            str(sum(run.identical for run in found)),
            str(sum(run.notified_once for run in found)),
            str(sum(not run.problems for run in found)),
            f"{statistics.median(seconds):.1f}",
            f"{max(seconds):.1f}",
        )
    console.print(table)
    good = sum(run.good for run in runs)
    console.print(f"{good} of {len(runs)} runs: identical result, one notice, no remains, nobody lost")


def order_of(runs: int, only: str, chance: random.Random) -> list[str]:
    """The kinds to play: chaos, those with held results and the others in turn, each kind as often as the next, one stage at a time."""
    wild, of_held, others = (
        [kind for kind in FAULTS if only in kind and (kind in CHAOS, kind in OF_HELD) == wanted]
        for wanted in ((True, False), (False, True), (False, False))
    )
    for kinds in (of_held, others):
        chance.shuffle(kinds)
    plain = itertools.cycle([kind for pair in zip(*_as_long(of_held, others), strict=True) for kind in pair])
    turns = [
        wild[number // CHAOS_EVERY % len(wild)] if wild and (number % CHAOS_EVERY == 0 or not (of_held or others)) else next(plain)
        for number in range(runs)
    ]
    chance.shuffle(turns)
    return sorted(turns, key=lambda kind: [*STAGES].index(stage_name(kind)))


def _as_long(*lists: list[str]) -> list[list[str]]:
    """Each list repeated until it is as long as the longest; empty ones are left out."""
    most = max(map(len, lists))
    return [list(itertools.islice(itertools.cycle(kinds), most)) for kinds in lists if kinds]


LITTLE_MEMORY = 1 << 30
"""Bytes for all processes of a worker together."""

STAGES: dict[str, dict[str, Any]] = {
    "disk": {},
    "s3": {"on_s3": True},
    "stacks": {"two_stacks": True},
    "memory": {"memory": LITTLE_MEMORY},
}
"""What the stages differ in, in the order in which they are played; the kinds of one begin with its name, but for those of the first."""


def stage_name(kind: str) -> str:
    """The stage that a kind is played on."""
    return next((name for name in STAGES if kind.startswith(f"{name}: ")), "disk")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.faults", description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=1, help="Go on from this run of the seed.")
    parser.add_argument("--only", default="", help="Play only the kinds that contain this.")
    parser.add_argument("--stage", choices=STAGES, help="Play only the runs of this stage; others may play the rest at the same time.")
    parser.add_argument("--keep", type=Path, help="Folder that keeps logs and jobs; it must not exist.")
    options = parser.parse_args()
    console = Console(width=160)
    console.print(f"{options.runs} runs, seed {options.seed}")
    order = list(enumerate(order_of(options.runs, options.only, random.Random(options.seed)), 1))
    runs: list[Run] = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        root = options.keep or Path(temporary)
        for name, differs in STAGES.items():
            turns = [(number, kind) for number, kind in order if stage_name(kind) == name and number >= options.first]
            if not turns or options.stage not in (None, name):
                continue
            (root / name).mkdir(parents=True)
            with stage(root / name, **differs) as playing:
                before = undisturbed(playing)
                console.print(f"an undisturbed job, stage {name}: {before.seconds:.1f} s", highlight=False)
                for number, kind in turns:
                    run = play(playing, kind, before, random.Random(f"{options.seed} {number} {kind}"))
                    runs.append(run)
                    verdict = "ok" if run.good else f"BAD {[(end.state, end.notices) for end in run.endings]} {run.problems}"
                    console.print(
                        f"{number:4} {kind:76} {run.extra_seconds:+6.1f} s  {verdict}", highlight=False, markup=False, soft_wrap=True
                    )
                if playing.watcher is not None:
                    console.print(f"the channel of stage {name} was read {playing.watcher.reads:,} times", highlight=False)
    print_table(console, runs)
    console.print(f"{time.monotonic() - began:.0f} s")
    return 0 if all(run.good for run in runs) else 1


if __name__ == "__main__":
    sys.exit(main())
