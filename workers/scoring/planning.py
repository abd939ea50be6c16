"""Plans a score job: pins the release, cuts the table into chunks, writes the plan."""

import contextlib
import functools
import itertools
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

from model_store.store import read_manifest
from shared.bucket.interface import Bucket, FileInfo
from shared.catalog.aliases import resolve
from shared.catalog.manifests import KEYS, check_place
from shared.errors import TableError
from shared.jobs.files import JobFile
from shared.jobs.folder import JobFolder
from shared.jobs.messages import ScoreJob
from shared.settings import MAX_UNPACKED_RATIO
from shared.table_files import FileKind, find_files
from workers.concurrency import run_concurrently
from workers.scoring.fixes.planning import plan_fix
from workers.scoring.parts import (
    missing_chunks,
)
from workers.scoring.plan import (
    Chunk,
    FoundFile,
    PinnedInputs,
    Plan,
    PlannedFile,
    check_stamp,
    read_pinned_inputs,
    read_plan,
    slice_file,
    slices_folder,
    write_versions,
)
from workers.scoring.slices import cut_again, lacking_slices
from workers.tables import schema
from workers.tables.chunk_size import ChunkSize
from workers.tables.compression import UnpackedLimit
from workers.tables.exports.recognition import kind_to_read
from workers.tables.parquet.cuts import ShareOfTable
from workers.tables.streams import BackgroundWriter, Hashing

