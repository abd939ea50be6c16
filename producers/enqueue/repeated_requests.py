"""The answer to a repeated request: checks whether the result of its earlier job is still in use.

The job of a repeated request is done, and its result may be out of date: another result is at its place or on its channel, an alias
points to another release, or the code of the definition was changed. Each of these is a ``Change`` with the replacement, its time, and the
next command. Another result with the same rates, made with the same release, is no change: it is what the request asks for.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from producers.local_definitions import PACKAGE, definition_folder
from shared.bucket.interface import Bucket
from shared.catalog.aliases import CHAMPION, Alias, known_alias, latest_of
from shared.catalog.channels import channel_folder, channel_now
from shared.catalog.paths import revision_folder
from shared.catalog.releases import FoundRelease, inspect_release
from shared.catalog.results import UnreadableResult, has_same_rates, inspect_result
from shared.catalog.retirements import why_retired
from shared.digests import digest_source
from shared.jobs.files import JobFile
from shared.jobs.folder import JobFolder, Outcome
from shared.jobs.messages import Job, ScoreJob, TrainJob
from shared.jobs.states import JobState
from shared.settings import Settings

PUBLISHING = timedelta(minutes=1)
"""A job that ended this long ago is published, or the sweep is publishing it."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """One difference between the result of an earlier job and the current state."""

    what: Literal["result", "channel", "alias", "release", "code"]
    name: str
    """The place of the result, the channel, the alias, the release, or the definition."""
    now: str
    """The job of the current result of the place or the channel, or the current release of the alias; empty for neither."""
    since: datetime | None
    sentence: str
    next_step: str = ""
    """The command that reverts only this change; ``--again`` resolves all of them."""


def changes_since(settings: Settings, bucket: Bucket, job_id: str) -> list[Change]:
    """The changes since this job published its result; empty while the job is not done."""
    folder = JobFolder(bucket, job_id)
    outcome = folder.outcome()
    if outcome is None or outcome.state != JobState.DONE:
        return []
    # the result is published, and aliases are moved, just after the job has ended
    if not folder.has(JobFile.PUBLISHED) and datetime.now(UTC) - outcome.at < PUBLISHING:
        return []
    job = folder.job()
    code = list(_change_of_code(settings, bucket, job, outcome))
    if isinstance(job, ScoreJob):
        return [*_changes_of_result(bucket, job, outcome), *_changes_of_channel(folder, job, outcome), *code]
    return [*_changes_of_training(bucket, job, outcome, is_code_changed=bool(code)), *code]


def _changes_of_result(bucket: Bucket, job: ScoreJob, outcome: Outcome) -> Iterator[Change]:
    place = outcome.result
    if not place:
        return
    there = inspect_result(bucket, place)
    if isinstance(there, UnreadableResult):
        sentence = f"{there.path} cannot be read: {there.reason}"
        yield Change(what="result", name=place, now="", since=None, sentence=sentence)
        return
    if there is None:
        yield Change(what="result", name=place, now="", since=None, sentence=f"{place} holds no result any more")
        return
    now = there.manifest
    if now.job_id == job.job_id or has_same_rates(bucket, revision_folder(there.folder, job.job_id), now):
        return
    kind = "a fix of it, " if now.fixes == job.job_id else ""
    table = "" if now.table.path == job.table else f", of the table {now.table.path}"
    yield Change(
        what="result",
        name=place,
        now=now.job_id,
        since=now.finished,
        sentence=f"{place} holds the result of {kind}job {now.job_id} since {_when(now.finished)}, scored with {now.release}{table}",
    )


def _changes_of_channel(folder: JobFolder, job: ScoreJob, outcome: Outcome) -> Iterator[Change]:
    """The change if the channel showed the result of the job, and shows another one now."""
    channel = job.channel
    if channel is None or folder.with_publication_facts(outcome).facts.get("channel") != channel_folder(channel):
        return
    found = channel_now(folder.bucket, channel)
    if found is None:
        yield Change(what="channel", name=channel, now="", since=None, sentence=f"there is no channel {channel} any more")
        return
    now, first = found.now, found.first
    if now.job_id == job.job_id or has_same_rates(folder.bucket, revision_folder(outcome.result, job.job_id), now):
        return
    by = f", {first.how} by {first.by}: {first.reason}" if first.how in ("rolled back", "approved") else ""
    steps = [f"Let {channel} show its result again: scoring results rollback {channel} --to {job.job_id} --reason TEXT"]
    if now.pinned:
        steps.append(f"A new result is held until you end the pin: scoring results unpin {channel}")
    kind = "a fix of it, " if now.origin == job.job_id else ""
    yield Change(
        what="channel",
        name=channel,
        now=now.job_id,
        since=first.at,
        sentence=f"{channel} {'is pinned to' if now.pinned else 'shows'} the result of {kind}job {now.job_id} since {_when(first.at)}{by}",
        next_step="\n".join(steps),
    )


def _changes_of_training(bucket: Bucket, job: TrainJob, outcome: Outcome, *, is_code_changed: bool) -> Iterator[Change]:
    if inspect_release(bucket, outcome.release) is None:
        sentence = f"the release {outcome.release} is no longer in the store"
        yield Change(what="release", name=outcome.release, now="", since=None, sentence=sentence)
        return
    why = why_retired(bucket, outcome.release)
    if why:
        undo = f"Take it back into use with: scoring models unretire {outcome.release}"
        sentence = f"the release {outcome.release} was retired {why}"
        yield Change(what="release", name=outcome.release, now="", since=None, sentence=sentence, next_step=undo)
    names = [*filter(None, [job.alias]), *([CHAMPION] if outcome.promotion is not None else [])]
    for name in names:
        now = known_alias(bucket, name)
        if now is None or now.release != outcome.release:
            option = "" if name == CHAMPION else f" --alias {name}"
            yield _moved(name, now, f"Move it with: scoring models promote {outcome.release}{option}")
    latest = known_alias(bucket, latest_of(job.definition))
    if latest is None or latest.release != outcome.release:
        # a worker with the current code refuses that release
        yield _moved(job.definition, latest, "" if is_code_changed else f"Use this release by its id: --model {outcome.release}")


def _moved(name: str, now: Alias | None, next_step: str) -> Change:
    if now is None:
        return Change(what="alias", name=name, now="", since=None, sentence=f"{name} points to no release now", next_step=next_step)
    sentence = f"{name} points to {now.release} since {_when(now.at)}"
    return Change(what="alias", name=name, now=now.release, since=now.at, sentence=sentence, next_step=next_step)


def _change_of_code(settings: Settings, bucket: Bucket, job: Job, outcome: Outcome) -> Iterator[Change]:
    definition = outcome.release.partition("@")[0]
    folder = definition_folder(settings, definition)
    found = inspect_release(bucket, outcome.release)
    if folder is None or not isinstance(found, FoundRelease):
        return
    try:
        code = digest_source(folder, PACKAGE)
    except OSError:
        return  # unreadable code cannot be compared
    if code == found.manifest.definition_sha256:
        return
    sentence = f"the code of {definition} in {folder} is not the code that {outcome.release} was trained with"
    train = f"Train it with the code of now: scoring train {definition} --again" if isinstance(job, ScoreJob) else ""
    yield Change(what="code", name=definition, now="", since=_changed(folder), sentence=sentence, next_step=train)


def _changed(folder: Path) -> datetime | None:
    """The time at which the newest Python file of a definition was written."""
    times = [file.stat().st_mtime for file in folder.rglob("*.py")]
    return datetime.fromtimestamp(max(times), UTC) if times else None


def _when(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
