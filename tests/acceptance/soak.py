"""An hour's worth of small jobs on a real stack, with the memory of every process: ``python -m tests.acceptance.soak --jobs 1000``.

One job every 3.6 seconds is 1000 an hour; here they run back to back. The verdict is on resident memory (RSS), which a leak adds to and
which does not change when a forked process stops to share a page with its parent; that shows in the memory of its own (USS).
"""

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import redis
from rich.console import Console
from rich.table import Table

from producers.enqueue.score import enqueue_score
from shared.bucket.local import LocalBucket
from shared.jobs.folder import JobFolder, open_jobs
from shared.settings import Settings
from tests.conftest import Place, make_place, stop, wait_until

ROWS = 200
"""Of one table."""

WARM_SHARE = 0.2
"""Of the jobs: until then every process has imported, loaded and cached what it needs."""

ALLOWED_MB, ALLOWED_SHARE = 1.5, 0.03
"""What the second half of the rest may need more than its first half, whichever is more: allocators do not give back every page."""


BOUNDED = {"flower"}
"""It remembers the last 10,000 tasks, 2,500 jobs, and grows until then."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What was measured after so many jobs."""

    jobs: int
    seconds: float
    own_mb: dict[str, float]
    """Process -> memory that it shares with nobody; only of the last sample, because it takes 10 ms a process to find."""
    resident_mb: dict[str, float]
    keys: int
    """In Redis."""


@dataclass(frozen=True, kw_only=True)
class Growth:
    """How the resident memory of one process went, in MB."""

    process: str
    start: float
    first_half: float
    second_half: float
    own: float
    """What it shares with nobody, at the end."""

    @property
    def grown(self) -> float:
        return self.second_half - self.first_half

    @property
    def is_flat(self) -> bool:
        return self.process in BOUNDED or self.grown <= max(ALLOWED_MB, ALLOWED_SHARE * self.first_half)


@contextlib.contextmanager
def running_stack(root: Path) -> Iterator[Place]:
    """`scoring up` with a release, and with the sweep as often as it is by default."""
    place = make_place(root)
    for name in ("SCORING_SWEEP_SECONDS", "SCORING_STALL_SECONDS"):
        place.environment.pop(name)
    running = place.start()
    try:
        place.scoring("sample", "--rows", str(ROWS), "--train-rows", "1000")
        place.scoring("train", "v1")
        yield place
    finally:
        stop(running)
        place.webhook.close()


def processes(place: Place) -> dict[str, psutil.Process]:
    """Every process of the stack by what it is."""
    up = psutil.Process(json.loads((place.root / "ready.json").read_text())["pid"])
    found = {"up": up}
    for child in up.children():
        command = " ".join(child.cmdline())
        name = next((name for name in ("score@", "control@", " beat", " flower", "valkey") if name in command), "").strip(" @")
        if name:
            found[name] = child
        if "@" in command:
            found |= {f"{name} {number}": process for number, process in enumerate(sorted(child.children(), key=lambda it: it.pid), 1)}
    return found


def soak(place: Place, jobs: int, samples: int) -> Iterator[Sample]:
    """Runs so many jobs one after the other, each a table of its own, and measures every so often."""
    bucket = LocalBucket(place.bucket)
    url = f"redis://127.0.0.1:{place.environment['SCORING_REDIS_PORT']}/0"
    settings = Settings(redis_url=url, bucket_url=bucket.url)
    client = redis.Redis.from_url(url)
    table = place.sample_table.read_bytes()
    stack = processes(place)
    step = max(jobs // samples, 1)
    began = time.monotonic()
    for number in range(1, jobs + 1):
        folder = f"data/predict/input/soak/{number}"
        bucket.write(f"{folder}/prediction_input.csv.gz", table)
        job_id = enqueue_score(settings, bucket, table=folder, model="v1").job_id
        job = JobFolder(bucket, job_id)
        wait_until(lambda job=job: job.has("notified.json"), 60, f"the end of job {number}", 0.005)  # type: ignore[misc]
        outcome = job.outcome()
        assert outcome is not None
        assert outcome.state == "done", outcome.reason
        if number % step == 0:
            # the message of the notice, and the keys of the process that has it in hand, go a moment after the notice
            wait_until(lambda: not client.exists("unacked"), 60, f"the last acknowledgement of job {number}", 0.005)
            yield _sample(number, time.monotonic() - began, stack, client, is_last=number + step > jobs)
    wait_until(lambda: not open_jobs(bucket), 60, "the end of every job")
    assert len(place.webhook.posted) >= jobs


def _sample(jobs: int, seconds: float, stack: dict[str, psutil.Process], client: redis.Redis, *, is_last: bool) -> Sample:
    memory = {name: process.memory_info() for name, process in stack.items()}
    return Sample(
        jobs=jobs,
        seconds=seconds,
        own_mb={name: process.memory_full_info().uss / 1e6 for name, process in stack.items()} if is_last else {},
        resident_mb={name: found.rss / 1e6 for name, found in memory.items()},
        keys=int(client.dbsize()),
    )


def growths(samples: list[Sample]) -> list[Growth]:
    """How every process went after the warm-up."""
    warm = [sample for sample in samples if sample.jobs > WARM_SHARE * samples[-1].jobs]
    first, second = warm[: len(warm) // 2], warm[len(warm) // 2 :]
    return [
        Growth(
            process=name,
            start=samples[0].resident_mb[name],
            first_half=statistics.median(sample.resident_mb[name] for sample in first),
            second_half=statistics.median(sample.resident_mb[name] for sample in second),
            own=samples[-1].own_mb[name],
        )
        for name in samples[0].resident_mb
    ]


def print_table(console: Console, samples: list[Sample]) -> None:
    table = Table("process", "MB at start", "first half", "second half", "grown", "its own at end", "", box=None)
    for growth in growths(samples):
        cells = [growth.start, growth.first_half, growth.second_half, growth.grown, growth.own]
        verdict = "bounded" if growth.process in BOUNDED else "flat" if growth.is_flat else "GROWS"
        table.add_row(growth.process, *(f"{cell:.1f}" for cell in cells), verdict)
    console.print(table)
    last = samples[-1]
    keys = sorted(sample.keys for sample in samples)
    console.print(f"{last.jobs} jobs in {last.seconds:.0f} s; keys in Redis: {keys[0]} to {keys[-1]}", highlight=False)


def draw(samples: list[Sample], path: Path) -> None:
    """The memory of every process over the jobs, as a figure."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 4.5))
    for name in samples[0].resident_mb:
        axes.plot([sample.jobs for sample in samples], [sample.resident_mb[name] for sample in samples], label=name)
    axes.set(xlabel="jobs", ylabel="resident memory, MB", ylim=(0, None), title=f"{samples[-1].jobs} small jobs, one after the other")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.soak", description=__doc__)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--figure", type=Path, help="Draw the memory over the jobs into this file.")
    options = parser.parse_args()
    console = Console(width=120)
    samples = []
    with tempfile.TemporaryDirectory() as root, running_stack(Path(root)) as place:
        for sample in soak(place, options.jobs, options.samples):
            samples.append(sample)
            if sample.jobs % max(options.jobs // 10, 1) == 0:
                console.print(f"{sample.jobs:6} jobs  {sample.seconds:6.0f} s  {sum(sample.resident_mb.values()):7.1f} MB", highlight=False)
    print_table(console, samples)
    if options.figure:
        draw(samples, options.figure)
    return 0 if all(growth.is_flat for growth in growths(samples)) else 1


if __name__ == "__main__":
    sys.exit(main())