MOST_FILES_AT_ONCE = max(1, min(4, (os.cpu_count() or 1) // 2))
"""Files of a table that are cut concurrently; each takes two buffers of the size of a chunk."""


Accepts = Callable[[str, list[str]], object]
"""Raises TableError for a file whose columns are not those that a release needs."""
OnChunks = Callable[[Sequence[Chunk]], None]
"""Called with chunks that can be scored: all so far for a table, the new ones for a file."""


def find_table(bucket: Bucket, table: str, accepts: Accepts | None = None) -> list[FoundFile]:
    """Returns the files of a table with their columns; with ``accepts``, a text may also be the export of a platform.

    Raises:
        TableError: a file cannot be read, has no usable header, or ``accepts`` refuses its columns.
    """
    return [_found(bucket, info, kind, accepts) for info, kind in find_files(bucket, table)]


def _found(bucket: Bucket, info: FileInfo, kind: FileKind, accepts: Accepts | None) -> FoundFile:
    file = FoundFile(path=info.path, kind=kind, stamp=info.stamp, columns=[], version=info.version)
    if accepts is not None:
        with _unless_changed(bucket, file):
            kind = kind_to_read(bucket, file.path, kind, functools.partial(accepts, file.path))
            file = file.model_copy(update={"kind": kind})
    with _unless_changed(bucket, file), bucket.open(file.path) as raw:
        return file.model_copy(update={"columns": file.table_format.columns(raw, file.path)})


@contextlib.contextmanager
def _unless_changed(bucket: Bucket, file: FoundFile) -> Iterator[None]:
    """Raises the TableError of this block, or the error for a changed file: half of one file and half of another look damaged."""
    try:
        yield
    except TableError:
        check_stamp(bucket, file)
        raise


def cut_table(
    folder: JobFolder, pinned: PinnedInputs, chunk_rows: int | None, on_chunks: OnChunks, max_unpacked_ratio: float = MAX_UNPACKED_RATIO
) -> tuple[list[PlannedFile], list[Chunk]]:
    """Cuts every file of a table; the text of a compressed file is written into the job's folder, slice by slice.

    If there are enough CPUs, several files are cut concurrently; ``on_chunks`` receives their chunks in the order of the table.

    Raises:
        TableError: a file cannot be read or was changed since it was pinned, unpacks to too much text, or the table has no rows.
    """
    infos = [check_stamp(folder.bucket, file) for file in pinned.files]
    sizes = [file.table_format.text_bytes(info.size) for info, file in zip(infos, pinned.files, strict=True)]
    size = ChunkSize.for_table(sum(sizes), chunk_rows)
    ends = list(itertools.accumulate(sizes))
    limit = UnpackedLimit(
        [info.size for info, file in zip(infos, pinned.files, strict=True) if file.table_format.is_compressed], ratio=max_unpacked_ratio
    )

    def cut(number: int, on_new_chunks: OnChunks) -> PlannedFile:
        own = max(sizes[number], 1)
        place = ShareOfTable(before=(ends[number] - own) / own, after=(ends[-1] - ends[number]) / own)
        return _cut_file(folder, pinned, number, size, place, on_new_chunks, limit)

    chunks: list[Chunk] = []

    def add_chunks(more: Sequence[Chunk]) -> None:
        chunks.extend(more)
        on_chunks(chunks)

    files = run_concurrently(cut, len(pinned.files), add_chunks, MOST_FILES_AT_ONCE)
    if not chunks:
        table = pinned.files[0].path if len(pinned.files) == 1 else pinned.files[0].path.rpartition("/")[0]
        raise TableError(f"{table} has a header but no rows", next_step="Give a table with at least one row.")
    return files, chunks


def _cut_file(  # noqa: PLR0913, PLR0917 - what belongs to the table and what to the file
    folder: JobFolder,
    pinned: PinnedInputs,
    number: int,
    size: ChunkSize,
    place: ShareOfTable,
    on_new_chunks: OnChunks,
    limit: UnpackedLimit,
) -> PlannedFile:
    """Cuts one file, and passes its chunks to ``on_new_chunks`` once they can be read."""
    bucket, file = folder.bucket, pinned.files[number]
    rows = 0
    pending: list[Chunk] = []
    with _unless_changed(bucket, file), bucket.open(file.path) as raw, BackgroundWriter() as background:
        hashed = Hashing(raw)
        for slices in file.table_format.cut(raw, hashed, file.path, size, place, limit):
            rows += sum(cut.rows for cut in slices)
            chunks = [Chunk(number, cut.start, cut.end, cut.first_line) for cut in slices]
            if not file.table_format.is_compressed:
                on_new_chunks(chunks)
                continue
            for cut, chunk in zip(slices, chunks, strict=True):
                background.submit(bucket.write, slice_file(folder, pinned.slices, chunk), cut.text)
                on_new_chunks(pending)
                pending = [chunk]
        background.wait()
        on_new_chunks(pending)
    check_stamp(bucket, file)
    return PlannedFile(**dict(file), digest=hashed.digest(), rows_at_most=rows)


def plan_job(folder: JobFolder, on_chunks: OnChunks = lambda _: None, *, max_unpacked_ratio: float = MAX_UNPACKED_RATIO) -> Plan | None:
    """Pins the release and cuts the table, once; returns None if the job has ended.

    ``on_chunks`` is called with the chunks that can be scored while the table is still being cut.

    Raises:
        TableError: the table cannot be read or lacks what the release needs.
        ModelError: the model that the job names is not in the store.
    """
    if folder.outcome() is not None:
        return None
    if folder.has(JobFile.PLAN):
        plan = read_plan(folder)
        _cut_lacking_slices(folder, plan)
        return plan
    job = folder.score_job()
    check_place(job.place)
    folder.write_stage("cutting the table into chunks")
    plan = plan_fix(folder, job) if job.fixes else _cut(folder, job, on_chunks, max_unpacked_ratio)
    if not folder.bucket.create(folder.file(JobFile.PLAN), plan.model_dump_json().encode()):
        return read_plan(folder)
    folder.write_stage(f"scoring {len(plan.chunks)} chunks with {plan.release}")
    return plan


def _cut_lacking_slices(folder: JobFolder, plan: Plan) -> None:
    """Cuts again the slices of a compressed table that a resumed job needs and that were removed after it had ended."""
    lacking = lacking_slices(folder, plan, missing_chunks(folder, plan))
    if lacking:
        folder.write_stage(f"cutting {len(lacking)} chunks of the table again")
        cut_again(folder, plan, lacking)


def _cut(folder: JobFolder, job: ScoreJob, on_chunks: OnChunks, max_unpacked_ratio: float) -> Plan:
    pinned = read_pinned_inputs(folder) or _begin(folder, job)
    try:
        files, chunks = cut_table(folder, pinned, job.chunk_rows, on_chunks, max_unpacked_ratio)
    except TableError:
        # the job has failed, and the slices may take several GB
        folder.bucket.delete_folder(slices_folder(folder, pinned.slices))
        raise
    return Plan(
        job_id=job.job_id,
        release=pinned.release,
        made=datetime.now(UTC),
        files=files,
        slices=pinned.slices,
        chunks=chunks,
        interval=pinned.interval,
    )


def _begin(folder: JobFolder, job: ScoreJob) -> PinnedInputs:
    """Pins the release and the files of the table; the first process to write them decides."""
    release = read_manifest(folder.bucket, resolve(folder.bucket, job.model))
    if job.interval:
        release.check_interval()

    def accepts(path: str, columns: list[str]) -> object:
        return schema.table_schema_for(path, columns, release.columns, keys=release.keys)

    # no export has the attributes and ids that definitions with the usual keys need
    files = find_table(folder.bucket, job.table, accepts if release.keys != KEYS else None)
    for file in files:
        accepts(file.path, file.columns)
    pinned = PinnedInputs(job_id=job.job_id, release=release.release, slices=secrets.token_hex(6), files=files, interval=job.interval)
    write_versions(folder, files)
    is_first = folder.bucket.create(folder.file(JobFile.PINNED), pinned.model_dump_json().encode())
    return pinned if is_first else read_pinned_inputs(folder) or pinned
