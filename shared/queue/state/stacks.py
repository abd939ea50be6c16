"""The stack that a bucket belongs to: a stack skips the jobs, the schedule and the notices of others that share its bucket.

Messages and leases are in each stack's Redis, open jobs in the bucket. Without this check the sweep of a second stack would send the
jobs of the first to its own workers, which may have other definitions. ::

    Redis  scoring:cluster          the id of this stack: SCORING_CLUSTER, or a random one that the first process writes
    bucket cluster.json             the stack that the bucket belongs to                       (first writer wins)
           clusters/<id>.json       its modification time says when a stack was last seen; a worker writes it every ``SEEN_EVERY_SECONDS``
           jobs/_open/<job id>      holds the id of the stack of a job

A stack that was not seen for ``SILENT_SECONDS`` is gone: the bucket and its open jobs pass to a stack that is still active. So an emptied
or replaced Redis needs no action by a person. All times are those of the storage, so local clocks do not matter.
"""

import contextlib
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import redis
import structlog

from shared.bucket.interface import Bucket
from shared.errors import MessageError
from shared.jobs.folder import OPEN
from shared.records import Name, Record, Timestamp, decode

KEY = "scoring:cluster"
KEPT_SECONDS = 30 * 24 * 3600
"""Every key of this product expires; an active stack renews it."""

OWNER, STACKS = "cluster.json", "clusters"
SEEN_EVERY_SECONDS = 20.0
LOG_EVERY_SECONDS = 60.0
SILENT_SECONDS = 120.0
"""A stack without a sign of life for this time counts as gone."""

log = structlog.get_logger()


class Seen(Record):
    """The record that a stack uses the bucket, or owns it."""

    cluster: Name
    """The id of the stack, under the name that it has in the file."""
    at: Timestamp


@dataclass(frozen=True, kw_only=True)
class Claim:
    """The owner of a bucket and its other users at one moment."""

    own: str
    """The id of this stack; empty when Redis does not have it."""
    owner: str
    """The owner of the bucket; empty before the first claim."""
    others: dict[str, float]
    """Other stacks that were seen recently -> seconds ago."""

    @property
    def is_ours(self) -> bool:
        """True unless another active stack owns the bucket."""
        return self.owner == self.own or self.owner not in self.others

    def is_foreign(self, stack: str) -> bool:
        """Returns True when the jobs of this stack id belong to another stack."""
        if stack == self.own:
            return False
        return stack in self.others or not self.is_ours

    @property
    def sentence(self) -> str:
        """The message for people when the bucket belongs to another stack."""
        return f"the bucket belongs to another stack, {self.owner}, seen {self.others.get(self.owner, 0):.0f} s ago"


JOIN = (
    "Set BUCKET_URL to a bucket of its own; or, to let both work on one bucket, SCORING_CLUSTER to the same name on both sides. "
    f"If the other stack is gone for good, the bucket is ours {SILENT_SECONDS:.0f} s after it was seen last."
)
"""The next step when another stack owns the bucket."""


class OwnJobs:
    """The open jobs of this stack, at one moment.

    A job belongs to the stack that enqueued it, or to the owner of the bucket when that stack is gone or unknown.
    """

    def __init__(self, bucket: Bucket, claim: Claim | None, of_job: dict[str, str]) -> None:
        """``claim`` is None when the id of this stack is unknown; ``of_job`` caches the stacks of jobs and is extended."""
        self.claim = claim
        self.foreign_jobs: list[str] = []
        self._bucket, self._of_job = bucket, of_job

    def is_own(self, job_id: str) -> bool:
        """Returns False for a job of another stack; reads the mark of the job if needed. Safe to call from several threads.

        Raises:
            BucketError: the mark of the job cannot be read.
        """
        if self.claim is None or not self.claim.others:
            return True
        if job_id not in self._of_job:
            self._of_job[job_id] = stack_of_job(self._bucket, job_id)
        is_foreign = self.claim.is_foreign(self._of_job[job_id])
        if is_foreign:
            self.foreign_jobs.append(job_id)
        return not is_foreign


