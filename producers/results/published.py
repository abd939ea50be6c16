"""Relates the result of a job to the others of its place: which it replaced, which replaced it, and which fixed it."""

import json
from typing import Any

from shared.bucket.interface import Bucket
from shared.catalog.channels import channel_folder, channel_now
from shared.catalog.manifests import OUTPUTS, REJECTS, ResultManifest
from shared.catalog.paths import revision_folder
from shared.catalog.results import FoundResult, has_same_rates, inspect_result, list_revisions
from shared.jobs.files import JobFile
from shared.jobs.folder import JobFolder, Outcome
from shared.jobs.messages import Job, ScoreJob
from shared.jobs.states import SETTLED_STATES, JobState

SAME_RATES = ", which has the same rates"


def outcome_now(bucket: Bucket, job: Job, outcome: Outcome) -> Outcome:
    """The outcome of a job with the current state of its result, for people.

    If a newer result is at the place, the outcome names the files of the job's own revision; if its channel shows another result, it names
    that one. The outcome of a failed job whose rejects were fixed names the fix.
    """
    if not isinstance(job, ScoreJob):
        return outcome
    if outcome.state == JobState.HELD:
        return outcome.model_copy(update={"result": revision_folder(outcome.result, job.job_id)})
    if outcome.state != JobState.DONE:
        return _fixed(bucket, job, outcome)
    outcome = _on_channel(bucket, job, outcome)
    place = outcome.result
    at_place = inspect_result(bucket, place)
    if isinstance(at_place, FoundResult) and at_place.manifest.job_id != job.job_id:
        return _own_files(bucket, outcome, job.job_id, at_place.manifest)
    replaced = _before(bucket, place, job.job_id)
    if replaced is None or replaced.job_id == job.fixes:
        return outcome
    return outcome.model_copy(update={"facts": {"replaces": _replaced(bucket, place, job, replaced)} | outcome.facts})


def _on_channel(bucket: Bucket, job: ScoreJob, outcome: Outcome) -> Outcome:
    """Returns the outcome of a job with what its channel shows now, if the channel showed the result of the job."""
    channel = job.channel or ""
    found = channel_now(bucket, channel) if outcome.facts.get("channel") == channel_folder(channel) else None
    if found is None or found.now.job_id == job.job_id:
        return outcome
    now = found.now
    note = f"not on {channel}: it {'is pinned to' if now.pinned else 'shows'} the result of job {now.job_id}"
    same = SAME_RATES if has_same_rates(bucket, revision_folder(outcome.result, job.job_id), now) else ""
    return outcome.model_copy(update={"facts": outcome.facts | {"channel": f"{note} since {found.first.at:%Y-%m-%d %H:%M:%S} UTC{same}"}})


def outcome_data(job_id: str, outcome: Outcome) -> dict[str, Any]:
    """The outcome of a job as JSON values; a held result is at no place, so ``revision`` is its folder and ``result`` is empty."""
    data = outcome.encode()
    if outcome.state != JobState.HELD:
        return data
    return data | {"result": "", "revision": revision_folder(outcome.result, job_id)}


def figures_of(bucket: Bucket, job: Job, outcome: Outcome | None) -> dict[str, Any] | None:
    """The figures of a result as numbers for programs (the facts of an outcome are text); None when there is no result."""
    if not isinstance(job, ScoreJob) or outcome is None or outcome.state not in SETTLED_STATES:
        return None
    found = inspect_result(bucket, revision_folder(outcome.result, job.job_id))
    if not isinstance(found, FoundResult):
        return None
    names = ("rows_in", "rows_scored", "rows_rejected", "rows_clipped", "chunks", "seconds")
    return {name: getattr(found.manifest, name) for name in names} | {
        "mean_cr": {device: summary.mean_cr for device, summary in found.manifest.devices.items()}
    }


def fix_of(bucket: Bucket, job: ScoreJob) -> FoundResult | None:
    """The newest result that fixes the rejects of this job, or of a fix of it; None when there is none."""
    place = _place_of(bucket, job)
    if place is None:
        return None
    newer = []
    for found in list_revisions(bucket, place):
        if isinstance(found, FoundResult):
            if found.manifest.job_id <= job.job_id:
                break
            newer.append(found)
    fixed, newest = {job.job_id}, None
    for found in reversed(newer):
        if found.manifest.fixes in fixed:
            fixed.add(found.manifest.job_id)
            newest = found
    return newest


def _place_of(bucket: Bucket, job: ScoreJob) -> str | None:
    """The place where this job publishes its result; None before its release is known."""
    folder = JobFolder(bucket, job.job_id)
    for path in (folder.file(JobFile.PLAN), folder.file(JobFile.PINNED)):
        try:
            release = str(json.loads(bucket.read(path) or b"")["release"])
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
        return f"{OUTPUTS}/{release.partition('@')[0]}/{job.place}"
    return None


def _fixed(bucket: Bucket, job: ScoreJob, outcome: Outcome) -> Outcome:
    found = fix_of(bucket, job)
    if found is None:
        return outcome
    by = found.manifest
    left = f", {by.rows_rejected:,} reject{'s' if by.rows_rejected > 1 else ''} left" if by.rows_rejected else ""
    return outcome.model_copy(
        update={
            "facts": outcome.facts | {"fixed by": f"job {by.job_id}{left}"},
            "next_step": f"Nothing is left to do here. See the result with: scoring results show {by.job_id}"
            if not by.rows_rejected
            else f"See what is left with: scoring results rejects {by.job_id}",
        }
    )


def _own_files(bucket: Bucket, outcome: Outcome, job_id: str, newer: ResultManifest) -> Outcome:
    own = revision_folder(outcome.result, job_id)
    facts = outcome.facts | ({"rejects": f"{own}/{REJECTS}"} if "rejects" in outcome.facts else {})
    kind = "the fix of it by" if newer.fixes == job_id else "the result of"
    note = f"not at its place: {outcome.result} holds {kind} job {newer.job_id} since {newer.finished:%Y-%m-%d %H:%M:%S} UTC"
    note += SAME_RATES if has_same_rates(bucket, own, newer) else ""
    return outcome.model_copy(update={"result": own, "facts": {"published": note} | facts})


def _before(bucket: Bucket, place: str, job_id: str) -> ResultManifest | None:
    """The newest result of the place that is older than this job's."""
    for found in list_revisions(bucket, place):
        if isinstance(found, FoundResult) and found.manifest.job_id < job_id and not _is_held(bucket, found.manifest.job_id):
            return found.manifest
    return None


def _is_held(bucket: Bucket, job_id: str) -> bool:
    """Returns True if the revision of a job has never been at its place."""
    outcome = JobFolder(bucket, job_id).outcome()
    return outcome is not None and outcome.state == JobState.HELD


def _replaced(bucket: Bucket, place: str, job: ScoreJob, before: ResultManifest) -> str:
    own = inspect_result(bucket, revision_folder(place, job.job_id))
    is_same_table = isinstance(own, FoundResult) and own.manifest.table.contents == before.table.contents
    table = "of the same table" if is_same_table else f"of another table, {before.table.path} with {before.rows_in:,} rows"
    return f"the result of job {before.job_id}, {table}"
