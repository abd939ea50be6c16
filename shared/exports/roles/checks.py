"""Checks that roles which were corrected by hand fit an export."""

import pyarrow as pa
import pyarrow.compute as pc

from shared.errors import RequestError, TableError
from shared.exports.known_names import LEAKS
from shared.exports.roles.inference import refuse_exchanged
from shared.exports.roles.leaks import leak_by_values
from shared.exports.roles.roles_file import FEATURES, ColumnRole, Roles
from shared.exports.table import ExportTable

_SHOWN = 6


def check_roles(roles: Roles, export: ExportTable, path: str, *, anyway: bool = False) -> None:
    """Checks that roles fit an export.

    Args:
        roles: the roles from a file.
        export: the table.
        path: the name of the roles file for messages.
        anyway: True if a leak may be a feature.

    Raises:
        TableError: the roles are those of another table, or call a text a number.
        RequestError: a column that is known only with the conversions is a feature.
    """
    _check_names(roles, export, path)
    for name in (roles.clicks, roles.conversions, *(name for name, role in roles.columns.items() if role == ColumnRole.NUMBER)):
        if (
            name is not None
            and pa.types.is_string(export.table.schema.field(name).type)
            and export.table[name].null_count < len(export.table)
        ):
            text = pc.drop_null(export.table[name])[0].as_py()
            raise TableError(f"{path} says that {name} is a number, but {export.path} has texts there, such as {text[:60]!r}",
                             next_step=f"Correct its role in {path}.")  # fmt: skip
    refuse_exchanged(export, roles.clicks, roles.conversions)
    leaks = [name for name, role in roles.columns.items() if role in FEATURES and _is_leak(roles, export, name)]
    if leaks and not anyway:
        raise RequestError(
            f"{path} makes {leaks[0]} a feature, but it is known only with the conversions",
            next_step=f"Call it a leak in {path}, or, if it is known before a click is bought, give --anyway.",
        )


def _check_names(roles: Roles, export: ExportTable, path: str) -> None:
    lacking = [name for name in roles.names if name not in export.names]
    unknown = [name for name in export.names if name not in roles.names]
    if lacking:
        raise TableError(
            f"{export.path} lacks {_listed(lacking)}, which {path} names: is it the roles file of another table?",
            next_step="Write roles for this table: scoring columns FILE",
        )
    if unknown:
        raise TableError(
            f"{path} says nothing about {_listed(unknown)} of {export.path}",
            next_step=f"Add a role for each under `columns:` of {path}, such as ignore.",
        )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"the column{'s' if len(names) > 1 else ''} {', '.join(names[:_SHOWN])}{more}"


def _is_leak(roles: Roles, export: ExportTable, name: str) -> bool:
    if export.concepts.get(name) in LEAKS:
        return True
    return roles.conversions is not None and bool(leak_by_values(export.table, name, roles.clicks, roles.conversions))
