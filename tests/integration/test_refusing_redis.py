"""A Redis that takes connections but refuses commands: no process of the stack loses sockets, and work goes on afterwards."""

import os
import subprocess
import time

import psutil
import pytest
import redis

from producers.stack.services import BEAT, WORKER, beat_command, lone_worker_command
from shared.errors import ScoringError
from shared.queue.broker import make_app, send_probe
from shared.queue.probe import Probe, read_answers
from shared.queue.routes import QUEUE_CONTROL
from shared.settings import Settings
from tests.conftest import own_server, wait_until

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.faults]

OPEN_FILES = 1024
BACK_SECONDS = 30
LOADED = 3
"""So many times as long may it take where other tests run beside it; the long form runs alone."""
SOME_FILES = 12
"""What a process may have open more at one moment than at another: connections of a pool, a log."""


class Stack:
    """A worker and beat beside a server that the test makes refuse."""

    def __init__(self, folder, url):
        self.url = url
        self.settings = Settings(redis_url=url, bucket_url=str(folder / "bucket"), home=folder / "home")
        self.client = redis.Redis.from_url(url)
        environment = os.environ | {
            "REDIS_URL": url, "BUCKET_URL": str(folder / "bucket"), "SCORING_HOME": str(folder / "home"), "SCORING_SWEEP_SECONDS": "2",
        }  # fmt: skip
        commands = {
            WORKER: lone_worker_command("control", [QUEUE_CONTROL], 2),
            BEAT: beat_command(folder / "home"),
        }
        self.logs = {name: folder / f"{name}.log" for name in commands}
        self.processes = {
            name: subprocess.Popen(
                ["prlimit", f"--nofile={OPEN_FILES}", *command],
                env=environment, stdin=subprocess.DEVNULL, stdout=self.logs[name].open("wb"), stderr=subprocess.STDOUT,
            )
            for name, command in commands.items()
        }  # fmt: skip

    def answers_now(self, seconds):
        """A worker takes a message."""
        probe = Probe()

        def answered():
            try:
                with make_app(self.settings) as app:
                    send_probe(app, QUEUE_CONTROL, probe)
                return read_answers(self.client, probe)
            except (ScoringError, redis.RedisError):
                return False

        return wait_until(answered, seconds, "an answer of the worker", pause=0.2)

    def open_files(self):
        """How many files and sockets each process has open, children too."""
        found = {}
        for name, process in self.processes.items():
            for one in [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]:
                found[name, one.pid] = one.num_fds()
        return found

    def stop(self):
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            process.wait(60)


class ReadOnly:
    """A master that became a replica of one that is away."""

    def begin(self, client):
        client.execute_command("REPLICAOF", "127.0.0.1", "1")

    def end(self, client):
        client.execute_command("REPLICAOF", "NO", "ONE")


class Full:
    """Every command that needs memory is refused."""

    def begin(self, client):
        client.config_set("maxmemory", 1)

    def end(self, client):
        client.config_set("maxmemory", 0)


class Locked:
    """The password was changed: new connections are refused their commands, and the old ones are cut."""

    def begin(self, client):
        client.config_set("requirepass", "other")
        client.auth("other")
        client.client_kill_filter(_type="normal", skipme=True)

    def end(self, client):
        client.config_set("requirepass", "")


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    folder = tmp_path_factory.mktemp("refusing")
    (folder / "bucket").mkdir()
    with own_server(folder, "--maxclients", "900") as url:
        stack = Stack(folder, url)
        try:
            stack.answers_now(60)
            yield stack
        finally:
            stack.stop()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seconds", [pytest.param(8, id="short"), pytest.param(600, id="long", marks=pytest.mark.long)])
@pytest.mark.parametrize("trouble", [ReadOnly(), Full(), Locked()], ids=lambda trouble: type(trouble).__name__)
def test_a_redis_that_refuses_costs_no_socket_and_work_goes_on_when_it_takes_commands_again(stack, trouble, seconds):
    admin = redis.Redis.from_url(stack.url, single_connection_client=True)
    admin.ping()
    pids = {name: process.pid for name, process in stack.processes.items()}
    trouble.begin(admin)
    try:
        time.sleep(seconds / 4)  # the first reconnections
        before, clients = stack.open_files(), len(admin.client_list())
        time.sleep(seconds * 3 / 4)
        after, clients_after = stack.open_files(), len(admin.client_list())
    finally:
        trouble.end(admin)
    stack.answers_now(BACK_SECONDS if seconds > 60 else LOADED * BACK_SECONDS)
    assert {name: process.pid for name, process in stack.processes.items() if process.poll() is None} == pids
    grown = {process: after[process] - count for process, count in before.items() if after.get(process, 0) - count > SOME_FILES}
    assert not grown, f"files left open: {grown}"
    assert clients_after - clients <= SOME_FILES, "connections that nobody closed"
