"""The ``scoring`` command.

Exit codes: 0 done, 1 a defect in this program, 2 the request or a setting (also a repeated request whose result was replaced since),
3 a table, 4 a model, 5 the job failed or was cancelled, 6 Redis or the bucket cannot be reached, 130 stopped with Ctrl-C.
"""

import contextlib
import csv
import io
import itertools
import json
import sys
import traceback
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import producers.stack.early_stop  # noqa: F401 - SIGTERM counts from here on
from producers import gc_commands, model_commands, notebook_commands, schedule_commands, service_commands, watch_commands
from producers.compare_commands import compare
from producers.display.streams import prepare_streams, written_out
from producers.display.terminal import command_line, json_option, say, say_empty, say_error, warn, warn_of_unreadable
from producers.display.terminal import console as _console
from producers.display.terminal import open_bucket_here as _open
from producers.display.terminal import print_json as _print_json
from producers.new_definition import new
from producers.options import Day, Share
from shared.errors import JobFailedError, ModelError, RequestError, ScoringError, TableError
from shared.settings import Settings, read_settings

# rich, celery and redis are imported by the commands that use them, so that --help is quick
if TYPE_CHECKING:
    from producers.enqueue import Enqueued
    from producers.sample import Format
    from shared.bucket.interface import Bucket
    from shared.records import Promote


def main() -> None:
    """Run the command line; an error becomes one sentence on standard error and its exit code."""
    prepare_streams()
    sys.exit(_run())


def _run() -> int:
    try:
        with written_out():
            code = scoring.main(standalone_mode=False)
    except ScoringError as error:
        say_error(error.message, error.next_step)
        return error.exit_code
    except click.ClickException as error:
        said = io.StringIO()
        error.show(file=said)
        with contextlib.suppress(OSError):
            say(said.getvalue().rstrip("\n"), err=True)
        return RequestError.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    except Exception as error:  # noqa: BLE001 - a person gets a sentence, whatever it is
        say_error(f"a defect in this program, in {_place_of(error)}: {error!r}", "Please report it with the command that you typed.")
        return ScoringError.exit_code
    return code if isinstance(code, int) else 0


def _place_of(error: Exception) -> str:
    """The file and line of ours where it was raised: a person reads one sentence, and who mends it needs the place."""
    root = Path(__file__).resolve().parents[1]
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).is_relative_to(root)]
    return f"{Path(frames[-1].filename).relative_to(root)}, line {frames[-1].lineno}" if frames else "an unknown place"


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="keyword-scoring")
def scoring() -> None:
    """Score keyword tables with the probability that a click becomes a purchase.

    A stack of workers must be running: start one on this machine with `scoring up`.

    \b
    Example, from nothing to a result:
        scoring up                       (in another terminal)
        scoring sample --rows 100000
        scoring train v1
        scoring score data/predict/input/2026/11/23 --model v1
        scoring results list

    \b
    Exit codes: 0 done, 2 the request or a setting, 3 a table, 4 a model, 5 the job failed or was cancelled,
    6 Redis or the bucket, 130 Ctrl-C.
    """


SAMPLE_MARK = "made-up.txt"
"""Lies beside made-up tables, which only made-up tables replace."""

NUMBERS = ("entity_id", "device", "cr", "cr_low", "cr_high")
"""Columns of a result that hold numbers; the keys of a definition's own are text."""

wait_option = click.option("--wait/--no-wait", default=True, help="Follow the job to its end (the default), or return at once.")
DEFAULT_MODEL = "v1"
"""Of ``MODEL_VER``."""

job_argument = click.argument("job_id", metavar="JOB")
again_option = click.option("--again", is_flag=True, help="Run a request that was done before once more.")


# --- the stack and its data --------------------------------------------------------------------------------------------------


