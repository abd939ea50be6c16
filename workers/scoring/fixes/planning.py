"""Plans a job that scores a table with fixed rows; only the chunks that contain a fixed row are scored again.

The job has the same chunks as the job that it fixes, and copies its parts wherever nothing was fixed. The result is therefore the same
text as if the table had been correct from the start, with the rows in the order of the table.
"""

from datetime import UTC, datetime

from model_store.store import read_manifest
from shared.bucket.interface import Bucket
from shared.errors import RequestError, TableError
from shared.jobs.files import JobFile
from shared.jobs.folder import JobFolder
from shared.jobs.messages import ScoreJob
from workers.scoring.fixes.files import FixedRows, left_file, read_fixed, write_fixed
from workers.scoring.fixes.fixed_rows import how_to_get_rows, read_fixed_rows
from workers.scoring.fixes.rejects import RejectsOfJob
from workers.scoring.parts import copy_part
from workers.scoring.plan import Plan, PlannedFile, check_stamp, read_plan
from workers.scoring.slices import cut_again, lacking_slices
from workers.tables import output, schema
from workers.tables.streams import Hashing


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
        if earlier.files_were_removed():
            raise earlier.removed_error()
        raise RequestError(
            f"nothing of job {job.fixes} was scored, so there is nothing to fix", next_step="Correct the table and score it."
        )
    plan = read_plan(earlier)
    for file in plan.files:
        _check_contents(folder.bucket, file)
    release = read_manifest(folder.bucket, plan.release)
    table_schemas = [
        schema.table_schema_for(file.path, file.columns, release.columns, keys=release.keys, reads_clicks=True) for file in plan.files
    ]
    digest, by_chunk = read_fixed_rows(folder.bucket, job, plan, table_schemas)
    rejects = RejectsOfJob(earlier=earlier, plan=plan)
    copied = set()
    for index in range(len(plan.chunks)):
        if index in by_chunk:
            _write_fixes(rejects, folder, index, by_chunk[index], job)
        elif _copy_part(earlier, folder, index):
            copied.add(index)
    own = plan.model_copy(
        update={
            "job_id": job.job_id,
            "made": datetime.now(UTC),
            "files": [file.model_copy(update={"version": ""}) for file in plan.files],
            "slices_in": plan.slices_in or plan.job_id,
            "fixed_rows": digest,
        }
    )
    lacking = lacking_slices(folder, own, set(range(len(plan.chunks))) - copied)
    if not lacking:
        return own
    # into this job's own folder: slices in the folder of an ended job are not used
    own = own.model_copy(update={"slices_in": None})
    cut_again(folder, own, [index for index in range(len(plan.chunks)) if index not in copied and _is_packed(own, index)])
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


def _copy_part(earlier: JobFolder, folder: JobFolder, index: int) -> bool:
    """Copies the part of a chunk in which nothing is fixed; returns False if it was removed, so the chunk must be scored."""
    fixed = read_fixed(earlier, index)
    if fixed is not None:  # these allow scoring it again if the part is missing or broken
        write_fixed(folder, index, fixed)
        folder.bucket.copy(left_file(earlier, index), left_file(folder, index))
    return copy_part(earlier, folder, index)


def _write_fixes(rejects: RejectsOfJob, folder: JobFolder, index: int, fixed: FixedRows, job: ScoreJob) -> None:
    """Writes what is needed to score a chunk with fixed rows: the rows, also those of earlier fixes, and the other rejects.

    Raises:
        TableError: a row replaces no reject.
    """
    chunk_rejects = rejects.of_chunk(index)
    not_rejects = fixed.keys() - {reject.line for reject in chunk_rejects}
    if not_rejects:
        problem = f"{job.fixed_rows} fixes line {min(not_rejects)} of {job.table}, which is not a reject of job {rejects.earlier.job_id}"
        raise TableError(problem, next_step=how_to_get_rows(job))
    merged = (read_fixed(rejects.earlier, index) or {}) | fixed
    unfixed_rejects = [reject for reject in chunk_rejects if reject.line not in merged]
    folder.bucket.write(left_file(folder, index), output.compress(output.rejects_text("", unfixed_rejects)))
    write_fixed(folder, index, merged)
