"""``scoring up``: starts the server, the workers, beat and Flower on this machine, watches them, and stops them in order.

Every process runs in a session of its own, so that Ctrl-C in a terminal reaches only the launcher, which then lets the work in hand
finish. The other way round nothing outlives the launcher: on Linux the kernel sends each process SIGTERM when the launcher dies, so
that all are gone within seconds, or as soon as the work in hand is done; the server goes when its last worker has gone.
"""

import contextlib
import errno
import fcntl
import json
import os
import secrets
import shlex
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import celery
import kombu.exceptions
import psutil
import redis
from kombu.utils.url import maybe_sanitize_url
from rich.console import Console

from producers.stack.child import POLL_SECONDS, Child, python, tied, wait_for_end, worker_command
from producers.stack.health import flower_answers
from producers.stack.log_file import LogFile
from producers.stack.server import HOST, SERVER_START, server_command
from producers.stack.services import (
    beat_command,
    check_credentials,
    flower_command,
    flower_environment,
    private_folder,
    unusable,
    workers_of,
    write_private,
)
from shared.bucket.opening import open_bucket
from shared.errors import BrokerError, RequestError, ScoringError
from shared.processes import limit_new_files
from shared.queue import progress
from shared.queue.broker import make_app
from shared.queue.clusters import JOIN, Cluster
from shared.settings import FOREIGN_VARIABLES, SECRETS, Settings

SIDE_STOP_SECONDS = 10.0
"""What beat, Flower and the server get to stop: they have no work in hand."""
PRESS_SECONDS = 1.0
"""Between the SIGQUITs to a worker that must stop at once."""
HAND_BACK_SECONDS = 3.0
"""What it gets after the last of them to hand its messages back, before SIGKILL."""
ONE_SIGNAL_SECONDS = 0.5
"""Signals this close are one request: a script and the terminal may both pass on the same Ctrl-C."""

AGAIN_SECONDS = 10.0
"""Beat or Flower, when it dies, is started again, but not before it could live this long."""

COLOURS = {"up": 1, "redis": 31, "score": 32, "control": 36, "beat": 33, "flower": 35}
"""ANSI colour of each name; the names are also the order in which people read them."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to run the stack, beside the settings."""

    stop_seconds: float = 60.0
    """After this long work in hand is broken off: its messages go back onto the queue."""
    start_seconds: float = 120.0
    """Everything must answer within this; the first import of the libraries from a slow disk takes its time."""
    ready_file: Path | None = None
    """Written when everything answers (JSON, readable by its owner only), removed at the end."""


def run_stack(settings: Settings, options: Options) -> int:
    """Start everything, watch it until a signal or a death, stop it; 0 after a requested stop, 1 otherwise.

    Must be called in the main thread: signals arrive there, and the processes live as long as the thread that started them.

    Raises:
        RequestError: a port is busy, this home is in use, or a setting cannot be used; nothing was started.
        BrokerError: the server at REDIS_URL does not answer; nothing was started.
        BucketError: the bucket cannot be written; nothing was started.
    """
    home = settings.home.absolute()
    limit_new_files(settings.umask)
    check_credentials(settings)
    if options.ready_file is not None and not options.ready_file.parent.is_dir():
        raise RequestError(f"there is no folder {options.ready_file.parent} for the ready file", next_step="Make it or name another.")
    with _sole_use(home):
        ports = {"SCORING_FLOWER_PORT": settings.flower_port}
        if settings.redis_url:
            _check_broker(settings)
        else:
            ports["SCORING_REDIS_PORT"] = settings.redis_port
        _check_ports(ports)
        _check_bucket(settings)
        return Stack(settings, options, home).run()


