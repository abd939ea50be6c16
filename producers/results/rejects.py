"""The rejects of a job or of a result: lists and counts them, and writes the rejected rows of the table for correction."""

import csv
import gzip
import io
import sys
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from producers.job_names import find_job
from producers.results.csv_files import disarmed, new_file
from producers.results.shown import find_shown
from shared.bucket.interface import Bucket, FileInfo
from shared.bucket.unchanged import unchanged_while_read
from shared.catalog.manifests import OUTPUTS, REJECTS, ResultManifest
from shared.catalog.results import FoundResult, find_revision, read_result
from shared.errors import MessageError, RequestError, TableError
from shared.jobs.files import JobFile, PartFile
from shared.jobs.folder import JobFolder
from shared.jobs.states import SETTLED_STATES
from shared.records import decode_long
from shared.table_files import TEXT_FORMS, TextForm, kind_of, promised_kind
from shared.text.csv_lines import fields_of_line, value_of

# a rejected row may hold a field of any length; the limit of csv is global to the process
csv.field_size_limit(sys.maxsize)

MARKS = ("reject_file", "reject_line", "reject_column", "reject_value", "reject_reason")
"""The columns before the table's own; a fix reads only the first two."""

MAX_RECORD_LINES = 1000
"""The most lines over which a record is followed."""


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """A row that could not be scored."""

    file: str
    line: int
    """Line of the file, from 1; for Parquet the row, from 1."""
    column: str
    value: str
    reason: str


def find_rejects(bucket: Bucket, wanted: str) -> tuple[str, Iterator[Rejected]]:
    """The id of the job and the rejects in the order of the table.

    ``wanted`` is a job, also a failed or running one, the folder of a result, or a channel.

    Raises:
        RequestError: the job or result does not exist.
    """
    folder = wanted.strip("/").removeprefix(f"{OUTPUTS}/")
    published = read_result(bucket, f"{OUTPUTS}/{folder}") or find_shown(bucket, folder)
    if published is not None:
        manifest = published.manifest
        return manifest.job_id, _read([f"{manifest.revision}/{REJECTS}"] if manifest.rejects else [], bucket, has_header=True)
    wanted = find_job(bucket, wanted, scores=True)
    kept = revision_of_gone_job(bucket, wanted)
    if kept is not None:
        return wanted, _read([f"{kept.folder}/{REJECTS}"] if kept.manifest.rejects else [], bucket, has_header=True)
    job = job_of_result(bucket, wanted)
    outcome = job.outcome()
    # when some parts are gone, the result still has all rejects
    if outcome is not None and outcome.state in SETTLED_STATES and not 0 < job.status().chunks <= len(job.parts_done()):
        return wanted, _read(_rejects_of_result(job), bucket, has_header=True)
    if job.files_were_removed():
        raise job.removed_error()
    complete = job.parts_done() & job.parts_with_rejects()
    return wanted, _read([job.part_file(index, PartFile.REJECTED) for index in sorted(complete)], bucket, has_header=False)


def revision_of_gone_job(bucket: Bucket, job_id: str) -> FoundResult | None:
    """The result of a job whose folder was removed; None when the folder exists, or when ``job_id`` is invalid."""
    try:
        is_there = JobFolder(bucket, job_id).has(JobFile.REQUEST)
    except MessageError:
        return None
    return None if is_there else find_revision(bucket, job_id)


def _rejects_of_result(job: JobFolder) -> list[str]:
    """The file with the rejects of a finished job, if it had any; raises RequestError when its revision was removed."""
    manifest = decode_long(ResultManifest, job.bucket.read(job.file(JobFile.MANIFEST)) or b"")
    if manifest.rejects is None:
        return []
    path = f"{manifest.revision}/{REJECTS}"
    if not job.bucket.exists(path):
        raise RequestError(
            f"the rejects of job {job.job_id} were removed with its revision",
            next_step="Score the table again with --again; how long revisions stay is set in config/retention.yaml.",
        )
    return [path]


def job_of_result(bucket: Bucket, wanted: str) -> JobFolder:
    """The score job that names a result; raises RequestError when it does not exist."""
    unknown = RequestError(
        f"there is no result, job or channel {wanted} in the bucket {bucket.url}",
        next_step="List results with: scoring results list, jobs with: scoring jobs list",
    )
    try:
        folder = JobFolder(bucket, wanted)
    except MessageError:
        raise unknown from None
    if not folder.has(JobFile.REQUEST):
        raise unknown
    folder.score_job()
    return folder


def examined_share_in_words(bucket: Bucket, job_id: str) -> str:
    """The number of a job's examined chunks in words; empty when all were examined."""
    job = JobFolder(bucket, job_id)
    if not job.has(JobFile.REQUEST):  # a result outlives the folder of its job
        return ""
    status = job.status()
    done = len(job.parts_done())
    if (status.outcome and status.outcome.state in SETTLED_STATES) or 0 < status.chunks <= done:
        return ""
    return f"{done} of {status.chunks or 'an unknown number of'} chunks"


def _read(paths: Iterable[str], bucket: Bucket, *, has_header: bool) -> Iterator[Rejected]:
    for path in paths:
        try:
            with bucket.open(path) as raw, gzip.open(raw, "rt", encoding="utf-8", newline="") as text:
                records = csv.reader(text)
                if has_header:
                    next(records, None)
                for file, line, column, value, reason in records:
                    yield Rejected(file=file, line=int(line), column=column, value=value, reason=reason)
        except (gzip.BadGzipFile, EOFError, zlib.error, ValueError, csv.Error) as error:
            raise TableError(f"{path} is damaged: {error}", next_step="Score the table again with --again.") from error


