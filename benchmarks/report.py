"""Shows the results: tables for people, JSON for programs, and a plot."""

import dataclasses
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.bars import OURS, Bar, Runs
from benchmarks.measuring import Run, highest_peaks
from benchmarks.serving import Served

NAMES = {
    "ours": "ours, request to result",
    "pool": "bare pool, our kernels",
    "kernels": "our kernels, 1 process",
    "dask": "Dask",
    "old": "old service, 1 process",
}
COLOURS = {"ours": "#1f6f43", "pool": "#7fb89a", "kernels": "#c9dfd2", "dask": "#d9883b", "old": "#8c8c8c"}


def print_machine(console: Console, machine: dict[str, str], processes: int) -> None:
    """Prints the machine."""
    console.print(", ".join(f"{name} {value}" for name, value in machine.items()) + f"; {processes} processes", highlight=False)


def print_runs(console: Console, runs: Runs) -> None:
    """Prints the medians of every way, with the ratio to ours."""
    table = Table("way", "model", "format")
    for title in ("seconds", "least to most", "rows/s", "x ours", "peak MB"):
        table.add_column(title, justify="right")
    last = None
    for model, format, way in _cases(runs):
        if last not in (None, (model, format)):
            table.add_section()
        last = model, format
        found = runs.of(way, model, format)
        seconds = [run.seconds for run in found]
        median = statistics.median(seconds)
        ratio = runs.ratio((way, model, format), (OURS, model, format))
        table.add_row(
            NAMES[way], model, format, f"{median:.3f}", f"{min(seconds):.3f} - {max(seconds):.3f}", f"{found[0].rows / median:,.0f}",
            "" if ratio is None else f"{ratio:.2f}", f"{max(run.peak_mb for run in found):,.0f}",
        )  # fmt: skip
    console.print(table)


def print_steps(console: Console, runs: Runs) -> None:
    """Prints the median seconds of each step, for ways with known steps."""
    table = Table("way", "model", "format", "seconds of each step")
    for model, format, way in _cases(runs):
        found = [run for run in runs.of(way, model, format) if run.steps]
        if found:
            steps = {name: statistics.median(run.steps.get(name, 0.0) for run in found) for name in found[0].steps}
            table.add_row(NAMES[way], model, format, ", ".join(f"{name} {seconds:.3f}" for name, seconds in steps.items()))
    console.print(table)


def print_memory(console: Console, runs: Runs) -> None:
    """Prints the peak memory of every kind of process of each way, over all rounds."""
    table = Table("way", "model", "format", "peak MB of the largest process of each kind")
    for model, format, way in _cases(runs):
        peaks = highest_peaks(runs.of(way, model, format))
        table.add_row(NAMES[way], model, format, ", ".join(f"{kind} {peak:,.0f}" for kind, peak in peaks.items()))
    console.print(table)


def print_growth(console: Console, runs: Sequence[Run]) -> None:
    """Prints time and memory, size by size."""
    kinds = list(dict.fromkeys(kind for run in runs for kind in run.peaks_mb))
    table = Table()
    for title in ("rows", "seconds", "seconds per million rows", *(f"{kind}, MB" for kind in kinds)):
        table.add_column(title, justify="right")
    for run in runs:
        memory = [f"{run.peaks_mb.get(kind, 0):,.0f}" for kind in kinds]
        table.add_row(f"{run.rows:,}", f"{run.seconds:.3f}", f"{run.seconds / run.rows * 1e6:.3f}", *memory)
    console.print(table)


