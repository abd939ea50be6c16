"""The checks of the bucket, of its owner, and of the disks."""

import contextlib
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import redis

from producers.operations.checks.examined import START_REDIS, START_WORKER, Examined
from producers.operations.checks.finding import Finding, error, ok, warning
from shared.bucket.local import LocalBucket
from shared.bucket.opening import open_bucket
from shared.queue.state.stacks import JOIN, id_in_redis, read_claim

LITTLE_DISK, NO_DISK = 2 << 30, 200 << 20
"""Free bytes below which the check warns or fails."""


def check_bucket(examined: Examined) -> Iterator[Finding]:
    """Checks that the bucket opens, returns what was written, and creates a file only once."""
    bucket = examined.bucket = open_bucket(examined.settings.bucket_url, examined.settings.signer)
    place = f"doctor/{secrets.token_hex(8)}"
    began = time.monotonic()
    try:
        was_new = bucket.create(place, b"first")
        was_new_again = bucket.create(place, b"second")
        text = bucket.read(place)
    finally:
        bucket.delete(place)
    took = time.monotonic() - began
    is_gone = bucket.read(place) is None
    if not was_new or text not in (b"first", b"second") or not is_gone:
        yield error("bucket", f"{bucket.url} does not return what was written", "Check its permissions.")
    elif was_new_again or text != b"first":
        yield error(
            "bucket",
            f"{bucket.url} writes over a file that was to be created only once",
            "Use a store with conditional writes (If-None-Match): without them two finishes may both publish.",
        )
    else:
        yield ok("bucket", f"{bucket.url}: read, write and create once in {took * 1e3:,.0f} ms")


def check_stack(examined: Examined) -> Iterator[Finding]:
    """Checks that the bucket belongs to this stack; the check claims nothing."""
    if examined.client is None or examined.bucket is None:
        return
    with contextlib.suppress(redis.RedisError):
        own = examined.settings.cluster or id_in_redis(examined.client)
        claim = read_claim(examined.bucket, own)
        if not own:
            yield warning("cluster", "no worker has named this stack yet", START_WORKER)
        elif not claim.is_ours:
            yield warning("cluster", f"{claim.sentence}; this one is {own}", JOIN)
        else:
            others = f", beside {', '.join(claim.others)}, whose jobs it skips" if claim.others else ""
            yield ok("cluster", f"the bucket belongs to this stack, {own}{others}")
        return
    yield warning("cluster", "Redis went away meanwhile", START_REDIS)


def check_disks(examined: Examined) -> Iterator[Finding]:
    """Checks the free space on the disks of the home folder and of a bucket that is a folder."""
    places = {"home": examined.settings.home}
    if isinstance(examined.bucket, LocalBucket):
        places["bucket"] = examined.bucket.root
    for what, place in places.items():
        free = shutil.disk_usage(_nearest(place)).free
        subject, text = f"disk of the {what}", f"{free / 1e9:,.1f} GB free at {place}"
        if free >= LITTLE_DISK:
            yield ok(subject, text)
        else:
            yield (error if free < NO_DISK else warning)(subject, text, "Free some: old jobs and releases may go.")


def _nearest(place: Path) -> Path:
    """The path, or its nearest existing parent."""
    return next(folder for folder in (place.absolute(), *place.absolute().parents) if folder.exists())
