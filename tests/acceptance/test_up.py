"""``scoring up`` with its real processes: comes up, works, and goes away in every way there is to go.

What the first stack shows, and what the death of a launcher does, is shown of the real programs; the other stacks are forks of a process
that has the libraries, which saves five seconds of CPU each.
"""

import base64
import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import redis

from producers.stack.server import server_binary
from producers.stack.services import ROOT
from shared.jobs.messages import StepMessage
from shared.queue.broker import make_app, send
from shared.queue.routes import QUEUE_CONTROL, QUEUE_SCORE, QUEUE_TRAIN, SCORE_CHUNK, SCORE_PLAN, TRAIN_FIT
from shared.settings import Settings
from tests.conftest import READY_PROGRAMS, free_ports
from tests.held_jobs import HeldJobs

pytestmark = [pytest.mark.slow, pytest.mark.server]

START_SECONDS = 240

RUN = """
import sys
from pathlib import Path
from producers.stack.launcher import Options, run_stack
from shared.errors import ScoringError
from shared.settings import read_settings
try:
    sys.exit(run_stack(read_settings(), Options(ready_file=Path("ready.json"), stop_seconds=60)))
except ScoringError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def wait_for(condition, seconds, what):
    limit = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < limit, what() if callable(what) else what
        time.sleep(0.05)
    return found


def is_gone(process):
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class Up:
    """One ``scoring up`` in a folder of its own; with relative paths in its environment, as a user would have them, unless it is forked."""

    def __init__(self, folder, *, forked=False, **environment):
        self.folder = folder
        place = folder if forked else Path()
        self.redis_port, self.flower_port = free_ports(2)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("SCORING_", "REDIS_URL", "WEBHOOK_URL"))},
            "PYTHONPATH": str(ROOT),
            "SCORING_HOME": str(place / "home"),
            "BUCKET_URL": str(place / "bucket"),
            "SCORING_REDIS_PORT": str(self.redis_port),
            "SCORING_FLOWER_PORT": str(self.flower_port),
            "SCORING_PROCESSES": "2",
            **HeldJobs(folder / "held").environment,
            **environment,
        }
        self.log_file = folder / "up.log"
        with self.log_file.open("wb") as log:
            self.process = self.fork(log) if forked else self.launch(stdout=log, stderr=subprocess.STDOUT)
        self.parts = []

    def fork(self, log):
        return READY_PROGRAMS.start(["producers.cli", "up", "--ready-file", str(self.ready_file)], self.environment, log)

    def launch(self, **more):
        return subprocess.Popen([sys.executable, "-c", RUN], cwd=self.folder, env={**self.environment, **more.pop("env", {})}, **more)

    @property
    def log(self):
        return self.log_file.read_text()

    @property
    def ready_file(self):
        return self.folder / "ready.json"

    def wait_until_ready(self):
        wait_for(lambda: self.ready_file.exists() or self.process.poll() is not None, START_SECONDS, lambda: self.log)
        assert self.process.poll() is None, self.log
        self.parts = psutil.Process(self.process.pid).children(recursive=True)
        return self

    def part(self, words):
        """The one direct child with these words on its command line."""
        (found,) = [part for part in self.parts if part.ppid() == self.process.pid and words in " ".join(part.cmdline())]
        return found

    def wait_until_gone(self, seconds=30):
        wait_for(lambda: all(map(is_gone, self.parts)), seconds, lambda: f"left: {[p for p in self.parts if not is_gone(p)]}\n{self.log}")

    def exit_code(self, seconds=30):
        code = self.process.wait(timeout=seconds)
        self.wait_until_gone()
        return code

    def clean_up(self):
        with contextlib.suppress(psutil.NoSuchProcess):
            self.parts += psutil.Process(self.process.pid).children(recursive=True)
        for process in [self.process, *self.parts]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()


@pytest.fixture
def up(tmp_path):
    with contextlib.ExitStack() as ended:

        def start(*, forked=True, **environment):
            started = Up(tmp_path, forked=forked, **environment)
            ended.callback(started.clean_up)
            return started.wait_until_ready()

        yield start


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """A stack for the tests that only look at it."""
    started = Up(tmp_path_factory.mktemp("a home with spaces"), SCORING_SWEEP_SECONDS="1")
    try:
        yield started.wait_until_ready()
    finally:
        started.clean_up()


@pytest.fixture
def own_redis(tmp_path):
    """The address of a server that somebody else started."""
    (port,) = free_ports(1)
    command = [str(server_binary()), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        client = redis.Redis(port=port)
        try:
            wait_for(lambda: answers(client), 20, "the server does not answer")
            yield f"redis://127.0.0.1:{port}/0"
            assert client.ping(), "the server of somebody else was stopped"
        finally:
            server.terminate()


def answers(client):
    with contextlib.suppress(redis.RedisError):
        return client.ping()
    return False


def fetch(port, path, credentials=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    headers = {"Authorization": f"Basic {base64.b64encode(credentials.encode()).decode()}"} if credentials else {}
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


class WorkInHand:
    """A training that waits for the test while its worker reads its request."""

    def __init__(self, folder, settings):
        self.request = folder / "bucket" / "jobs" / "held-1" / "job.json"
        self.request.parent.mkdir(parents=True)
        self.request.write_text("{}")
        self._held = HeldJobs(folder / "held")
        self._held.hold("held-1")
        with make_app(settings) as app:
            send(app, TRAIN_FIT, [StepMessage(job_id="held-1")])
        wait_for(lambda: self._held.is_begun("held-1"), 30, "no worker took the training")

    def let_go(self):
        self._held.let_go("held-1")


def test_what_to_know_is_in_the_ready_file_for_its_owner_alone(running):
    assert json.loads(running.ready_file.read_text()) == {
        "pid": running.process.pid,
        "redis_port": running.redis_port,
        "flower_url": f"http://127.0.0.1:{running.flower_port}",
        "flower_user": "scoring",
        "flower_password": json.loads(running.ready_file.read_text())["flower_password"],
    }
    assert running.ready_file.stat().st_mode & 0o777 == 0o600


def test_what_to_know_is_printed(running):
    facts = json.loads(running.ready_file.read_text())
    wait_for(lambda: "Stop" in running.log, 10, "the lines after ready are missing")
    for text in (facts["flower_url"], facts["flower_password"], f"redis://127.0.0.1:{running.redis_port}", str(running.folder / "bucket")):
        assert text in running.log
    assert "\x1b" not in running.log


def test_the_dashboard_asks_for_the_password(running):
    password = json.loads(running.ready_file.read_text())["flower_password"]
    for path in ("/", "/workers", "/api/workers"):
        assert fetch(running.flower_port, path)[0] == 401
        assert fetch(running.flower_port, path, "scoring:wrong")[0] == 401
        assert fetch(running.flower_port, path, f"scoring:{password}")[0] == 200


def test_no_secret_is_on_a_command_line(running):
    password = json.loads(running.ready_file.read_text())["flower_password"]
    assert not [part for part in running.parts if password in " ".join(part.cmdline())]


def test_every_queue_is_consumed(running):
    client = redis.Redis(port=running.redis_port)
    with make_app(Settings(redis_url="", redis_port=running.redis_port)) as app:
        for task in (TRAIN_FIT, SCORE_PLAN):
            send(app, task, [StepMessage(job_id="canary-1")])
        app.send_task(SCORE_CHUNK, args=["no order"])
    queues = (QUEUE_TRAIN, QUEUE_SCORE, QUEUE_CONTROL)
    wait_for(lambda: not any(map(client.llen, queues)) and not client.hlen("unacked"), 30, lambda: running.log)
    assert "score   | " in running.log


def test_the_dashboard_shows_the_sweeps_that_beat_sends_and_a_worker_does(running):
    password = json.loads(running.ready_file.read_text())["flower_password"]

    def sweeps():
        _, text = fetch(running.flower_port, "/api/tasks?taskname=sweep&state=SUCCESS", f"scoring:{password}")
        return len(json.loads(text)) >= 2

    wait_for(sweeps, 30, lambda: running.log)


def test_a_second_one_on_the_same_home_is_refused(running):
    second = running.launch(stdout=subprocess.PIPE, text=True)
    said, _ = second.communicate(timeout=60)
    assert second.returncode == 2
    assert said.startswith(f"scoring up runs already on {running.folder / 'home'}, pid {running.process.pid}. Stop it with ")


def test_a_second_one_on_another_home_shows_who_has_the_port(running):
    second = running.launch(
        stdout=subprocess.PIPE, text=True, env={"SCORING_HOME": "./other", "SCORING_FLOWER_PORT": str(free_ports(1)[0])}
    )
    said, _ = second.communicate(timeout=60)
    assert second.returncode == 2
    server = running.part("valkey-server")
    assert said == (
        f"port {running.redis_port} is busy (used by {server.name()}, pid {server.pid}). "
        "Stop it, or set SCORING_REDIS_PORT to another port.\n"
    )


def test_ctrl_c_stops_everything_in_order(running):
    """The last test of the stack that the ones above look at."""
    stops_in_order(running, signal.SIGINT)


def stops_in_order(stack, number):
    stack.process.send_signal(number)
    assert stack.exit_code() == 0, stack.log
    assert not stack.ready_file.exists()
    assert stack.log.rstrip().endswith("up      | stopped")


def test_work_in_hand_is_finished_first(up, own_redis):
    stack = up(REDIS_URL=own_redis)
    client = redis.Redis.from_url(own_redis)
    training = WorkInHand(stack.folder, Settings(redis_url=own_redis))
    control = stack.part("-Q control")
    stack.process.terminate()
    wait_for(lambda: "score   | worker: Warm shutdown" in stack.log and is_gone(control), 30, lambda: stack.log)
    assert "waiting for work in hand" in stack.log
    assert stack.process.poll() is None
    training.let_go()
    assert stack.exit_code() == 0, stack.log
    assert client.llen(QUEUE_TRAIN) == 0
    assert client.hlen("unacked") == 0


def test_a_second_signal_hands_work_back_at_once(up, own_redis):
    stack = up(REDIS_URL=own_redis)
    client = redis.Redis.from_url(own_redis)
    WorkInHand(stack.folder, Settings(redis_url=own_redis))
    stack.process.terminate()
    wait_for(lambda: "score   | worker: Warm shutdown" in stack.log, 30, lambda: stack.log)
    stack.process.terminate()
    assert stack.exit_code(seconds=20) == 0, stack.log
    assert client.llen(QUEUE_TRAIN) == 1, "the order is back on its queue"
    assert client.hlen("unacked") == 0


def ends_with_the_death_of(stack, part, name):
    part.kill()
    assert stack.exit_code(seconds=60) == 1
    assert f"{name} has ended by itself (killed by SIGKILL); stopping everything else; start it again with: scoring up" in stack.log


@pytest.mark.faults
def test_a_server_that_dies_ends_the_whole_and_is_named(up):
    stack = up()
    ends_with_the_death_of(stack, stack.part("valkey-server"), "redis")


@pytest.mark.faults
def test_beat_and_the_dashboard_are_started_again_when_they_die_but_a_worker_that_dies_ends_the_whole(up):
    stack = up(SCORING_SWEEP_SECONDS="1")
    credentials = f"scoring:{json.loads(stack.ready_file.read_text())['flower_password']}"
    workers = [stack.part("-Q score,train"), stack.part("-Q control")]
    watchers = {name: stack.part(f"-A producers.schedule.beat {name}") for name in ("beat", "flower")}
    for name, watcher in watchers.items():
        watcher.kill()
        wait_for(lambda name=name: f"{name} has ended by itself (killed by SIGKILL); starting it again" in stack.log, 30, lambda: stack.log)
    stack.parts += psutil.Process(stack.process.pid).children(recursive=True)

    def dashboard_shows_sweeps():
        with contextlib.suppress(OSError, http.client.HTTPException):
            status, text = fetch(stack.flower_port, "/api/tasks?taskname=sweep&state=SUCCESS", credentials)
            return status == 200 and len(json.loads(text)) >= 2
        return False

    wait_for(dashboard_shows_sweeps, 60, lambda: stack.log)
    assert not any(map(is_gone, workers)), "the work goes on"
    ends_with_the_death_of(stack, workers[0], "score")


@pytest.mark.faults
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has died")
def test_when_the_launcher_is_killed_work_in_hand_is_finished_nothing_outlives_it_and_the_next_one_starts(up):
    stack = up(forked=False)
    client = redis.Redis(port=stack.redis_port)
    idle = [stack.part(words) for words in ("-Q control", "producers.schedule.beat beat", "producers.schedule.beat flower")]
    training = WorkInHand(stack.folder, Settings(redis_url="", redis_port=stack.redis_port))
    stack.process.kill()
    stack.process.wait()
    wait_for(lambda: all(map(is_gone, idle)), 120, "an idle process is still there")
    assert client.hlen("unacked") == 1
    training.let_go()
    stack.wait_until_gone()
    assert (training.request.parent / "outcome.json").exists()
    stack.log_file = stack.folder / "again.log"
    stack.environment |= {"SCORING_HOME": str(stack.folder / "home"), "BUCKET_URL": str(stack.folder / "bucket")}
    with stack.log_file.open("wb") as log:
        stack.process = stack.fork(log)
    wait_for(lambda: "ready after" in stack.log, START_SECONDS, lambda: stack.log)
    stack.parts = psutil.Process(stack.process.pid).children(recursive=True)
    stops_in_order(stack, signal.SIGTERM)