class OwnStack:
    """The stack of this process: announces it in the bucket and finds the other stacks, at most every ``SEEN_EVERY_SECONDS``."""

    def __init__(self, bucket: Bucket, client: redis.Redis, configured: str = "", clock: Callable[[], float] = time.monotonic) -> None:
        self._bucket, self._client, self._configured, self._clock = bucket, client, configured, clock
        self._own = configured
        self._claim: Claim | None = None
        self._looked = 0.0
        self._logged = -LOG_EVERY_SECONDS
        self._of_job: dict[str, str] = {}

    def claim(self) -> Claim:
        """The owner of the bucket. A bucket without an owner, or whose owner is gone, is claimed for this stack. Raises BucketError."""
        if self._claim is None or self._clock() - self._looked >= SEEN_EVERY_SECONDS:
            self._claim = self._inspect()
            self._looked = self._clock()
        return self._claim

    def own_jobs_among(self, open_jobs: Sequence[str]) -> "OwnJobs":
        """The jobs of this stack among the open jobs; each job is resolved when ``is_own`` is called. Raises BucketError.

        The other stacks are read each time: one that came since the last claim may already have enqueued jobs.
        """
        if not open_jobs or not self.claim().own:
            return OwnJobs(self._bucket, None, {})
        self._claim = read_claim(self._bucket, self._own)
        # a job that was closed and resumed may have moved to another stack
        self._of_job = {job_id: self._of_job[job_id] for job_id in open_jobs if job_id in self._of_job}
        return OwnJobs(self._bucket, self._claim, self._of_job)

    def own_jobs(self, open_jobs: Sequence[str]) -> list[str]:
        """The open jobs of this stack, in their order; reads the mark of each. Raises BucketError."""
        own_jobs = self.own_jobs_among(open_jobs)
        return [job_id for job_id in open_jobs if own_jobs.is_own(job_id)]

    def log_foreign_jobs(self, own_jobs: "OwnJobs") -> None:
        """Logs that jobs of other stacks were skipped, at most every ``LOG_EVERY_SECONDS``."""
        if own_jobs.claim is None or not own_jobs.foreign_jobs or self._clock() - self._logged < LOG_EVERY_SECONDS:
            return
        self._logged = self._clock()
        others = [*own_jobs.claim.others]
        log.warning("jobs of another stack skipped", jobs=len(own_jobs.foreign_jobs), cluster=own_jobs.claim.own, others=others, to_do=JOIN)

    def _inspect(self) -> Claim:
        former, self._own = self._own, self._id_in_redis() or self._own
        if not self._own:
            return Claim(own="", owner="", others={})
        if former and former != self._own:
            # Redis was emptied, and a process that did not know the id wrote a new one, which this stack now uses; the former id has no
            # owner
            log.warning("the stack has another name, for Redis was emptied", cluster=self._own, before=former)
            self._bucket.delete(_seen_file(former))
        seen = Seen(cluster=self._own, at=datetime.now(UTC)).to_json()
        self._bucket.write(_seen_file(self._own), seen)
        claim = read_claim(self._bucket, self._own)
        if not claim.owner and not self._bucket.create(OWNER, seen):
            return read_claim(self._bucket, self._own)  # another process was faster
        if claim.is_ours and claim.owner != self._own:
            if claim.owner:
                log.warning("bucket taken over", cluster=self._own, of=claim.owner, why=f"not seen for {SILENT_SECONDS:.0f} s")
                self._bucket.write(OWNER, seen)
                self._bucket.delete(_seen_file(claim.owner))
            claim = read_claim(self._bucket, self._own)
        return claim

    def _id_in_redis(self) -> str:
        """The id in Redis. If there is none, writes one: after Redis was emptied, the id that this process used."""
        with contextlib.suppress(redis.RedisError):
            if self._configured:
                self._client.set(KEY, self._configured, ex=KEPT_SECONDS)  # for processes without SCORING_CLUSTER
                return self._configured
            self._client.set(KEY, self._own or f"c{secrets.token_hex(6)}", nx=True, ex=KEPT_SECONDS)
            self._client.expire(KEY, KEPT_SECONDS)
            return id_in_redis(self._client)
        return ""


def id_in_redis(client: redis.Redis) -> str:
    """The id of the stack of this Redis; empty before one is written. Raises redis.RedisError."""
    found = client.get(KEY)
    with contextlib.suppress(MessageError, ValueError):
        name = found.decode() if isinstance(found, bytes) else ""
        return decode(Seen, {"cluster": name, "at": datetime.now(UTC).isoformat()}).cluster
    return ""


def read_claim(bucket: Bucket, own: str) -> Claim:
    """The owner of the bucket, without announcing this stack. Raises BucketError."""
    files = {info.path.rpartition("/")[2].removesuffix(".json"): info.modified for info in bucket.files(STACKS)}
    now = files.pop(own, None)
    if now is None:  # this stack was never announced: a file that is written now gives the time of the storage
        place = f"{STACKS}/_now-{secrets.token_hex(4)}"
        bucket.write(place, b"")
        info = bucket.stat(place)
        bucket.delete(place)
        now = info.modified if info else time.time()
    others = {name: max(now - at, 0.0) for name, at in files.items() if now - at < SILENT_SECONDS and not name.startswith("_")}
    return Claim(own=own, owner=_owner(bucket), others=others)


def stack_of_job(bucket: Bucket, job_id: str) -> str:
    """The stack that enqueued an open job; empty when unknown, as for a job of an earlier version. Raises BucketError."""
    return (bucket.read(f"{OPEN}/{job_id}") or b"").decode(errors="replace")


def _owner(bucket: Bucket) -> str:
    text = bucket.read(OWNER)
    with contextlib.suppress(MessageError):
        return "" if text is None else decode(Seen, text).cluster
    return ""  # damaged: no owner


def _seen_file(stack: str) -> str:
    return f"{STACKS}/{stack}.json"