@scoring.command()
@click.option("--ready-file", type=click.Path(path_type=Path), help="Write a JSON file with the addresses once all is up.")
@click.option("--stop-seconds", default=60.0, show_default=True, help="How long to wait for work in hand when stopping.")
def up(ready_file: Path | None, stop_seconds: float) -> int:
    """Start everything on this machine: server, workers, beat and Flower.

    The server is an embedded Valkey unless REDIS_URL is set. Ctrl-C stops all of it and waits for work in hand.

    \b
    Example:
        scoring up
    """
    from producers.launcher import Options, run_stack

    return run_stack(read_settings(), Options(ready_file=ready_file, stop_seconds=stop_seconds))


@scoring.command()
@click.option("--rows", default=100_000, show_default=True, help="Rows of the table to score.")
@click.option("--train-rows", type=int, help="Rows of the training table.  [default: as many, at most 100,000]")
@click.option(
    "--weeks", type=click.IntRange(1, 52), default=1, show_default=True, help="Weeks in the training table; eval is the next one."
)
@click.option("--seed", default=1, show_default=True, help="The same seed makes the same tables.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder to write into.  [default: today's folders of the bucket]")
@click.option("--format", "table_format", type=click.Choice(["csv", "csv.gz", "parquet"]), default="csv.gz", show_default=True)
@json_option
def sample(rows: int, train_rows: int | None, weeks: int, seed: int, out: Path | None, table_format: "Format", as_json: bool) -> None:
    """Make up keyword tables with a known truth: train, eval and one to score.

    \b
    Example:
        scoring sample --rows 1000000 --seed 7
        scoring sample --rows 20000 --weeks 4
        scoring sample --rows 5000 --out /tmp/tables --format csv
    """
    import tempfile

    from producers.sample import write_tables

    if out is not None:
        made = write_tables(out, rows, seed, train_rows=train_rows, weeks=weeks, format=table_format)
        paths = [str(table.path) for table in vars(made).values()]
    else:
        _, bucket = _open()
        today = f"{datetime.now().astimezone():%Y/%m/%d}"
        with tempfile.TemporaryDirectory() as aside:
            made = write_tables(Path(aside), rows, seed, train_rows=train_rows, weeks=weeks, format=table_format)
            paths = []
            for table, folder in ((made.train, "train"), (made.evaluation, "train"), (made.prediction_input, "predict/input")):
                path = f"data/{folder}/{today}/{table.path.name}"
                mark = f"data/{folder}/{today}/{SAMPLE_MARK}"
                if bucket.exists(path) and not bucket.exists(mark):
                    raise RequestError(f"{path} is there and was not made up by this command", next_step="Choose another place with --out.")
                bucket.write(mark, b"The tables in this folder are made up by: scoring sample\n")
                bucket.upload(table.path, path)
                paths.append(path)
    if as_json:
        _print_json(paths)
    else:
        say("\n".join(paths))


scoring.add_command(watch_commands.doctor)
scoring.add_command(service_commands.run)
scoring.add_command(service_commands.health)
scoring.add_command(watch_commands.metrics)
scoring.add_command(notebook_commands.notebook)
scoring.add_command(gc_commands.gc)


# --- the two jobs ------------------------------------------------------------------------------------------------------------


CONFIG_OF_A_SEARCH = """\b
The config of a search, each candidate and fold of which is a task of its own:
    search: grid               grid; or random, or optuna, with candidates: 40 and seed: 1
    folds: 3                   of the latest weeks; of groups of keywords where there is one week
    stop_early: true           candidates that are clearly worse get no further folds (the default)
    parameters:
      num_leaves: [15, 31, 63]
      learning_rate: {low: 0.01, high: 0.3, log: true}    a range, for random and optuna
"""


