"""A thousand days of small jobs with gc: ``python -m tests.acceptance.lasting --days 1000 --figure docs/figures/lasting.png``.

Each day scores a csv.gz table with rejects, which a fix takes out; and scores one that fails for its rejects. Each week a new release is
published and ``scoring models gc`` is run. Messages go through a real server and are worked off in this process by the tasks that workers
run. The clock is made up: what a day has written is dated to that day, gc is given the day's evening as its now, and keys in Redis lose a
day of their time.
"""

import argparse
import gzip
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import redis
import structlog
from rich.console import Console
from rich.table import Table

from producers.releases.retention import assess_releases, remove_releases
from shared.bucket.local import LocalBucket
from shared.jobs.folder import REQUESTS, JobFolder
from shared.jobs.messages import ScoreJob, StepMessage
from shared.queue.broker import make_app
from shared.queue.routes import QUEUES, SCORE_PLAN, SWEEP
from shared.retention import round as daily
from shared.retention.config import RETENTION, Retention, parse_retention
from shared.settings import read_settings
from tests.conftest import own_server
from tests.handmade import HEADER, publish_handmade, row

FIRST = datetime(2024, 1, 1, 6, tzinfo=UTC)
RULES = b"""
jobs:      {parts: 1d, done: 30d, failed: 90d}
revisions: {keep_last: 3, keep_daily: 14, keep_weekly: 8, keep_within: 7d}
notices: 90d
results: 60d
"""
"""As in the documentation; and results go after 60 days, or each day would add one for ever."""
DAY_SECONDS = 24 * 3600
RENEWED = (b"scoring:pulse:sweep", b"scoring:pulse:swept-until")
"""Keys that a stack that works writes more than once a day."""
TABLES_STAY = 7
"""Days: who brings tables takes them away again."""
ROWS = 30
ALLOWED_SHARE = {"bytes": 0.02, "inodes": 0.02, "redis_bytes": 0.02, "sweep_seconds": 1.0, "gc_seconds": 1.0}
"""What the last quarter may need more than the quarter before; times vary with what else the machine does."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What there was in the evening of a day."""

    day: int
    bytes: int
    inodes: int
    sweep_seconds: float
    redis_bytes: int
    gc_seconds: float
    job_files: int
    """Bytes of job folders."""


