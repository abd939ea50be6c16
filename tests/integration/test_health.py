"""One process by itself, as a container runs it, and what its health check says when it no longer does its work.

Beat, Flower and a worker that is stopped are programs of their own; the other workers are forks, which saves two seconds of CPU each.
"""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
import redis

from producers.stack import health
from producers.stack.services import BEAT, CONTROL, CONTROL_PROCESSES, FLOWER, STOP_SECONDS, WORKER, celery_command
from shared.errors import BrokerError
from shared.jobs.messages import StepMessage
from shared.queue.broker import make_app, send
from shared.queue.routes import QUEUE_CONTROL, QUEUE_TRAIN, SCORE_PLAN
from shared.settings import Settings
from tests.conftest import READY_PROGRAMS, REPOSITORY, free_port, own_server, wait_until
from tests.held_jobs import HeldJobs
from tests.ready_programs import Started

NODE = f"control@{socket.gethostname()}"


def job(number: int) -> str:
    return f"20261123t10150000{number}z-score-9bfad3"


pytestmark = [pytest.mark.server]


class Alone:
    """A server and processes that `scoring run` has become, each with a log of its own."""

    def __init__(self, root, redis_url: str) -> None:
        self.root = root
        self.flower_port = free_port()
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SCORING_")}
        self.environment = kept | {
            "REDIS_URL": redis_url,
            "BUCKET_URL": str(root / "bucket"),
            "SCORING_HOME": str(root / "home"),
            "SCORING_PROCESSES": "1",
            "SCORING_SWEEP_SECONDS": "1",
            "SCORING_FLOWER_PORT": str(self.flower_port),
            "SCORING_FLOWER_PASSWORD": "hunter2",
        }
        self.held = HeldJobs(root / "held")
        self.environment |= self.held.environment
        self.settings = Settings(redis_url=redis_url, home=root / "home", processes=1, sweep_seconds=1, flower_port=self.flower_port)
        self.client = redis.Redis.from_url(redis_url)
        self.started: list[Started] = []

    def run(self, service: str, *, forked: bool = False) -> Started:
        started = self.start([sys.executable, "-m", "producers.cli", "run", service], service, forked=forked)
        wait_until(lambda: self.problem(service) is None, 60, f"the health of {service}", pause=0.2)
        return started

    def start(self, command: list[str], service: str, *, forked: bool = False) -> Started:
        with (self.root / f"{service}.log").open("ab") as log:
            if forked:
                self.started.append(READY_PROGRAMS.start(command[2:], self.environment, log))
            else:
                self.started.append(subprocess.Popen(command, cwd=REPOSITORY, env=self.environment, stdout=log, stderr=log))
        return self.started[-1]

    def send(self, messages: int) -> None:
        with make_app(self.settings) as app:
            send(app, SCORE_PLAN, [StepMessage(job_id=job(number)) for number in range(messages)])

    def problem(self, service: str) -> str | None:
        return health.find_problem(service, self.settings)

    def says(self, service: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "producers.cli", "health", service]
        done = subprocess.run(command, cwd=REPOSITORY, env=self.environment, capture_output=True, text=True, timeout=60, check=False)
        return done.returncode, done.stdout + done.stderr

    def close(self) -> None:
        for process in self.started:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()


@pytest.fixture
def alone(tmp_path) -> Iterator[Alone]:
    with own_server(tmp_path) as url:
        running = Alone(tmp_path, url)
        yield running
        running.close()


@pytest.mark.slow
def test_a_worker_that_stands_still_is_ill_although_its_process_is_there(alone):
    worker = alone.run(CONTROL, forked=True)
    assert alone.says(CONTROL) == (0, "healthy\n")
    worker.send_signal(signal.SIGSTOP)
    code, said = alone.says(CONTROL)
    assert code == 1
    assert said == f"the worker {NODE} does not answer within 5 s\n"
    worker.send_signal(signal.SIGCONT)
    wait_until(lambda: alone.problem(CONTROL) is None, 30, "the health after the stop")


@pytest.mark.slow
def test_a_worker_that_answers_but_takes_nothing_off_its_queue_is_ill(alone):
    # as after a broken connection that its loop does not know of: it hears questions, and no message of its queue reaches it
    alone.start(celery_command("workers.app", "worker", "-n", "control@%h", "-Q", QUEUE_TRAIN, "-c", "1"), CONTROL, forked=True)
    alone.send(1)
    said = wait_until(lambda: said if "answer" not in (said := alone.problem(CONTROL)) else None, 60, "the worker's answer")
    assert said == f"the worker {NODE} has a process free and takes nothing from the queue control"


