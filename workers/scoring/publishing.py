"""Finishes a job: joins its parts and publishes the newest revision."""

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime

from shared.bucket.interface import Bucket
from shared.catalog.held import mark_held, unmark_held
from shared.catalog.manifests import PREDICTIONS, REJECTS, ResultManifest
from shared.catalog.paths import MANIFEST, revision_folder
from shared.catalog.retirements import why_retired
from shared.errors import BucketError, HeldError, MessageError
from shared.guard.verdict import GuardVerdict
from shared.jobs.files import JobFile, Subfolder
from shared.jobs.folder import JobFolder, Outcome
from shared.jobs.states import SETTLED_STATES, JobState
from shared.records import decode_long
from workers.scoring.channels import ChannelMovedError, Ruling, check_standing, rule, set_aside_approval, show_on_channel
from workers.scoring.joining import join, output_folder
from workers.scoring.plan import read_plan

MOST_COMPARISONS = 5
"""The most comparisons of one result in a row while its channel is changed again and again."""


def finish_job(folder: JobFolder, *, awaits: bool = True, when_judged: Callable[[GuardVerdict], None] = lambda _: None) -> Outcome | None:
    """Joins the parts, and publishes the result or holds it; returns the outcome, or None while something is missing.

    If ``awaits`` is true, it joins the existing parts while it waits for the last chunks.
    ``when_judged`` is called for each verdict of the guard that this call wrote.

    Raises:
        TableError: more rows were rejected than the job allows.
    """
    for _ in range(MOST_COMPARISONS):
        outcome = folder.outcome() or _decide(folder, awaits=awaits, when_judged=when_judged)
        if outcome is None or outcome.state not in SETTLED_STATES or folder.is_settled(outcome):
            return outcome
        try:
            _settle(folder, outcome)
        except ChannelMovedError:
            withdraw(folder.bucket, outcome.result, folder.job_id)
            folder.reconsider(outcome)
        else:
            return outcome
    raise BucketError(
        f"the channel of job {folder.job_id} was changed {MOST_COMPARISONS} times while its result was compared", next_step="Try again."
    )


def _decide(folder: JobFolder, *, awaits: bool, when_judged: Callable[[GuardVerdict], None]) -> Outcome | None:
    """Joins the parts and decides how the job ends; returns None while something is missing."""
    plan = read_plan(folder)
    job = folder.score_job()
    manifest = join(folder, job, plan, awaits=awaits)
    if manifest is not None:
        ruling = rule(folder, job, manifest, when_judged)
        folder.write_outcome(_outcome(folder, manifest, output_folder(manifest.release, job), ruling))
    return folder.outcome()


def _settle(folder: JobFolder, outcome: Outcome) -> None:
    """Publishes the result, or holds it beside its place; notes that this is done.

    Raises:
        ChannelMovedError: the result must be decided once more; if its channel moved only now, it lies at its place already.
    """
    own = _complete_revision(folder, outcome)
    if outcome.state == JobState.HELD:
        set_aside_approval(folder)
        mark_held(folder.bucket, folder.job_id)
        folder.settle_hold(outcome)
        return
    job = folder.score_job()
    if job.channel is not None:
        check_standing(folder, job, outcome, job.channel)
    newest = publish_newest(folder.bucket, outcome.result, folder.job_id)
    facts = {"newer result": _newer_result(outcome.result, newest)} if newest != own else {}
    if job.channel is not None:
        # after the place: a job that fails there must not be on its channel
        facts |= show_on_channel(folder, job, outcome, job.channel)
        unmark_held(folder.bucket, folder.job_id)
    # a fix of this job cuts the slices that it needs again; slices of an abandoned plan are removed, too
    folder.bucket.delete_folder(folder.file(Subfolder.SLICES))
    published = {"at": datetime.now(UTC).isoformat()} | ({"facts": facts} if facts else {})
    folder.bucket.write(folder.file(JobFile.PUBLISHED), json.dumps(published).encode())


def _complete_revision(folder: JobFolder, outcome: Outcome) -> str:
    """Puts the manifest, and what the guard found, into the revision of the job, and returns the folder of the revision."""
    # not earlier: any later job may publish a revision with a manifest, so the revision must belong to a job that is done
    own = revision_folder(outcome.result, folder.job_id)
    if folder.has(JobFile.GUARD):
        folder.bucket.copy(folder.file(JobFile.GUARD), f"{own}/{JobFile.GUARD}", durable=True)
    folder.bucket.copy(folder.file(JobFile.MANIFEST), f"{own}/{MANIFEST}", durable=True)
    return own


def _newer_result(place: str, revision: str) -> str:
    return f"at {place} lies a newer result, that of job {revision.rpartition('/')[2]}; this one is kept as a revision"