class Replay:
    """Days of small jobs, one after the other, in a bucket and a server of their own."""

    def __init__(self, root: Path, url: str, rules: Retention, release_days: int) -> None:
        os.environ |= {"REDIS_URL": url, "BUCKET_URL": str(root / "bucket"), "SCORING_HOME": str(root / "home"), "WEBHOOK_URL": ""}
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
        # not that of workers.app, which another test may have imported with its own settings
        app = make_app(read_settings())
        app.conf.imports = [f"workers.tasks.{module}" for module in ("score", "train", "notify", "maintenance", "probe")]
        app.loader.import_default_modules()
        app.finalize()
        self.app, self.rules, self.release_days = app, rules, release_days
        self.bucket = LocalBucket(root / "bucket")
        self.client = redis.Redis.from_url(url)

    def run(self, days: int, every: int) -> Iterator[Sample]:
        """Replays so many days and gives a sample every so often."""
        self.bucket.write(RETENTION, RULES)  # for models gc; rounds go by the rules that are given
        for day in range(days):
            morning = FIRST + timedelta(days=day)
            if day % self.release_days == 0:
                publish_handmade(self.bucket, made=morning)
                remove_releases(self.bucket, [release for release in assess_releases(self.bucket) if not release.needed])
            self._work(morning)
            self._date_new_files(morning)
            seconds = self._collect(morning + timedelta(hours=16))
            self._age_keys()
            if day % every == every - 1:
                sys.stderr.write(f"day {day + 1}\n")
                yield self._sample(day + 1, seconds)

    def _work(self, morning: datetime) -> None:
        place = f"{morning:%Y/%m/%d}"
        lines = [row(number) for number in range(ROWS)]
        lines[3] = "1003,1,x,0,1.5,Computer"
        table = f"data/predict/input/{place}/prediction_input.csv.gz"
        self.bucket.write(table, gzip.compress("\n".join([HEADER, *lines, ""]).encode()))
        scored = self._ask(morning, table, place, max_reject_share=0.5)
        fixed = f"data/fixed/{place}.csv"
        self.bucket.write(fixed, f"reject_line,{HEADER}\n5,{row(3)}\n".encode())
        later = morning + timedelta(minutes=5)
        fix = self._ask(later, table, place, fixes=scored.job_id, fixed_rows=fixed)
        failed = self._ask(morning + timedelta(minutes=9), table, f"{place}/strict", max_reject_share=0.0, max_rejects=0)
        self.work_off()
        states = [folder.outcome().state for folder in (scored, failed)]  # type: ignore[union-attr]
        assert states == ["done", "failed"], states
        outcome = fix.outcome()
        if outcome is None or outcome.state != "done":  # it was planned before the job that it fixes was done
            raise AssertionError(f"the fix ended as {outcome}")
        old = morning - timedelta(days=TABLES_STAY)
        self.bucket.delete_many([f"data/predict/input/{old:%Y/%m/%d}/prediction_input.csv.gz", f"data/fixed/{old:%Y/%m/%d}.csv"])

    def _ask(self, moment: datetime, table: str, place: str, **more: Any) -> JobFolder:
        from shared.queue.broker import send

        job_id = f"{moment:%Y%m%dt%H%M%S}000z-score-{len(more):06x}"
        job = ScoreJob(job_id=job_id, created=moment, model="v1", table=table, place=place, **more)
        folder = JobFolder(self.bucket, job_id)
        self.bucket.create(f"{REQUESTS}/score-{job_id}.1", job_id.encode())
        folder.create(job)
        send(self.app, SCORE_PLAN, [StepMessage(job_id=job_id)])
        self.work_off()
        return folder

    def work_off(self) -> None:
        """Takes messages from their queues and runs their tasks, until there is none."""
        while any(self._take(queue) for queue in QUEUES):
            pass

    def _take(self, queue: str) -> bool:
        message = self.client.rpop(queue)
        if message is None:
            return False
        decoded = json.loads(message)  # type: ignore[arg-type]
        arguments, options, _ = json.loads(_body(decoded))
        self.app.tasks[decoded["headers"]["task"]](*arguments, **options)
        return True

    def _date_new_files(self, morning: datetime) -> None:
        """Dates what was written today to this day; tables stay as they are, since jobs know their times."""
        moment = morning.timestamp() + 3600
        today = f"{morning:%Y%m%d}"
        found = [*self.bucket.tree("jobs", today), *self.bucket.tree(REQUESTS, f"score-{today}")]
        for info in [*found, *self.bucket.tree(f"data/predict/output/v1/{morning:%Y/%m/%d}")]:
            os.utime(self.bucket.place(info.path), (moment, moment))

    def _age_keys(self) -> None:
        """Lets a day pass for every key in Redis that expires."""
        for key in self.client.scan_iter("*"):
            left = int(self.client.ttl(key))  # type: ignore[arg-type]
            if left > DAY_SECONDS:
                self.client.expire(key, left - DAY_SECONDS)
            elif left >= 0 and key not in RENEWED:
                self.client.delete(key)

    def _collect(self, now: datetime) -> float:
        began = time.monotonic()
        daily.make_round(self.bucket, self.rules, now)
        return time.monotonic() - began

    def _sample(self, day: int, gc_seconds: float) -> Sample:
        began = time.monotonic()
        self.app.tasks[SWEEP]()
        sweep_seconds = time.monotonic() - began
        self.work_off()
        size = inodes = job_files = 0
        for folder, folders, files in os.walk(self.bucket.root):
            inodes += len(folders) + len(files)
            held = sum(Path(folder, file).stat().st_size for file in files)
            size += held
            job_files += held if "/jobs" in folder else 0
        memory = int(self.client.info("memory")["used_memory_dataset"])  # type: ignore[index]
        return Sample(
            day=day,
            bytes=size,
            inodes=inodes,
            sweep_seconds=sweep_seconds,
            redis_bytes=memory,
            gc_seconds=gc_seconds,
            job_files=job_files,
        )


