"""Measures workers on several hosts, each in its own network namespace, with the bucket on an S3 server (moto), all on this machine.

Redis, the object store, the control worker and the producer share one namespace; a scoring worker reaches them only over its own link.
"""

import contextlib
import ctypes
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import redis

from benchmarks import inputs
from benchmarks.lanes import BenchmarkError
from benchmarks.stack import ROOT
from producers.enqueue.score import enqueue_score
from producers.enqueue.train import enqueue_train
from producers.stack.child import worker_command
from producers.stack.server import server_binary
from shared.bucket.remote import RemoteBucket
from shared.jobs.files import JobFile
from shared.jobs.folder import JobFolder, Outcome
from shared.jobs.states import JobState
from shared.queue.routes import QUEUE_CONTROL, QUEUE_SCORE, QUEUE_TRAIN
from shared.settings import Settings

REDIS_PORT, STORE_PORT = 6379, 9000
STORE = "benchmark"
CLONE_NEWNET = 0x40000000
PATIENCE_SECONDS = 600
POLL_SECONDS = 0.02


class Hosts:
    """A namespace for the shared services, and one for each scoring worker; closing removes everything.

    Raises:
        BenchmarkError: not root, or no ``ip`` command.
    """

    def __init__(self, root: Path, count: int) -> None:
        if os.geteuid() or not shutil.which("ip"):
            raise BenchmarkError("hosts need network namespaces: run this as root on Linux, with the command ip (Debian: iproute2)")
        self.root = root
        self._prefix = f"scoring-{os.getpid()}"
        self._hub = f"{self._prefix}-hub"
        self._held = contextlib.ExitStack()
        self._workers: dict[int, subprocess.Popen[bytes]] = {}
        try:
            self._add(self._hub)
            for number in range(1, count + 1):
                self._wire(number)
            self._enter(self._hub)
            self._start_shared()
        except BaseException:
            self.close()
            raise

    def _add(self, name: str) -> None:
        _ip("netns", "add", name)
        self._held.callback(_ip, "netns", "del", name)
        _ip("-n", name, "link", "set", "lo", "up")

    def _wire(self, number: int) -> None:
        """Adds a host with a link to the hub: 10.231.<number>.2 on the host, .1 on the hub."""
        name = f"{self._prefix}-{number}"
        self._add(name)
        _ip("link", "add", f"host{number}", "netns", self._hub, "type", "veth", "peer", "name", "wire", "netns", name)
        for where, link, address in ((self._hub, f"host{number}", 1), (name, "wire", 2)):
            _ip("-n", where, "addr", "add", f"10.231.{number}.{address}/24", "dev", link)
            _ip("-n", where, "link", "set", link, "up")

    def _enter(self, name: str) -> None:
        """Moves this thread and all processes that it starts into a namespace."""
        libc = ctypes.CDLL(None, use_errno=True)
        with Path("/proc/self/ns/net").open() as home, Path(f"/run/netns/{name}").open() as there:
            kept = os.dup(home.fileno())
            if libc.setns(there.fileno(), CLONE_NEWNET):
                raise BenchmarkError(f"the namespace {name} cannot be entered: {os.strerror(ctypes.get_errno())}")
        self._held.callback(os.close, kept)
        self._held.callback(libc.setns, kept, CLONE_NEWNET)

    def _start_shared(self) -> None:
        server = [str(server_binary()), "--bind", "0.0.0.0", "--protected-mode", "no", "--port", str(REDIS_PORT), "--save", ""]
        self._run("redis", server)
        self.store_log = self._run("store", [sys.executable, "-m", "moto.server", "-H", "0.0.0.0", "-p", str(STORE_PORT)])
        for port in (REDIS_PORT, STORE_PORT):
            _wait(lambda port=port: _answers(port), f"the port {port}")  # type: ignore[misc]
        os.environ.update(self._environment("127.0.0.1"))
        self.bucket = RemoteBucket(f"s3://{STORE}")
        self.bucket.fs.mkdir(STORE)
        self.settings = Settings(redis_url=f"redis://127.0.0.1:{REDIS_PORT}/0", bucket_url=f"s3://{STORE}", home=self.root / "home")
        self._run("control", worker_command("control", [QUEUE_CONTROL], 1))

    def _environment(self, hub: str) -> dict[str, str]:
        return {
            "REDIS_URL": f"redis://{hub}:{REDIS_PORT}/0",
            "BUCKET_URL": f"s3://{STORE}",
            "WEBHOOK_URL": "",
            "AWS_ENDPOINT_URL": f"http://{hub}:{STORE_PORT}",
            "AWS_ACCESS_KEY_ID": "benchmark",
            "AWS_SECRET_ACCESS_KEY": "benchmark",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def _run(self, name: str, command: Sequence[str]) -> Path:
        log = self.root / f"{name}.log"
        environment = {**os.environ, "SCORING_HOME": str(self.root / name)}
        with log.open("ab") as out:
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out)
        self._held.callback(_end, process)
        return log

    def start(self, number: int) -> None:
        """Starts the scoring worker of a host, with one process, and waits until it is ready."""
        command = ["ip", "netns", "exec", f"{self._prefix}-{number}", *worker_command(f"score{number}", [QUEUE_SCORE, QUEUE_TRAIN], 1)]
        log = self.root / f"score{number}.log"
        environment = {**os.environ, "SCORING_HOME": str(self.root / f"host{number}"), **self._environment(f"10.231.{number}.1")}
        with log.open("wb") as out:
            self._workers[number] = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out)
        self._held.callback(self.stop, number)
        _wait(lambda: " ready" in log.read_text(), f"the worker of host {number}")

    def stop(self, number: int) -> None:
        """Stops the worker of a host."""
        if number in self._workers:
            _end(self._workers.pop(number))

    def train(self, model: str, table: Path) -> str:
        """Trains a definition; returns the id of its release."""
        self.bucket.upload(table, "tables/train.csv")
        return self.wait_for(enqueue_train(self.settings, self.bucket, definition=model, train="tables/train.csv").job_id).release or ""

    def score(self, table: str, release: str) -> float:
        """Scores a table of the bucket; returns the seconds from the request to the published result."""
        began = time.perf_counter()
        job_id = enqueue_score(self.settings, self.bucket, table=table, model=release, again=True).job_id
        self.wait_for(job_id, JobFile.PUBLISHED)
        return time.perf_counter() - began

    def wait_for(self, job_id: str, mark: str = JobFile.OUTCOME) -> Outcome:
        """Waits for this file in the folder of a job and returns the outcome; raises BenchmarkError unless the job is done."""
        folder = JobFolder(self.bucket, job_id)
        _wait(lambda: folder.has(mark), f"job {job_id}")
        outcome = folder.outcome()
        if outcome is None or outcome.state != JobState.DONE:
            raise BenchmarkError(f"job {job_id}: {outcome.reason if outcome else 'no outcome'}")
        return outcome

    def close(self) -> None:
        """Stops all processes and removes the namespaces."""
        self._held.close()


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchmarkError(f"ip {' '.join(arguments)} failed: {done.stderr.strip()}")


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def _wait(condition: Callable[[], object], what: str) -> None:
    limit = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > limit:
            raise BenchmarkError(f"waited in vain for {what}")
        time.sleep(POLL_SECONDS)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextlib.contextmanager