@scoring.command(epilog=CONFIG_OF_A_SEARCH)
@click.argument("definition", required=False)
@click.option("--train", "train_table", help="Training table.  [default: the newest data/train/YYYY/MM/DD/train.* of the bucket]")
@click.option("--eval", "eval_table", help="Table of a later time to judge the release on.")
@click.option("--alias", help="Name to point at the release, for example champion.")
@click.option(
    "--promote",
    type=click.Choice(["never", "auto", "always"]),
    default="never",
    show_default=True,
    help="Let champion mean the release: auto if it beats the champion and every naive predictor beyond chance.",
)
@click.option("--config", help="Search for the best parameters first: a YAML file in the bucket or on this machine, see below.")
@click.option("--force", is_flag=True, help="Train on a table that is refused as too small or implausible; the release says so.")
@click.option("--max-left-out", type=Share(), help="Share of the rows, or of the clicks, that may be left out.  [default: 0.01]")
@again_option
@wait_option
@json_option
def train(
    definition: str | None,
    train_table: str | None,
    eval_table: str | None,
    alias: str | None,
    promote: "Promote",
    config: str | None,
    force: bool,
    max_left_out: float | None,
    again: bool,
    wait: bool,
    as_json: bool,
) -> None:
    """Train a definition and publish a release of it.

    Without a DEFINITION it is the one that MODEL_VER names, else v1.

    \b
    Example:
        scoring train v2
        scoring train v2 --train week30.csv.gz --eval week31.csv.gz --promote auto
        scoring train v2 --train week30.csv.gz --eval week31.csv.gz --alias champion
        scoring train v2 --config config/v2/params.yaml
    """
    from producers.enqueue import enqueue_train

    if eval_table is not None and train_table is None:
        raise RequestError("--eval names a table but --train does not", next_step="Name both, or neither.")
    settings, bucket = _open()
    done = enqueue_train(
        settings,
        bucket,
        definition=settings.model_ver if definition is None else definition,
        train=train_table,
        eval_table=eval_table,
        alias=alias,
        promote=promote,
        config=config,
        force=force,
        max_left_out=max_left_out,
        again=again,
    )
    after_enqueue(settings, bucket, done, wait=wait, as_json=as_json)


@scoring.command()
@click.argument("table")
@click.option("--model", help="Definition, release or alias: v1, v1@20261123T101500Z-9bfad3, champion.  [default: MODEL_VER, else v1]")
@click.option("--date", "day", type=Day(), help="Day that the result belongs to.  [default: that of the table's folder, else today]")
@click.option("--chunk-rows", type=int, help="Rows of a chunk at most.  [default: by the size of the table]")
@click.option("--max-reject-share", type=Share(), help="Share of rows that may be rejected before the job fails.  [default: 0.01]")
@click.option("--max-rejects", type=int, help="Rows that may be rejected before the job fails.  [default: any number]")
@click.option("--interval", is_flag=True, help="Write cr_low and cr_high behind cr, if the model can.")
@click.option("--fix", "fixes", metavar="JOB", help="TABLE holds fixed rows, which take the place of this job's rejects.")
@again_option
@wait_option
@json_option
def score(
    table: str,
    model: str | None,
    day: date | None,
    chunk_rows: int | None,
    max_reject_share: float | None,
    max_rejects: int | None,
    interval: bool,
    fixes: str | None,
    again: bool,
    wait: bool,
    as_json: bool,
) -> None:
    """Score TABLE: a csv, csv.gz or Parquet file or a folder of them, in the bucket or on this machine.

    With --fix JOB, TABLE is a csv file of fixed rows, as `scoring results rejects JOB --rows FILE` writes them for you to mend: they
    are scored with that job's release, and published with its other rows as a new revision of its result. As many may be rejected as in
    that job, any number if a person accepted its rejects.

    \b
    Example:
        scoring score data/predict/input/2026/11/23 --model champion
        scoring score keywords.parquet --model v2 --date 2026-11-23
        scoring score keywords.parquet --model v3 --interval
        scoring score mended.csv --fix 20261123t101500000z-score-9bfad3
    """
    from producers.enqueue import REJECT_SHARE, check_day, enqueue_fix, enqueue_score

    if fixes is not None and ((model, day, chunk_rows) != (None, None, None) or interval):
        raise RequestError(
            "--fix takes the model, the date, the chunks and the interval of the job that it fixes",
            next_step="Leave out --model, --date, --chunk-rows and --interval.",
        )
    settings, bucket = _open()
    if fixes is not None:
        from producers.job_names import find_job

        fixes = find_job(bucket, fixes, scores=True)
        done = enqueue_fix(
            settings, bucket, job_id=fixes, rows=table, max_reject_share=max_reject_share, max_rejects=max_rejects, again=again
        )
        after_enqueue(settings, bucket, done, wait=wait, as_json=as_json)
        return
    if day is not None:
        check_day(bucket, table, day)
    done = enqueue_score(
        settings,
        bucket,
        table=table,
        model=settings.model_ver if model is None else model,
        day=day,
        chunk_rows=chunk_rows,
        max_reject_share=REJECT_SHARE if max_reject_share is None else max_reject_share,
        max_rejects=max_rejects,
        interval=interval,
        again=again,
    )
    if model is None:
        why = "the default" if settings.model_ver == DEFAULT_MODEL else "which MODEL_VER names"
        say(f"Model {settings.model_ver}, {why}; another one is taken with --model, such as --model champion.", err=True)
    after_enqueue(settings, bucket, done, wait=wait, as_json=as_json)


