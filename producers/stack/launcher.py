"""``scoring up``: starts the server, the workers, beat and Flower on this machine, watches them, and stops them in order.

Every process runs in its own session, so that Ctrl-C in a terminal reaches only the launcher, which then lets running work finish.
No process outlives the launcher: on Linux the kernel sends each of them SIGTERM when the launcher dies, so they end within seconds, or when
their running work is done. The server ends after its last worker.
"""

import contextlib
import os
import secrets
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import celery
import kombu.exceptions
import redis

from producers.stack.child import POLL_SECONDS, Child, python, tied, wait_for_end, worker_command
from producers.stack.health import flower_answers, server_problem
from producers.stack.launch.access import access_lines, write_ready_file
from producers.stack.launch.environment import child_environment
from producers.stack.launch.output import Output
from producers.stack.launch.preflight import broker_problem, check_broker, check_bucket, check_ports, sole_use
from producers.stack.launch.stop_signals import StopSignals
from producers.stack.server import HOST, SERVER_START, server_command
from producers.stack.services import beat_command, check_credentials, flower_command, flower_environment, serve_command, workers_of
from shared.bucket.opening import open_bucket
from shared.errors import RequestError, ScoringError
from shared.processes import limit_new_files
from shared.queue.broker import make_app
from shared.queue.client import connect_to_redis
from shared.queue.state.stacks import JOIN, OwnStack
from shared.settings import Settings

SIDE_STOP_SECONDS = 10.0
"""The time for beat, Flower and the server to stop; they hold no work."""
SIGQUIT_INTERVAL_SECONDS = 1.0
"""The interval between SIGQUITs to a worker that must stop immediately."""
HAND_BACK_SECONDS = 3.0
"""The time for a worker to hand back its messages after the last SIGQUIT, before SIGKILL."""
AGAIN_SECONDS = 10.0
"""The shortest interval between starts of beat or Flower, which are restarted when they die."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of ``scoring up`` in addition to the settings."""

    stop_seconds: float = 60.0
    """After this time running work is aborted, and its messages return to the queue."""
    start_seconds: float = 120.0
    """The time for everything to answer; the first import of the libraries from a slow disk takes long."""
    with_http: bool = False
    """True to start the HTTP server, too."""
    ready_file: Path | None = None
    """A file to write when everything answers (JSON, readable only by its owner) and to remove at the end."""


def run_stack(settings: Settings, options: Options) -> int:
    """Starts everything, watches it until a signal or a death, and stops it; returns 0 after a requested stop, 1 otherwise.

    Must be called in the main thread: it receives the signals, and the processes end with the thread that started them.

    Raises:
        RequestError: a port is busy, this home is in use, or a setting is invalid; nothing was started.
        BrokerError: the server at REDIS_URL does not answer; nothing was started.
        BucketError: the bucket cannot be written; nothing was started.
    """
    home = settings.home.absolute()
    limit_new_files(settings.umask)
    check_credentials(settings)
    if options.ready_file is not None and not options.ready_file.parent.is_dir():
        raise RequestError(f"there is no folder {options.ready_file.parent} for the ready file", next_step="Make it or name another.")
    with sole_use(home):
        ports = {"SCORING_FLOWER_PORT": settings.flower_port}
        if options.with_http:
            serve_command(settings)  # refuses an address that others reach without a token
            ports["SCORING_SERVE_PORT"] = settings.serve_port
        if settings.redis_url:
            check_broker(settings)
        else:
            ports["SCORING_REDIS_PORT"] = settings.redis_port
        check_ports(ports)
        check_bucket(settings)
        return Stack(settings, options, home).run()


