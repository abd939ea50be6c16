"""Runs the ways side by side, in turn, and checks that they all give the same numbers."""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import psutil

from benchmarks import inputs
from benchmarks.bars import OURS, POOL
from benchmarks.lanes import Done, Lane, OtherLane, Task
from benchmarks.measuring import Run, forget_peaks, highest_peaks, read_peaks
from benchmarks.stack import Stack
from benchmarks.ways import OTHERS, check_same, release_memory

WAYS = (OURS, *OTHERS)
TRAINING_ROWS = 20_000
ONE_ROW_JOBS, WARM_UP_JOBS = 40, 5
CLOSE, MORE_TURNS = (OURS, POOL), 4
"""Ways that are compared with a narrow bar run this many more times in each round."""
ALL_FORMATS = ("v1", "v2")
"""Models that are measured with all formats; others with the first."""
SETTLE_SECONDS = 1.0
"""Seconds for work that became due while a way was suspended, before it is measured."""

GUARDED = "live"
"""The channel of the jobs with a guard."""

Say = Callable[[str], None]
AnyWay = TypeVar("AnyWay")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What to measure."""

    rows: int
    rounds: int
    models: Sequence[str]
    formats: Sequence[str]
    ways: Sequence[str]
    processes: int


@contextlib.contextmanager
def running_stack(work: Path | None, processes: int, models: Sequence[str], say: Say) -> Iterator[tuple[Stack, dict[str, str]]]:
    """Starts our stack in a temporary folder, with a release of each model."""
    with tempfile.TemporaryDirectory(prefix="scoring-benchmark-", dir=work) as made:
        root = Path(made).resolve()
        say("starting the stack, training")
        with contextlib.closing(Stack(root, processes)) as stack:
            table = inputs.make_training_table(root / "bucket" / "tables", TRAINING_ROWS)
            yield stack, {model: stack.train(model, table) for model in models}


def compare(stack: Stack, releases: dict[str, str], wanted: Wanted, say: Say) -> list[Run]:
    """Runs all ways on all tables with all models, round after round."""
    say(f"making tables of {wanted.rows:,} rows")
    tables = {name: inputs.make_table(stack.root / "bucket" / "tables", wanted.rows, name) for name in wanted.formats}
    cases = [(model, name) for model in wanted.models for name in (wanted.formats if model in ALL_FORMATS else wanted.formats[:1])]
    runs: list[Run] = []
    with contextlib.ExitStack() as held:
        lanes: dict[str, Lane] = {OURS: stack} if OURS in wanted.ways else {}
        for way in wanted.ways:
            if way != OURS:
                lanes[way] = held.enter_context(contextlib.closing(OtherLane(OTHERS[way], wanted.processes)))

        def tasks(model: str, name: str, count: int) -> Iterator[Task]:
            """Yields ``count`` tasks, each with an empty folder."""
            for number in range(count):
                out = stack.root / f"out-{number}"
                out.mkdir()
                yield Task(bucket=stack.root / "bucket", release=releases[model], table=tables[name], out=out)

        for model, name in cases:
            say(f"warming up, and comparing the results: {model}, {name}")
            done = {way: lane.score(task) for (way, lane), task in zip(lanes.items(), tasks(model, name, len(lanes)), strict=True)}
            _check_all_same(done, f"{model}, {name}")
            _clear(stack.root)
        for turn in range(wanted.rounds):
            for number, (model, name) in enumerate(cases):
                say(f"round {turn + 1} of {wanted.rounds}: {model}, {name}")
                order = turns([*lanes], turn + number)
                for way, task in zip(order, tasks(model, name, len(order)), strict=True):
                    with standing_still(lane for other, lane in lanes.items() if other != way):
                        runs.append(_measure(lanes[way], task, way=way, model=model, format=name, rows=wanted.rows, round=turn))
                    _clear(stack.root)
    return runs


def turns(ways: Sequence[str], number: int) -> list[str]:
    """Returns the order in which the ways run in a round: each round begins with another one, and close ones run again in turn."""
    close = [way for way in ways if way in CLOSE]
    order = _beginning_at(ways, number)
    for more in range(MORE_TURNS):
        order += _beginning_at(close, number + more)
    return order


def _beginning_at(ways: Sequence[AnyWay], number: int) -> list[AnyWay]:
    first = number % max(len(ways), 1)
    return [*ways[first:], *ways[:first]]


def _check_all_same(done: dict[str, Done], what: str) -> None:
    first, *others = done
    for way in others:
        check_same(done[first].files, done[way].files, f"the way {way!r} ({what})")
    release_memory()


def _clear(root: Path) -> None:
    for out in root.glob("out-*"):
        shutil.rmtree(out)


@contextlib.contextmanager
def standing_still(lanes: Iterable[Lane]) -> Iterator[None]:
    """Suspends all processes of these ways: idle Dask processes take 13 % of a core and ours some, which would disturb the measurement."""
    stopped: list[psutil.Process] = []
    try:
        for pid in [pid for lane in lanes for pid in lane.processes()]:
            with contextlib.suppress(psutil.NoSuchProcess):
                stopped.append(psutil.Process(pid))
                stopped[-1].suspend()
        time.sleep(SETTLE_SECONDS)
        yield
    finally:
        for process in stopped:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()


def _measure(lane: Lane, task: Task, **known: Any) -> Run:  # noqa: ANN401 - way, model, format, rows and round of the Run
    forget_peaks(lane.processes())
    os.sync()  # otherwise the data that another way wrote would be written to disk during this run
    done = lane.score(task)
    return Run(seconds=done.seconds, steps=done.steps, peaks_mb=read_peaks(lane.processes()), **known)


def grow(stack: Stack, release: str, sizes: Sequence[int], name: str, rounds: int, say: Say) -> list[Run]:
    """Measures our way alone on tables of growing size; returns the median run of each size, with the peak memory of all its runs."""
    runs = []
    for rows in sizes:
        say(f"making a table of {rows:,} rows")
        table = inputs.make_table(stack.root / "bucket" / "tables", rows, name)
        task = Task(bucket=stack.root / "bucket", release=release, table=table, out=stack.root)
        stack.score(task)
        found = []
        for turn in range(rounds):
            say(f"{rows:,} rows, round {turn + 1} of {rounds}")
            model = release.partition("@")[0]
            found.append(_measure(stack, task, way=OURS, model=model, format=name, rows=rows, round=turn))
        found.sort(key=lambda run: run.seconds)
        runs.append(replace(found[len(found) // 2], peaks_mb=highest_peaks(found)))
        shutil.rmtree(table) if table.is_dir() else table.unlink()
    return runs


def measure_guard(stack: Stack, release: str, table: Path, pairs: int, say: Say) -> list[tuple[float, float]]:
    """Measures pairs of the same job without and with a channel, taking turns; returns the seconds of each pair.

    The guard compares each result with the one of the pair before. Both results have their index.
    """
    say("the first result of a channel, which the others are compared with")
    stack.run(table, release, channel=GUARDED)
    found = []
    for number in range(pairs):
        say(f"pair {number + 1} of {pairs}")
        seconds: dict[str | None, float] = {}
        for channel in _beginning_at((None, GUARDED), number):
            seconds[channel] = stack.run(table, release, channel=channel)[1]
        found.append((seconds[None], seconds[GUARDED]))
    return found


def measure_one_row(stack: Stack, releases: Mapping[str, str], say: Say) -> dict[str, list[float]]:
    """Measures jobs of one row with each model, in turn; returns the milliseconds of each job."""
    say("jobs of one row")
    one = inputs.make_table(stack.root / "bucket" / "tables", 1, "csv")
    found: dict[str, list[float]] = {model: [] for model in releases}
    for _ in range(WARM_UP_JOBS + ONE_ROW_JOBS):
        for model, release in releases.items():
            found[model].append(stack.run(one, release)[1] * 1000)
    return {model: jobs[WARM_UP_JOBS:] for model, jobs in found.items()}


def measure_queue(stack: Stack, release: str, chunks: int, say: Say) -> dict[str, float]:
    """Measures a job of so many chunks of one row, where only the overhead of the queue counts; returns the results by name."""
    say(f"a job of {chunks:,} chunks of one row, then as many chunks with nothing to do")
    many = inputs.make_table(stack.root / "bucket" / "tables", chunks, "csv")
    folder, whole = stack.run(many, release, chunk_rows=1)
    steps = stack.steps(folder)
    sent, taken = stack.send_again(folder, chunks)
    return {
        f"{chunks:,} chunks of one row, s": whole,
        **{f"    its {step}, s": value for step, value in steps.items()},
        f"{chunks:,} chunks of no work, s to send": sent,
        f"{chunks:,} chunks of no work, s until all were taken": taken,
        "    ms for each": taken / chunks * 1000,
    }