def _outcome(folder: JobFolder, manifest: ResultManifest, place: str, ruling: Ruling) -> Outcome:
    accepted = folder.has(JobFile.REJECTS_ACCEPTED)
    retired = why_retired(folder.bucket, manifest.release)
    facts = {
        **({"warning": f"{manifest.release} is retired {retired}"} if retired else {}),
        **ruling.facts,
        **({"fixes": manifest.fixes} if manifest.fixes else {}),
        "rows in": f"{manifest.rows_in:,}",
        "scored": f"{manifest.rows_scored:,}",
        "rejected": f"{manifest.rows_rejected:,}{', accepted by a person' if accepted else ''}",
        **({"rejects": f"{manifest.revision if ruling.is_held else place}/{REJECTS}"} if manifest.rejects else {}),
        **({"set to 0 or 1": f"{manifest.rows_clipped:,}"} if manifest.rows_clipped else {}),
        **({"repeated keys": manifest.repeated} if manifest.repeated else {}),
        "seconds": f"{manifest.seconds:.1f}",
        "rows per second": f"{manifest.rows_in / max(manifest.seconds, 1e-9):,.0f}",
    } | {f"mean cr, {name}": f"{device.mean_cr:.5f}" for name, device in manifest.devices.items()}
    return Outcome(
        state=JobState.HELD if ruling.is_held else JobState.DONE,
        # each end has a time of its own, by which its notice is known
        at=datetime.now(UTC) if folder.has_ended_at(manifest.finished) else manifest.finished,
        reason=ruling.reason,
        next_step=ruling.next_step or _look_at(manifest),
        exit_code=HeldError.exit_code if ruling.is_held else 0,
        definition=manifest.release.partition("@")[0],
        release=manifest.release,
        result=place,
        facts=facts,
    )


def _look_at(manifest: ResultManifest) -> str:
    rejects = f"; at its rejects with: scoring results rejects {manifest.job_id}" if manifest.rejects else ""
    return f"Look at it with: scoring results head {manifest.job_id}{rejects}"


def publish_newest(bucket: Bucket, place: str, job_id: str) -> str:
    """Publishes the newest revision at its place for the bidding system, predictions before their manifest, and returns its folder.

    The newest revision is that of ``job_id``, or a newer one with a valid signature from a finished job for this place.
    The search is repeated after each publication, so that two jobs that finish at the same moment leave the newer result, complete.
    Everything is durable on disk when this returns, so that a publication need not be repeated after a power failure.
    """
    published = ""
    while (newest := _newest_revision(bucket, place, job_id)) != published:
        _copy_to_place(bucket, newest, place)
        published = newest
    bucket.settle(place)
    return published


def withdraw(bucket: Bucket, place: str, job_id: str) -> None:
    """Removes the result of a job that must be decided once more from its place: the newest published result is put back, if there is one.

    Does nothing if the place has no file of this result.
    """
    text = bucket.read(f"{place}/{MANIFEST}")
    shown = None if text is None else decode_long(ResultManifest, text)
    if shown is not None and shown.job_id != job_id and _has_predictions_of(bucket, place, shown):
        return
    others = (name for name in reversed(bucket.folders(f"{place}/revisions")) if name != job_id)
    earlier = next((name for name in others if _is_of_finished_job(bucket, place, name)), None)
    if earlier is not None:
        _copy_to_place(bucket, f"{place}/revisions/{earlier}", place)
    else:
        for name in (MANIFEST, PREDICTIONS, REJECTS):
            bucket.delete(f"{place}/{name}")
    bucket.settle(place)


def _has_predictions_of(bucket: Bucket, place: str, manifest: ResultManifest) -> bool:
    """Returns False if a publication was interrupted between the predictions and the manifest of a place."""
    return hashlib.sha256(bucket.read(f"{place}/{PREDICTIONS}") or b"").hexdigest() == manifest.output.sha256


def _copy_to_place(bucket: Bucket, revision: str, place: str) -> None:
    rejects_before = bucket.exists(f"{place}/{REJECTS}")
    manifest = decode_long(ResultManifest, bucket.read(f"{revision}/{MANIFEST}") or b"")
    bucket.copy(f"{revision}/{PREDICTIONS}", f"{place}/{PREDICTIONS}", durable=True)
    if manifest.rejects is not None:
        bucket.copy(f"{revision}/{REJECTS}", f"{place}/{REJECTS}", durable=True)
    elif rejects_before:
        bucket.delete(f"{place}/{REJECTS}")
    bucket.copy(f"{revision}/{MANIFEST}", f"{place}/{MANIFEST}", durable=True)


def _newest_revision(bucket: Bucket, place: str, job_id: str) -> str:
    """Returns the folder of the newest complete revision, that of ``job_id`` or a newer one: job ids start with the time of the request."""
    folder = f"{place}/revisions"
    for name in reversed(bucket.folders(folder)):
        if name <= job_id:
            break
        if _is_of_finished_job(bucket, place, name):
            return f"{folder}/{name}"
    return f"{folder}/{job_id}"


def _is_of_finished_job(bucket: Bucket, place: str, name: str) -> bool:
    """Returns True if the revision is what the job of this name made for this place, and not a copy of another revision."""
    revision = f"{place}/revisions/{name}"
    text = bucket.read(f"{revision}/{MANIFEST}")
    if text is None or not bucket.signer.check(text).is_trusted:
        return False
    try:
        manifest = decode_long(ResultManifest, text)
        outcome = JobFolder(bucket, name).outcome()
    except MessageError:
        return False
    is_its_own = manifest.job_id == name and manifest.revision == revision
    return is_its_own and outcome is not None and outcome.state == JobState.DONE and outcome.result == place
