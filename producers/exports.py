"""Reads exports of advertising platforms, and writes and checks their roles files."""

from dataclasses import dataclass
from pathlib import Path

from shared.errors import RequestError
from shared.exports.options import ReadOptions
from shared.exports.reading import read_export
from shared.exports.roles.checks import check_roles
from shared.exports.roles.inference import infer_roles
from shared.exports.roles.roles_file import ENDING, Roles, parse_roles, roles_text
from shared.exports.table import ExportTable

_MOST_BYTES = 256 * 1024


@dataclass(frozen=True, kw_only=True)
class ExportRoles:
    """An export and the roles of its columns."""

    export: ExportTable
    roles: Roles
    reasons: dict[str, str]
    repeated_rows: int = 0
    """Rows with the same keys as an earlier one."""


def write_roles(file: Path, options: ReadOptions, out: Path | None, *, replace: bool) -> tuple[ExportRoles, Path]:
    """Infers the roles of an export and writes them into a roles file.

    Raises:
        TableError: the export cannot be read, or its roles cannot be inferred.
        RequestError: the roles file is there already, or cannot be written.
    """
    path = out or file.with_name(f"{file.stem}{ENDING}")
    if path.exists() and not replace:
        raise RequestError(
            f"{path} is there already, and may have been corrected by hand",
            next_step=f"Check it: scoring columns {file} --roles {path}; or replace it with --replace.",
        )
    export = read_export(file, options)
    inferred = infer_roles(export)
    try:
        path.write_text(roles_text(inferred.roles, inferred.reasons), encoding="utf-8")
    except OSError as error:
        raise RequestError(f"{path} cannot be written: {error.strerror or error}", next_step="Name another file with --out.") from error
    found = ExportRoles(export=export, roles=inferred.roles, reasons=inferred.reasons, repeated_rows=inferred.repeated_rows)
    return found, path


def check_export(file: Path, roles_file: Path, options: ReadOptions, *, anyway: bool) -> ExportRoles:
    """Reads an export as a roles file says, and checks that the roles fit it; options that are set replace those of the file.

    Raises:
        TableError: the export cannot be read, or the roles are those of another table.
        RequestError: the roles file is invalid, or makes a column a feature that is known only with the conversions.
    """
    roles = read_roles(roles_file)
    read = roles.read.model_copy(update=options.model_dump(exclude_unset=True))
    export = read_export(file, read)
    check_roles(roles, export, str(roles_file), anyway=anyway)
    return ExportRoles(export=export, roles=roles, reasons={})


def read_roles(path: Path) -> Roles:
    """Reads a roles file of this machine; raises RequestError if it is missing or invalid."""
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise RequestError(f"the roles file {path} cannot be read: {error.strerror}", next_step="Check the path.") from error
    return parse_roles(text, str(path))
