"""Reads the file of fixed rows that a person sent, and finds the chunk of each row."""

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Sequence

from shared.bucket.interface import Bucket
from shared.bucket.unchanged import unchanged_while_read
from shared.errors import TableError
from shared.jobs.messages import ScoreJob
from shared.records import FileDigest
from shared.table_files import promised_kind
from workers.scoring.fixes.files import FixedRow, FixedRows, chunk_finder
from workers.scoring.plan import Plan
from workers.tables import schema
from workers.tables.formats import TableFormat, format_of

FILE, LINE = "reject_file", "reject_line"
"""The columns that name the reject which a row replaces."""

MAX_FIXED_BYTES = 16 << 20
"""Fixed rows are read into memory; with more of them, it is better to fix the table itself."""

MAX_DIGITS = 18
"""No line number of a table is longer."""


def read_fixed_rows(
    bucket: Bucket, job: ScoreJob, plan: Plan, table_schemas: Sequence[schema.TableSchema]
) -> tuple[FileDigest, dict[int, FixedRows]]:
    """Returns the digest of the file of fixed rows, and the rows by chunk."""
    path = job.fixed_rows or ""
    data, form = _read_whole(bucket, path), format_of(promised_kind(path))
    try:
        records = list(form.records(_text(data, path, form)))
    except csv.Error as error:
        raise TableError(f"{path} is not a csv table: {error}", next_step="Correct it and send it again.") from error
    columns = [name.strip() for name in records[0]] if records else []
    _check_columns(columns, path, table_schemas, job)
    chunk_of = chunk_finder(plan)
    by_chunk: dict[int, FixedRows] = {}
    for number, record in enumerate(records[1:], 2):
        if not record:
            continue
        if len(record) != len(columns):
            raise TableError(f"record {number} of {path} has {len(record)} values, the header {len(columns)}", next_step="Correct it.")
        values = dict(zip(columns, record, strict=True))
        line = int(text) if (text := values[LINE].strip()).isascii() and text.isdecimal() and len(text) < MAX_DIGITS else 0
        index = chunk_of(values.get(FILE, plan.files[0].path), line)
        if index is None:
            shown = ", ".join(f"{name} {values[name]!r}" for name in (FILE, LINE) if name in values)
            raise TableError(f"record {number} of {path} names no row of {job.table}: {shown}", next_step=how_to_get_rows(job))
        fixed = by_chunk.setdefault(index, {})
        file = plan.chunks[index].file
        if line in fixed:
            raise TableError(f"{path} fixes line {line} of {plan.files[file].path} twice", next_step="Keep one of the two.")
        table_schema = table_schemas[file]
        clicks = [_on_one_line(values[name]) for name in table_schema.clicks if columns.count(name) == 1]
        fixed[line] = FixedRow([_on_one_line(values[name]) for name in table_schema.needed], "".join(clicks))
    if not by_chunk:
        raise TableError(f"{path} has a header but no rows", next_step=how_to_get_rows(job))
    return FileDigest(sha256=hashlib.sha256(data).hexdigest(), size=len(data)), by_chunk


def _read_whole(bucket: Bucket, path: str) -> bytes:
    info = bucket.stat(path)
    if info is None:
        raise TableError(f"the fixed rows {path} are gone", next_step="Send them again.")
    with unchanged_while_read(bucket, info, "Send them again."), bucket.open(path) as raw:
        data = raw.read(MAX_FIXED_BYTES + 1)
    return _bounded(data, path)


def _text(data: bytes, path: str, form: TableFormat) -> str:
    with form.open_text(io.BytesIO(data), path) as text:
        return _bounded(text.read(MAX_FIXED_BYTES + 1), path).decode("utf-8-sig", errors="replace")


def _bounded(data: bytes, path: str) -> bytes:
    if len(data) > MAX_FIXED_BYTES:
        raise TableError(
            f"{path} holds more than {MAX_FIXED_BYTES >> 20} MB of fixed rows", next_step="Correct the table itself and score it again."
        )
    return data


def _check_columns(columns: Sequence[str], path: str, table_schemas: Sequence[schema.TableSchema], job: ScoreJob) -> None:
    wanted = [LINE, *([FILE] if len(table_schemas) > 1 else []), *(name for table_schema in table_schemas for name in table_schema.needed)]
    counts = Counter(columns)
    missing = [name for name in wanted if not counts[name]]
    doubled = [name for name in wanted if counts[name] > 1]
    if missing or doubled:
        what = f"lacks the column {missing[0]}" if missing else f"has the column {doubled[0]} more than once"
        raise TableError(f"{path} {what}", next_step=how_to_get_rows(job))


def how_to_get_rows(job: ScoreJob) -> str:
    """Returns the next step for wrong fixed rows."""
    return f"Get the rows to fix with: scoring results rejects {job.fixes} --rows FILE"


def _on_one_line(value: str) -> str:
    """Replaces line breaks: a value with one is always rejected, and the fixed rows are parsed line by line."""
    return " ".join(value.splitlines()) if "\n" in value or "\r" in value else value
