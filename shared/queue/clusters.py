"""Which stack a bucket belongs to: two that share one leave each other's jobs, schedule and notices alone.

Messages and leases lie in each Redis, open jobs in the bucket. Without this the sweep of a second stack would send the jobs of the first to
its own workers, which may have other definitions. ::

    Redis  scoring:cluster          the id of this stack: SCORING_CLUSTER, or made by whoever comes first
    bucket cluster.json             the stack that the bucket belongs to                       (first writer wins)
           clusters/<id>.json       its time says when a stack was seen last; a worker writes it every ``SEEN_EVERY_SECONDS``
           jobs/_open/<job id>      holds the id of the stack that a job was put into

A stack that was not seen for ``SILENT_SECONDS`` is gone: the bucket, and its open jobs, go to whoever is still there. So a Redis that was
emptied, or replaced by another, needs no person. All times are those of the storage: no clock of ours must be right.
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
"""Every key of ours has an expiry; a stack that works renews it."""

OWNER, CLUSTERS = "cluster.json", "clusters"
SEEN_EVERY_SECONDS = 20.0
SAID_EVERY_SECONDS = 60.0
SILENT_SECONDS = 120.0
"""After this long without a sign a stack is taken for gone."""

log = structlog.get_logger()


class Seen(Record):
    """That a stack works on the bucket, or that it belongs to it."""

    cluster: Name
    at: Timestamp


@dataclass(frozen=True, kw_only=True)
class Claim:
    """To whom a bucket belongs at one moment."""

    own: str
    """The id of this stack; empty where Redis does not say."""
    owner: str
    """The stack that the bucket belongs to; empty while none has claimed it."""
    others: dict[str, float]
    """Other stacks that were seen on it of late -> seconds ago."""

    @property
    def is_ours(self) -> bool:
        """True unless another stack, which is there, has the bucket."""
        return self.owner == self.own or self.owner not in self.others

    def is_foreign(self, cluster: str) -> bool:
        """True when what was put into this stack is to be left to another one."""
        if cluster == self.own:
            return False
        return cluster in self.others or not self.is_ours

    @property
    def sentence(self) -> str:
        """What people must know when the bucket belongs to another stack."""
        return f"the bucket belongs to another stack, {self.owner}, seen {self.others.get(self.owner, 0):.0f} s ago"


JOIN = (
    "Set BUCKET_URL to a bucket of its own; or, to let both work on one bucket, SCORING_CLUSTER to the same name on both sides. "
    f"If the other stack is gone for good, the bucket is ours {SILENT_SECONDS:.0f} s after it was seen last."
)
"""What to do about it."""


class Share:
    """Which open jobs are for this stack, at one moment.

    A job is of the stack that it was put into, and of the stack that has the bucket where that one is not there or not known.
    """

    def __init__(self, bucket: Bucket, claim: Claim | None, of_job: dict[str, str]) -> None:
        """``claim`` is None where nobody can say which stack this is; ``of_job`` holds the stacks of jobs that are known, and gets more."""
        self.claim = claim
        self.left_alone: list[str] = []
        self._bucket, self._of_job = bucket, of_job

    def is_own(self, job_id: str) -> bool:
        """False for a job that is to be left to another stack; reads its mark if need be. May be asked in several threads at once.

        Raises:
            BucketError: its mark cannot be read.
        """
        if self.claim is None or not self.claim.others:
            return True
        if job_id not in self._of_job:
            self._of_job[job_id] = cluster_of_job(self._bucket, job_id)
        is_foreign = self.claim.is_foreign(self._of_job[job_id])
        if is_foreign:
            self.left_alone.append(job_id)
        return not is_foreign


class Cluster:
    """The stack of a process, as that process sees it: says that it is there, and looks who else is, but not more often than need be."""

    def __init__(self, bucket: Bucket, client: redis.Redis, configured: str = "", clock: Callable[[], float] = time.monotonic) -> None:
        self._bucket, self._client, self._configured, self._clock = bucket, client, configured, clock
        self._own = configured
        self._claim: Claim | None = None
        self._looked = 0.0
        self._said = -SAID_EVERY_SECONDS
        self._of_job: dict[str, str] = {}

    def claim(self) -> Claim:
        """To whom the bucket belongs; a bucket of nobody, or of a stack that is gone, is ours from now on. Raises BucketError."""
        if self._claim is None or self._clock() - self._looked >= SEEN_EVERY_SECONDS:
            self._claim = self._inspect()
            self._looked = self._clock()
        return self._claim

    def share_out(self, open_jobs: Sequence[str]) -> "Share":
        """Which of the open jobs are for this stack, found out for each when it is asked for. Raises BucketError.

        Who else is there is looked up each time: a stack that came since the last look may already have put its jobs here.
        """
        if not open_jobs or not self.claim().own:
            return Share(self._bucket, None, {})
        self._claim = read_claim(self._bucket, self._own)
        # a job that was closed and is let go on may be of another stack by then
        self._of_job = {job_id: self._of_job[job_id] for job_id in open_jobs if job_id in self._of_job}
        return Share(self._bucket, self._claim, self._of_job)

    def own_jobs(self, open_jobs: Sequence[str]) -> list[str]:
        """The open jobs that are for this stack, in their order; the mark of each is read. Raises BucketError."""
        share = self.share_out(open_jobs)
        return [job_id for job_id in open_jobs if share.is_own(job_id)]

    def say_left_alone(self, share: "Share") -> None:
        """Log that jobs were left to other stacks, not more often than people need it."""
        if share.claim is None or not share.left_alone or self._clock() - self._said < SAID_EVERY_SECONDS:
            return
        self._said = self._clock()
        others = [*share.claim.others]
        log.warning("jobs of another stack left alone", jobs=len(share.left_alone), cluster=share.claim.own, others=others, to_do=JOIN)

    def _inspect(self) -> Claim:
        former, self._own = self._own, self._id_in_redis() or self._own
        if not self._own:
            return Claim(own="", owner="", others={})
        if former and former != self._own:
            # Redis was emptied, and a process that did not know the id made another: this stack has that now, and nobody has the former
            log.warning("the stack has another name, for Redis was emptied", cluster=self._own, before=former)
            self._bucket.delete(_seen_file(former))
        seen = Seen(cluster=self._own, at=datetime.now(UTC)).to_json()
        self._bucket.write(_seen_file(self._own), seen)
        claim = read_claim(self._bucket, self._own)
        if not claim.owner and not self._bucket.create(OWNER, seen):
            return read_claim(self._bucket, self._own)  # somebody else was faster
        if claim.is_ours and claim.owner != self._own:
            if claim.owner:
                log.warning("bucket taken over", cluster=self._own, of=claim.owner, why=f"not seen for {SILENT_SECONDS:.0f} s")
                self._bucket.write(OWNER, seen)
                self._bucket.delete(_seen_file(claim.owner))
            claim = read_claim(self._bucket, self._own)
        return claim

    def _id_in_redis(self) -> str:
        """The id in Redis, which we write there if there is none: after it was emptied the one that we had."""
        with contextlib.suppress(redis.RedisError):
            if self._configured:
                self._client.set(KEY, self._configured, ex=KEPT_SECONDS)  # for whoever has no such setting
                return self._configured
            self._client.set(KEY, self._own or f"c{secrets.token_hex(6)}", nx=True, ex=KEPT_SECONDS)
            self._client.expire(KEY, KEPT_SECONDS)
            return id_in_redis(self._client)
        return ""


def id_in_redis(client: redis.Redis) -> str:
    """The id of the stack of this Redis; empty when nobody has made one yet. Raises redis.RedisError."""
    found = client.get(KEY)
    with contextlib.suppress(MessageError, ValueError):
        name = found.decode() if isinstance(found, bytes) else ""
        return decode(Seen, {"cluster": name, "at": datetime.now(UTC).isoformat()}).cluster
    return ""


def read_claim(bucket: Bucket, own: str) -> Claim:
    """To whom the bucket belongs, without saying that we are there. Raises BucketError."""
    files = {info.path.rpartition("/")[2].removesuffix(".json"): info.modified for info in bucket.files(CLUSTERS)}
    now = files.pop(own, None)
    if now is None:  # we were never there: then a file that is written now tells the time of the storage
        place = f"{CLUSTERS}/_now-{secrets.token_hex(4)}"
        bucket.write(place, b"")
        info = bucket.stat(place)
        bucket.delete(place)
        now = info.modified if info else time.time()
    others = {name: max(now - at, 0.0) for name, at in files.items() if now - at < SILENT_SECONDS and not name.startswith("_")}
    return Claim(own=own, owner=_owner(bucket), others=others)


def cluster_of_job(bucket: Bucket, job_id: str) -> str:
    """The stack that an open job was put into; empty where that is not known, as of a job of an earlier version. Raises BucketError."""
    return (bucket.read(f"{OPEN}/{job_id}") or b"").decode(errors="replace")


def _owner(bucket: Bucket) -> str:
    text = bucket.read(OWNER)
    with contextlib.suppress(MessageError):
        return "" if text is None else decode(Seen, text).cluster
    return ""  # damaged: nobody's


def _seen_file(cluster: str) -> str:
    return f"{CLUSTERS}/{cluster}.json"
