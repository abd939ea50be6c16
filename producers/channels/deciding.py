"""Decides about held results: approves or refuses them, once each; the second person learns who was first."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from producers.authorship import check_reason, who
from producers.channels.refused import decision_in_words
from producers.enqueue.sending import Enqueued, send_finish
from shared.bucket.interface import Bucket
from shared.catalog.held import Decision, read_decision, unmark_held
from shared.errors import MessageError, RequestError
from shared.guard.verdict import read_verdict
from shared.jobs.files import JobFile
from shared.jobs.folder import JobFolder
from shared.jobs.states import JobState
from shared.records import decode
from shared.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Decided:
    """A decision, and whether this call made it."""

    decision: Decision
    is_own: bool


@dataclass(frozen=True, kw_only=True)
class Approval:
    """An approval whose finish step was asked for."""

    enqueued: Enqueued
    earlier: Decision | None = None
    """The approval that this call completes; None if it approved the result itself."""


def approve(settings: Settings, bucket: Bucket, job_id: str, *, reason: str, by: str = "") -> Approval:
    """Approves a held result; the finish step then publishes it. ``by`` is who does so, if not the person at this terminal.

    If its channel was changed since the guard compared them, the finish step compares again, and may hold the result once more.
    An approval whose command was interrupted is completed by the next one, whose reason is not kept.

    Raises:
        RequestError: the job is not held, or somebody decided before.
    """
    check_decision_reason(reason)
    folder = JobFolder(bucket, job_id)
    decided = _decide(folder, "approved", reason, by or who())
    outcome = folder.outcome()
    is_held = outcome is not None and outcome.state == JobState.HELD
    if decided.decision.verdict != "approved" or not (decided.is_own or is_held):
        raise _decided_before(job_id, decided.decision)
    folder.reopen_held(settings.cluster)
    enqueued = Enqueued(job_id=job_id, fresh=True, problem=send_finish(settings, job_id))
    return Approval(enqueued=enqueued, earlier=None if decided.is_own else decided.decision)


def refuse(bucket: Bucket, job_id: str, *, reason: str, by: str = "") -> Decision:
    """Refuses a held result: its channel keeps what it shows, and the result stays as a revision. ``by`` is as in ``approve``.

    Raises:
        RequestError: the job is not held, or somebody decided before.
    """
    check_decision_reason(reason)
    decided = _decide(JobFolder(bucket, job_id), "refused", reason, by or who())
    if not decided.is_own:
        raise _decided_before(job_id, decided.decision)
    unmark_held(bucket, job_id)
    return decided.decision


def check_decision_reason(reason: str) -> None:
    """Raises RequestError if the reason of a decision is empty or too long to be stored."""
    if not reason.strip():
        raise RequestError("--reason is empty", next_step="Say why in a few words: others read it in the history and in the notice.")
    check_reason(reason)


def _decide(folder: JobFolder, verdict: Literal["approved", "refused"], reason: str, by: str) -> Decided:
    """Writes the decision of this person, unless there is one.

    Raises:
        RequestError: the result is not held, the files of its job were removed, or another process decides at this moment.
    """
    job = folder.score_job()
    earlier = read_decision(folder)
    if earlier is not None:
        return Decided(decision=earlier, is_own=False)
    if folder.files_were_removed():
        raise folder.removed_error()
    outcome = folder.outcome()
    if outcome is None or outcome.state != JobState.HELD or job.channel is None:
        earlier = read_decision(folder)  # an approval reopens its job
        if earlier is not None:
            return Decided(decision=earlier, is_own=False)
        state = "has not ended" if outcome is None else f"is {outcome.state}"
        raise RequestError(
            f"the result of job {folder.job_id} is not held: the job {state}", next_step="List held results with: scoring results held"
        )
    _remove_damaged(folder)
    own = Decision(verdict=verdict, at=datetime.now(UTC), by=by, reason=reason, compared_with=_compared_with(folder))
    if folder.bucket.create(folder.file(JobFile.DECISION), own.to_json()):
        return Decided(decision=own, is_own=True)
    first = read_decision(folder)
    if first is None:
        raise RequestError(
            f"another process decides about the result of job {folder.job_id} at this moment",
            next_step=f"See it with: scoring jobs show {folder.job_id}",
        )
    return Decided(decision=first, is_own=False)


def _remove_damaged(folder: JobFolder) -> None:
    """Removes the file of a decision whose content cannot be read: it decides nothing. A decision, or no file, is left alone."""
    text = folder.bucket.read(folder.file(JobFile.DECISION))
    if text is None:
        return
    try:
        decode(Decision, text)
    except MessageError:
        folder.bucket.delete(folder.file(JobFile.DECISION))


def _compared_with(folder: JobFolder) -> int:
    """Returns the number of the change of the channel that the guard compared with; 0 if its verdict cannot be read."""
    verdict = read_verdict(folder.bucket, folder.path)
    return 0 if verdict is None else verdict.compared_with


def _decided_before(job_id: str, decision: Decision) -> RequestError:
    again = " To have its table judged once more, score it with --again." if decision.verdict == "refused" else ""
    return RequestError(
        f"the result of job {job_id} was {decision_in_words(decision)}", next_step=f"See it with: scoring jobs show {job_id}.{again}"
    )