@dataclass
class Stack:
    """All processes of one ``scoring up``."""

    settings: Settings
    options: Options
    home: Path
    server: Child | None = None
    workers: list[Child] = field(default_factory=list)
    watchers: list[Child] = field(default_factory=list)
    """Beat and Flower: they hold no work, so the death of one is no reason to stop scoring, and it is started again."""
    exit_code: int = 0

    def __post_init__(self) -> None:
        console = Console()
        self._colours = console.color_system is not None and not console.no_color
        self._output = threading.Lock()
        self._signals = 0
        self._last_signal = 0.0
        self._alive = (-1, -1)
        self._is_up = False
        self._made_password = not self.settings.flower_password.get_secret_value()
        self._password = self.settings.flower_password.get_secret_value() or secrets.token_urlsafe(12)
        self._log = LogFile(self.home / "logs" / "up.log")
        self._environment = _environment(self.settings, self.home) | {"SCORING_LOG_FILE": str(self._log.path)}

    def run(self) -> int:
        """Start, watch, stop; the exit code."""
        began = time.monotonic()
        self._drop_ready_file()  # a launcher that was killed left it
        self._alive = os.pipe()
        with self._heed_signals():
            try:
                if self._start():
                    self._announce(time.monotonic() - began)
                    self._is_up = True
                    self._watch_until(lambda: False, "", float("inf"))
            finally:
                self._stop()
                for end in self._alive:
                    os.close(end)
                self._log.close()
        return self.exit_code

    def say(self, name: str, text: str, *, secret: bool = False) -> None:
        """Print one line with the name before it, and keep it in the log file unless it holds a ``secret``.

        Never raises: a full or closed output must not stop the work.
        """
        prefix = f"{name:<8}| "
        if not secret:
            self._log.write(prefix + text)
        if self._colours:
            prefix = f"\x1b[{COLOURS[name]}m{prefix}\x1b[0m"
        encoding = sys.stdout.encoding or "utf-8"
        with self._output:
            try:
                sys.stdout.write(f"{prefix}{text}\n".encode(encoding, "replace").decode(encoding))
                sys.stdout.flush()
            except OSError as error:
                if error.errno in (errno.EPIPE, errno.EIO):
                    # the reader of our output or the terminal is gone: the rest goes nowhere, instead of failing again at exit
                    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def _start(self) -> bool:
        """Start everything and wait until it answers; False when the stack has to end instead."""
        if not self.settings.redis_url:
            guard = python("-c", SERVER_START, str(self._alive[0]))
            self.server = self._child("redis", [*guard, *server_command(self.settings, self.home)], keeps=self._alive[:1])
            if not self._watch_until(lambda: _broker_problem(self.settings) is None, "the server", self.options.start_seconds):
                return False
        # each is kept as soon as it is there, so that it is stopped whatever the next one does
        for name, queues, processes in workers_of(self.settings):
            self.workers.append(self._child(name, worker_command(name, queues, processes), keeps=self._alive[1:]))
        self.watchers = [self._child("beat", tied(beat_command(self.home)))]
        with make_app(self.settings) as app:
            names = [f"{worker.name}@{socket.gethostname()}" for worker in self.workers]
            if not self._watch_until(lambda: _answer(app, names), "the workers", self.options.start_seconds):
                return False
        # only now: Flower asks the workers about themselves once, when it starts
        flower = self._child("flower", tied(flower_command()), flower_environment(self.settings, self.home, HOST, self._password))
        self.watchers.append(flower)
        return self._watch_until(lambda: flower_answers(self.settings.flower_port), "Flower", self.options.start_seconds)

    def _child(self, name: str, command: Sequence[str], more: Mapping[str, str] | None = None, keeps: Sequence[int] = ()) -> Child:
        return Child(name, command, {**self._environment, **(more or {})}, self.say, keeps)

    def _watch_until(self, condition: Callable[[], bool], what: str, seconds: float) -> bool:
        """True when the condition holds; False when the stack has to end: asked to, it lost a process it needs, or it took too long."""
        limit = time.monotonic() + seconds
        while not self._signals:
            dead = next((child for child in self._children() if not child.is_alive), None)
            if dead is not None and self._is_up and dead in self.watchers:
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

    def _start_again(self, watcher: Child) -> None:
        if time.monotonic() - watcher.started < AGAIN_SECONDS:
            return
        self._report_death(watcher, "starting it again")
        self.watchers[self.watchers.index(watcher)] = watcher.again()

    def _report_death(self, child: Child, then: str) -> None:
        child.end()
        self.say("up", f"{child.name} has ended by itself ({child.ending}); {then}. Its last lines:")
        for line in [*child.last_lines] or ["(it printed nothing)"]:
            self.say("up", f"    {child.name}: {line}")

    def _children(self) -> list[Child]:
        return [*([self.server] if self.server else []), *self.workers, *self.watchers]

    def _announce(self, seconds: float) -> None:
        port = self.settings.flower_port
        password = self._password if self._made_password else "as set in SCORING_FLOWER_PASSWORD"
        lines = {
            "Redis": maybe_sanitize_url(self.settings.broker_url),
            "Bucket": self._environment["BUCKET_URL"],
            "Flower": f"http://{HOST}:{port}  user: {self.settings.flower_user}  password: {password}",
            "Log": str(self._log.path),
            "Work": f"in another terminal: {_exports(self.settings, self._environment)}",
            "": "then: scoring sample; scoring train v1; scoring score TABLE; see: scoring --help",
            "Stop": f"Ctrl-C, or: kill {os.getpid()}",
        }
        self.say("up", f"ready after {seconds:.1f} s")
        self._warn_of_other_stack()
        for name, text in lines.items():
            self.say("up", f"  {name:<7} {text}", secret=name == "Flower" and self._made_password)
        if self.options.ready_file is not None:
            facts = {
                "pid": os.getpid(),
                "redis_port": None if self.settings.redis_url else self.settings.redis_port,
                "flower_url": f"http://{HOST}:{port}",
                "flower_user": self.settings.flower_user,
                "flower_password": self._password,
            }
            write_private(self.options.ready_file, json.dumps(facts, indent=1))

    def _warn_of_other_stack(self) -> None:
        with contextlib.suppress(ScoringError):  # a bucket that does not answer: the workers say so
            bucket = open_bucket(self._environment["BUCKET_URL"], self.settings.signer)
            claim = Cluster(bucket, progress.connect(self.settings.broker_url), self.settings.cluster).claim()
            if not claim.is_ours:
                self.say("up", f"warning: {claim.sentence}; its jobs, its schedule and its notices are left alone. {JOIN}")

    def _drop_ready_file(self) -> None:
        if self.options.ready_file is not None:
            self.options.ready_file.unlink(missing_ok=True)

    def _stop(self) -> None:
        """Stop all processes: those without work first, the server when nobody needs it any more."""
        self._drop_ready_file()
        asked = self._signals
        if any(worker.is_alive for worker in self.workers):
            self.say("up", "stopping: waiting for work in hand; Ctrl-C again to stop at once")
        self._end(self.watchers, lambda: False, SIDE_STOP_SECONDS)
        seconds = self.options.stop_seconds
        if self.server is not None and not self.server.is_alive:
            # a worker in the middle of an answer would wait for its server for ever; what is broken off the sweep sends again
            seconds = min(seconds, SIDE_STOP_SECONDS)
        self._end(self.workers, lambda: self._signals > asked, seconds)
        self._end([self.server] if self.server else [], lambda: False, SIDE_STOP_SECONDS)
        self.say("up", "stopped")

    def _end(self, children: Sequence[Child], at_once: Callable[[], bool], seconds: float) -> None:
        """Ask the processes to stop, press them after ``seconds`` or when ``at_once`` says so, and leave none of their group."""
        for child in children:
            child.send(signal.SIGTERM)
        wait_for_end(children, seconds, at_once)
        # Celery takes the first as a beginning of worker_soft_shutdown_timeout, breaks the work off at the second, and hands the
        # messages back and ends at the third
        for _ in range(3):
            for child in children:
                child.send(signal.SIGQUIT)
            wait_for_end(children, PRESS_SECONDS)
        wait_for_end(children, HAND_BACK_SECONDS)
        for child in children:
            child.end()

    @contextlib.contextmanager
    def _heed_signals(self) -> Iterator[None]:
        """Count the requests to stop while the block runs."""
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup
            numbers.append(signal.SIGHUP)
        before = {number: signal.signal(number, self._count) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _count(self, _number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if now - self._last_signal > ONE_SIGNAL_SECONDS:
            self._signals += 1
            self._last_signal = now


def _environment(settings: Settings, home: Path) -> dict[str, str]:
    """The environment of every process: the user's own, with paths that mean the same in another folder."""
    foreign = {f"{prefix}{name}" for name in FOREIGN_VARIABLES for prefix in ("", "CELERY_")} | {
        # it would turn the SIGTERM that lets work finish into one that breaks it off after 30 s
        "REMAP_SIGTERM"
    }
    bucket = settings.bucket_url
    if not bucket.startswith(("s3://", "gs://")):
        bucket = str(Path(bucket.removeprefix("file://")).absolute())
    # passed on, not read: settings stay the one reader of the environment
    return {
        **{name: value for name, value in os.environ.items() if name not in foreign},
        "BUCKET_URL": bucket,
        "SCORING_HOME": str(home),
        **({"SCORING_DEFINITIONS": str(settings.definitions.absolute())} if settings.definitions else {}),
        **{file: str(Path(os.environ[file]).absolute()) for name in SECRETS if os.environ.get(file := f"{name}_FILE")},
        # one thread per process: there is a process for each core already
        "OMP_NUM_THREADS": "1",
        # lines come when they are printed, not when 8 kB are full
        "PYTHONUNBUFFERED": "1",
    }


def _exports(settings: Settings, environment: Mapping[str, str]) -> str:
    """The line that gives another terminal, in any folder, the same bucket, home and Redis."""
    wanted = {"BUCKET_URL": environment["BUCKET_URL"], "SCORING_HOME": environment["SCORING_HOME"]}
    if settings.redis_url:
        # with a password it is not shown: the terminal gets it as this one did
        wanted["REDIS_URL"] = settings.broker_url if settings.broker_url == maybe_sanitize_url(settings.broker_url) else "(as here)"
    else:
        wanted["SCORING_REDIS_PORT"] = str(settings.redis_port)
    return "export " + " ".join(f"{name}={shlex.quote(value)}" for name, value in wanted.items())


def _check_bucket(settings: Settings) -> None:
    """Raise an error in a sentence when the bucket cannot be written; nothing was started then."""
    place = f"doctor/{secrets.token_hex(8)}"
    bucket = open_bucket(settings.bucket_url, settings.signer)
    bucket.write(place, b"")
    bucket.delete(place)


def _check_broker(settings: Settings) -> None:
    try:
        shown = maybe_sanitize_url(settings.broker_url)
    except ValueError:
        # neither the address nor the error is shown: a part of the password may be in them
        raise RequestError(
            "REDIS_URL is not an address", next_step="Set it to one like redis://:password@host:6379/0, special characters as %xx."
        ) from None
    problem = _broker_problem(settings)
    if problem is not None:
        raise BrokerError(
            f"the Redis at REDIS_URL, {shown}, does not answer: {problem}",
            next_step="Start it, correct REDIS_URL, or unset REDIS_URL to have a server started here.",
        )


def _broker_problem(settings: Settings) -> str | None:
    """Why the server does not answer PING, or None when it does."""
    try:
        with redis.Redis.from_url(settings.broker_url, socket_connect_timeout=5, socket_timeout=5) as client:
            client.ping()
    except (redis.RedisError, OSError) as error:
        return str(error).rstrip(".") or type(error).__name__
    return None


def _check_ports(ports: Mapping[str, int]) -> None:
    """Raise RequestError when a port that is about to be used is taken, by whom, and what to do."""
    if len({*ports.values()}) < len(ports):
        raise RequestError(f"{' and '.join(ports)} are the same port", next_step=f"Set {next(iter(ports))} to another port.")
    for variable, port in ports.items():
        with socket.socket() as probe:
            # a port that was closed a minute ago is free
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    reason = f"port {port} cannot be used: {error.strerror}"
                    raise RequestError(reason, next_step=f"Set {variable} to another port.") from error
                raise RequestError(
                    f"port {port} is busy{_port_user(port)}", next_step=f"Stop it, or set {variable} to another port."
                ) from error


def _port_user(port: int) -> str:
    """Who listens on a port, as far as the system tells us."""
    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port and connection.pid:
                return f" (used by {psutil.Process(connection.pid).name()}, pid {connection.pid})"
    return ""


def _answer(app: celery.Celery, workers: Sequence[str]) -> bool:
    """True when all these workers take orders."""
    try:
        replies = app.control.ping(destination=[*workers], timeout=1)
    except (redis.RedisError, kombu.exceptions.KombuError, OSError):
        return False
    return {name for reply in replies or [] for name in reply} >= {*workers}


@contextlib.contextmanager
def _sole_use(home: Path) -> Iterator[None]:
    """Hold the home folder while the block runs; raises RequestError when another ``scoring up`` holds it."""
    try:
        lock = (private_folder(home) / "up.lock").open("a+")
    except OSError as error:
        raise unusable(home, error) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            pid = lock.read().strip()
            raise RequestError(
                f"scoring up runs already on {home}, pid {pid}",
                next_step=f"Stop it with Ctrl-C or: kill {pid}, or set SCORING_HOME to another folder.",
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
