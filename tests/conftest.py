"""A real stack for the tests: server, workers, beat and Flower, started once by `scoring up`, with a webhook receiver beside it."""

import os

# Before numpy is imported: as in the product one thread a process, for several that wait for each other on busy processors only spin.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import contextlib
import functools
import gc
import http.server
import importlib.metadata
import json
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from producers.stack.server import server_binary
from tests import ready_cli, ready_programs
from tests.ready_cli import ReadyCli
from tests.ready_programs import ReadyPrograms, Started

# the same examples in every run; for others, and many more: pytest --hypothesis-profile=long --timeout=0
_quick = hypothesis.settings(derandomize=True, deadline=None, max_examples=25, suppress_health_check=list(hypothesis.HealthCheck))
hypothesis.settings.register_profile("quick", _quick)
hypothesis.settings.register_profile("long", _quick, derandomize=False, max_examples=2000)
hypothesis.settings.load_profile("quick")


# what is imported and collected stays until the end; the garbage collector need not look at it again and again
gc.disable()


def pytest_collection_finish() -> None:
    gc.enable()
    gc.freeze()


# no library changes meanwhile; each release that is published would read and parse the metadata of six
importlib.metadata.version = functools.cache(importlib.metadata.version)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="also the tests marked long, which repeat at length what a shorter one shows")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--long"):
        left_out = [item for item in items if item.get_closest_marker("long")]
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)
    if os.environ.get("PYTEST_XDIST_WORKER"):
        from tests.scheduling import sort_longest_first

        sort_longest_first(items)


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("dist", "no") != "no" and not os.environ.get("PYTEST_XDIST_WORKER"):
        ready_cli.SERVER.share()
        ready_programs.SERVER.share()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object | None:
    if config.getoption("dist") != "loadfile":
        return None
    from tests.scheduling import SharedStackScheduling

    return SharedStackScheduling(config, log)


# a suite that was started in the background ignores Ctrl-C, and so would all that it starts
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

READY_PROGRAMS = ReadyPrograms()
READY_CLI = ReadyCli(READY_PROGRAMS)
REPOSITORY = Path(__file__).resolve().parents[1]
REAL_DATA = REPOSITORY.parent / "shared" / "data" / "keywords"


@pytest.fixture(scope="session")
def real_keywords() -> Path:
    """The folder with two weeks of real keywords."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"the real keywords are not at {REAL_DATA}")
    return REAL_DATA


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, all different."""
    with contextlib.ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def free_port() -> int:
    [port] = free_ports(1)
    return port


def wait_until(condition: Callable[[], Any], seconds: float = 30, what: str = "the condition", pause: float = 0.02) -> Any:
    """The first true value of the condition; fails the test when there is none in time."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        value = condition()
        if value:
            return value
        time.sleep(pause)
    pytest.fail(f"{what} did not come true within {seconds} s")


@contextlib.contextmanager
def own_server(folder: Path, *options: str) -> Iterator[str]:
    """A real Valkey server that keeps nothing on disk, and its address."""
    port = free_port()
    command = [str(server_binary()), "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", str(folder), *options]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_until(listens, 20, "the start of the server")
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        running.terminate()
        running.wait(20)


def _without_length(fields: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"title": field["title"], "value": field["value"]} for field in fields]


class Webhook:
    """A real HTTP server that keeps what is posted to it and answers as Slack does."""

    def __init__(self) -> None:
        self.posted: list[dict[str, Any]] = []
        posted = self.posted

        class Receiver(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *_: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
        self.url = f"http://127.0.0.1:{self._server.server_port}/services/T0/B0/secret"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def about(self, job_id: str) -> list[dict[str, Any]]:
        """The notices of one job; that of another may name it too, as the one whose result is newer."""
        job = {"title": "job", "value": job_id}
        return [notice for notice in self.posted for attachment in notice["attachments"] if job in _without_length(attachment["fields"])]

    def sent_about(self, job_id: str) -> list[dict[str, Any]]:
        """The notices of one job, as soon as there is one: a job is done shortly before its notice is sent."""
        return wait_until(lambda: self.about(job_id), what=f"the notice of {job_id}")

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@dataclass(kw_only=True)
class Place:
    """Folders, ports and the environment of one stack, and the command line in it."""

    root: Path
    environment: dict[str, str]
    webhook: Webhook
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.log = self.root / "up.log"

    @property
    def bucket(self) -> Path:
        return self.root / "bucket"

    @property
    def sample_table(self) -> Path:
        """The table that ``scoring sample`` made, whatever other tables the tests put beside it."""
        return next((self.bucket / "data/predict/input").glob("[0-9][0-9][0-9][0-9]/*/*/prediction_input.csv.gz"))

    def scoring(self, *arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Runs a command; fails the test when its exit code is another."""
        done = READY_CLI.run([*map(str, arguments)], self.environment, 300)
        assert done.returncode == code, f"scoring {' '.join(map(str, arguments))} gave {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done

    def scoring_json(self, *arguments: str | Path) -> Any:
        return json.loads(self.scoring(*arguments, "--json").stdout)

    def start(self) -> Started:
        """Starts the stack and waits until it is ready."""
        ready = self.root / "ready.json"
        with self.log.open("ab") as log:
            stack = READY_PROGRAMS.start(["producers.cli", "up", "--ready-file", str(ready)], self.environment, log)
        wait_until(lambda: ready.exists() or stack.poll() is not None, 240, "the start of the stack")
        assert stack.poll() is None, self.log.read_text()
        return stack


def stop(stack: Started) -> int:
    stack.terminate()
    return stack.wait(180)


def make_place(root: Path, **more: str) -> Place:
    webhook = Webhook()
    (root / "definitions").mkdir(parents=True, exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SCORING_")}
    environment = kept | {
        "SCORING_HOME": str(root / "home"),
        "BUCKET_URL": str(root / "bucket"),
        "SCORING_REDIS_PORT": str(free_port()),
        "SCORING_FLOWER_PORT": str(free_port()),
        "SCORING_PROCESSES": "2",
        "SCORING_DEFINITIONS": str(root / "definitions"),
        "SCORING_SWEEP_SECONDS": "1",
        "SCORING_STALL_SECONDS": "2",
        "WEBHOOK_URL": webhook.url,
        "COLUMNS": "200",
    }
    for name in ("REDIS_URL", "MODEL_VER"):
        environment.pop(name, None)
    return Place(root=root, environment=environment | more, webhook=webhook)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A running stack that all tests share; each must leave it running."""
    place = make_place(tmp_path_factory.mktemp("stack"))
    running = place.start()
    yield place
    assert running.poll() is None, f"the stack died during the tests:\n{place.log.read_text()[-5000:]}"
    assert stop(running) == 0
    place.webhook.close()


@pytest.fixture(scope="session")
def trained(stack: Place) -> Place:
    """The shared stack with sample tables in its bucket and a release of each definition."""
    stack.scoring("sample", "--rows", "20000", "--train-rows", "5000")
    for definition in ("v1", "v2"):
        stack.scoring("train", definition)
    return stack
