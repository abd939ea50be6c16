"""Scores a table with fixed rows in place of another job's rejects; only the chunks that contain a fixed row are scored again.

The new job has the same chunks as the other one, and copies its parts wherever nothing was fixed.

    jobs/<job id>/fixes/0000007.csv               the fixed rows of chunk 7: line, then the columns that are read
    jobs/<job id>/fixes/0000007.rejects.csv.gz    the rejects of chunk 7 that were not fixed

The result is therefore the same text as if the table had been correct from the start, with the rows in the order of the table.
"""

import csv
import functools
import hashlib
import io
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np

from model_store.store import read_manifest
from shared.bucket.interface import Bucket
from shared.bucket.unchanged import unchanged_while_read
from shared.catalog.manifests import REJECTS, ResultManifest
from shared.errors import RequestError, TableError
from shared.jobs.files import JobFile, PartFile, Subfolder
from shared.jobs.folder import JobFolder
from shared.jobs.messages import ScoreJob
from shared.records import FileDigest, decode_long
from shared.table_files import promised_kind
from workers.scoring.parts import BrokenPartError, copy_part, read_file, read_part
from workers.scoring.plan import Plan, PlannedFile, check_stamp, read_plan
from workers.scoring.slices import cut_again, lacking_slices
from workers.tables import output, schema
from workers.tables import rows as table_rows
from workers.tables.csv import rows as csv_rows
from workers.tables.formats import ChunkRecords, RecordRange, TableFormat, format_of
from workers.tables.streams import Hashing

FILE, LINE = "reject_file", "reject_line"
"""The columns that name the reject which a row replaces."""

MAX_FIXED_BYTES = 16 << 20
"""Fixed rows are read into memory; with more of them, it is better to fix the table itself."""

MAX_DIGITS = 18
"""No line number of a table is longer."""

Fixed = dict[int, list[str]]
"""Maps a line of the table to the values of the columns that are read."""


# --- plan --------------------------------------------------------------------------------------------------------------------


def plan_fix(folder: JobFolder, job: ScoreJob) -> Plan:
    """Returns the plan of the fixed job, adapted to this job; the parts that both jobs share are copied.

    Raises:
        RequestError: the fixed job has no plan.
        TableError: the fixed rows cannot be read, one of them replaces no reject, or the table was changed since.
        ModelError: the release that scored it no longer exists.
    """
    assert job.fixes is not None and job.fixed_rows is not None  # noqa: S101 - both or neither, says the message
    earlier = JobFolder(folder.bucket, job.fixes)
    if not earlier.has(JobFile.PLAN):
        if earlier.was_cleared():
            raise earlier.cleared_error()
        raise RequestError(
            f"nothing of job {job.fixes} was scored, so there is nothing to fix", next_step="Correct the table and score it."
        )
    plan = read_plan(earlier)
    for file in plan.files:
        _check_contents(folder.bucket, file)
    release = read_manifest(folder.bucket, plan.release)
    table_schemas = [schema.table_schema_for(file.path, file.columns, release.columns, keys=release.keys) for file in plan.files]
    digest, by_chunk = _read_fixed(folder.bucket, job, plan, table_schemas)
    rejects = _RejectsOf(earlier=earlier, plan=plan)
    taken = {index for index in range(len(plan.chunks)) if _take_over(rejects, folder, index, by_chunk.get(index, {}), job)}
    own = plan.model_copy(
        update={
            "job_id": job.job_id,
            "made": datetime.now(UTC),
            "files": [file.model_copy(update={"version": ""}) for file in plan.files],
            "slices_in": plan.slices_in or plan.job_id,
            "fixed_rows": digest,
        }
    )
    lacking = lacking_slices(folder, own, set(range(len(plan.chunks))) - taken)
    if not lacking:
        return own
    # into this job's own folder: slices in the folder of an ended job are not used
    own = own.model_copy(update={"slices_in": None})
    cut_again(folder, own, [index for index in range(len(plan.chunks)) if index not in taken and _is_packed(own, index)])
    return own


def _is_packed(plan: Plan, index: int) -> bool:
    return plan.files[plan.chunks[index].file].table_format.is_compressed


def _check_contents(bucket: Bucket, file: PlannedFile) -> None:
    """Raises TableError when a file does not have the contents that were scored; a new version with the same digest is accepted.

    Days may pass between a job and its fix, and a backup or a change of owner makes a new version of a file.
    """
    try:
        check_stamp(bucket, file)
    except TableError:
        check_stamp(bucket, file.model_copy(update={"version": ""}))
        with bucket.open(file.path) as raw:
            hashed = Hashing(raw)
            while hashed.read(1 << 20):
                pass
        if hashed.digest() != file.digest:
            raise


