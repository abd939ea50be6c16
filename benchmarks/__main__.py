"""The command line of the benchmarks, ``python -m benchmarks``, which compare us with other ways of doing the same job.

Exit codes: 0 all bars were reached, 1 a bar was missed or not measured, 2 a required library is not installed.
"""

import os

# before numpy is imported, here and in every child process: one thread per process, as in our workers
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import importlib.util
import signal
import statistics
import sys
import tempfile
from pathlib import Path

import click
from rich.console import Console

from benchmarks import report
from benchmarks.bars import DASK, Bar, Runs, bars_of_growth, bars_of_guard, bars_of_score, bars_of_serve
from benchmarks.comparison import WAYS, Wanted, compare, grow, measure_guard, measure_one_row, measure_queue, running_stack
from benchmarks.hosts import measure
from benchmarks.inputs import COMPARED, FORMATS, make_table
from benchmarks.lanes import BenchmarkError
from benchmarks.measuring import machine
from benchmarks.serving import Compared, measure_serving
from benchmarks.ways import has_dask

INSTALL = "Install what the benchmark compares with: pip install --require-hashes -r requirements-bench.lock"

WIDTH_ELSEWHERE = 120
MODELS = ("v1", "v2", "v3")

console = Console(width=None if sys.stdout.isatty() else WIDTH_ELSEWHERE)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def benchmarks() -> None:
    """Speed compared with other ways of doing the same job, measured side by side on this machine."""


def _listed(known: tuple[str, ...]) -> click.ParamType:
    class Listed(click.ParamType):
        name = ",".join(known)

        def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
            names = tuple(str(value).split(",")) if isinstance(value, str) else tuple(value)  # type: ignore[arg-type]
            for name in names:
                if name not in known:
                    self.fail(f"{name!r} is not one of {', '.join(known)}", param, ctx)
            return names

    return Listed()


json_option = click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write everything that was measured here.")
interpreter = click.Path(exists=True, dir_okay=False, path_type=Path)
processes_option = click.option("--processes", type=click.IntRange(min=1), default=2, show_default=True, help="Processes of each way.")
work_option = click.option("--work", type=click.Path(path_type=Path, exists=True), help="Folder for tables and results.  [default: TMPDIR]")
bars_option = click.option("--bars/--no-bars", "judged", default=True, show_default=True, help="Judge what was reached, or only show it.")


