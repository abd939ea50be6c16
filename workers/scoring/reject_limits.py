"""How many rejects a job may have: a share of its rows, a number, or any once a person has accepted them.

A job over its limit fails and keeps its parts, so that it can go on from them. It fails as soon as the parts that are there hold more
rejects than the whole table may have, since the rest of the table cannot make that good.
"""

from collections.abc import Sequence

from shared.errors import ModelError, PermanentError, TableError
from shared.jobs.files import JobFile
from shared.jobs.folder import JobFolder
from shared.jobs.messages import ScoreJob
from workers.scoring.parts import ChunkRecord, first_rejects, read_part
from workers.scoring.plan import Plan
from workers.tables import output, schema


def are_too_many(job: ScoreJob, rejected: int, rows: int | None) -> bool:
    """True when a table of so many rows (None: not known) may not have so many rejects."""
    over_share = rows is not None and rejected > job.max_reject_share * rows
    return over_share or (job.max_rejects is not None and rejected > job.max_rejects)


def count_rejects(folder: JobFolder) -> int:
    """Rejects in the parts that are there."""
    return sum(part.rows_rejected for part in _with_rejects(folder))


def _with_rejects(folder: JobFolder) -> list[ChunkRecord]:
    return [part for index in sorted(folder.parts_with_rejects()) if (part := read_part(folder, index)) is not None]


def check_so_far(folder: JobFolder, plan: Plan, hinted: int) -> None:
    """Look at the parts that have rejects, if it is to be believed that there are ``hinted`` rejects by now.

    Raises:
        TableError: there are too many; the sentence quotes the first ones.
        ModelError: the same, and most of them are the fault of the definition.
    """
    job = folder.score_job()
    if not are_too_many(job, hinted, plan.rows_at_most) or folder.has(JobFile.REJECTS_ACCEPTED):
        return
    parts = _with_rejects(folder)
    rejected = sum(part.rows_rejected for part in parts)
    # looked for once more: a person may have accepted them this moment
    if are_too_many(job, rejected, plan.rows_at_most) and not folder.has(JobFile.REJECTS_ACCEPTED):
        raise _too_many(job, plan.release, f"{rejected:,} rows of {job.table} cannot be scored, and not all have been looked at (", parts)


def check_all(folder: JobFolder, job: ScoreJob, release: str, parts: Sequence[ChunkRecord]) -> None:
    """Look at all the parts of a job.

    Raises:
        TableError: there are too many rejects, or nothing else; the sentence quotes the first ones.
        ModelError: the same, and most of them are the fault of the definition.
    """
    rows = sum(part.rows_in for part in parts)
    rejected = sum(part.rows_rejected for part in parts)
    if rejected == rows:
        quoted = first_rejects(parts, output.REJECTS_QUOTED)
        what = f"none of the {rows:,} rows of {job.table} can be scored; "
        if fault := _fault_of_definition(release, parts):
            raise ModelError(f"{what}{fault}; the first: {quoted}", next_step=_correct(release))
        raise TableError(f"{what}the first: {quoted}", next_step=f"Correct the table.{schema.keys_advice(quoted)}")
    if are_too_many(job, rejected, rows) and not folder.has(JobFile.REJECTS_ACCEPTED):
        raise _too_many(job, release, f"{rejected:,} of {rows:,} rows of {job.table} cannot be scored ({rejected / rows:.1%}, ", parts)


def _too_many(job: ScoreJob, release: str, what: str, parts: Sequence[ChunkRecord]) -> PermanentError:
    allowed = f"{job.max_reject_share:.1%}" + (f" and {job.max_rejects:,} rows" if job.max_rejects is not None else "")
    quoted, accept = first_rejects(parts, output.REJECTS_QUOTED), f"scoring jobs resume {job.job_id} --accept-rejects"
    if fault := _fault_of_definition(release, parts):
        return ModelError(
            f"{what}allowed are {allowed}); {fault}; the first: {quoted}",
            next_step=f"See them all with: scoring results rejects {job.job_id}. {_correct(release)} Or go on without these rows: {accept}",
        )
    advice = schema.keys_advice(quoted)
    return TableError(
        f"{what}allowed are {allowed}); the first: {quoted}",
        next_step=f"See them all with: scoring results rejects {job.job_id}; mend them with: scoring score FILE --fix {job.job_id}; "
        f"or go on without them: {accept}{'.' if advice else ''}{advice}",
    )


def _fault_of_definition(release: str, parts: Sequence[ChunkRecord]) -> str:
    """What the definition did, in words; empty where most rejects are not its fault."""
    found = [part.unpredicted for part in parts if part.unpredicted is not None]
    rows = sum(one.rows for one in found)
    if 2 * rows <= sum(part.rows_rejected for part in parts):
        return ""
    return f"the definition {_definition(release)} gave no number that can be a rate for {rows:,} of them (predict in {found[0].predict})"


def _correct(release: str) -> str:
    name = _definition(release)
    return f"Correct its predict, see: scoring models check {name} --table FILE; then train it and score again."


def _definition(release: str) -> str:
    return release.partition("@")[0]
