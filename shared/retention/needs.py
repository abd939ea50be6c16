"""The dependencies of open jobs on other jobs: a fix reuses the parts, rejects and table of its original job."""

import itertools
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from shared.bucket.interface import Bucket
from shared.catalog.channels import revisions_in_use
from shared.catalog.held import held_jobs
from shared.errors import PermanentError
from shared.jobs.folder import JOBS, JobFolder, open_jobs
from shared.jobs.messages import ScoreJob

MOST_REMEMBERED = 100_000

_known: dict[tuple[str, str], frozenset[str]] = {}
"""The needs of a request never change, so each is read once per process."""


@dataclass(frozen=True, kw_only=True)
class Needs:
    """The jobs whose files must stay at this moment."""

    open: frozenset[str] = frozenset()
    whole: dict[str, str] = field(default_factory=dict)
    """Job -> the open job that needs it."""
    held: frozenset[str] = frozenset()
    """Jobs whose result waits for a person to approve or refuse it."""
    on_channel: dict[str, str] = field(default_factory=dict)
    """Job -> the channel that shows its result or can be rolled back to it."""
    unclear: bool = False
    """True while the needs of an open job are not known yet."""

    def reason(self, job_id: str) -> str | None:
        """Returns why the files of a job must stay; None when no open job needs them."""
        if job_id in self.open:
            return "it is open"
        if job_id in self.held:
            return "its result is held until a person approves or refuses it"
        return f"open job {self.whole[job_id]} needs it" if job_id in self.whole else None

    def reason_of_revision(self, job_id: str) -> str | None:
        """Returns why the revision of a job must stay, or None when nothing needs it."""
        if job_id in self.on_channel:
            return f"the channel {self.on_channel[job_id]} shows it or can be rolled back to it"
        return self.reason(job_id)


def read_needs(bucket: Bucket) -> Needs:
    """Reads the needs of the jobs that are open now."""
    names = open_jobs(bucket)
    whole: dict[str, str] = {}
    unclear = False
    for job_id in names:
        found = needed_by(bucket, job_id)
        unclear = unclear or found is None
        whole |= dict.fromkeys(found or (), job_id)
    return Needs(
        open=frozenset(names),
        whole=whole,
        held=frozenset(held_jobs(bucket)),
        on_channel={revision.rpartition("/")[2]: channel for revision, channel in revisions_in_use(bucket).items()},
        unclear=unclear,
    )


def needed_by(bucket: Bucket, job_id: str) -> frozenset[str] | None:
    """The other jobs whose folders a job reads; None when its request does not exist yet or cannot be read."""
    known = _known.get((bucket.url, job_id))
    if known is not None:
        return known
    try:
        job = JobFolder(bucket, job_id).job()
    except PermanentError:
        return None
    paths = [job.table, job.fixed_rows] if isinstance(job, ScoreJob) else [job.train, job.eval, job.config]
    fixed = [job.fixes] if isinstance(job, ScoreJob) else []
    found = frozenset(name for name in [*fixed, *map(_owner, paths)] if name) - {job_id}
    if len(_known) >= MOST_REMEMBERED:
        _known.clear()
    _known[bucket.url, job_id] = found
    return found


def _owner(path: str | None) -> str | None:
    """The job whose folder contains a file; None when the file is in none."""
    first, _, rest = (path or "").partition("/")
    return rest.partition("/")[0] if first == JOBS else None


def in_groups(names: Collection[str], most: int) -> Iterator[tuple[str, list[str]]]:
    """Splits the names into groups of at most ``most``, each with the common prefix of its names; in descending order.

    A group can then be listed by its prefix, with few other names.
    """
    if names:
        yield from _split(sorted(names, reverse=True), 0, most)


def _split(names: list[str], shared: int, most: int) -> Iterator[tuple[str, list[str]]]:
    if len(names) <= most or names[0] == names[-1]:
        yield os.path.commonprefix([names[0], names[-1]]), names  # noqa: RUF071 - a common prefix of characters, not of path parts
        return
    for _, group in itertools.groupby(names, key=lambda name: name[: shared + 1]):
        yield from _split(list(group), shared + 1, most)