# --- jobs --------------------------------------------------------------------------------------------------------------------


@scoring.group()
def jobs() -> None:
    """Look at jobs, cancel them, let them go on."""


STATES = ("queued", "running", "finishing", "done", "failed", "cancelled", "unreadable")


@jobs.command("list")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many, the newest first.")
@click.option("--state", "states", type=click.Choice(STATES), multiple=True, help="Only jobs in this state; may be given several times.")
@json_option
def jobs_list(limit: int, states: tuple[str, ...], as_json: bool) -> None:
    """List jobs, the newest first.

    \b
    Example:
        scoring jobs list --limit 5
        scoring jobs list --state failed
    """
    from producers.display import jobs as display_jobs
    from shared.jobs.folder import UnreadableJob, list_jobs, look_at

    _, bucket = _open()
    found = (look_at(bucket, job_id) for job_id in list_jobs(bucket))
    wanted = (each for each in found if not states or ("unreadable" if isinstance(each, UnreadableJob) else each.state) in states)
    statuses = list(itertools.islice(wanted, limit))
    if as_json:
        _print_json([_status_data(status) for status in statuses])
    elif statuses:
        display_jobs.print_jobs(_console(), statuses)
    elif states:
        say(f"No job in the bucket {bucket.url} is {' or '.join(states)}")
    else:
        say_empty(bucket, "There is no job yet")


@jobs.command("show")
@job_argument
@click.option("--follow", "-f", "following", is_flag=True, help="Show its progress until it has ended.")
@json_option
def jobs_show(job_id: str, following: bool, as_json: bool) -> None:
    """Show one job.

    It is named by its id, by a piece of the id that no other job has, or as `last`; so it is wherever a command asks for a JOB.

    \b
    Example:
        scoring jobs show last
        scoring jobs show 9bfad3
        scoring jobs show 20261123t101500z-score-9bfad3 --follow
    """
    from producers.display import jobs as display_jobs
    from producers.job_names import find_job
    from producers.results.published import figures_of
    from shared.jobs.folder import JobFolder

    settings, bucket = _open()
    job_id = find_job(bucket, job_id)
    if following:
        _follow(settings, bucket, job_id, as_json=as_json)
        return
    status = JobFolder(bucket, job_id).status()
    if as_json:
        figures = figures_of(bucket, status.job, status.outcome)
        _print_json(_status_data(status) | ({"figures": figures} if figures else {}))
    else:
        display_jobs.print_job(_console(), display_jobs.status_now(bucket, status))


