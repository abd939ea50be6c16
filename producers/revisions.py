"""Every result that was ever made at a place, and the command that puts one of them back."""

import re
import shlex
from collections.abc import Sequence

from rich.console import Console

from producers.consoles import print_line
from producers.durations import ago
from producers.listing import print_list
from shared.bucket.interface import Bucket
from shared.catalog.manifests import OUTPUTS, ResultManifest
from shared.catalog.results import FoundResult, UnreadableResult, list_revisions, look_at_result
from shared.errors import RequestError

INPUTS = "data/predict/input/"

_DATED = re.compile(r"[^/]+/(\d{4})/(\d\d)/(\d\d)(?:/|$)")

Revision = tuple[FoundResult, bool]
"""A revision, and whether it is the one that lies at the place."""


def find_revisions(bucket: Bucket, place: str) -> tuple[str, list[Revision], list[UnreadableResult]]:
    """The folder of a place, its revisions, the newest first, and those that cannot be read.

    Raises:
        RequestError: the place has none.
    """
    folder = f"{OUTPUTS}/{place.strip('/').removeprefix(f'{OUTPUTS}/')}"
    at_place = look_at_result(bucket, folder)
    now = at_place.manifest.job_id if isinstance(at_place, FoundResult) else ""
    found: list[Revision] = []
    unreadable = [at_place] if isinstance(at_place, UnreadableResult) else []
    for revision in list_revisions(bucket, folder):
        if isinstance(revision, UnreadableResult):
            unreadable.append(revision)
        else:
            found.append((revision, revision.manifest.job_id == now))
    if not found and not unreadable:
        raise RequestError(f"there is no result at {folder} in the bucket {bucket.url}", next_step="List them with: scoring results list")
    return folder, found, unreadable


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
