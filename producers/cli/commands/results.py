"""The commands under ``scoring results``."""

import csv
import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from producers.cli.commands import channels
from producers.display.terminal import (
    console,
    json_option,
    open_bucket_here,
    print_json,
    say,
    say_empty,
    warn,
    warn_of_unreadable,
)

if TYPE_CHECKING:
    from producers.results.restoring import RestoreAdvice

NUMBERS = ("entity_id", "device", "cr", "cr_low", "cr_high")
"""Columns of a result that hold numbers; a definition's own keys are text."""


@click.group()
def results() -> None:
    """List and show results; decide about held ones; move channels."""


for command in channels.COMMANDS:
    results.add_command(command)


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

    _, bucket = open_bucket_here()
    found, unreadable = finding.inspect_results(bucket)
    warn_of_unreadable(unreadable)
    if as_json:
        data = [result.manifest.encode() | {"folder": result.folder} for result in found]
        print_json([*data, *({"folder": result.folder, "path": result.path, "unreadable": result.reason} for result in unreadable)])
    elif found:
        display_results.print_results(console(), found)
    elif not unreadable:
        say_empty(bucket, "There is no result yet")


@results.command("show")
@click.argument("result")
@json_option
def results_show(result: str, as_json: bool) -> None:
    """Show one result and where it came from.

    RESULT is a job, a folder or a channel, which means the result that it shows now. Shows also its table and its release, with the code,
    tables and libraries that made the release.

    \b
    Example:
        scoring results show v2/2026/11/23
        scoring results show 20261123t101500z-score-9bfad3
    """
    from producers.display import results as display_results
    from producers.releases import finding as releases_finding
    from producers.results import finding

    _, bucket = open_bucket_here()
    folder, manifest = finding.find_result(bucket, result)
    signed, release = finding.signature_of(bucket, folder), releases_finding.release_of_result(bucket, manifest)
    if as_json:
        more = {"folder": folder, "signed": signed, "release_manifest": release.encode() if release else None}
        print_json(manifest.encode() | more)
    else:
        display_results.print_result(console(), folder, manifest, signed, release)
    if release is not None and release.forced:
        warn(f"the release {release.release} was {release.forced_in_words}")


@results.command("revisions")
@click.argument("place")
@json_option
def results_revisions(place: str, as_json: bool) -> None:
    """List every result that was ever made at a place, the newest first.

    PLACE is a folder as `scoring results list` shows it. Each revision that is not at the place comes with the command that makes it once
    more, or with the reason why scoring again would give another result.

    \b
    Example:
        scoring results revisions v2/2026/11/23
    """
    from producers.display import revisions as display_revisions
    from producers.results import revisions

    _, bucket = open_bucket_here()
    _folder, found, unreadable = revisions.find_revisions(bucket, place)
    warn_of_unreadable(unreadable)
    if as_json:
        entries = [revision.found.manifest.encode() | _put_back_data(revision.put_back) for revision in found]
        print_json([*entries, *({"folder": result.folder, "path": result.path, "unreadable": result.reason} for result in unreadable)])
    else:
        display_revisions.print_revisions(console(), found)


def _put_back_data(put_back: "RestoreAdvice | None") -> dict[str, Any]:
    if put_back is None:
        return {"at_the_place": True}
    kind = {"put_back": put_back.command} if put_back.command else {"put_back_not": put_back.why_not}
    return {"at_the_place": False} | kind


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

    _, bucket = open_bucket_here()
    folder, _manifest = finding.find_result(bucket, result)
    lines = finding.first_lines(bucket, folder, count)
    if as_json:
        names, *rows = csv.reader(lines)
        are_numbers = [name in NUMBERS for name in names]
        print_json(
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
@click.option("--rows", "rows_file", type=click.Path(path_type=Path), help="Write the rejected rows into this csv file, to be corrected.")
@json_option
def results_rejects(result: str, count: int | None, rows_file: Path | None, as_json: bool) -> None:
    """Show the rows that could not be scored.

    RESULT is a result or a job, also one that failed or still runs.

    \b
    Example:
        scoring results rejects 20261123t101500z-score-9bfad3
        scoring results rejects 20261123t101500z-score-9bfad3 --rows fixed.csv
        scoring score fixed.csv --fix 20261123t101500z-score-9bfad3
    """
    from producers.display import results as display_results
    from producers.results import rejects

    _, bucket = open_bucket_here()
    job_id, found = rejects.find_rejects(bucket, result)
    if as_json and rows_file is None:
        print_json([vars(reject) for reject in itertools.islice(found, count)])
        return
    all_found = list(found)
    examined = rejects.examined_share_in_words(bucket, job_id)
    if rows_file is None or not all_found:
        display_results.print_rejects(console(), job_id, all_found, 20 if count is None else count, examined)
        return
    written = rejects.write_rows(bucket, all_found, rows_file)
    if examined:
        say(f"Only {examined} have been examined: there may be more.")
    rows, them = ("1 row is", "it") if written == 1 else (f"{written:,} rows are", "them")
    say(f"{rows} in {rows_file}. Correct {them} there, leave reject_file and reject_line as they are, then type:")
    say(f"scoring score {rows_file} --fix {job_id}")
