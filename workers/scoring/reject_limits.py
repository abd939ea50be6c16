"""Limits of the rejects of a job: a share of its rows, a number, or no limit once a person has accepted them.

A job over its limit fails and keeps its parts, so that it can be resumed from them. It fails as soon as its parts contain more rejects
than the whole table may have, because the rest of the table cannot compensate for them.
"""

from collections.abc import Sequence

from shared.errors import ModelError, PermanentError, TableError
from shared.jobs.files import JobFile
from shared.jobs.folder import JobFolder
from shared.jobs.messages import ScoreJob
from workers.scoring.parts import PartRecord, first_rejects, read_part
from workers.scoring.plan import Plan
from workers.tables import output, schema


def are_too_many(job: ScoreJob, rejected: int, rows: int | None) -> bool:
    """Returns True if a table with ``rows`` rows (None: unknown) may not have this many rejects."""
    over_share = rows is not None and rejected > job.max_reject_share * rows
    return over_share or (job.max_rejects is not None and rejected > job.max_rejects)


def count_rejects(folder: JobFolder) -> int:
    """Returns the number of rejects in the existing parts."""
    return sum(part.rows_rejected for part in _with_rejects(folder))


def _with_rejects(folder: JobFolder) -> list[PartRecord]:
    return [part for index in sorted(folder.parts_with_rejects()) if (part := read_part(folder, index)) is not None]


def check_so_far(folder: JobFolder, plan: Plan, hinted: int) -> None:
    """Checks the parts with rejects, if the ``hinted`` number of rejects so far exceeds the limit.

    Raises:
        TableError: there are too many rejects; the message quotes the first ones.
        ModelError: there are too many, and most of them are the definition's fault.
    """
    job = folder.score_job()
    if not are_too_many(job, hinted, plan.rows_at_most) or folder.has(JobFile.REJECTS_ACCEPTED):
        return
    parts = _with_rejects(folder)
    rejected = sum(part.rows_rejected for part in parts)
    # checked again: a person may have accepted the rejects meanwhile
    if are_too_many(job, rejected, plan.rows_at_most) and not folder.has(JobFile.REJECTS_ACCEPTED):
        raise _too_many(job, plan.release, f"{rejected:,} rows of {job.table} cannot be scored, and not all have been looked at (", parts)


def check_all(folder: JobFolder, job: ScoreJob, release: str, parts: Sequence[PartRecord]) -> None:
    """Checks all parts of a job.

    Raises:
        TableError: there are too many rejects, or only rejects; the message quotes the first ones.
        ModelError: the same, and most of the rejects are the definition's fault.
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


def _too_many(job: ScoreJob, release: str, what: str, parts: Sequence[PartRecord]) -> PermanentError:
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
        next_step=f"See them all with: scoring results rejects {job.job_id}; fix them with: scoring score FILE --fix {job.job_id}; "
        f"or go on without them: {accept}{'.' if advice else ''}{advice}",
    )


def _fault_of_definition(release: str, parts: Sequence[PartRecord]) -> str:
    """Returns a sentence on what the definition did wrong; empty if most rejects are not its fault."""
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
