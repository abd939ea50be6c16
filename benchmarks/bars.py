"""The bars of the benchmarks, and whether they were reached."""

import itertools
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.measuring import Run
from benchmarks.model_servers import BARE, MLFLOW, MLSERVER
from benchmarks.serving import PACED, SWAPPED, SWAPS, Served

MOST_WORKER_MB = 400
MOST_ONE_ROW_MS = 150
MOST_ONE_ROW_OF_TREES = 1.2
"""Maximum ratio of a job of one row with v2 to one with v1."""
MOST_WITH_GUARD, MOST_GUARD_MS = 1.1, 100
"""The guard and the change of the channel may take a tenth of a job of 1,000,000 rows."""
FLAT = 1.25
"""Maximum ratio of seconds per row, and of any process's memory, to those of a table a tenth as large."""

SMALL_MB = 50
"""Smaller processes are not compared, because a tenth of their memory is chance, and the server's contains the list of chunks."""

OURS, POOL, OLD, DASK, KERNELS = "ours", "pool", "old", "dask", "kernels"
WORKER = ("score", "score process")


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A number that must be reached."""

    what: str
    bar: float
    unit: str
    at_least: bool
    reached: float | None
    """None if it was not measured."""

    @property
    def ok(self) -> bool:
        """True if it was measured and is good enough."""
        if self.reached is None:
            return False
        return self.reached >= self.bar if self.at_least else self.reached <= self.bar


class Runs:
    """All runs of a benchmark, with their medians and ratios."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = runs

    def of(self, way: str, model: str, format: str) -> list[Run]:
        """Returns the runs of one way with one model and format, round by round."""
        return [run for run in self.runs if (run.way, run.model, run.format) == (way, model, format)]

    def ratio(self, one: tuple[str, str, str], other: tuple[str, str, str]) -> float | None:
        """Returns how many times as long ``one`` (way, model, format) takes as ``other``: the median of the ratios of all rounds.

        For several runs in a round, their median is used.
        """
        first, second = self._seconds(*one), self._seconds(*other)
        ratios = [first[number] / second[number] for number in first if number in second]
        return statistics.median(ratios) if ratios else None

    def _seconds(self, way: str, model: str, format: str) -> dict[int, float]:
        """Returns the median of each round."""
        rounds: defaultdict[int, list[float]] = defaultdict(list)
        for run in self.of(way, model, format):
            rounds[run.round].append(run.seconds)
        return {number: statistics.median(seconds) for number, seconds in rounds.items()}


def bars_of_score(runs: Runs, one_row_ms: Mapping[str, float]) -> list[Bar]:
    """Returns the bars of ``score`` for the requested tables; ``one_row_ms`` is the median of jobs of one row, by model."""

    def times(what: str, bar: float, one: tuple[str, str, str], other: tuple[str, str, str]) -> Bar:
        return Bar(what=what, bar=bar, unit="x", at_least=True, reached=runs.ratio(one, other))

    def beside_v1(model: str, bar: float) -> Bar:
        reached = runs.ratio((OURS, model, "csv"), (OURS, "v1", "csv"))
        return Bar(what=f"{model}, csv: time beside v1", bar=bar, unit="x", at_least=False, reached=reached)

    worker_mb = [run.peaks_mb[kind] for run in runs.runs if run.way == OURS for kind in WORKER if kind in run.peaks_mb]
    return [
        times("v1, csv: as fast as the old service", 10, (OLD, "v1", "csv"), (OURS, "v1", "csv")),
        times("v1, csv: as fast as Dask", 5, (DASK, "v1", "csv"), (OURS, "v1", "csv")),
        times("v1, csv: as fast as the bare pool", 0.8, (POOL, "v1", "csv"), (OURS, "v1", "csv")),
        times("v2, csv: as fast as the old service", 10, (OLD, "v2", "csv"), (OURS, "v2", "csv")),
        times("v2, csv: as fast as Dask with stock LightGBM", 4.5, (DASK, "v2", "csv"), (OURS, "v2", "csv")),
        times("v2, csv: as fast as the bare pool", 0.8, (POOL, "v2", "csv"), (OURS, "v2", "csv")),
        beside_v1("v2", 2.2),
        beside_v1("v3", 2.5),
        *(times(f"{model}: csv.gz as fast as csv", 0.7, (OURS, model, "csv"), (OURS, model, "csv.gz")) for model in ("v1", "v2")),
        *(times(f"{model}: Parquet as fast as csv", 1, (OURS, model, "csv"), (OURS, model, "parquet")) for model in ("v1", "v2")),
        Bar(
            what="a job of 1 row, median",
            bar=MOST_ONE_ROW_MS,
            unit="ms",
            at_least=False,
            reached=one_row_ms.get("v1"),
        ),
        Bar(
            what="a job of 1 row with v2 beside v1",
            bar=MOST_ONE_ROW_OF_TREES,
            unit="x",
            at_least=False,
            reached=one_row_ms["v2"] / one_row_ms["v1"] if {"v1", "v2"} <= one_row_ms.keys() else None,
        ),
        Bar(what="memory of a worker process", bar=MOST_WORKER_MB, unit="MB", at_least=False, reached=max(worker_mb, default=None)),
    ]