def _body(message: dict[str, Any]) -> bytes:
    import base64

    return base64.b64decode(message["body"]) if message["properties"].get("body_encoding") == "base64" else message["body"]


def replay(root: Path, days: int, every: int, rules: Retention | None = None, release_days: int = 7) -> list[Sample]:
    """The samples of a replay of so many days, with a new release every so many of them."""
    # the server keeps 25 KB of latencies for each kind of command from its first use on, which is not data
    with own_server(root, "--latency-tracking", "no") as url:
        return list(Replay(root, url, rules or parse_retention(RULES), release_days).run(days, every))


MEASURES = {"bytes": "MB", "inodes": "", "sweep_seconds": "ms", "redis_bytes": "KB", "gc_seconds": "ms"}
SCALES = {"MB": 1e-6, "KB": 1e-3, "ms": 1e3, "": 1.0}


def quarters(samples: list[Sample], measure: str) -> list[float]:
    """The median of a measure in each quarter of the days."""
    values = [float(getattr(sample, measure)) for sample in samples]
    size = max(len(values) // 4, 1)
    return [statistics.median(values[start : start + size] or [0.0]) for start in range(0, 4 * size, size)]


def growing(samples: list[Sample]) -> list[str]:
    """The measures that are higher in the last quarter than in the one before."""
    found = []
    for measure in MEASURES:
        *_, before, last = quarters(samples, measure)
        if last > before * (1 + ALLOWED_SHARE[measure]):
            found.append(f"{measure}: {before:g} -> {last:g}")
    return found


def print_table(console: Console, samples: list[Sample]) -> None:
    """The medians of each quarter, and a verdict."""
    table = Table("measure", *[f"quarter {number}" for number in range(1, 5)], "", box=None)
    grown = {text.partition(":")[0] for text in growing(samples)}
    for measure, unit in MEASURES.items():
        cells = [f"{value * SCALES[unit]:,.1f}" for value in quarters(samples, measure)]
        table.add_row(f"{measure.replace('_', ' ')} {unit}".strip(), *cells, "GROWS" if measure in grown else "flat")
    console.print(table)


def draw(samples: list[Sample], path: Path) -> None:
    """Each measure over the days, as a figure."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(9, 6), sharex=True)
    days = [sample.day for sample in samples]
    shown = [("bytes", "bucket, MB", 1e-6), ("inodes", "files and folders", 1), ("sweep_seconds", "a sweep, ms", 1e3)]
    shown.append(("redis_bytes", "data in Redis, KB", 1e-3))
    for axis, (measure, label, scale) in zip(axes.flat, shown, strict=True):
        axis.plot(days, [getattr(sample, measure) * scale for sample in samples], linewidth=1)
        axis.set(title=label, ylim=(0, None))
        axis.grid(alpha=0.3)
    for axis in axes[1]:
        axis.set(xlabel="day")
    figure.suptitle(f"{days[-1]:,} days of three small jobs each, with gc")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.lasting", description=__doc__)
    parser.add_argument("--days", type=int, default=1000)
    parser.add_argument("--every", type=int, default=5, help="Measure every so many days.")
    parser.add_argument("--figure", type=Path, help="Draw the measures over the days into this file.")
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as root:
        samples = replay(Path(root), options.days, options.every)
    console = Console(width=120)
    print_table(console, samples)
    console.print(f"{options.days} days in {time.monotonic() - began:.0f} s", highlight=False)
    if options.figure:
        draw(samples, options.figure)
    return 1 if growing(samples) else 0


if __name__ == "__main__":
    sys.exit(main())