@benchmarks.command()
@click.option("--rows", type=click.IntRange(min=1), default=1_000_000, show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--models", type=_listed(MODELS), default=",".join(MODELS), show_default=True)
@click.option("--formats", type=_listed(FORMATS), default=",".join(COMPARED), show_default=True)
@click.option("--only", type=_listed(WAYS), default=",".join(WAYS), show_default=True, help="Ways to run.")
@click.option("--small/--no-small", default=True, show_default=True, help="Measure jobs of one row and the queue, too.")
@click.option(
    "--queue-chunks", type=click.IntRange(min=1), default=10_000, show_default=True, help="Chunks of the job that measures the queue."
)
@click.option("--plot", "plot_file", type=click.Path(path_type=Path), help="Draw rows per second here, as PNG.")
@json_option
@processes_option
@work_option
@bars_option
def score(  # noqa: PLR0913, PLR0917 - a command has as many arguments as it has options
    rows: int,
    rounds: int,
    models: tuple[str, ...],
    formats: tuple[str, ...],
    only: tuple[str, ...],
    small: bool,
    queue_chunks: int,
    plot_file: Path | None,
    json_file: Path | None,
    processes: int,
    work: Path | None,
    judged: bool,
) -> int:
    """Score the same table in every way, several times in turn.

    \b
    Example:
        python -m benchmarks score --rows 1000000 --plot rows-per-second.png
        python -m benchmarks score --rows 100000 --only ours,pool --models v1 --formats csv --no-small --no-bars
    """
    if DASK in only and not has_dask():
        return _lacks("Dask")
    if plot_file and not importlib.util.find_spec("matplotlib"):
        return _lacks("matplotlib")
    here = machine()
    report.print_machine(console, here, processes)
    wanted = Wanted(rows=rows, rounds=rounds, models=models, formats=formats, ways=only, processes=processes)
    with running_stack(work, processes, models, _say) as (stack, releases):
        runs = Runs(compare(stack, releases, wanted, _say))
        one_row = measure_one_row(stack, releases, _say) if small else {}
        figures = report.figures_of_one_row(one_row) | (measure_queue(stack, releases[models[0]], queue_chunks, _say) if small else {})
    report.print_runs(console, runs)
    report.print_steps(console, runs)
    report.print_memory(console, runs)
    if figures:
        report.print_figures(console, figures)
    bars = bars_of_score(runs, {model: statistics.median(jobs) for model, jobs in one_row.items()})
    if plot_file:
        report.draw(plot_file, runs, here)
    return _judge(bars, judged=judged, json_file=json_file, machine=here, processes=processes, runs=runs.runs, small=figures)


@benchmarks.command()
@click.option("--rows", type=click.IntRange(min=1), default=1_000_000, show_default=True)
@click.option("--pairs", type=click.IntRange(min=1), default=15, show_default=True, help="Pairs of jobs without and with the guard.")
@click.option("--model", type=click.Choice(MODELS), default="v1", show_default=True)
@click.option("--format", "table_format", type=click.Choice(FORMATS), default="csv", show_default=True)
@json_option
@processes_option
@work_option
@bars_option
def guard(  # noqa: PLR0913, PLR0917 - as above
    rows: int, pairs: int, model: str, table_format: str, json_file: Path | None, processes: int, work: Path | None, judged: bool
) -> int:
    """Score the same table without and with a channel, in turn: what the guard adds to a job.

    \b
    Example:
        python -m benchmarks guard --rows 1000000
    """
    here = machine()
    report.print_machine(console, here, processes)
    with running_stack(work, processes, [model], _say) as (stack, releases):
        table = make_table(stack.root / "bucket" / "tables", rows, table_format)
        found = measure_guard(stack, releases[model], table, pairs, _say)
    plain, guarded = (statistics.median(seconds) for seconds in zip(*found, strict=True))
    report.print_figures(console, {"without a channel, median, s": plain, "with the guard, median, s": guarded})
    return _judge(bars_of_guard(found), judged=judged, json_file=json_file, machine=here, processes=processes, pairs=found)


@benchmarks.command()
@click.option("--most", type=click.IntRange(min=10_000), default=10_000_000, show_default=True, help="Rows of the largest table.")
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--model", type=click.Choice(MODELS), default="v1", show_default=True)
@click.option("--format", "table_format", type=click.Choice(FORMATS), default="csv", show_default=True)
@json_option
@processes_option
@work_option
@bars_option
def growth(  # noqa: PLR0913, PLR0917 - as above
    most: int, rounds: int, model: str, table_format: str, json_file: Path | None, processes: int, work: Path | None, judged: bool
) -> int:
    """Score tables from 10,000 rows on, each ten times as large as the previous one: time and memory of our own processes.

    \b
    Example:
        python -m benchmarks growth --most 1000000
    """
    here = machine()
    report.print_machine(console, here, processes)
    sizes = [10**power for power in range(4, 20) if 10**power <= most]
    with running_stack(work, processes, [model], _say) as (stack, releases):
        runs = grow(stack, releases[model], sizes, table_format, rounds, _say)
    report.print_growth(console, runs)
    return _judge(bars_of_growth(runs), judged=judged, json_file=json_file, machine=here, processes=processes, runs=runs)


@benchmarks.command()
@click.option("--rows", type=click.IntRange(min=1), default=500_000, show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--model", type=click.Choice(MODELS), default="v2", show_default=True)
@click.option(
    "--chunks", type=click.IntRange(min=1), default=100, show_default=True, help="Chunks of the jobs that measure the cost of a chunk."
)
@json_option
@work_option
def hosts(rows: int, rounds: int, model: str, chunks: int, json_file: Path | None, work: Path | None) -> int:
    """Score with workers on one host and on two, with the bucket on an S3 server; count the requests of a chunk to Redis and to the store.

    The hosts are network namespaces of this machine, so this needs root, and they share its cores.

    \b
    Example:
        sudo .venv/bin/python -m benchmarks hosts
    """
    here = machine()
    report.print_machine(console, here, 1)
    with tempfile.TemporaryDirectory(prefix="scoring-hosts-", dir=work) as made:
        figures = measure(Path(made).resolve(), rows=rows, model=model, rounds=rounds, chunks=chunks, say=_say)
    report.print_figures(console, figures)
    if json_file:
        report.write_json(json_file, machine=here, hosts=figures)
    return 0


@benchmarks.command()
@click.option("--rows", type=click.IntRange(min=1000), default=1_000_000, show_default=True, help="Rows of the published result.")
@click.option("--seconds", type=click.FloatRange(min=0.5), default=10.0, show_default=True, help="Seconds of each load.")
@click.option("--strict", is_flag=True, help="Judge milliseconds and requests per second too, which depend on the machine.")
@click.option("--mlserver", type=interpreter, help="Python of an environment with mlserver and mlserver-lightgbm.")
@click.option("--mlflow", type=interpreter, help="Python of an environment with mlflow and lightgbm.")
@json_option
@work_option
@bars_option
def serve(  # noqa: PLR0913, PLR0917 - as above
    rows: int,
    seconds: float,
    strict: bool,
    mlserver: Path | None,
    mlflow: Path | None,
    json_file: Path | None,
    work: Path | None,
    judged: bool,
) -> int:
    """Ask the HTTP server for published and computed rates, one core for it and one for wrk, also while releases are exchanged.

    \b
    Example:
        python -m benchmarks serve --rows 1000000 --strict --mlserver /opt/mlserver/bin/python --mlflow /opt/mlflow/bin/python
    """
    here = machine()
    report.print_machine(console, here, 1)
    with running_stack(work, 2, ["v1", "v2"], _say) as (stack, releases):
        served = measure_serving(stack, releases, rows, seconds, _say, Compared(mlserver=mlserver, mlflow=mlflow))
    report.print_loads(console, served)
    return _judge(bars_of_serve(served, strict=strict), judged=judged, json_file=json_file, machine=here, served=served)


def _judge(bars: list[Bar], *, judged: bool, json_file: Path | None, **measured: object) -> int:
    if judged:
        report.print_bars(console, bars)
    if json_file:
        report.write_json(json_file, **measured, bars=bars)
    return 0 if not judged or all(bar.ok for bar in bars) else 1


def _lacks(what: str) -> int:
    click.echo(f"{what} is not installed, and it is needed here. {INSTALL}", err=True)
    return 2


def _say(text: str) -> None:
    click.echo(f"... {text}", err=True)


def main() -> None:
    """Runs the command line."""
    # like Ctrl-C: stops everything that was started
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        code = benchmarks(standalone_mode=False)
    except BenchmarkError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except click.Abort:
        sys.exit(130)
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