def figures_of_one_row(jobs: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Returns the results of jobs of one row by name, from the milliseconds of each job with each model."""
    return {
        f"1-row job with {model}, {what}, ms": value
        for model, found in jobs.items()
        for what, value in (("median", statistics.median(found)), ("95th percentile", statistics.quantiles(found, n=20)[-1]))
    }


def print_figures(console: Console, figures: dict[str, float]) -> None:
    """Prints single results by name."""
    table = Table("")
    table.add_column("", justify="right")
    for what, value in figures.items():
        table.add_row(what, f"{value:,.4g}")
    console.print(table)


def print_loads(console: Console, served: Served) -> None:
    """Prints the load of each kind of request, and the start and memory of the server."""
    table = Table("request", "requests/s", "p50, ms", "p99, ms", "CPU, us", "requests", "failed", "of them late")
    for what, load in served.loads.items():
        cpu = "" if load.cpu_us is None else f"{load.cpu_us:,.0f}"
        counts = f"{load.requests:,}", str(load.failed), str(load.late)
        table.add_row(what, f"{load.per_second:,.0f}", f"{load.p50_ms:.2f}", f"{load.p99_ms:.2f}", cpu, *counts)
    console.print(table)
    print_figures(console, {"start to ready, s": served.ready_seconds, "memory of the process, MB": served.memory_mb})


def print_bars(console: Console, bars: Iterable[Bar]) -> None:
    """Prints the bars and whether they were reached."""
    table = Table("what", "bar", "reached", "")
    for bar in bars:
        reached = "not measured" if bar.reached is None else f"{bar.reached:.3g} {bar.unit}"
        table.add_row(
            bar.what, f"{'at least' if bar.at_least else 'at most'} {bar.bar:g} {bar.unit}", reached,
            "" if bar.reached is None else "[green]ok[/]" if bar.ok else "[red]missed[/]",
        )  # fmt: skip
    console.print(table)


def write_json(file: Path, **parts: object) -> None:
    """Writes all results, run by run."""
    file.write_text(json.dumps(parts, indent=1, default=_plain))


def _plain(value: Any) -> dict[str, Any]:  # noqa: ANN401 - a Run or a Bar; what json cannot write by itself
    return dataclasses.asdict(value) | ({"ok": value.ok} if isinstance(value, Bar) else {})


def draw(file: Path, runs: Runs, machine: dict[str, str]) -> None:
    """Draws the rows per second of every way, one panel per model, as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    models = list(dict.fromkeys(run.model for run in runs.runs))
    figure, panels = pyplot.subplots(1, len(models), figsize=(1 + 6.5 * len(models), 5), squeeze=False)
    for panel, model in zip(panels[0], models, strict=True):
        formats = list(dict.fromkeys(run.format for run in runs.runs if run.model == model))
        ways = [way for way in NAMES if any(run.way == way for run in runs.runs)]
        width = 0.84 / len(ways)
        for place, way in enumerate(ways):
            found = [runs.of(way, model, format) for format in formats]
            rates = [runs_of[0].rows / statistics.median(run.seconds for run in runs_of) / 1000 if runs_of else 0 for runs_of in found]
            at = [number + (place - (len(ways) - 1) / 2) * width for number in range(len(formats))]
            bars = panel.bar(at, rates, width * 0.94, label=NAMES[way], color=COLOURS[way])
            panel.bar_label(bars, [f"{rate:,.0f}" for rate in rates], fontsize=7, padding=2)
        panel.set_xticks(range(len(formats)), formats)
        panel.set_xlabel("table")
        panel.set_ylabel("thousand rows per second (median)")
        panel.set_title(f"model {model}")
        panel.spines[["top", "right"]].set_visible(False)
        panel.margins(y=0.1)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=len(labels), frameon=False, fontsize=8)
    figure.suptitle(f"{runs.runs[0].rows:,} rows, 160 attributes; {machine['processor']}, {machine['cores']} cores", fontsize=10)
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    figure.savefig(file, dpi=130)
    pyplot.close(figure)


def _cases(runs: Runs) -> list[tuple[str, str, str]]:
    """Returns model, format and way of all runs, in display order."""
    found = dict.fromkeys((run.model, run.format, run.way) for run in runs.runs)
    pairs = dict.fromkeys((model, format) for model, format, _ in found)
    return [(model, format, way) for model, format in pairs for way in NAMES if (model, format, way) in found]