@jobs.command("cancel")
@job_argument
def jobs_cancel(job_id: str) -> None:
    """Cancel a job; chunks in hand are finished, nothing is published.

    \b
    Example:
        scoring jobs cancel 20261123t101500z-score-9bfad3
    """
    from producers import enqueue
    from producers.job_names import find_job
    from shared.jobs.folder import JobFolder

    settings, bucket = _open()
    job_id = find_job(bucket, job_id)
    before = JobFolder(bucket, job_id).outcome()
    state = enqueue.cancel(settings, bucket, job_id)
    if state != "cancelled":
        raise RequestError(f"job {job_id} cannot be cancelled: it is {state} already", next_step=f"See it with: scoring jobs show {job_id}")
    done = f"Cancelled {job_id}" if before is None else f"Job {job_id} was cancelled already"
    say(f"{done}. Let it go on with: scoring jobs resume {job_id}")


@jobs.command("resume")
@job_argument
@click.option("--accept-rejects", is_flag=True, help="Go on without the rows that were rejected, however many they are.")
@wait_option
@json_option
def jobs_resume(job_id: str, accept_rejects: bool, wait: bool, as_json: bool) -> None:
    """Let a failed or cancelled job go on from what it has.

    \b
    Example:
        scoring jobs resume 20261123t101500z-score-9bfad3
        scoring jobs resume 20261123t101500z-score-9bfad3 --accept-rejects
    """
    from producers import enqueue
    from producers.job_names import find_job

    settings, bucket = _open()
    job_id = find_job(bucket, job_id)
    after_enqueue(settings, bucket, enqueue.resume(settings, bucket, job_id, accept_rejects=accept_rejects), wait=wait, as_json=as_json)


# --- models ------------------------------------------------------------------------------------------------------------------


@scoring.group()
def models() -> None:
    """Look at releases, choose those that are used, check definitions."""


for command in model_commands.COMMANDS:
    models.add_command(command)


models.add_command(new)


@models.command("list")
@click.option("--best-first", is_flag=True, help="Sort by log-loss per click instead of by time.")
@click.option("--quiet", "-q", is_flag=True, help="Print the ids alone.")
@json_option
def models_list(best_first: bool, quiet: bool, as_json: bool) -> None:
    """List the releases in the store, the newest first.

    With --best-first those that were judged on the same table stand together, the best of them first: figures on different tables say
    nothing of which release is better. The tables come in order of the newest release that was judged on each.

    \b
    Example:
        scoring models list --best-first
    """
    from producers.display import releases as display_releases
    from producers.releases import finding as releases_finding
    from shared.catalog.aliases import damaged_aliases
    from shared.signatures import Signature

    _, bucket = _open()
    releases, unreadable = releases_finding.look_at_releases(bucket)
    warn_of_unreadable(unreadable)
    for error in damaged_aliases(bucket).values():
        say(f"Left out: {error}", err=True)
    for release in releases:
        if release.signed is Signature.WRONG:
            warn(f"workers refuse {release.manifest.release}: signed: {release.signed}")
    if best_first:
        releases = [release for group in releases_finding.judged_alike(releases) for release in group]
    if quiet and not as_json:
        say("\n".join(release.manifest.release for release in releases))
        return
    if as_json:
        data = [release.manifest.encode() | {"aliases": release.aliases, "retired": release.retired} for release in releases]
        _print_json([*data, *({"release": found.release, "path": found.path, "unreadable": found.reason} for found in unreadable)])
    elif releases:
        for group in releases_finding.judged_alike(releases) if best_first else [releases]:
            display_releases.print_releases(_console(), group, grouped=best_first)
    elif not unreadable:
        say_empty(bucket, "There is no release yet", "Train one with: scoring train v1")


@models.command("show")
@click.argument("model")
@click.option("--report", "report_file", type=click.Path(path_type=Path), help="Write its report, a page for the browser, to this file.")
@json_option
def models_show(model: str, report_file: Path | None, as_json: bool) -> None:
    """Show one release, named as for `scoring score --model`.

    \b
    Example:
        scoring models show champion
        scoring models show champion --report report.html
    """
    from producers import release_files
    from producers.display import releases as display_releases
    from producers.releases import finding as releases_finding
    from shared.catalog.aliases import resolve

    _, bucket = _open()
    release = releases_finding.find_release(bucket, resolve(bucket, model))
    warn_of_unreadable(releases_finding.look_at_releases(bucket)[1])
    if report_file is not None:
        release_files.write_report(bucket, release.manifest, report_file)
        if not as_json:
            say(f"The report of {release.manifest.release} is in {report_file}")
            return
    if as_json:
        _print_json(release.manifest.encode() | {"aliases": release.aliases, "signed": release.signed, "retired": release.retired})
    else:
        display_releases.print_release(_console(), release)


