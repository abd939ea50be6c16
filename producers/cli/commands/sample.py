"""The command ``sample``."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from producers.display.terminal import json_option, open_bucket_here, print_json, say
from shared.errors import RequestError

# numpy and pyarrow are imported when the command runs, so that --help is fast
if TYPE_CHECKING:
    from producers.sample.exports.platforms import Language, Platform
    from producers.sample.formats import Format

TABLE_ROWS, EXPORT_ROWS = 100_000, 5_000
SAMPLE_MARK = "made-up.txt"
"""A file next to made-up tables; ``sample`` replaces only tables that have it."""


@click.command()
@click.option("--rows", type=int, help="Rows of the table to score, or of the export.  [default: 100,000; of an export 5,000]")
@click.option("--train-rows", type=int, help="Rows of the training table.  [default: as --rows, at most 100,000]")
@click.option(
    "--weeks", type=click.IntRange(1, 52), default=1, show_default=True, help="Weeks in the training table; eval is the next one."
)
@click.option("--seed", default=1, show_default=True, help="The same seed makes the same tables.")
@click.option(
    "--as",
    "platform",
    type=click.Choice(["google-ads", "microsoft-ads", "amazon-sp"]),
    help="Write exports of this platform instead, in all its shapes; needs --out.",
)
@click.option("--language", type=click.Choice(["en", "de", "fr", "es"]), default="en", show_default=True, help="Language of the exports.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder to write into.  [default: today's folders of the bucket]")
@click.option("--format", "table_format", type=click.Choice(["csv", "csv.gz", "parquet"]), default="csv.gz", show_default=True)
@json_option
def sample(
    rows: int | None,
    train_rows: int | None,
    weeks: int,
    seed: int,
    platform: "Platform | None",
    language: "Language",
    out: Path | None,
    table_format: "Format",
    as_json: bool,
) -> None:
    """Write made-up tables with a known truth: train, eval and one to score.

    \b
    Example:
        scoring sample --rows 1000000 --seed 7
        scoring sample --rows 20000 --weeks 4
        scoring sample --rows 5000 --out /tmp/tables --format csv
        scoring sample --as google-ads --language de --out /tmp/exports
    """
    import tempfile

    from producers.sample.tables import write_tables

    if platform is not None:
        paths = _write_exports(platform, language, rows or EXPORT_ROWS, seed, out)
        print_json(paths) if as_json else say("\n".join(paths))
        return
    rows = TABLE_ROWS if rows is None else rows
    if out is not None:
        made = write_tables(out, rows, seed, train_rows=train_rows, weeks=weeks, format=table_format)
        paths = [str(table.path) for table in vars(made).values()]
    else:
        _, bucket = open_bucket_here()
        today = f"{datetime.now().astimezone():%Y/%m/%d}"
        with tempfile.TemporaryDirectory() as aside:
            made = write_tables(Path(aside), rows, seed, train_rows=train_rows, weeks=weeks, format=table_format)
            paths = []
            for table, folder in ((made.train, "train"), (made.evaluation, "train"), (made.prediction_input, "predict/input")):
                path = f"data/{folder}/{today}/{table.path.name}"
                mark = f"data/{folder}/{today}/{SAMPLE_MARK}"
                if bucket.exists(path) and not bucket.exists(mark):
                    raise RequestError(f"{path} is there and was not made up by this command", next_step="Choose another place with --out.")
                bucket.write(mark, b"The tables in this folder are made up by: scoring sample\n")
                bucket.upload(table.path, path)
                paths.append(path)
    if as_json:
        print_json(paths)
    else:
        say("\n".join(paths))


def _write_exports(platform: "Platform", language: "Language", rows: int, seed: int, out: Path | None) -> list[str]:
    from producers.sample.exports.writing import write_exports

    if out is None:
        raise RequestError("made-up exports are files of this machine", next_step="Name their folder with --out DIR.")
    return [str(path) for path in write_exports(out, platform, language, rows, seed)]
