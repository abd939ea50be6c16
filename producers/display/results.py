"""Prints results in a terminal."""

from collections.abc import Sequence

from rich.console import Console

from producers.display.consoles import print_line
from producers.display.facts import digests, origin, print_facts
from producers.display.listing import print_list
from producers.durations import ago
from producers.results.rejects import Rejected, count_reasons
from shared.catalog.manifests import OUTPUTS, PREDICTIONS, REJECTS, ReleaseManifest, ResultManifest
from shared.catalog.results import FoundResult
from shared.signatures import Signature


def print_results(console: Console, results: Sequence[FoundResult]) -> None:
    """Prints one record per result."""
    columns = ("result", "release", "finished", "rows", "rejected", "job")
    print_list(console, columns, [_result_cells(result) for result in results], whole=columns)


def _result_cells(result: FoundResult) -> list[str]:
    manifest = result.manifest
    return [
        result.folder.removeprefix(f"{OUTPUTS}/"),
        manifest.release,
        ago(manifest.finished),
        f"{manifest.rows_scored:,}",
        f"{manifest.rows_rejected:,}",
        manifest.job_id,
    ]


def print_result(console: Console, folder: str, manifest: ResultManifest, signed: Signature, release: ReleaseManifest | None) -> None:
    """Prints all details of a result and of its release."""
    facts = {
        "result": f"{folder}/{PREDICTIONS}",
        "release": manifest.release,
        "table": manifest.table.path,
        "its files": digests(manifest.table.files),
        **({"fixes": manifest.fixes} if manifest.fixes else {}),
        **({"fixed rows": manifest.fixed_rows.sha256} if manifest.fixed_rows else {}),
        "rows in": f"{manifest.rows_in:,}",
        "scored": f"{manifest.rows_scored:,}",
        "rejected": f"{manifest.rows_rejected:,}" + (f" (see {folder}/{REJECTS})" if manifest.rejects else ""),
        "set to 0 or 1": f"{manifest.rows_clipped:,}",
        **({"repeated keys": manifest.repeated} if manifest.repeated else {}),
        "took": f"{manifest.seconds:.1f} s in {manifest.chunks} chunks, finished {manifest.finished:%Y-%m-%d %H:%M:%S} UTC",
        "rows per second": f"{manifest.rows_in / max(manifest.seconds, 1e-3):,.0f}",
        "sha256 of the text": manifest.text_sha256,
        "signed": signed,
        "job": manifest.job_id,
    } | {
        f"mean cr, {name}": f"{device.mean_cr:.5f} over {device.rows:,} row{'' if device.rows == 1 else 's'}"
        for name, device in manifest.devices.items()
    }
    print_facts(console, facts)
    console.print()
    if release is None:
        print_line(console, f"The release {manifest.release} is no longer there, or its files are others.")
    else:
        print_facts(console, {"scored with": release.release} | origin(release))


def print_rejects(console: Console, job_id: str, rejects: Sequence[Rejected], count: int, examined: str = "") -> None:
    """Prints the number of rejects by reason, and the first ones.

    ``examined`` describes the examined part of the table, if not all of it.
    """
    if not rejects:
        print_line(console, f"Job {job_id} has no rejects{f' so far ({examined} have been examined)' if examined else ''}.")
        return
    reasons = [(f"{number:,}", column, reason) for column, reason, number in count_reasons(rejects)]
    print_list(console, ("rejects", "column", "reason"), reasons, whole=("rejects",))
    console.print()
    first = [(reject.file, str(reject.line), reject.column, reject.value, reject.reason) for reject in rejects[:count]]
    print_list(console, ("file", "line", "column", "value", "reason"), first)
    if len(rejects) > count:
        print_line(console, f"and {len(rejects) - count:,} more")
    if examined:
        console.print()
        print_line(console, f"Only {examined} have been examined: there may be more.")
    console.print()
    print_line(console, f"Get the rows to correct with: scoring results rejects {job_id} --rows FILE")