models.add_command(compare)


@models.command("sign")
@click.argument("releases", nargs=-1, required=True, metavar="RELEASE...")
@json_option
def models_sign(releases: tuple[str, ...], as_json: bool) -> None:
    """Sign releases with SCORING_STORE_KEY, named as for `scoring score --model`.

    Needed for releases from before the key was set, or signed with an older key that stands behind the new one. Sign only what you
    know for yours: workers load what is signed.

    \b
    Example:
        scoring models sign v1@20261123T101500Z-9bfad3
        scoring models list -q | xargs scoring models sign
    """
    from producers.signing import sign_release
    from shared.catalog.aliases import resolve

    _, bucket = _open()
    signed = []
    for name in releases:
        release = resolve(bucket, name)
        sign_release(bucket, release)
        signed.append(release)
        if not as_json:
            say(f"Signed {release}")
    if as_json:
        _print_json(signed)
    else:
        say("A job that failed because its release was not signed goes on with: scoring jobs resume JOB")


@models.command("check")
@click.argument("definition")
@click.option("--table", type=click.Path(path_type=Path), help="Try it on the first rows of this table, not on made-up ones.")
@json_option
def models_check(definition: str, table: Path | None, as_json: bool) -> None:
    """Run the contract suite on a definition and say in words what fails.

    \b
    Example:
        scoring models check v2
        scoring models check v2 --table week30.csv.gz
    """
    import subprocess

    # a program of its own: producers never import a model
    extra = read_settings().definitions
    command = [sys.executable, "-m", "model_store.checks", definition, *(["--json"] if as_json else [])]
    command += ["--extra", str(extra.absolute())] if extra else []
    command += ["--table", str(table.absolute())] if table else []
    done = subprocess.run(command, cwd=Path(__file__).resolve().parents[1], check=False, stdout=subprocess.PIPE, encoding="utf-8")
    say(done.stdout.rstrip("\n"))
    code = done.returncode
    if code not in (0, ModelError.exit_code, TableError.exit_code):
        raise ModelError(f"the checks of {definition} could not be run (exit code {code})", next_step="See the messages above.")
    sys.exit(code)


scoring.add_command(schedule_commands.schedule)


# --- results -----------------------------------------------------------------------------------------------------------------


@scoring.group()
def results() -> None:
    """Look at published results."""


@results.command("list")
@json_option
def results_list(as_json: bool) -> None:
    """List the published results, the newest first.

    \b
    Example:
        scoring results list
    """
    from producers.display import results as display_results
    from producers.results import finding

    _, bucket = _open()
    found, unreadable = finding.look_at_results(bucket)
    warn_of_unreadable(unreadable)
    if as_json:
        data = [result.manifest.encode() | {"folder": result.folder} for result in found]
        _print_json([*data, *({"folder": result.folder, "path": result.path, "unreadable": result.reason} for result in unreadable)])
    elif found:
        display_results.print_results(_console(), found)
    elif not unreadable:
        say_empty(bucket, "There is no result yet")


