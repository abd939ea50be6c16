"""Decides about held results: approves or refuses them, once each; the second person learns who was first."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from producers.authorship import check_reason, who
from producers.enqueue.sending import Enqueued, send_finish
from shared.bucket.interface import Bucket
from shared.catalog.held import Decision, read_decision, unmark_held
from shared.errors import RequestError
from shared.guard.verdict import read_verdict
from shared.jobs.files import JobFile
from shared.jobs.folder import JobFolder
from shared.jobs.states import JobState
from shared.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Decided:
    """A decision, and whether this call made it."""

    decision: Decision
    is_own: bool


def approve(settings: Settings, bucket: Bucket, job_id: str, *, reason: str) -> Enqueued:
    """Approves a held result; the finish step then publishes it.

    If its channel was changed since the guard compared them, the finish step compares again, and may hold the result once more.
    An approval whose command was interrupted is completed by the next one.

    Raises:
        RequestError: the job is not held, or somebody decided before.
    """
    check_decision_reason(reason)
    folder = JobFolder(bucket, job_id)
    decided = _decide(folder, "approved", reason)
    outcome = folder.outcome()
    is_held = outcome is not None and outcome.state == JobState.HELD
    if decided.decision.verdict != "approved" or not (decided.is_own or is_held):
        raise _decided_before(job_id, decided.decision)
    folder.reopen_held(settings.cluster)
    return Enqueued(job_id=job_id, fresh=True, problem=send_finish(settings, job_id))


def refuse(bucket: Bucket, job_id: str, *, reason: str) -> Decision:
    """Refuses a held result: its channel keeps what it shows, and the result stays as a revision.

    Raises:
        RequestError: the job is not held, or somebody decided before.
    """
    check_decision_reason(reason)
    decided = _decide(JobFolder(bucket, job_id), "refused", reason)
    if not decided.is_own:
        raise _decided_before(job_id, decided.decision)
    unmark_held(bucket, job_id)
    return decided.decision


def check_decision_reason(reason: str) -> None:
    """Raises RequestError if the reason of a decision is empty or too long to be stored."""
    if not reason.strip():
        raise RequestError("--reason is empty", next_step="Say why in a few words: others read it in the history and in the notice.")
    check_reason(reason)


def _decide(folder: JobFolder, verdict: Literal["approved", "refused"], reason: str) -> Decided:
    """Writes the decision of this person, unless there is one.

    Raises:
        RequestError: the result is not held, or the files of its job were removed.
    """
    job = folder.score_job()
    earlier = read_decision(folder)
    if earlier is not None:
        return Decided(decision=earlier, is_own=False)
    if folder.files_were_removed():
        raise folder.removed_error()
    folder.bucket.delete(folder.file(JobFile.DECISION))  # one that cannot be read decides nothing
    outcome = folder.outcome()
    if outcome is None or outcome.state != JobState.HELD or job.channel is None:
        state = "has not ended" if outcome is None else f"is {outcome.state}"
        raise RequestError(
            f"the result of job {folder.job_id} is not held: the job {state}", next_step="List held results with: scoring results held"
        )
    decision = Decision(verdict=verdict, at=datetime.now(UTC), by=who(), reason=reason, compared_with=_compared_with(folder))
    is_own = folder.bucket.create(folder.file(JobFile.DECISION), decision.to_json())
    return Decided(decision=decision if is_own else read_decision(folder) or decision, is_own=is_own)


def _compared_with(folder: JobFolder) -> int:
    """Returns the number of the change of the channel that the guard compared with; 0 if its verdict cannot be read."""
    verdict = read_verdict(folder.bucket, folder.path)
    return 0 if verdict is None else verdict.compared_with


def _decided_before(job_id: str, decision: Decision) -> RequestError:
    why = f" ({decision.reason})" if decision.reason else ""
    return RequestError(
        f"the result of job {job_id} was {decision.verdict} by {decision.by} at {decision.at:%Y-%m-%d %H:%M:%S} UTC{why}",
        next_step=f"See it with: scoring jobs show {job_id}. A channel can also be moved to any of its results: "
        "scoring results rollback CHANNEL --to JOB",
    )