def _read_fixed(
    bucket: Bucket, job: ScoreJob, plan: Plan, table_schemas: Sequence[schema.TableSchema]
) -> tuple[FileDigest, dict[int, Fixed]]:
    """Returns the digest of the file of fixed rows, and the rows by chunk."""
    path = job.fixed_rows or ""
    data, form = _read_whole(bucket, path), format_of(promised_kind(path))
    try:
        records = list(form.records(_text(data, path, form)))
    except csv.Error as error:
        raise TableError(f"{path} is not a csv table: {error}", next_step="Correct it and send it again.") from error
    columns = [name.strip() for name in records[0]] if records else []
    _check_columns(columns, path, table_schemas, job)
    chunk_of = _chunk_finder(plan)
    by_chunk: dict[int, Fixed] = {}
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
            raise TableError(f"record {number} of {path} names no row of {job.table}: {shown}", next_step=_get_them(job))
        fixed = by_chunk.setdefault(index, {})
        file = plan.chunks[index].file
        if line in fixed:
            raise TableError(f"{path} fixes line {line} of {plan.files[file].path} twice", next_step="Keep one of the two.")
        fixed[line] = [_on_one_line(values[name]) for name in table_schemas[file].needed]
    if not by_chunk:
        raise TableError(f"{path} has a header but no rows", next_step=_get_them(job))
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
        raise TableError(f"{path} {what}", next_step=_get_them(job))


def _get_them(job: ScoreJob) -> str:
    return f"Get the rows to fix with: scoring results rejects {job.fixes} --rows FILE"


def _on_one_line(value: str) -> str:
    """Replaces line breaks: a value with one is always rejected, and the fixed rows are parsed line by line."""
    return " ".join(value.splitlines()) if "\n" in value or "\r" in value else value


def _chunk_finder(plan: Plan) -> Callable[[str, int], int | None]:
    """Returns a function that finds the chunk of the plan with a line of a file; it returns None if there is none."""
    numbers = {file.path: number for number, file in enumerate(plan.files)}

    def find(path: str, line: int) -> int | None:
        file = numbers.get(path, -1)
        index = bisect_right(plan.chunks, (file, line), key=lambda chunk: (chunk.file, chunk.first_line)) - 1
        return None if index < 0 or plan.chunks[index].file != file else index

    return find


def _take_over(rejects: "_RejectsOf", folder: JobFolder, index: int, fixed: Fixed, job: ScoreJob) -> bool:
    """Copies one chunk from the earlier job: its part if nothing in it is fixed, else what is needed to score it again.

    Returns False when the chunk must be scored: it contains a fixed row, or its part was removed.
    """
    earlier = rejects.earlier
    before = folder.bucket.read(_fixed_file(earlier, index))
    if not fixed:
        if before is not None:  # these allow scoring it again if the part is missing or broken
            folder.bucket.copy(_fixed_file(earlier, index), _fixed_file(folder, index))
            folder.bucket.copy(_left_file(earlier, index), _left_file(folder, index))
        return copy_part(earlier, folder, index)
    found = rejects.of_chunk(index)
    strangers = fixed.keys() - {reject.line for reject in found}
    if strangers:
        problem = f"{job.fixed_rows} fixes line {min(strangers)} of {job.table}, which is not a reject of job {earlier.job_id}"
        raise TableError(problem, next_step=_get_them(job))
    whole = ({} if before is None else _decode(before)) | fixed
    left = [reject for reject in found if reject.line not in whole]
    folder.bucket.write(_left_file(folder, index), output.compress(output.rejects_text("", left)))
    folder.bucket.write(_fixed_file(folder, index), _encode(whole))
    return False


