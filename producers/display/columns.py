"""Shows how an export was read and what its columns are for."""

from pathlib import Path
from typing import Any

from rich.table import Table

from producers.display.consoles import cell
from producers.display.terminal import console, say
from producers.exports import ExportRoles
from shared.exports.describing import describe_leaks, describe_outcomes, describe_reading


def print_roles(found: ExportRoles, path: Path) -> None:
    """Prints the reading, the outcomes, and a table of the columns with their roles and reasons."""
    roles = found.roles
    say(describe_reading(found.export))
    say(describe_outcomes(found.export, roles))
    if leaks := describe_leaks(roles, str(path)):
        say(leaks)
    table = Table(box=None, pad_edge=False)
    for title in ("column", "role", "reason"):
        table.add_column(title, overflow="fold")
    for name in found.export.names:
        table.add_row(cell(name), _role(found, name), cell(found.reasons.get(name, "")))
    console().print(table)
    if found.repeated_rows:
        say(f"{found.repeated_rows:,} rows have the same {', '.join(roles.keys)} as an earlier row.")


def _role(found: ExportRoles, name: str) -> str:
    roles = found.roles
    if name in (roles.clicks, roles.conversions):
        return "clicks" if name == roles.clicks else "conversions"
    marks = [mark for mark, is_so in (("keyword", name == roles.keyword), ("key", name in roles.keys)) if is_so]
    return ", ".join([roles.columns[name], *marks])


def facts_of(found: ExportRoles, path: Path) -> dict[str, Any]:
    """The same as JSON."""
    export = found.export
    return {
        "file": export.path,
        "roles_file": str(path),
        "rows": len(export.lines),
        "totals": {"lines": export.totals.lines, "agreeing": dict(export.totals.agreeing)},
        "roles": found.roles.model_dump(mode="json"),
        "reasons": found.reasons,
        "repeated_rows": found.repeated_rows,
        "notes": list(export.notes),
    }
