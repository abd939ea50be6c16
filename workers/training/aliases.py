"""Points aliases to a new release, if the gate allows it."""

from datetime import datetime

from model_store.library import ModelLibrary
from model_store.store import read_manifest
from shared.bucket.interface import Bucket
from shared.catalog.aliases import CHAMPION, Alias, changes, known_alias, point_alias, point_latest
from shared.errors import ModelError
from shared.jobs.folder import JobFolder, Outcome
from shared.jobs.messages import TrainJob
from workers.training.fitting import train_job

LONGEST_REASON = 500
"""Maximum characters of the reason for a change of an alias."""


def check_alias(job: TrainJob, library: ModelLibrary) -> None:
    """Raises ModelError when the alias of a train job is already the name of something else."""
    if job.alias == "latest" or job.alias in library.definition_names():
        raise ModelError(f"{job.alias} cannot be an alias: it names something already", next_step="Choose another name, like champion.")


def point_aliases(folder: JobFolder, outcome: Outcome) -> dict[str, str]:
    """Points ``latest`` (unless it has a newer release) and the requested aliases to the release, once; returns a description for each."""
    job, by = train_job(folder), f"job {folder.job_id}"
    point_latest(folder.bucket, outcome.release, by=by)
    # neither alias is moved if an earlier run of this step, another training or a person moved it since the outcome was written
    if job.alias is not None:
        point_alias(folder.bucket, job.alias, outcome.release, by=by, reason="trained", only_if=lambda now: _is_unmoved(now, outcome))
    if outcome.promotion is not None:
        before = outcome.promotion.champion_since
        why = _why_promoted(folder.bucket, job, outcome.release)
        point_alias(folder.bucket, CHAMPION, outcome.release, by=by, reason=why, only_if=lambda now: since(now) == before)
    names = [*([job.alias] if job.alias else []), *([CHAMPION] if outcome.promotion else [])]
    return {name: _alias_outcome(folder.bucket, name, outcome.release, by) for name in names}


def _why_promoted(bucket: Bucket, job: TrainJob, release: str) -> str:
    """Returns the reason for the history of ``champion``: whether the gate passed the release or was overruled."""
    found = read_manifest(bucket, release).evaluation
    if job.promote != "always" or found is None:
        return "passed the gate"
    if found.gate.passed:
        return "promoted always (passed the gate)"
    return f"promoted always (gate refused: {found.gate.objection})"[:LONGEST_REASON]


def _alias_outcome(bucket: Bucket, alias: str, release: str, by: str) -> str:
    """Describes what an alias points to now, and whether this job moved it in this run or an earlier one."""
    now = known_alias(bucket, alias)
    if now is not None and now.release == release:
        return f"means {release} now"
    meaning = "nothing" if now is None else now.release
    if any(change.by == by and change.release == release for change in changes(bucket, alias)):
        return f"was moved to {release}, and means {meaning} by now"
    return f"not moved: it came to mean {meaning} after the training had ended"


def _is_unmoved(now: Alias | None, outcome: Outcome) -> bool:
    """Returns True if the requested alias was not moved since the job ended."""
    if outcome.pointing is None:  # an outcome of an earlier version, without this information
        return now is None or now.at <= outcome.at
    return since(now) == outcome.pointing.alias_since


def since(alias: Alias | None) -> datetime | None:
    return None if alias is None else alias.at
