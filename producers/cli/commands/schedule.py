"""The commands under ``scoring schedule``."""

import functools
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import click

from producers.cli.options import Day
from producers.display.terminal import console, json_option, open_bucket_here, print_json, say, warn
from shared.errors import JobFailedError, RequestError

# the schedule imports celery, which is slow
if TYPE_CHECKING:
    from producers.schedule.run_states import EntryLine
    from shared.bucket.interface import Bucket
    from shared.settings import Settings

DAY = Day()


@click.group()
def schedule() -> None:
    """Check and list the schedule, and run its entries by hand.

    The schedule is config/schedule.yaml in the bucket. Beat runs it; changes take effect without a restart.
    """


@schedule.command()
@json_option
def check(as_json: bool) -> None:
    """Print what is wrong with config/schedule.yaml.

    \b
    Example:
        scoring schedule check
    """
    from producers.display.listing import print_list
    from producers.schedule.run_states import check_models, read_entries
    from producers.schedule.schedule_file import SCHEDULE

    settings, bucket = open_bucket_here()
    entries, problems, digest = read_entries(bucket)
    if not digest:
        raise RequestError(f"there is no {SCHEDULE} in the bucket {bucket.url}", next_step="See docs/how-to/schedule.md for one.")
    problems += check_models(settings, bucket, entries)
    if as_json:
        print_json([vars(problem) for problem in problems])
    elif problems:
        rows = [(problem.entry, problem.field, problem.wrong, problem.write) for problem in problems]
        print_list(console(), ("entry", "field", "what is wrong", "what to write"), rows)
    else:
        say(f"{SCHEDULE} is right; its entries: {', '.join(entry.name for entry in entries) or 'none'}")
    if problems:
        number = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        raise RequestError(
            f"{SCHEDULE} has {number}",
            next_step=f"Correct {'them' if len(problems) > 1 else 'it'}, then type again: scoring schedule check",
        )


@schedule.command("list")
@json_option
def list_entries(as_json: bool) -> None:
    """List the entries: the last run, its outcome, and the next run.

    \b
    Example:
        scoring schedule list
    """
    from producers.display.listing import print_list
    from producers.schedule.run_states import inspect_entry, read_entries
    from producers.schedule.schedule_file import SCHEDULE

    _, bucket = open_bucket_here()
    entries, problems, _ = read_entries(bucket)
    lines = [inspect_entry(bucket, entry, datetime.now(UTC)) for entry in entries]
    if as_json:
        print_json([line.encode() for line in lines])
    elif lines:
        columns = ("entry", "what", "times", "last", "outcome", "next")
        print_list(console(), columns, [_cells(line) for line in lines], whole=columns)
    elif not problems:
        say(f"There is no entry in {SCHEDULE} of the bucket {bucket.url}")
    if problems:
        what, it = ("1 problem keeps", "it") if len(problems) == 1 else (f"{len(problems)} problems keep", "them")
        which = "other" if lines else "all"
        say(f"{what} {which} entries from running. See {it} with: scoring schedule check", err=True)


@schedule.command()
@click.argument("name")
@click.option(
    "--date",
    "moment",
    required=True,
    help="Logical date of the run, like 2026-11-23 or 2026-11-23T14:00, by the clock of the entry unless it has an offset.",
)
@click.option("--again", is_flag=True, help="Run it also if it is already done.")
@click.option("--wait/--no-wait", default=True, help="Follow the job to its end (the default), or return at once.")
@json_option
def run(name: str, moment: str, again: bool, wait: bool, as_json: bool) -> None:
    """Run an entry for one of its dates now.

    A run that is done or still open is skipped; a failed run is started again.

    \b
    Example:
        scoring schedule run daily --date 2026-11-23
        scoring schedule run hourly --date 2026-11-23T14:00
    """
    from producers.cli.after_enqueue import after_enqueue
    from producers.schedule.run_states import find_entry
    from producers.schedule.runs import one_run
    from producers.schedule.scheduler import ask_for

    settings, bucket = open_bucket_here()
    chosen = one_run(find_entry(bucket, name), moment)
    after_enqueue(settings, bucket, ask_for(settings, bucket, chosen, again=again), wait=wait, as_json=as_json)


@schedule.command()
@click.argument("name")
@click.option("--from", "first", required=True, type=DAY, help="The first day.")
@click.option("--to", "last", required=True, type=DAY, help="The last day.")
@click.option("--at-once", type=click.IntRange(min=1), default=1, show_default=True, help="How many jobs may be open at the same time.")
@click.option("--again", is_flag=True, help="Run also what is already done.")
@json_option
def backfill(name: str, first: date, last: date, at_once: int, again: bool, as_json: bool) -> None:
    """Run an entry for all its dates from one day to another, the oldest first.

    It waits while other jobs of its kind are open, so today's jobs come first. Ctrl-C stops it; the same command continues, because runs
    that are done are skipped.

    \b
    Example:
        scoring schedule backfill daily --from 2026-11-01 --to 2026-11-22
    """
    from producers.schedule import backfill as driver
    from producers.schedule.run_states import RunPhase, find_entry
    from producers.schedule.runs import runs_on
    from shared.jobs.states import JobState

    settings, bucket = open_bucket_here()
    runs = [run for run in runs_on(find_entry(bucket, name), first, last) if run.at <= datetime.now(UTC)]
    if not runs:
        raise RequestError(
            f"{name} has had no run from {first:%Y-%m-%d} to {last:%Y-%m-%d}", next_step="See its times with: scoring schedule list"
        )
    rows: list[dict[str, Any]] = []
    tell = functools.partial(say, err=True)
    for done, state, what in driver.backfill(settings, bucket, runs, at_once=at_once, again=again, say=tell):
        if state == RunPhase.DONE_BEFORE:
            _warn_of_replaced(settings, bucket, what)
        rows.append({"date": f"{done.local:%Y-%m-%dT%H:%M}", "state": state, "job": what})
        if not as_json:
            say(f"{done.local:%Y-%m-%d %H:%M}  {state}  {what}")
    if as_json:
        print_json(rows)
    bad = [row for row in rows if row["state"] not in (JobState.DONE, RunPhase.DONE_BEFORE)]
    if bad:
        raise JobFailedError(
            f"{len(bad)} of {len(rows)} runs of {name} are not done",
            next_step="Correct what is wrong, then repeat the command: what is done is skipped.",
        )


def _warn_of_replaced(settings: "Settings", bucket: "Bucket", job_id: str) -> None:
    """Warns if another result has replaced that of a run that is skipped because it was done before."""
    from producers.enqueue.repeated_requests import changes_since

    for change in changes_since(settings, bucket, job_id):
        if change.what == "result":
            warn(f"job {job_id} was done before, but {change.sentence}; with --again it is run once more")


def _cells(line: "EntryLine") -> tuple[str, ...]:
    """The cells of an entry in the list; times are in its own time zone."""
    entry, state = line.entry, line.state
    what = f"score {entry.score} with {entry.model}" if entry.score else f"train {entry.train}"
    reason = f": {state.reason}" if state and state.reason and not state.job_id else ""
    outcome = f"{state.state} {state.job_id}".strip() + reason if state else ""
    following = f"{line.next.local:%Y-%m-%d %H:%M}" if line.next else "never" if entry.enabled else "switched off"
    last = f"{line.last.local:%Y-%m-%d %H:%M}" if line.last else ""
    return entry.name, what, f"{entry.cron} {entry.time_zone}", last, outcome, following