def count_reasons(rejects: Iterable[Rejected]) -> list[tuple[str, str, int]]:
    """Column, reason and number of rejects, the most frequent first."""
    counts = Counter((reject.column, reject.reason) for reject in rejects)
    return [(column, reason, count) for (column, reason), count in counts.most_common()]


def write_rows(bucket: Bucket, rejects: Iterable[Rejected], out: Path) -> int:
    """Writes the rejected rows of the table, each preceded by its reject; returns the number of rows.

    Raises:
        RequestError: ``out`` already exists.
        TableError: the table is gone or changed during the read, or its files have different columns; nothing is written then.
    """
    by_file: dict[str, dict[int, Rejected]] = {}
    for reject in rejects:
        by_file.setdefault(reject.file, {})[reject.line] = reject
    header: list[str] | None = None
    # so that --fix reads the file by its ending
    separator = TEXT_FORMS.get(kind_of(out.name) or "csv", TextForm()).separator
    count = 0
    with new_file(out) as target:
        writer = csv.writer(target, lineterminator="\n", delimiter=separator)
        for file, wanted in by_file.items():
            with unchanged_while_read(bucket, _found(bucket, file), "Score the table again.", damage=Exception):
                columns, rows = _rows(bucket, file, wanted.keys())
                if header is None:
                    header = columns
                    writer.writerow([*MARKS, *columns])
                elif columns != header:
                    problem = f"{file} has other columns than {next(iter(by_file))}"
                    raise TableError(problem, next_step="Correct the table itself and score it again.")
                for line, values in rows:
                    row = [*values[: len(columns)], *[""] * (len(columns) - len(values))]
                    reject = wanted[line]
                    # the table's own columns are as they are, because --fix reads them
                    reject_cells = (disarmed(reject.column), disarmed(reject.value), disarmed(reject.reason))
                    writer.writerow([file, line, *reject_cells, *row])
                    count += 1
    return count


def _found(bucket: Bucket, file: str) -> FileInfo:
    """A file of the table; raises TableError when it does not exist."""
    info = bucket.stat(file)
    if info is None:
        raise TableError(f"the table {file} is gone from the bucket {bucket.url}", next_step="Score it again when it is back.")
    return info


def _rows(bucket: Bucket, file: str, wanted: Iterable[int]) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """The columns of a file, and an iterator over line and values of the wanted rows."""
    kind = promised_kind(file)
    if kind == "export":
        raise TableError(f"the rows of {file} are in a workbook", next_step="Correct them there, and score it again.")
    form = TEXT_FORMS.get(kind)
    if form is None:
        return _parquet_rows(bucket, file, set(wanted))
    lines = _lines(bucket, file, form)
    first = next(csv.reader((text for _, text in lines), delimiter=form.separator), [])
    return [name.strip() for name in first], _csv_rows(lines, set(wanted), form.separator)


def _lines(bucket: Bucket, file: str, form: TextForm) -> Iterator[tuple[int, str]]:
    with bucket.open(file) as raw, unpacked(raw, form) as opened:
        for number, line in enumerate(opened, 1):
            yield number, line.decode("utf-8-sig" if number == 1 else "utf-8", errors="replace")


def unpacked(raw: IO[bytes], form: TextForm) -> AbstractContextManager[IO[bytes]]:
    """The uncompressed text of an open file of this form."""
    if form.compression == "gzip":
        return cast(AbstractContextManager[IO[bytes]], gzip.open(raw))
    if form.compression == "zstd":
        import pyarrow as pa  # noqa: PLC0415 - slow to import, and needed only for such a table

        return io.BufferedReader(cast(io.RawIOBase, pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd")))
    return raw


def _csv_rows(lines: Iterator[tuple[int, str]], wanted: set[int], separator: str) -> Iterator[tuple[int, list[str]]]:
    left = len(wanted)
    pending: tuple[int, str] | None = None
    while left and (at := pending or next(lines, None)):
        pending = None
        number, text = at
        if number not in wanted:
            continue
        left -= 1
        # a quoted value may span lines; after a stray quote, the following lines are rejects of their own
        for _ in range(MAX_RECORD_LINES):
            if text.count('"') % 2 == 0 or (pending := next(lines, None)) is None or pending[0] in wanted:
                break
            text, pending = text + pending[1], None
        yield number, _values(text, separator)


def _values(text: str, separator: str = ",") -> list[str]:
    """The values of a record. For a line with an unclosed quote, the values of this line alone, with the quote as a character."""
    try:
        return next(csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=separator), [])
    except csv.Error:
        by_itself = text.rstrip("\r\n")
        if "\n" in by_itself:
            return next(csv.reader(io.StringIO(text, newline=""), delimiter=separator), [])
        return [value_of(field) for _, field in fields_of_line(by_itself, separator)]


def _shown(value: object) -> str:
    """A value of a Parquet file as CSV text."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return "" if value is None else str(int(value)) if isinstance(value, bool) else str(value)


def _parquet_rows(bucket: Bucket, file: str, wanted: set[int]) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    import pyarrow.parquet as pq  # noqa: PLC0415 - slow to import, and needed only for Parquet

    with bucket.open(file) as raw:
        columns: list[str] = pq.ParquetFile(raw).schema_arrow.names

    def rows() -> Iterator[tuple[int, list[str]]]:
        start = 1
        with bucket.open(file) as raw:
            for batch in pq.ParquetFile(raw).iter_batches(batch_size=65536):
                here = [number for number in range(start, start + batch.num_rows) if number in wanted]
                # column by column, because two columns may have the same name
                columns_of_them = [column.to_pylist() for column in batch.take([number - start for number in here]).columns]
                for number, *values in zip(here, *columns_of_them, strict=True):
                    yield number, [_shown(value) for value in values]
                start += batch.num_rows

    return columns, rows()
