"""Writes the tables of a sample, each whole or not at all."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from producers.sample.formats import Format, write
from shared.errors import RequestError

MOST_TRAIN_ROWS = 100_000
"""Rows of the training table when the caller sets no number and the table to score has more."""


@dataclass(frozen=True, kw_only=True)
class WrittenTable:
    """A table that was written."""

    path: Path
    rows: int


@dataclass(frozen=True, kw_only=True)
class SampleTables:
    """The three tables of a sample: ``train`` has clicks and conversions of week 1 (or more), ``evaluation`` of the week after."""

    train: WrittenTable
    evaluation: WrittenTable
    prediction_input: WrittenTable


def write_tables(  # noqa: PLR0913 - each argument sets one property of the tables
    out: Path,
    rows: int,
    seed: int,
    *,
    train_rows: int | None = None,
    eval_share: float = 0.25,
    weeks: int = 1,
    format: Format = "csv.gz",
) -> SampleTables:
    """Writes ``train``, ``eval`` and ``prediction_input`` in the raw layout into the folder ``out``, which is created if needed.

    All three contain the same keywords, numbered from 1; the table of a week leaves out about a quarter of their rows.

    Args:
        out: folder; existing tables of the same names are replaced, each as a whole.
        rows: rows of the table to score, ``prediction_input``, which has neither week nor clicks nor conversions.
        seed: equal seeds give equal rows for any other arguments, and equal bytes with the same libraries on the same kind of processor
            (the compression differs between processors).
        train_rows: rows of ``train``; by default ``rows``, but at most ``MOST_TRAIN_ROWS``.
        eval_share: rows of ``eval`` as a share of those of ``train``, above 0 and at most 1; at least one row is written.
        weeks: number of weeks in ``train``, each with about as many rows; ``eval`` holds the week after them.
        format: storage format of the tables, and the ending of their names.

    Raises:
        RequestError: a number is out of range, or ``out`` cannot be written.
    """
    if not 0 < eval_share <= 1:
        raise RequestError(
            f"the share of rows to evaluate on is {eval_share}, but must be above 0 and at most 1",
            next_step="Give a share such as 0.25.",
        )
    if format not in get_args(Format):
        raise _unknown_format(format)
    if train_rows is None:
        train_rows = min(rows, MOST_TRAIN_ROWS)
    _check_rows(rows)
    _check_rows(train_rows)
    eval_rows = max(1, round(train_rows * eval_share))
    return SampleTables(
        train=write_table(out / f"train.{format}", train_rows, seed, week=weeks, weeks=weeks),
        evaluation=write_table(out / f"eval.{format}", eval_rows, seed, week=weeks + 1),
        prediction_input=write_table(out / f"prediction_input.{format}", rows, seed),
    )


def write_table(path: Path, rows: int, seed: int, *, week: int | None = None, weeks: int = 1) -> WrittenTable:
    """Writes a table of exactly ``rows`` rows in the raw layout, sorted by week, keyword and device; whole or not at all.

    Args:
        path: file to write; its name ends in ``.csv``, ``.csv.gz`` or ``.parquet``. Its folder is created if needed.
        rows: rows to write; the last keyword may lose a device to this limit.
        seed: determines the truth and the keywords; see ``write_tables``.
        week: adds the columns ``week``, ``Clicks`` and ``Conversions`` of this week (1 to 53); None for a table to score.
        weeks: number of weeks, of which ``week`` is the last, each with about as many rows.

    Raises:
        RequestError: ``rows``, ``week`` or ``weeks`` is out of range, the name has another ending, or the file cannot be written.
    """
    _check_rows(rows)
    if week is not None and not 1 <= week <= 53:
        raise RequestError(f"the week is {week}, but a year has the weeks 1 to 53", next_step="Name one of those.")
    if week is not None and not 1 <= weeks <= min(week, rows):
        raise RequestError(
            f"{weeks} weeks were asked for, but {rows} rows up to week {week} hold 1 to {min(week, rows)}", next_step="Ask for fewer weeks."
        )
    if not path.name.endswith(tuple(f".{ending}" for ending in get_args(Format))):
        raise _unknown_format(path.name)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with unfinished.open("wb") as file:
                write(file, path.name, rows, seed, [None] if week is None else range(week - weeks + 1, week + 1))
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise RequestError(
            f"the table {path} cannot be written: {error.strerror or error}",
            next_step="Name a folder that can be written and has room, with --out DIR.",
        ) from error
    return WrittenTable(path=path, rows=rows)


def _check_rows(rows: int) -> None:
    if rows < 1:
        raise RequestError(f"a table of {rows} rows was asked for, but a table has at least one", next_step="Ask for 1 or more.")


def _unknown_format(name: str) -> RequestError:
    known = ", ".join(get_args(Format))
    return RequestError(f"{name!r} is not a table format; the formats are: {known}", next_step=f"Name one of {known}.")