def bars_of_guard(pairs: Sequence[tuple[float, float]]) -> list[Bar]:
    """Returns the bars of ``guard``: what the guard adds to a job, by pairs of seconds without and with it."""
    more = statistics.median(guarded - plain for plain, guarded in pairs)
    ratio = statistics.median(guarded / plain for plain, guarded in pairs)
    return [
        Bar(what="a job with the guard, beside the same without", bar=MOST_WITH_GUARD, unit="x", at_least=False, reached=ratio),
        Bar(what="what the guard adds to a job, median", bar=MOST_GUARD_MS, unit="ms", at_least=False, reached=more * 1000),
    ]


def bars_of_serve(served: Served, *, strict: bool) -> list[Bar]:
    """Returns the bars of ``serve``: ratios within the run, and with ``strict`` also milliseconds, which depend on the machine."""
    loads = served.loads
    steady, swapping, computed = loads[PACED], loads[SWAPPED], loads["computed, v2, one row"]
    failed = float(sum(load.failed for load in loads.values()))
    bars = [
        Bar(what="requests that failed", bar=0, unit="requests", at_least=False, reached=failed),
        Bar(
            what="releases that were refused while the server went on", bar=SWAPS // 2, unit="", at_least=True, reached=served.swap_failures
        ),
        Bar(what="p99 during swaps, beside p99 without", bar=2, unit="x", at_least=False, reached=swapping.p99_ms / steady.p99_ms),
        Bar(
            what="published, one key: requests/s beside a bare FastAPI route that predicts",
            bar=1,
            unit="x",
            at_least=True,
            reached=loads["published, one key"].per_second / loads[BARE].per_second,
        ),
    ]
    for other, bar in ((MLSERVER, 5), (MLFLOW, 2)):
        if other in loads:
            ratio = computed.per_second / loads[other].per_second
            bars.append(Bar(what=f"computed, v2, one row: requests/s beside {other}", bar=bar, unit="x", at_least=True, reached=ratio))
    if not strict:
        return bars

    def most(what: str, bar: float, unit: str, reached: float) -> Bar:
        return Bar(what=what, bar=bar, unit=unit, at_least=False, reached=reached)

    alone = loads["published, one key, one connection"]
    bars += [most("published, one key: p50", 0.5, "ms", alone.p50_ms), most("published, one key: p99", 2, "ms", alone.p99_ms)]
    rates = [("published, one key", 4000), ("computed, v1, one row", 2000), ("computed, v2, one row", 2000)]
    bars += [Bar(what=f"{what}: requests/s", bar=bar, unit="/s", at_least=True, reached=loads[what].per_second) for what, bar in rates]
    for what, bar in (
        ("computed, v1, one row, one connection", 3),
        ("computed, v2, one row, one connection", 5),
        ("published, 1,000 keys", 15),
    ):
        bars.append(most(f"{what}: p99", bar, "ms", loads[what].p99_ms))
    return [*bars, most("start to ready", 3, "s", served.ready_seconds), most("memory of a process", 250, "MB", served.memory_mb)]


def bars_of_growth(runs: Sequence[Run]) -> list[Bar]:
    """Returns the bars of ``growth``: time per row and memory stay flat from each size to the next large one; workers have a limit."""
    bars = []
    for small, large in itertools.pairwise(runs):
        if small.rows >= 1_000_000:
            grown = (large.seconds / large.rows) / (small.seconds / small.rows)
            sizes = f"{large.rows:,} rows to {small.rows:,}"
            bars.append(Bar(what=f"time per row, {sizes}", bar=FLAT, unit="x", at_least=False, reached=grown))
            grew = [peak / small.peaks_mb[kind] for kind, peak in large.peaks_mb.items() if small.peaks_mb.get(kind, 0) > SMALL_MB]
            more = max(grew, default=None)
            bars.append(Bar(what=f"memory of the process that grew most, {sizes}", bar=FLAT, unit="x", at_least=False, reached=more))
    for run in runs:
        worker_mb = max((run.peaks_mb[kind] for kind in WORKER if kind in run.peaks_mb), default=None)
        bars.append(
            Bar(what=f"memory of a worker process, {run.rows:,} rows", bar=MOST_WORKER_MB, unit="MB", at_least=False, reached=worker_mb)
        )
    return bars
