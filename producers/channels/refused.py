"""Shows a held result that a person refused as refused, not as one that waits for a decision."""

from dataclasses import replace

from shared.catalog.held import Decision, read_decision
from shared.jobs.folder import JobFolder, JobStatus, Outcome
from shared.jobs.states import JobState


def decision_in_words(decision: Decision) -> str:
    """Returns what was decided, by whom, when and why."""
    why = f" ({decision.reason})" if decision.reason else ""
    return f"{decision.verdict} by {decision.by} at {decision.at:%Y-%m-%d %H:%M:%S} UTC{why}"


def with_refusal(folder: JobFolder, outcome: Outcome) -> Outcome:
    """Returns the outcome of a job, for people: if its held result was refused, who did so, and no command to decide."""
    decision = read_decision(folder) if outcome.state == JobState.HELD else None
    if decision is None or decision.verdict != "refused":
        return outcome
    return outcome.model_copy(
        update={
            "reason": f"{decision_in_words(decision)}; it was held because {outcome.reason}",
            "next_step": "Nothing is left to decide. To have the table judged once more, score it with --again.",
        }
    )


def status_with_refusal(folder: JobFolder, status: JobStatus) -> JobStatus:
    """Returns the status of a job with the outcome that ``with_refusal`` gives."""
    if status.outcome is None:
        return status
    outcome = with_refusal(folder, status.outcome)
    return status if outcome is status.outcome else replace(status, outcome=outcome, reason=outcome.reason)