@results.command("show")
@click.argument("result")
@json_option
def results_show(result: str, as_json: bool) -> None:
    """Show one result and where it came from.

    It is named by its job or its folder. Shown are also its table and its release, and what that was made of: code, tables, libraries.

    \b
    Example:
        scoring results show v2/2026/11/23
        scoring results show 20261123t101500z-score-9bfad3
    """
    from producers.display import results as display_results
    from producers.releases import finding as releases_finding
    from producers.results import finding

    _, bucket = _open()
    folder, manifest = finding.find_result(bucket, result)
    signed, release = finding.signature_of(bucket, folder), releases_finding.release_behind(bucket, manifest)
    if as_json:
        more = {"folder": folder, "signed": signed, "release_manifest": release.encode() if release else None}
        _print_json(manifest.encode() | more)
    else:
        display_results.print_result(_console(), folder, manifest, signed, release)


@results.command("revisions")
@click.argument("place")
@json_option
def results_revisions(place: str, as_json: bool) -> None:
    """List every result that was ever made at a place, the newest first.

    PLACE is a folder as `scoring results list` shows it. Each comes with the command that puts it back: its table is scored once more
    with its release.

    \b
    Example:
        scoring results revisions v2/2026/11/23
    """
    from producers.display import revisions as display_revisions
    from producers.results import revisions

    _, bucket = _open()
    folder, found, unreadable = revisions.find_revisions(bucket, place)
    warn_of_unreadable(unreadable)
    if as_json:
        entries = [revision.manifest.encode() | {"at_the_place": is_there} for revision, is_there in found]
        _print_json([*entries, *({"folder": result.folder, "path": result.path, "unreadable": result.reason} for result in unreadable)])
    else:
        display_revisions.print_revisions(_console(), folder, found)


@results.command("head")
@click.argument("result")
@click.option("-n", "count", type=click.IntRange(min=0), default=5, show_default=True, help="How many rows.")
@json_option
def results_head(result: str, count: int, as_json: bool) -> None:
    """Print the first rows of a result.

    \b
    Example:
        scoring results head v2/2026/11/23 -n 10
    """
    from producers.results import finding

    _, bucket = _open()
    folder, _manifest = finding.find_result(bucket, result)
    lines = finding.first_lines(bucket, folder, count)
    if as_json:
        names, *rows = csv.reader(lines)
        are_numbers = [name in NUMBERS for name in names]
        _print_json(
            [
                {name: json.loads(text) if is_number else text for name, text, is_number in zip(names, row, are_numbers, strict=True)}
                for row in rows
            ]
        )
    else:
        say("\n".join(lines))


@results.command("rejects")
@click.argument("result")
@click.option("-n", "count", type=click.IntRange(min=0), help="How many to list.  [default: 20, or all with --json]")
@click.option("--rows", "rows_file", type=click.Path(path_type=Path), help="Write the rejected rows into this csv file, to be mended.")
@json_option
def results_rejects(result: str, count: int | None, rows_file: Path | None, as_json: bool) -> None:
    """Show the rows that could not be scored.

    Of a result or of a job, also of one that failed or still runs.

    \b
    Example:
        scoring results rejects 20261123t101500z-score-9bfad3
        scoring results rejects 20261123t101500z-score-9bfad3 --rows mend.csv
        scoring score mend.csv --fix 20261123t101500z-score-9bfad3
    """
    from producers.display import results as display_results
    from producers.results import rejects

    _, bucket = _open()
    job_id, found = rejects.find_rejects(bucket, result)
    if as_json and rows_file is None:
        _print_json([vars(reject) for reject in itertools.islice(found, count)])
        return
    all_found = list(found)
    looked_at = rejects.looked_at(bucket, job_id)
    if rows_file is None or not all_found:
        display_results.print_rejects(_console(), job_id, all_found, 20 if count is None else count, looked_at)
        return
    written = rejects.write_rows(bucket, all_found, rows_file)
    if looked_at:
        say(f"Only {looked_at} have been looked at: there may be more.")
    say(f"{written:,} rows are in {rows_file}. Mend them there, leave reject_file and reject_line as they are, then type:")
    say(f"scoring score {rows_file} --fix {job_id}")


# --- what the commands share -------------------------------------------------------------------------------------------------


