"""Our way: a stack started by ``scoring up`` in its own folder, which gets requests like any producer's, until the result is published."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import psutil
import redis

from benchmarks.lanes import BenchmarkError, Done, Task
from producers.enqueue.score import enqueue_score
from producers.enqueue.train import enqueue_train
from shared.bucket.local import LocalBucket
from shared.catalog.manifests import PREDICTIONS
from shared.jobs.files import JobFile, Subfolder
from shared.jobs.folder import JobFolder
from shared.jobs.messages import ChunkMessage
from shared.jobs.states import JobState
from shared.queue.broker import make_app, send
from shared.queue.routes import QUEUE_SCORE, SCORE_CHUNK
from shared.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
POLL_SECONDS = 0.002
"""A check is one system call, so that waiting takes no time from the workers."""
LOOK_FOR_FAILURE_SECONDS = 0.2
LOOK_AT_QUEUE_SECONDS = 0.05
PATIENCE_SECONDS = 1200
START_SECONDS = 120


class Stack:
    """Server, worker, control worker, beat and Flower, started once and kept warm."""

    def __init__(self, root: Path, processes: int) -> None:
        self.bucket = LocalBucket(root / "bucket")
        self.root = root
        redis_port, flower_port = _free_ports()
        self._settings = Settings(
            redis_url="", redis_port=redis_port, bucket_url=str(root / "bucket"), home=root / "home", processes=processes
        )
        self._days = 0
        self._log = root / "up.log"
        others = {name: value for name, value in os.environ.items() if not name.startswith(("SCORING_", "CELERY_"))}
        environment = others | {
            "REDIS_URL": "",
            "WEBHOOK_URL": "",
            "BUCKET_URL": str(root / "bucket"),
            "SCORING_HOME": str(root / "home"),
            "SCORING_REDIS_PORT": str(redis_port),
            "SCORING_FLOWER_PORT": str(flower_port),
            "SCORING_PROCESSES": str(processes),
        }
        ready = root / "ready.json"
        with self._log.open("ab") as log:
            command = [sys.executable, "-m", "producers.cli", "up", "--ready-file", str(ready)]
            self._up = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            self._wait(ready.exists, START_SECONDS, "the start of the stack")
        except BaseException:
            self.close()
            raise

    def train(self, definition: str, table: Path) -> str:
        """Trains a definition; returns the id of its release."""
        job = enqueue_train(self._settings, self.bucket, definition=definition, train=self._inside(table)).job_id
        self._wait_for_end(JobFolder(self.bucket, job), JobFile.OUTCOME)
        outcome = JobFolder(self.bucket, job).outcome()
        return outcome.release if outcome else ""

    def score(self, task: Task) -> Done:
        folder, seconds = self.run(task.table, task.release)
        outcome = folder.outcome()
        published = self.bucket.place(f"{outcome.result if outcome else ''}/{PREDICTIONS}")
        return Done(seconds=seconds, files=[published], steps=self.steps(folder))

    def run(self, table: Path, release: str, chunk_rows: int | None = None, channel: str | None = None) -> tuple[JobFolder, float]:
        """Scores a table of the bucket, on a channel if one is named.

        Returns its job, and the seconds from the request to the published result.
        """
        # another day for each, so that each is a new request, as in daily use
        self._days += 1
        day = date(2001, 1, 1) + timedelta(days=self._days)
        began = time.perf_counter()
        asked = enqueue_score(
            self._settings, self.bucket, table=self._inside(table), model=release, day=day, chunk_rows=chunk_rows, channel=channel
        )
        folder = JobFolder(self.bucket, asked.job_id)
        self._wait_for_end(folder, JobFile.PUBLISHED)
        seconds = time.perf_counter() - began
        self._tidy(folder)
        return folder, seconds

    def steps(self, folder: JobFolder) -> dict[str, float]:
        """Returns the seconds of planning, scoring and joining, from the times of the job's own files."""

        def written(path: str) -> float:
            return self.bucket.place(path).stat().st_mtime

        asked, planned, published = (written(folder.file(name)) for name in (JobFile.REQUEST, JobFile.PLAN, JobFile.PUBLISHED))
        last = max(written(info.path) for info in self.bucket.files(folder.file(Subfolder.PARTS)) if info.path.endswith(".json"))
        return {"plan": planned - asked, "chunks": last - planned, "join": published - last}

    def send_again(self, folder: JobFolder, chunks: int) -> tuple[float, float]:
        """Sends the chunks of a finished job again, so that there is no work; returns the seconds until all were sent, and received."""
        # one more than there are, so that no chunk completes the job
        messages = [ChunkMessage(job_id=folder.job_id, index=index, of=chunks + 1) for index in range(chunks)]
        with make_app(self._settings) as app, redis.Redis.from_url(self._settings.broker_url) as client:
            began = time.perf_counter()
            send(app, SCORE_CHUNK, messages)
            sent = time.perf_counter() - began
            self._wait(
                lambda: not client.llen(QUEUE_SCORE) and not client.hlen("unacked"), PATIENCE_SECONDS, "the queue", LOOK_AT_QUEUE_SECONDS
            )
            return sent, time.perf_counter() - began

    def processes(self) -> dict[int, str]:
        found = {self._up.pid: "up"}
        for child in psutil.Process(self._up.pid).children():
            name = _name(child)
            found[child.pid] = name
            inner = f"{name} process" if name in ("score", "control") else name
            found |= {process.pid: inner for process in child.children(recursive=True)}
        return found

    def close(self) -> None:
        if self._up.poll() is None:
            self._up.send_signal(signal.SIGTERM)
            self._up.wait(120)

    def _inside(self, table: Path) -> str:
        return table.relative_to(self.root / "bucket").as_posix()

    def _wait_for_end(self, folder: JobFolder, mark: str) -> None:
        place = self.bucket.place(folder.file(mark))
        next_look = time.monotonic() + LOOK_FOR_FAILURE_SECONDS

        def ended() -> bool:
            nonlocal next_look
            if place.exists():
                return True
            if time.monotonic() > next_look:
                next_look = time.monotonic() + LOOK_FOR_FAILURE_SECONDS
                outcome = folder.outcome()
                if outcome is not None and outcome.state != JobState.DONE:
                    raise BenchmarkError(f"job {folder.job_id} {outcome.state}: {outcome.reason}")
            return False

        self._wait(ended, PATIENCE_SECONDS, f"job {folder.job_id}")

    def _tidy(self, folder: JobFolder) -> None:
        """Waits for the steps after the result, and removes the slices."""
        self._wait(lambda: folder.has(JobFile.NOTIFIED), PATIENCE_SECONDS, f"the notice of job {folder.job_id}")
        self.bucket.delete_folder(folder.file(Subfolder.SLICES))

    def _wait(self, condition: Callable[[], object], seconds: float, what: str, pause: float = POLL_SECONDS) -> None:
        limit = time.monotonic() + seconds
        while not condition():
            if self._up.poll() is not None:
                raise BenchmarkError(f"the stack has ended by itself; its last lines:\n{self._log.read_text()[-2000:]}")
            if time.monotonic() > limit:
                raise BenchmarkError(f"{what} took longer than {seconds:.0f} seconds; the log is {self._log}")
            time.sleep(pause)


def _free_ports() -> list[int]:
    with contextlib.ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(2)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def _name(process: psutil.Process) -> str:
    words = process.cmdline()
    for name in ("score", "control"):
        if f"{name}@%h" in words:
            return name
    return next((name for name in ("beat", "flower") if name in words), "server")
