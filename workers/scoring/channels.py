"""Decides whether a result is published on its channel, and publishes it there."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from shared.catalog.channels import (
    ChannelChange,
    How,
    change_channel,
    change_to,
    channel_changes,
    channel_folder,
    check_whole,
    read_channel,
    show_newest,
)
from shared.catalog.held import Decision, how_to_decide, read_decision
from shared.catalog.manifests import ResultManifest
from shared.errors import PermanentError
from shared.guard.verdict import GuardVerdict, read_verdict, worst_in_words
from shared.jobs.files import JobFile, Subfolder
from shared.jobs.folder import JobFolder, Outcome
from shared.jobs.messages import ScoreJob
from shared.records import decode_long
from shared.text.numbered import numbered
from workers.guard.judged_results import judge_result
from workers.guard.report.drawing import draw_report, remove_report
from workers.scoring.claims import Claim, Standing, number_of, standing

MOST_FIXES = 100
"""The most fixes of fixes that are followed to the job that first scored their table."""


@dataclass(frozen=True, kw_only=True)
class Ruling:
    """Whether a result is published or held, and what people should know about it."""

    is_held: bool = False
    reason: str = ""
    next_step: str = ""
    facts: dict[str, str] = field(default_factory=dict)


class ChannelMovedError(Exception):
    """Raised when a result may not be shown as it was decided: it must be decided once more."""


def rule(
    folder: JobFolder, job: ScoreJob, manifest: ResultManifest, when_judged: Callable[[GuardVerdict], None] = lambda _: None
) -> Ruling:
    """Decides whether the result of a job may be published: judges it against what its channel shows, unless a person decided.

    The judgement is kept in the folder of the job; ``when_judged`` is called for each that this process wrote.
    It is repeated if the channel was changed since.
    A result that the channel has shown, and one of an older table than that of the channel, is published without a judgement.
    """
    if job.channel is None:
        return Ruling()
    now = read_channel(folder.bucket, job.channel)
    claim = _read_claim(folder, job, manifest, job.channel)
    if standing(claim, now) in (Standing.SHOWN, Standing.OVERTAKEN):
        return Ruling(facts=_approval(claim) | (claim.verdict.facts if claim.verdict else {}))
    verdict = _current_verdict(folder, manifest, job.channel, now, when_judged)
    claim = replace(claim, verdict=verdict)
    reasons = [*_refusal(claim), *_pin(job.channel, now), *(worst_in_words(verdict) if verdict.holds else [])]
    facts = verdict.facts | _report(folder, manifest, verdict, reasons)
    if standing(claim, now) == Standing.OUTDATED:
        if verdict.holds:
            facts.pop("guard", None)  # the reasons say it
        return _held(job.channel, folder.job_id, reasons, facts, claim)
    return Ruling(facts=_approval(claim) | facts)


def _current_verdict(
    folder: JobFolder, manifest: ResultManifest, channel: str, now: ChannelChange | None, when_judged: Callable[[GuardVerdict], None]
) -> GuardVerdict:
    """Returns the verdict against what the channel shows now. Of two processes that judge at once, the first gives it."""
    verdict = read_verdict(folder.bucket, folder.path)
    if verdict is not None and verdict.compared_with == number_of(now):
        return verdict
    remove_report(folder.bucket, manifest)
    found = judge_result(folder.bucket, manifest, channel, now)
    if not (verdict is None and folder.bucket.create(folder.file(JobFile.GUARD), found.to_json())):
        written = read_verdict(folder.bucket, folder.path)
        if written is not None and written.compared_with == found.compared_with:
            return written
        folder.bucket.write(folder.file(JobFile.GUARD), found.to_json())
    when_judged(found)
    return found


def _report(folder: JobFolder, manifest: ResultManifest, verdict: GuardVerdict, held_because: list[str]) -> dict[str, str]:
    """Draws what the guard found, and returns where it is; empty if there is no page."""
    path = draw_report(folder.bucket, manifest, verdict, held_because)
    return {"report": path} if path else {}


def _pin(channel: str, now: ChannelChange | None) -> list[str]:
    if now is None or not now.pinned:
        return []
    return [f"{channel} is pinned to the result of job {now.job_id} by {now.by} since {now.at:%Y-%m-%d %H:%M} UTC ({now.reason})"]


def _refusal(claim: Claim) -> list[str]:
    return [f"it was refused {_who(claim.decision)}"] if claim.decision is not None and claim.approval is None else []


def _approval(claim: Claim) -> dict[str, str]:
    return {} if claim.approval is None else {"approved": _who(claim.approval)}


def _held(channel: str, job_id: str, reasons: list[str], facts: dict[str, str], claim: Claim) -> Ruling:
    approval = claim.approval
    outdated = (
        ""
        if approval is None
        else f"{channel} was changed before {approval.by} approved the result at {approval.at:%Y-%m-%d %H:%M} UTC, "
        "so it was compared once more, and "
    )
    return Ruling(
        is_held=True,
        reason=f"{outdated}the channel {channel} keeps its result: {numbered(reasons)}",
        next_step=how_to_decide(job_id, channel),
        facts=facts,
    )


def set_aside_approval(folder: JobFolder) -> None:
    """Keeps an approval that a change of the channel overtook beside earlier outcomes, so that a person can decide once more.

    The result is held when this runs: without the approval, nobody could tell that it is held for the second time.
    """
    decision, verdict = read_decision(folder), read_verdict(folder.bucket, folder.path)
    if decision is None or decision.verdict != "approved" or verdict is None or decision.compared_with == verdict.compared_with:
        return
    folder.bucket.write(folder.file(f"{Subfolder.ENDED}/decision-{decision.at:%Y%m%dT%H%M%S%f}.json"), decision.to_json())
    folder.bucket.delete(folder.file(JobFile.DECISION))


def _who(decision: Decision) -> str:
    return f"by {decision.by} at {decision.at:%Y-%m-%d %H:%M} UTC: {decision.reason}"


def check_standing(folder: JobFolder, job: ScoreJob, outcome: Outcome, channel: str) -> None:
    """Checks that the channel would take the result of a job with this outcome now, so that it may be put at its place.

    Raises:
        ChannelMovedError: the result must be decided once more, or another process has done so.
        RequestError: the predictions of an approved result are not those of its manifest.
    """
    _standing_now(folder, job, outcome, channel, read_channel(folder.bucket, channel))


def show_on_channel(folder: JobFolder, job: ScoreJob, outcome: Outcome, channel: str) -> dict[str, str]:
    """Lets the channel show the result of a job with this outcome; returns facts for people about where it is shown.

    It may run any number of times: a result that was shown before and replaced since is not shown again.

    Raises:
        ChannelMovedError: the result must be decided once more, or another process has done so; nothing was changed.
        RequestError: the predictions of an approved result are not those of its manifest; nothing was changed.
    """
    manifest = _manifest(folder)

    def next_change(now: ChannelChange | None) -> ChannelChange | None:
        found, approved = _standing_now(folder, job, outcome, channel, now)
        if found != Standing.NEXT:
            return None
        how: How = "approved" if approved else "published without the guard" if manifest.guard_off else "passed the guard"
        by, reason = (approved.by, approved.reason) if approved else (manifest.job_id, manifest.guard_off)
        return change_to(manifest, now, how, by=by, reason=reason).model_copy(update={"origin": origin_of(folder, job)})

    if change_channel(folder.bucket, channel, next_change) is not None:
        return {"channel": channel_folder(channel)}
    shown = show_newest(folder.bucket, channel)
    if shown is None or shown.shows(manifest):
        return {"channel": channel_folder(channel)}
    return {"channel": _not_shown(channel, shown)}


def _standing_now(
    folder: JobFolder, job: ScoreJob, outcome: Outcome, channel: str, now: ChannelChange | None
) -> tuple[Standing, Decision | None]:
    """Returns the standing of a result before a channel with this newest change, and who approved it.

    Raises:
        as check_standing.
    """
    if folder.outcome() != outcome:
        raise ChannelMovedError
    manifest = _manifest(folder)
    claim = _read_claim(folder, job, manifest, channel)
    found = standing(claim, now)
    if found == Standing.OUTDATED:
        raise ChannelMovedError
    if found == Standing.NEXT and claim.approval is not None:
        check_whole(folder.bucket, manifest)
    return found, claim.approval


def _manifest(folder: JobFolder) -> ResultManifest:
    return decode_long(ResultManifest, folder.bucket.read(folder.file(JobFile.MANIFEST)) or b"")


def _read_claim(folder: JobFolder, job: ScoreJob, manifest: ResultManifest, channel: str) -> Claim:
    verdict = read_verdict(folder.bucket, folder.path)
    return Claim(
        revision=manifest.revision,
        age=origin_of(folder, job) or folder.job_id,
        verdict=verdict,
        decision=read_decision(folder),
        was_shown=verdict is not None and _was_shown(folder, channel, verdict.compared_with),
    )


def _not_shown(channel: str, shown: ChannelChange) -> str:
    return f"not on {channel}: it shows the result of job {shown.job_id}"


def _was_shown(folder: JobFolder, channel: str, compared_with: int) -> bool:
    """Returns True if a finish step of the job has let the channel show its result since it was compared."""
    for change in channel_changes(folder.bucket, channel):
        if change.number <= compared_with:
            return False
        if change.job_id == folder.job_id and change.is_publication:
            return True
    return False


def origin_of(folder: JobFolder, job: ScoreJob) -> str | None:
    """Returns the job whose table a fix scores, through fixes of fixes; None for a job that is no fix."""
    origin = job.fixes
    for _ in range(MOST_FIXES):
        try:
            earlier = JobFolder(folder.bucket, origin).score_job().fixes if origin else None
        except PermanentError:
            earlier = None  # its request was removed
        if earlier is None:
            break
        origin = earlier
    return origin
