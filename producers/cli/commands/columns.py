"""The command ``columns``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from producers.display.terminal import json_option, print_json, say, warn

# pyarrow is imported when the command runs, so that --help is fast
if TYPE_CHECKING:
    from shared.exports.options import ReadOptions

_SEPARATORS = {"comma": ",", "tab": "\t", "semicolon": ";", "bar": "|"}


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--roles", "roles_file", type=click.Path(path_type=Path), help="Check this roles file against FILE; nothing is written.")
@click.option("--out", type=click.Path(path_type=Path), help="Roles file to write.  [default: FILE without its ending, .roles.yaml]")
@click.option("--replace", is_flag=True, help="Replace a roles file that is there.")
@click.option("--anyway", is_flag=True, help="With --roles: let a column that is known only with the conversions be a feature.")
@click.option("--sheet", help="Sheet of a workbook.")
@click.option("--encoding", help="Encoding of a text, such as utf-8 or cp1252.")
@click.option("--separator", type=click.Choice(list(_SEPARATORS)), help="Separator of the columns of a text.")
@click.option("--decimal", type=click.Choice([".", ","]), help="Decimal mark of all numbers.")
@click.option("--header-line", type=click.IntRange(1, 10_000), help="Line with the names of the columns.")
@click.option(
    "--totals", type=click.Choice(["drop", "unchecked", "keep"]), help="Drop rows of totals and compare them, do not compare, or keep them."
)
@json_option
def columns(
    file: Path,
    roles_file: Path | None,
    out: Path | None,
    replace: bool,
    anyway: bool,
    as_json: bool,
    **reading: Any,  # noqa: ANN401 - the options of the reading, by name
) -> None:
    """Read the export of an advertising platform and show what each column is for.

    FILE is what Google Ads, Microsoft Ads, Amazon Ads or Meta exported: csv, tsv, txt, xlsx or xls.
    The roles are written to FILE.roles.yaml, where they can be corrected by hand.

    \b
    Example:
        scoring columns report.csv
        scoring columns report.xlsx --sheet "Search terms"
        scoring columns report.csv --roles report.roles.yaml     (after a correction)
    """
    from producers.display.columns import facts_of, print_roles
    from producers.exports import check_export, write_roles

    options = _options(reading)
    if roles_file is not None:
        found = check_export(file, roles_file, options, anyway=anyway)
        path = roles_file
    else:
        found, path = write_roles(file, options, out, replace=replace)
    if as_json:
        print_json(facts_of(found, path))
        return
    print_roles(found, path)
    for note in found.export.notes:
        warn(note)
    say(
        f"These roles fit {file.name}." if roles_file else f"Written: {path}. Correct it there, then: scoring columns {file} --roles {path}"
    )


def _options(reading: dict[str, Any]) -> "ReadOptions":
    from shared.exports.options import ReadOptions

    separator = _SEPARATORS.get(reading.pop("separator") or "")
    given = {name: value for name, value in {**reading, "separator": separator}.items() if value is not None}
    return ReadOptions(**given)