def _status_data(status: Any) -> dict[str, Any]:  # noqa: ANN401 - a JobStatus or an UnreadableJob, imported late
    from shared.jobs.folder import UnreadableJob

    if isinstance(status, UnreadableJob):
        return {"job": {"job_id": status.job_id}, "state": "unreadable", "reason": status.reason}
    outcome = status.outcome.encode() if status.outcome else None
    fields = {name: getattr(status, name) for name in ("state", "since", "reason", "chunks", "chunks_done")}
    return {"job": status.job.encode(), **fields, "outcome": outcome}


def after_enqueue(settings: Settings, bucket: "Bucket", done: "Enqueued", *, wait: bool, as_json: bool) -> None:
    """Say what became of a request, and follow its job to the end.

    Raises:
        RequestError: the request was made before, and what its job made is not what people use now.
    """
    if not done.fresh:
        say(f"The same request was made before: it is job {done.job_id}. To run it once more when it is done, add --again.", err=True)
        _refuse_outdated(settings, bucket, done.job_id, wait=wait, as_json=as_json)
    if done.problem is not None:
        say(f"Job {done.job_id} is written but not sent; it runs by itself once Redis is back.", err=True)
        _print_id(done, as_json=as_json)
        raise done.problem
    if not wait:
        _print_id(done, as_json=as_json)
        return
    if done.fresh:
        say(f"Job {done.job_id}", err=True)
    _follow(settings, bucket, done.job_id, as_json=as_json, joined=not done.fresh)


def _refuse_outdated(settings: Settings, bucket: "Bucket", job_id: str, *, wait: bool, as_json: bool) -> None:
    """Raise RequestError when what the job of a repeated request made was replaced since."""
    from producers.repeated_requests import changes_since

    changes = changes_since(settings, bucket, job_id)
    if not changes:
        return
    if as_json:
        _print_json({"job_id": job_id, "fresh": False, "changed_since": [vars(change) for change in changes]})
    elif not wait:
        say(job_id)
    steps = [f"Run it once more: {command_line('--again')}", *(change.next_step for change in changes if change.next_step)]
    raise RequestError(
        f"job {job_id} is done, but since then {'; '.join(change.sentence for change in changes)}", next_step="\n".join(steps)
    )


def _print_id(done: "Enqueued", *, as_json: bool) -> None:
    if as_json:
        _print_json({"job_id": done.job_id, "fresh": done.fresh})
    else:
        say(done.job_id)


def _follow(settings: Settings, bucket: "Bucket", job_id: str, *, as_json: bool, joined: bool = False) -> None:
    """Follow a job to its end and print what it made.

    Raises:
        RequestError: the job was ``joined`` by a repeated request, and what it made is not what people use now.
    """
    from producers.display import facts
    from producers.display import jobs as display_jobs
    from producers.display import releases as display_releases
    from producers.display.follow import follow
    from producers.releases import finding as releases_finding
    from producers.results.published import figures_of, outcome_now
    from shared.jobs.folder import JobFolder

    try:
        outcome = follow(bucket, job_id, settings.broker_url, _console(stderr=True))
    except JobFailedError:
        if as_json and (ended := JobFolder(bucket, job_id).outcome()):
            _print_json({"job_id": job_id, **ended.encode()})
        raise
    except KeyboardInterrupt:
        say(f"\nStopped following; the job goes on. Look again with: scoring jobs show {job_id} --follow", err=True)
        raise
    if joined:  # while it ran nobody could know what it would make
        _refuse_outdated(settings, bucket, job_id, wait=True, as_json=as_json)
    if as_json:
        figures = figures_of(bucket, JobFolder(bucket, job_id).job(), outcome)
        _print_json({"job_id": job_id, **outcome.encode(), **({"figures": figures} if figures else {})})
    else:
        facts.print_facts(_console(), display_jobs.outcome_facts(outcome_now(bucket, JobFolder(bucket, job_id).job(), outcome)))
        if trained := releases_finding.trained_by(bucket, job_id, outcome):
            display_releases.print_metrics(_console(), trained, trained.judged_on)


if __name__ == "__main__":
    main()
