"""What the revisions of a result look like in a terminal."""

import re
import shlex
from collections.abc import Sequence

from rich.console import Console

from producers.display.consoles import print_line
from producers.display.listing import print_list
from producers.durations import ago
from producers.results.revisions import Revision
from shared.catalog.manifests import OUTPUTS, ResultManifest

INPUTS = "data/predict/input/"

_DATED = re.compile(r"[^/]+/(\d{4})/(\d\d)/(\d\d)(?:/|$)")


def print_revisions(console: Console, folder: str, revisions: Sequence[Revision]) -> None:
    """One record a revision, then how to put the newest one back that is not at the place."""
    columns = ("job", "release", "finished", "rows", "rejected", "table", "")
    rows = [
        [
            revision.manifest.job_id,
            revision.manifest.release,
            ago(revision.manifest.finished),
            f"{revision.manifest.rows_scored:,}",
            f"{revision.manifest.rows_rejected:,}",
            revision.manifest.table.path,
            "at the place" if is_there else "",
        ]
        for revision, is_there in revisions
    ]
    print_list(console, columns, rows, whole=columns)
    others = [revision for revision, is_there in revisions if not is_there]
    if others:
        console.print()
        print_line(console, f"Put back the result of job {others[0].manifest.job_id} by scoring its table once more:")
        print_line(console, putting_back(others[0].manifest, folder))


def putting_back(manifest: ResultManifest, folder: str) -> str:
    """The command that makes this result once more, at the same place."""
    words = ["scoring", "score", manifest.table.path, "--model", manifest.release]
    dated = _DATED.match(folder.removeprefix(f"{OUTPUTS}/"))
    if dated and not manifest.table.path.startswith(INPUTS):
        words += ["--date", "-".join(dated.groups())]
    if manifest.interval:
        words.append("--interval")
    return shlex.join([*words, "--again"])