@dataclass
class Stack:
    """All processes of one ``scoring up``."""

    settings: Settings
    options: Options
    home: Path
    server: Child | None = None
    workers: list[Child] = field(default_factory=list)
    restartable: list[Child] = field(default_factory=list)
    """Beat, Flower and the HTTP server: restarted when they die, because they hold no work and scoring continues."""
    exit_code: int = 0

    def __post_init__(self) -> None:
        self._output = Output(self.home / "logs" / "up.log")
        self._stops = StopSignals()
        # the server ends when every worker has closed the write end
        self._workers_alive_pipe = (-1, -1)
        self._is_up = False
        self._password = self.settings.flower_password.get_secret_value() or secrets.token_urlsafe(12)
        self._environment = child_environment(self.settings, self.home) | {"SCORING_LOG_FILE": str(self._output.path)}

    def run(self) -> int:
        """Starts, watches and stops the stack; returns the exit code."""
        began = time.monotonic()
        self._drop_ready_file()  # left by a launcher that was killed
        self._workers_alive_pipe = os.pipe()
        with self._stops.counted():
            try:
                if self._start():
                    self._announce(time.monotonic() - began)
                    self._is_up = True
                    self._watch_until(lambda: False, "", float("inf"))
            finally:
                self._stop()
                for end in self._workers_alive_pipe:
                    os.close(end)
                self._output.close()
        return self.exit_code

    def say(self, name: str, text: str, *, secret: bool = False) -> None:
        """Prints one line of a process; see ``Output.say``."""
        self._output.say(name, text, secret=secret)

    def _start(self) -> bool:
        """Starts everything and waits until it answers; False when the stack must end instead."""
        if not self.settings.redis_url:
            guard = python("-c", SERVER_START, str(self._workers_alive_pipe[0]))
            self.server = self._child("redis", [*guard, *server_command(self.settings, self.home)], pass_fds=self._workers_alive_pipe[:1])
            if not self._watch_until(lambda: broker_problem(self.settings) is None, "the server", self.options.start_seconds):
                return False
        # stored immediately, so that a failure of the next one cannot leave it running
        for name, queues, processes in workers_of(self.settings):
            self.workers.append(self._child(name, worker_command(name, queues, processes), pass_fds=self._workers_alive_pipe[1:]))
        self.restartable = [self._child("beat", tied(beat_command(self.home)))]
        with make_app(self.settings) as app:
            names = [f"{worker.name}@{socket.gethostname()}" for worker in self.workers]
            if not self._watch_until(lambda: _answer(app, names), "the workers", self.options.start_seconds):
                return False
        # started last, because Flower queries the workers only once, at its start
        flower = self._child("flower", tied(flower_command()), flower_environment(self.settings, self.home, HOST, self._password))
        self.restartable.append(flower)
        if not self._watch_until(lambda: flower_answers(self.settings.flower_port), "Flower", self.options.start_seconds):
            return False
        if not self.options.with_http:
            return True
        self.restartable.append(self._child("serve", tied(serve_command(self.settings))))
        return self._watch_until(lambda: server_problem(self.settings) is None, "the HTTP server", self.options.start_seconds)

    def _child(
        self, name: str, command: Sequence[str], extra_environment: Mapping[str, str] | None = None, pass_fds: Sequence[int] = ()
    ) -> Child:
        return Child(name, command, {**self._environment, **(extra_environment or {})}, self.say, pass_fds)

    def _watch_until(self, condition: Callable[[], bool], what: str, seconds: float) -> bool:
        """Returns True when the condition holds; False when the stack must end: by request, after a death of a process, or a timeout."""
        limit = time.monotonic() + seconds
        while not self._stops.count:
            dead = next((child for child in self._children() if not child.is_alive), None)
            if dead is not None and self._is_up and dead in self.restartable:
                self._start_again(dead)
            elif dead is not None:
                self.exit_code = 1
                self._report_death(dead, "stopping everything else; start it again with: scoring up")
                return False
            if condition():
                return True
            if time.monotonic() > limit:
                self.exit_code = 1
                self.say("up", f"{what} did not answer within {seconds:.0f} seconds: see the lines above, then start again")
                return False
            time.sleep(POLL_SECONDS)
        return False

    def _start_again(self, child: Child) -> None:
        if time.monotonic() - child.started < AGAIN_SECONDS:
            return
        self._report_death(child, "starting it again")
        self.restartable[self.restartable.index(child)] = child.again()

    def _report_death(self, child: Child, then: str) -> None:
        child.end()
        self.say("up", f"{child.name} has ended by itself ({child.ending}); {then}. Its last lines:")
        for line in [*child.last_lines] or ["(it printed nothing)"]:
            self.say("up", f"    {child.name}: {line}")

    def _children(self) -> list[Child]:
        return [*([self.server] if self.server else []), *self.workers, *self.restartable]

    def _announce(self, seconds: float) -> None:
        self.say("up", f"ready after {seconds:.1f} s")
        self._warn_of_other_stack()
        was_made = not self.settings.flower_password.get_secret_value()
        password = self._password if was_made else "as set in SCORING_FLOWER_PASSWORD"
        for name, text in access_lines(self.settings, self._environment, password, with_http=self.options.with_http).items():
            self.say("up", f"  {name:<7} {text}", secret=name == "Flower" and was_made)
        if self.options.ready_file is not None:
            write_ready_file(self.options.ready_file, self.settings, self._password, with_http=self.options.with_http)

    def _warn_of_other_stack(self) -> None:
        with contextlib.suppress(ScoringError):  # the workers report a bucket that does not answer
            bucket = open_bucket(self._environment["BUCKET_URL"], self.settings.signer)
            claim = OwnStack(bucket, connect_to_redis(self.settings.broker_url), self.settings.cluster).claim()
            if not claim.is_ours:
                self.say("up", f"warning: {claim.sentence}; its jobs, its schedule and its notices are skipped here. {JOIN}")

    def _drop_ready_file(self) -> None:
        if self.options.ready_file is not None:
            self.options.ready_file.unlink(missing_ok=True)

    def _stop(self) -> None:
        """Stops all processes: those without work first, the server last."""
        self._drop_ready_file()
        asked = self._stops.count
        if any(worker.is_alive for worker in self.workers):
            self.say("up", "stopping: waiting for work in hand; Ctrl-C again to stop at once")
        self._end(self.restartable, lambda: False, SIDE_STOP_SECONDS)
        seconds = self.options.stop_seconds
        if self.server is not None and not self.server.is_alive:
            # a worker that waits for an answer would wait for the server for ever; the sweep sends aborted work again
            seconds = min(seconds, SIDE_STOP_SECONDS)
        self._end(self.workers, lambda: self._stops.count > asked, seconds)
        self._end([self.server] if self.server else [], lambda: False, SIDE_STOP_SECONDS)
        self.say("up", "stopped")

    def _end(self, children: Sequence[Child], at_once: Callable[[], bool], seconds: float) -> None:
        """Sends SIGTERM, then SIGQUIT after ``seconds`` or when ``at_once`` returns True, and at last kills the process groups."""
        for child in children:
            child.send(signal.SIGTERM)
        wait_for_end(children, seconds, at_once)
        # at the first SIGQUIT Celery starts worker_soft_shutdown_timeout, at the second it aborts the work, and at the third it hands
        # the messages back and exits
        for _ in range(3):
            for child in children:
                child.send(signal.SIGQUIT)
            wait_for_end(children, SIGQUIT_INTERVAL_SECONDS)
        wait_for_end(children, HAND_BACK_SECONDS)
        for child in children:
            child.end()


def _answer(app: celery.Celery, workers: Sequence[str]) -> bool:
    """Returns True when all these workers answer."""
    try:
        replies = app.control.ping(destination=[*workers], timeout=1)
    except (redis.RedisError, kombu.exceptions.KombuError, OSError):
        return False
    return {name for reply in replies or [] for name in reply} >= {*workers}
