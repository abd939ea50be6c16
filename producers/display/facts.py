"""A few facts, one below the other, and what releases and results say alike."""

import itertools

from rich.console import Console

from producers.display.consoles import cell, print_line
from shared.catalog.manifests import ReleaseManifest
from shared.records import FileDigest

FILES_SHOWN = 3
"""Of a table that is a folder."""


def origin(release: ReleaseManifest) -> dict[str, str]:
    """What a release was made of: code, tables, libraries."""
    facts = {
        "trained": f"{release.created:%Y-%m-%d %H:%M:%S} UTC by job {release.job_id} in {release.seconds:.1f} s",
        "code": f"{release.definition}, sha256 {release.definition_sha256}",
    }
    for name, table in release.tables.items():
        facts |= {f"{name} table": f"{table.path}, {table.rows:,} rows", f"{name} files": digests(table.files)}
    return facts | {"libraries": ", ".join(f"{name} {version}" for name, version in release.libraries.items())}


def digests(files: dict[str, FileDigest]) -> str:
    """The digest of each file of a table, the first ones of many."""
    shown = [f"{path.rpartition('/')[2]} sha256 {file.sha256}" for path, file in itertools.islice(files.items(), FILES_SHOWN)]
    return "; ".join(shown) + (f"; and {len(files) - FILES_SHOWN:,} more (--json names all)" if len(files) > FILES_SHOWN else "")


def print_facts(console: Console, facts: dict[str, str]) -> None:
    """Names and values, one below the other; nothing is cut off or folded when it goes to a file."""
    width = max(map(len, facts))
    for name, value in facts.items():
        console.print(cell(f"{name:<{width}}  "), style="dim", end="")
        print_line(console, value)
