"""Writes every changed row of a comparison to a csv file."""

import csv
from pathlib import Path

from producers.channels.changed_rows import ChangedRow
from producers.channels.differences import Differences, compare
from producers.results.csv_files import disarmed, new_file
from shared.guard.key_forms import with_keys_of_one_form
from shared.prediction_index import PredictionIndex

HEADER = ("what", "key", "device", "cr_before", "cr_now", "clicks", "file", "line", "features")


def compare_into(out: Path, old: PredictionIndex, new: PredictionIndex, *, top: int, by_more_than: float) -> Differences:
    """Compares two results, and writes each moved, lost and new row to a new file, one at a time.

    Raises:
        RequestError: the file already exists, or cannot be written.
        OutputError: the disk is full.
    """
    old, new = with_keys_of_one_form(old, new)
    with new_file(out) as target:
        writer = csv.writer(target, lineterminator="\n")
        writer.writerow(HEADER)

        def write(row: ChangedRow) -> None:
            key = row.key if new.has_whole_keys else disarmed(row.key)
            rates = (_text(row.rate_before), _text(row.rate_now), _text(row.clicks))
            line = "" if row.line is None else row.line
            writer.writerow((row.what, key, row.device, *rates, disarmed(row.file or ""), line, row.features or ""))

        return compare(old, new, top=top, by_more_than=by_more_than, write=write)


def _text(number: float | None) -> str:
    """The shortest text that reads back to the same number; empty for none."""
    return "" if number is None else repr(number)
