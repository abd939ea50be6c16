"""What gc costs with very many old jobs: ``python -m tests.acceptance.many_jobs --jobs 10000``.

The files are made up, with the names and about the sizes of those of a job with one chunk.
On an object store (moto's) requests are counted.
"""

import argparse
import contextlib
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from shared.bucket.interface import Bucket
from shared.bucket.local import LocalBucket
from shared.bucket.opening import open_bucket
from shared.bucket.remote import _s3_session
from shared.jobs.folder import REQUESTS
from shared.retention import round as daily
from shared.retention.config import RETENTION, read_retention
from shared.retention.survey import survey
from tests.object_store import STORE_BUCKET, object_store, talking_to

RULES = (
    b"jobs: {parts: 1d, done: 30d, failed: 90d}\nrevisions: {keep_last: 3, keep_daily: 14, keep_weekly: 8, keep_within: 7d}\nnotices: 90d\n"
)
FILES = {
    "job.json": 400,
    "begun.json": 600,
    "plan.json": 900,
    "stage.json": 100,
    "parts/0000000.csv.gz": 3000,
    "parts/0000000.json": 700,
    "manifest.json": 3000,
    "outcome.json": 700,
    "published.json": 50,
    "telling.json": 90,
    "notified.json": 90,
}
"""Of a job that scored one chunk, with their bytes."""

FIRST = datetime(2026, 11, 1, tzinfo=UTC)


def job_ids(jobs: int) -> list[str]:
    """Ids of jobs, one every nine seconds: 10,000 a day."""
    return [f"{FIRST + timedelta(seconds=9 * number):%Y%m%dt%H%M%S}000z-score-{number:06x}" for number in range(jobs)]


def contents(jobs: int) -> Iterator[tuple[str, int]]:
    """The files of so many jobs with their bytes."""
    for number, job_id in enumerate(job_ids(jobs)):
        for name, size in FILES.items():
            yield f"jobs/{job_id}/{name}", size
        yield f"{REQUESTS}/score-{number:032x}.1", len(job_id)
        place = f"data/predict/output/v1/2026/11/01/table{number}"
        for folder in (place, f"{place}/revisions/{job_id}"):
            yield f"{folder}/prediction_output.csv.gz", 3000
            yield f"{folder}/manifest.json", 3000


def fill_disk(root: Path, jobs: int) -> LocalBucket:
    """A bucket on a disk with so many jobs that are done."""
    bucket = LocalBucket(root)
    for path, size in contents(jobs):
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x" * size)
    bucket.write(RETENTION, RULES)
    return bucket


@contextlib.contextmanager
def filled_store(jobs: int) -> Iterator[tuple[Bucket, Counter[str]]]:
    """A bucket on an object store with so many jobs that are done, and a count of the requests to it, by what they ask."""
    from moto.s3.models import s3_backends

    requests: Counter[str] = Counter()

    def count(operation_name: str, **_: Any) -> None:
        requests[operation_name] += 1

    _s3_session.cache_clear()
    _s3_session().register("request-created.s3", count)
    with object_store() as address, talking_to(address):
        backend = next(iter(s3_backends.values()))["aws"]
        for path, size in contents(jobs):
            backend.put_object(STORE_BUCKET, f"many/{path}", b"x" * size)
        bucket = open_bucket(f"s3://{STORE_BUCKET}/many")
        bucket.write(RETENTION, RULES)
        requests.clear()
        yield bucket, requests
    _s3_session.cache_clear()


def measure_disk(jobs: int) -> dict[str, float]:
    """Seconds of a dry run, of the round that marks, and of the round that removes."""
    with tempfile.TemporaryDirectory() as root:
        bucket = fill_disk(Path(root), jobs)
        rules, now = read_retention(bucket), datetime.now(UTC) + timedelta(days=31)
        found = {}
        began = time.monotonic()
        things = survey(bucket, rules, now)
        found["dry run, s"] = time.monotonic() - began
        assert sum(thing.is_removed for thing in things) == jobs
        for name, at in (("round that marks, s", now), ("round that removes, s", now + timedelta(days=1.1))):
            began = time.monotonic()
            daily.make_round(bucket, rules, at)
            found[name] = time.monotonic() - began
        assert sum("/plan.json" in info.path for info in bucket.tree("jobs")) == 0
        return found


def measure_store(jobs: int) -> dict[str, float]:
    """Requests for each removed job of a dry run, and of the two rounds that remove it."""
    with filled_store(jobs) as (bucket, requests):
        rules, now = read_retention(bucket), datetime.now(UTC) + timedelta(days=31)
        requests.clear()
        survey(bucket, rules, now)
        found = {"dry run, requests a job": requests.total() / jobs}
        requests.clear()
        began = time.monotonic()
        daily.make_round(bucket, rules, now)
        daily.make_round(bucket, rules, now + timedelta(days=1.1))
        found |= {"both rounds, s": time.monotonic() - began, "both rounds, requests a removed job": requests.total() / jobs}
        found |= {f"of these {name}": float(number) for name, number in requests.most_common()}
        assert not [info for info in bucket.tree("jobs") if info.path.endswith("/plan.json")]
        return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.many_jobs", description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--store-jobs", type=int, default=2_000, help="Jobs on the object store.")
    options = parser.parse_args()
    table = Table("where", "jobs", "what", "", box=None)
    for where, jobs, found in (
        ("disk", options.jobs, measure_disk(options.jobs)),
        ("object store", options.store_jobs, measure_store(options.store_jobs)),
    ):
        for what, value in found.items():
            table.add_row(where, f"{jobs:,}", what, f"{value:,.2f}")
    Console(width=120).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