@dataclass(frozen=True, kw_only=True, eq=False)
class _RejectsOf:
    """The rejects of an ended job: from its parts, or from its result if the parts were removed."""

    earlier: JobFolder
    plan: Plan

    def of_chunk(self, index: int) -> list[table_rows.Reject]:
        """Returns the rejects of one chunk; raises TableError when they are damaged."""
        part = read_part(self.earlier, index)
        if part is None:
            return self._in_result.get(index, [])
        if part.rejects is None:
            return []
        try:
            return output.read_rejects(output.decompress(read_file(self.earlier, index, PartFile.REJECTED, part.rejects)))
        except BrokenPartError as error:
            raise _damaged(f"the rejects of chunk {index} of job {self.earlier.job_id}") from error

    @functools.cached_property
    def _in_result(self) -> dict[int, list[table_rows.Reject]]:
        """Maps each chunk to its rejects, read from the result of the job."""
        text = self.earlier.bucket.read(self.earlier.file(JobFile.MANIFEST))
        manifest = None if text is None else decode_long(ResultManifest, text)
        if manifest is None or manifest.rejects is None:
            return {}
        data = self.earlier.bucket.read(f"{manifest.revision}/{REJECTS}") or b""
        if hashlib.sha256(data).hexdigest() != manifest.rejects.sha256:
            raise _damaged(f"{manifest.revision}/{REJECTS}")
        chunk_of = _chunk_finder(self.plan)
        found: dict[int, list[table_rows.Reject]] = {}
        records = csv.reader(io.StringIO(output.decompress(data).decode(), newline=""))
        next(records, None)
        for path, line, column, value, reason in records:
            index = chunk_of(path, int(line))
            if index is not None:
                found.setdefault(index, []).append(table_rows.Reject(line=int(line), column=column, value=value, reason=reason))
        return found


def _damaged(what: str) -> TableError:
    return TableError(f"{what} are damaged", next_step="Correct the table itself and score it again.")


# --- chunk -------------------------------------------------------------------------------------------------------------------


def fixed_records(folder: JobFolder, index: int, chunk_records: ChunkRecords) -> ChunkRecords:
    """Returns the records of a chunk with the fixed rows in their places; unchanged if nothing in the chunk was fixed."""
    text = folder.bucket.read(_fixed_file(folder, index))
    if text is None:
        return chunk_records
    left = output.read_rejects(output.decompress(folder.bucket.read(_left_file(folder, index)) or b""))
    return FixedRecords(chunk_records=chunk_records, fixed=_decode(text), left=left)


@dataclass(frozen=True, kw_only=True)
class FixedRecords:
    """A chunk in which fixed rows replace rejects; the other rejects remain."""

    chunk_records: ChunkRecords
    fixed: Mapping[int, list[str]]
    left: Sequence[table_rows.Reject]

    @property
    def table_schema(self) -> schema.TableSchema:
        return self.chunk_records.table_schema

    def count(self) -> int:
        return self.chunk_records.count()

    def ranges(self) -> list[RecordRange]:
        return self.chunk_records.ranges()

    def line(self, record: int) -> int:
        return self.chunk_records.line(record)

    def rejects(self, record: int) -> list[table_rows.Reject]:
        # a record over several lines, joined by a stray quote, may have been fixed as several rows
        fixed, left = self._between(record, record + 1)
        poison = [table_rows.poison_reject(line, ",".join(values)) for line, values in fixed.items()]
        return [*poison, *left] or self.chunk_records.rejects(record)

    def _between(self, start: int, end: int | None) -> tuple[Fixed, list[table_rows.Reject]]:
        """Returns the fixed rows and the remaining rejects on the lines of these records."""
        whole = end is None or end == self.count()
        first, after = self.line(start), None if whole or end is None else self.line(end)

        def is_here(line: int) -> bool:
            return first <= line and (after is None or line < after)

        fixed = {line: values for line, values in self.fixed.items() if is_here(line)}
        return fixed, [reject for reject in self.left if is_here(reject.line)]

    def rows(self, start: int = 0, end: int | None = None) -> table_rows.Rows:
        fixed, left = self._between(start, end)
        others = table_rows.without_lines(self.chunk_records.rows(start, end), {*fixed, *(reject.line for reject in left)})
        return table_rows.merged(others, self._read(fixed), left)

    def _read(self, fixed: Mapping[int, list[str]]) -> table_rows.Rows:
        table_schema = replace(self.table_schema, columns=[LINE, *self.table_schema.needed])
        return table_rows.moved(csv_rows.read_csv_rows(_encode(fixed), table_schema, 1), np.array(sorted(fixed), dtype=np.int64))


# --- files -------------------------------------------------------------------------------------------------------------------


def _encode(fixed: Mapping[int, list[str]]) -> bytes:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([line, *fixed[line]] for line in sorted(fixed))
    return out.getvalue().encode()


def _decode(text: bytes) -> Fixed:
    return {int(line): values for line, *values in csv.reader(io.StringIO(text.decode(), newline=""))}


def _fixed_file(folder: JobFolder, index: int) -> str:
    return folder.file(f"{Subfolder.FIXES}/{index:07d}.csv")


def _left_file(folder: JobFolder, index: int) -> str:
    return folder.file(f"{Subfolder.FIXES}/{index:07d}.{PartFile.REJECTED}")
