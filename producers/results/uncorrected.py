"""Finds corrected rows that still hold the rejected value, as when only ``reject_value`` was edited."""

import csv
import io
import zlib
from pathlib import Path
from typing import IO

from producers.results.rejects import MARKS, Rejected, find_rejects, unpacked
from shared.bucket.interface import Bucket
from shared.errors import ScoringError
from shared.table_files import TEXT_FORMS, TextForm, kind_of

FILE, LINE = MARKS[:2]
MAX_READ_BYTES = 16 << 20
"""The largest file of corrected rows that a job accepts, in bytes."""


def warning_of_uncorrected(bucket: Bucket, job_id: str, rows: str) -> str:
    """A warning with the first row of the file ``rows`` that still holds its rejected value; empty when there is none.

    An unreadable file gives no warning: the job that reads it reports the error.
    """
    try:
        uncorrected = _uncorrected(bucket, job_id, rows)
    except (ScoringError, OSError, EOFError, zlib.error, csv.Error, ValueError):
        return ""
    if not uncorrected:
        return ""
    first = uncorrected[0]
    count = "1 row still holds" if len(uncorrected) == 1 else f"{len(uncorrected):,} rows still hold"
    return (
        f"{count} the value that was rejected, the first on line {first.line} of {first.file}: {first.column} {first.value!r}. "
        f"Correct the column {first.column} itself: what stands in the reject_ columns is not read."
    )


def _uncorrected(bucket: Bucket, job_id: str, rows: str) -> list[Rejected]:
    form = TEXT_FORMS.get(kind_of(rows) or "csv", TextForm())
    with _opened(bucket, rows) as raw, unpacked(raw, form) as opened:
        text = opened.read(MAX_READ_BYTES).decode("utf-8-sig", errors="replace")
    records = csv.DictReader(io.StringIO(text, newline=""), delimiter=form.separator)
    rejects = list(find_rejects(bucket, job_id)[1])
    by_line = {(reject.file, reject.line): reject for reject in rejects}
    only_file = rejects[0].file if rejects else ""
    found = []
    for record in records:
        line = (record.get(LINE) or "").strip()
        reject = by_line.get((record.get(FILE) or only_file, int(line) if line.isdecimal() else 0))
        if reject is not None and reject.value and record.get(reject.column) == reject.value:
            found.append(reject)
    return found


def _opened(bucket: Bucket, rows: str) -> IO[bytes]:
    """Opens the file where the job will find it: in the bucket, or else on this machine."""
    inside = None if Path(rows).is_absolute() else bucket.stat(rows.strip("/"))
    return bucket.open(inside.path) if inside else Path(rows).open("rb")