@pytest.mark.slow
def test_a_worker_whose_processes_are_all_at_work_is_well_however_much_waits(alone):
    alone.run(CONTROL, forked=True)
    for number in range(CONTROL_PROCESSES):
        alone.held.hold(job(number))
    alone.send(CONTROL_PROCESSES + 1)
    wait_until(lambda: alone.client.llen(QUEUE_CONTROL) >= 1 and alone.client.hlen("unacked") == CONTROL_PROCESSES, 30, "work in hand")
    head = alone.client.lindex(QUEUE_CONTROL, -1)
    wait_until(lambda: alone.problem(CONTROL) is None, 30, "the health once all processes are at work")
    assert alone.client.lindex(QUEUE_CONTROL, -1) == head


@pytest.mark.slow
def test_beat_that_stands_still_is_ill(alone):
    assert alone.problem(BEAT).startswith("beat has sent no heartbeat yet")
    beat = alone.run(BEAT)
    beat.send_signal(signal.SIGSTOP)
    said = wait_until(lambda: alone.problem(BEAT), 30, "the problem of beat")
    assert re.fullmatch(r"the last heartbeat of beat is [45] s old; it sends one every 1 s\. See its log", said)


@pytest.mark.slow
def test_flower_serves_its_page_and_is_ill_when_it_does_not(alone):
    assert alone.problem(FLOWER) == f"Flower does not answer on port {alone.settings.flower_port}"
    flower = alone.run(FLOWER)
    flower.send_signal(signal.SIGSTOP)
    assert alone.problem(FLOWER) is not None


def test_without_redis_no_work_is_done(tmp_path):
    settings = Settings(redis_url=f"redis://127.0.0.1:{free_port()}/0")
    for service in (WORKER, CONTROL, BEAT):
        with pytest.raises(BrokerError, match="Redis does not answer"):
            health.find_problem(service, settings)


@pytest.mark.slow
def test_a_look_leaves_nothing_in_redis(alone):
    alone.run(CONTROL, forked=True)
    before = {*alone.client.keys()}
    for _ in range(3):
        assert alone.problem(CONTROL) is None
    # what the worker takes and returns by itself comes and goes
    wait_until(lambda: {*alone.client.keys()} <= before | {b"scoring:lease:sweep", b"unacked", b"unacked_index"}, 20, "the answers to go")


@pytest.mark.slow
def test_a_worker_by_itself_stops_on_sigterm_and_hands_back_what_it_has(alone):
    worker = alone.run(CONTROL)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(45) == 0


@contextlib.contextmanager
def jobs_in_hand(alone: Alone, count: int) -> Iterator[None]:
    """So many requests that are being read until the block ends."""
    jobs = [job(number) for number in range(count)]
    for held in jobs:
        alone.held.hold(held)
    alone.send(count)
    wait_until(lambda: all(map(alone.held.is_begun, jobs)), 30, "work in hand")
    try:
        yield
    finally:
        for held in jobs:
            alone.held.let_go(held)


@pytest.mark.slow
def test_a_busy_worker_stops_as_soon_as_its_work_in_hand_is_done(alone):
    worker = alone.run(CONTROL, forked=True)
    with jobs_in_hand(alone, CONTROL_PROCESSES):
        worker.send_signal(signal.SIGTERM)
        wait_until(lambda: b"Warm shutdown" in (alone.root / "control.log").read_bytes(), 10, "the signal being noticed")
        assert worker.poll() is None, "it did not wait for its work in hand"
    began = time.monotonic()
    assert worker.wait(STOP_SECONDS) == 0
    assert time.monotonic() - began < STOP_SECONDS / 3
    assert alone.client.hlen("unacked") == 0, "done work would be begun by another"
    assert alone.client.llen(QUEUE_CONTROL) == 0


@pytest.mark.slow
def test_a_worker_whose_work_is_not_done_in_time_hands_it_back(alone):
    alone.environment["SCORING_STOP_SECONDS"] = "1"
    worker = alone.run(CONTROL, forked=True)
    with jobs_in_hand(alone, CONTROL_PROCESSES):
        worker.send_signal(signal.SIGTERM)
        worker.send_signal(signal.SIGTERM)  # an impatient operator changes nothing
        worker.wait(20)
    assert alone.client.llen(QUEUE_CONTROL) == CONTROL_PROCESSES
    assert alone.client.hlen("unacked") == 0


def test_flower_without_a_password_is_refused(alone):
    environment = {name: value for name, value in alone.environment.items() if name != "SCORING_FLOWER_PASSWORD"}
    command = [sys.executable, "-m", "producers.cli", "run", "flower"]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert "SCORING_FLOWER_PASSWORD is not set" in done.stderr
