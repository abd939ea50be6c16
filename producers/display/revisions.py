"""Prints the revisions of a result in a terminal."""

from collections.abc import Sequence

from rich.console import Console

from producers.display.consoles import print_line
from producers.display.listing import print_list
from producers.durations import ago
from producers.results.revisions import Revision


def print_revisions(console: Console, revisions: Sequence[Revision]) -> None:
    """Prints one record per revision, then the command that restores each one that is not at the place."""
    columns = ("job", "release", "finished", "rows", "rejected", "table", "")
    rows = [
        [
            revision.found.manifest.job_id,
            revision.found.manifest.release,
            ago(revision.found.manifest.finished),
            f"{revision.found.manifest.rows_scored:,}",
            f"{revision.found.manifest.rows_rejected:,}",
            revision.found.manifest.table.path,
            "at the place" if revision.put_back is None else "",
        ]
        for revision in revisions
    ]
    print_list(console, columns, rows, whole=columns)
    for revision in revisions:
        if revision.put_back is None:
            continue
        job_id = revision.found.manifest.job_id
        console.print()
        if revision.put_back.command:
            print_line(console, f"Put back the result of job {job_id} by scoring its table once more:")
            print_line(console, revision.put_back.command)
        else:
            print_line(console, f"The result of job {job_id} cannot be made once more: {revision.put_back.why_not}")