def _counting(hosts: Hosts) -> Iterator[Counter[str]]:
    """Counts the commands that Redis receives and the requests that the object store receives."""
    counts: Counter[str] = Counter()
    with redis.Redis.from_url(hosts.settings.broker_url) as client:
        client.config_resetstat()
        before = hosts.store_log.stat().st_size
        yield counts
        stats = client.info("commandstats")
    counts["redis"] = sum(stat["calls"] for stat in stats.values())
    for method in re.findall(rb'"(GET|PUT|HEAD|POST|DELETE) ', hosts.store_log.read_bytes()[before:]):
        counts[method.decode()] += 1


def measure(root: Path, *, rows: int, model: str, rounds: int, chunks: int, say: Callable[[str], None]) -> dict[str, float]:
    """Measures one host, then two, then one again; and the requests of a chunk to Redis and to the object store."""
    with contextlib.closing(Hosts(root, 2)) as hosts:
        say("one host, training")
        hosts.start(1)
        release = hosts.train(model, inputs.make_training_table(root, 20_000))
        hosts.bucket.upload(inputs.make_table(root, rows, "csv.gz"), "tables/table.csv.gz")

        def seconds(what: str) -> list[float]:
            hosts.score("tables/table.csv.gz", release)
            found = []
            for turn in range(rounds):
                say(f"{what}, round {turn + 1} of {rounds}")
                found.append(hosts.score("tables/table.csv.gz", release))
            return found

        one = seconds("one host")
        hosts.start(2)
        two = seconds("two hosts")
        hosts.stop(2)
        one += seconds("one host again")
        say("what a chunk asks for")
        hosts.bucket.upload(inputs.make_table(root, 2 * chunks, "csv"), "tables/small.csv")
        figures = {"one host, s": statistics.median(one), "two hosts, s": statistics.median(two)}
        figures["two hosts are quicker by, x"] = figures["one host, s"] / figures["two hosts, s"]
        return figures | _cost_of_a_chunk(hosts, release, chunks)


def _cost_of_a_chunk(hosts: Hosts, release: str, count: int) -> dict[str, float]:
    """Returns the difference between a job of ``2 * count`` chunks and one of ``count``, per chunk."""
    found = []
    for rows in (2, 1):
        with _counting(hosts) as counts:
            asked = enqueue_score(hosts.settings, hosts.bucket, table="tables/small.csv", model=release, chunk_rows=rows, again=True)
            hosts.wait_for(asked.job_id, JobFile.PUBLISHED)
            time.sleep(2)  # for the steps that follow the result
        counts["plan bytes"] = len(hosts.bucket.read(JobFolder(hosts.bucket, asked.job_id).file(JobFile.PLAN)) or b"")
        found.append(counts)
    fewer, more = found
    return {f"{name} for each chunk": (more[name] - fewer[name]) / count for name in sorted(more)}
