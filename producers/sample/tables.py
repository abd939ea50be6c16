"""The tables of a sample: checked, written whole or not at all."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from producers.sample.formats import Format, write
from shared.errors import RequestError

MOST_TRAIN_ROWS = 100_000
"""Rows of the train table when the caller sets no number and the table to score has more."""


@dataclass(frozen=True, kw_only=True)
class WrittenTable:
    """One table that is now in place."""

    path: Path
    rows: int


@dataclass(frozen=True, kw_only=True)
class SampleTables:
    """The three tables of one sample; ``train`` carries clicks and conversions of week 1 (or more), ``evaluation`` of the week after."""

    train: WrittenTable
    evaluation: WrittenTable
    prediction_input: WrittenTable


def write_tables(  # noqa: PLR0913 - each says one thing of the tables
    out: Path,
    rows: int,
    seed: int,
    *,
    train_rows: int | None = None,
    eval_share: float = 0.25,
    weeks: int = 1,
    format: Format = "csv.gz",
) -> SampleTables:
    """Write ``train``, ``eval`` and ``prediction_input`` in the raw layout into the folder ``out``, which is made if need be.

    All three describe the same keywords, numbered upwards from 1; a week's table leaves out about a quarter of their rows.

    Args:
        out: folder; tables of the same name in it are replaced, each one whole.
        rows: rows of the table to score, ``prediction_input``, which has neither week nor clicks nor conversions.
        seed: the same seed gives the same rows, whatever the other arguments, and the same bytes from the same libraries on the
            same kind of processor (the compression has its own ways on each).
        train_rows: rows of ``train``; without it ``rows``, but no more than ``MOST_TRAIN_ROWS``.
        eval_share: rows of ``eval`` as a share of those of ``train``, above 0 and at most 1; at least one row is written.
        weeks: how many weeks ``train`` holds, each about as many rows; ``eval`` is of the week after them.
        format: how the tables are stored; it is also the ending of their names.

    Raises:
        RequestError: a number is out of its range, or ``out`` cannot be written.
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
    """Write one table of exactly ``rows`` rows in the raw layout, ascending by week, keyword, device; it is there whole or not at all.

    Args:
        path: file to write; its name ends in ``.csv``, ``.csv.gz`` or ``.parquet``. Its folder is made if need be.
        rows: rows to write; the last keyword may lose a device to the limit.
        seed: the truth and the keywords; see ``write_tables``.
        week: adds the columns ``week``, ``Clicks`` and ``Conversions`` of this week (1 to 53); without it the table is one to score.
        weeks: so many weeks, the last of which is ``week``, each with about as many rows.

    Raises:
        RequestError: ``rows``, ``week`` or ``weeks`` is out of its range, the name has another ending, or the file cannot be written.
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
    return RequestError(f"{name!r} is none of the formats a table can have: {known}", next_step=f"Name one of {known}.")
