"""Decides whether a result is published on its channel, and publishes it there."""

from dataclasses import dataclass, field

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
from shared.jobs.folder import JobFolder
from shared.jobs.messages import ScoreJob
from shared.records import decode_long
from workers.guard.judged_results import judge_result
from workers.guard.report.drawing import draw_report, remove_report

MOST_FIXES = 100
"""The most fixes of fixes that are followed to the job that first scored their table."""


@dataclass(frozen=True, kw_only=True)
class Ruling:
    """Whether a result is published or held, and what people should know about it."""

    is_held: bool = False
    is_decided: bool = False
    """True if a person decided."""
    reason: str = ""
    next_step: str = ""
    facts: dict[str, str] = field(default_factory=dict)


def rule(folder: JobFolder, job: ScoreJob, manifest: ResultManifest) -> Ruling:
    """Decides whether the result of a job may be published: judges it against what its channel shows, unless a person decided.

    The judgement is kept in the folder of the job. It is repeated if the channel was changed since.
    A result of an older table than that of the channel is not shown there, unless a person approves it, and so it is not judged.
    """
    if job.channel is None:
        return Ruling()
    now = read_channel(folder.bucket, job.channel)
    if now is not None and now.age > (origin_of(folder, job) or folder.job_id) and not folder.has(JobFile.GUARD):
        return Ruling()
    decision = read_decision(folder)
    is_approved = decision is not None and decision.verdict == "approved"
    verdict = _current_verdict(folder, manifest, job.channel, now)
    reasons = [*_pin(job.channel, now), *(worst_in_words(verdict) if verdict.holds else [])]
    facts = verdict.facts | _report(folder, manifest, verdict, reasons)
    if decision is not None and is_approved and decision.compared_with == verdict.compared_with:
        return Ruling(is_decided=True, facts={"approved": _who(decision)} | facts)
    if not reasons:
        return Ruling(is_decided=is_approved, facts=facts)
    if decision is not None and is_approved:
        _set_aside(folder, decision)
    return _held(job.channel, folder.job_id, reasons, facts, decision)


def _current_verdict(folder: JobFolder, manifest: ResultManifest, channel: str, now: ChannelChange | None) -> GuardVerdict:
    """Returns the verdict against what the channel shows now. Of two processes that judge at once, the first gives it."""
    verdict = read_verdict(folder.bucket, folder.path)
    if verdict is not None and verdict.compared_with == (0 if now is None else now.number):
        return verdict
    remove_report(folder.bucket, manifest)
    found = judge_result(folder.bucket, manifest, channel, now)
    if verdict is None and folder.bucket.create(folder.file(JobFile.GUARD), found.to_json()):
        return found
    written = read_verdict(folder.bucket, folder.path)
    if written is not None and written.compared_with == found.compared_with:
        return written
    folder.bucket.write(folder.file(JobFile.GUARD), found.to_json())
    return found


def _report(folder: JobFolder, manifest: ResultManifest, verdict: GuardVerdict, held_because: list[str]) -> dict[str, str]:
    """Draws what the guard found, and returns where it is; empty if there is no page."""
    path = draw_report(folder.bucket, manifest, verdict, held_because)
    return {"report": path} if path else {}


def _pin(channel: str, now: ChannelChange | None) -> list[str]:
    if now is None or not now.pinned:
        return []
    return [f"{channel} is pinned to the result of job {now.job_id} by {now.by} since {now.at:%Y-%m-%d %H:%M} UTC ({now.reason})"]


def _held(channel: str, job_id: str, reasons: list[str], facts: dict[str, str], decision: Decision | None) -> Ruling:
    outdated = (
        "" if decision is None else f"The channel was changed before the approval of {_who(decision)}, so it was compared once more. "
    )
    return Ruling(
        is_held=True,
        is_decided=decision is not None,
        reason=f"{outdated}the channel {channel} keeps its result: {'; '.join(reasons)}",
        next_step=how_to_decide(job_id, channel),
        facts=facts,
    )


def _set_aside(folder: JobFolder, decision: Decision) -> None:
    """Keeps an approval that a change of the channel overtook, so that a person can decide once more."""
    kept = folder.file(f"{Subfolder.ENDED}/decision-{decision.at:%Y%m%dT%H%M%S%f}.json")
    folder.bucket.copy(folder.file(JobFile.DECISION), kept)
    folder.bucket.delete(folder.file(JobFile.DECISION))


def _who(decision: Decision) -> str:
    return f"by {decision.by} at {decision.at:%Y-%m-%d %H:%M} UTC: {decision.reason}"


class ChannelMovedError(Exception):
    """Raised when the channel was changed between the comparison and the publication of a result: it must be compared once more."""


def check_channel(folder: JobFolder, channel: str) -> None:
    """Raises ChannelMovedError if the channel is not the one that the result of a job was compared with, and has not shown it since."""
    verdict, now = read_verdict(folder.bucket, folder.path), read_channel(folder.bucket, channel)
    if verdict is None or verdict.compared_with == (0 if now is None else now.number):
        return
    if not _was_shown(folder, channel, verdict.compared_with):
        raise ChannelMovedError


def show_on_channel(folder: JobFolder, job: ScoreJob, channel: str) -> dict[str, str]:
    """Lets the channel show the result of a job that is done; returns facts for people about where it is shown.

    It may run any number of times: a result that was shown before and replaced since is not shown again.

    Raises:
        ChannelMovedError: the channel is not the one that the result was compared with.
        RequestError: the predictions of an approved result are not those of its manifest.
    """
    manifest = decode_long(ResultManifest, folder.bucket.read(folder.file(JobFile.MANIFEST)) or b"")
    verdict, decision, origin = read_verdict(folder.bucket, folder.path), read_decision(folder), origin_of(folder, job)
    approved = decision if decision is not None and decision.verdict == "approved" else None
    compared_with = 0 if verdict is None else verdict.compared_with
    how: How = "approved" if approved else "published without the guard" if manifest.guard_off else "passed the guard"
    if approved:
        check_whole(folder.bucket, manifest)

    def next_change(now: ChannelChange | None) -> ChannelChange | None:
        if now is not None and (now.shows(manifest) or _was_shown(folder, channel, compared_with)):
            return None
        if now is not None and approved is None and now.age > (origin or folder.job_id):
            return None
        if compared_with != (0 if now is None else now.number):
            raise ChannelMovedError
        by, reason = (approved.by, approved.reason) if approved else (manifest.job_id, manifest.guard_off)
        return change_to(manifest, now, how, by=by, reason=reason).model_copy(update={"origin": origin})

    if change_channel(folder.bucket, channel, next_change) is not None:
        return {"channel": channel_folder(channel)}
    shown = show_newest(folder.bucket, channel)
    if shown is None or shown.shows(manifest):
        return {"channel": channel_folder(channel)}
    return {"channel": _not_shown(channel, shown)}


def _not_shown(channel: str, shown: ChannelChange) -> str:
    return f"not on {channel}: it shows the result of job {shown.job_id}"


def _was_shown(folder: JobFolder, channel: str, compared_with: int) -> bool:
    """Returns True if the channel has shown the result of the job since it was compared."""
    for change in channel_changes(folder.bucket, channel):
        if change.number <= compared_with:
            return False
        if change.job_id == folder.job_id:
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
