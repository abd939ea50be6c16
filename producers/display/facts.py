"""Lists of names and values, and facts that releases and results share."""

import itertools

from rich.console import Console

from producers.display.consoles import cell, print_line
from shared.catalog.manifests import ReleaseManifest
from shared.records import FileDigest
from shared.text.numbered import in_lines

FILES_SHOWN = 3
"""The number of files shown for a table that is a folder."""


def origin(release: ReleaseManifest) -> dict[str, str]:
    """The origin of a release: code, tables, libraries."""
    facts = {
        "trained": f"{release.created:%Y-%m-%d %H:%M:%S} UTC by job {release.job_id} in {release.seconds:.1f} s",
        "code": f"{release.definition}, sha256 {release.definition_sha256}",
    }
    for name, table in release.tables.items():
        facts |= {f"{name} table": f"{table.path}, {table.rows:,} rows", f"{name} files": digests(table.files)}
    return facts | {"libraries": ", ".join(f"{name} {version}" for name, version in release.libraries.items())}


def digests(files: dict[str, FileDigest]) -> str:
    """The digests of a table's files; of many files only the first."""
    shown = [f"{path.rpartition('/')[2]} sha256 {file.sha256}" for path, file in itertools.islice(files.items(), FILES_SHOWN)]
    return "; ".join(shown) + (f"; and {len(files) - FILES_SHOWN:,} more (--json names all)" if len(files) > FILES_SHOWN else "")


def print_facts(console: Console, facts: dict[str, str]) -> None:
    """Prints names and values, one per line, and numbered sentences in a line each; in a file nothing is cut off or folded."""
    width = max(map(len, facts))
    for name, value in facts.items():
        for number, line in enumerate(in_lines(value)):
            console.print(cell(f"{'' if number else name:<{width}}  "), style="dim", end="")
            print_line(console, line)
