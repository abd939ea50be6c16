"""Starts the processes of the server on one socket, starts a dead one again, and replaces all of them, one by one, on SIGHUP."""

import os
import select
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field

import structlog

from shared.logs import set_up_logs
from shared.settings import Settings
from workers.serving.metrics import mark_dead

log = structlog.get_logger()

POLL_SECONDS = 0.1
START_SECONDS = 60.0
"""A process that takes the place of another one has this time to get ready; otherwise the other one stays."""
STOP_SECONDS = 10.0
"""A process that has not ended after this time is killed."""
REST_SECONDS = 5.0
"""A process that dies sooner after its start is started again after this time."""


@dataclass
class _Child:
    process: "subprocess.Popen[bytes]"
    ready: int
    """A pipe on which the process writes once it can answer."""
    started: float = field(default_factory=time.monotonic)

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None


class Supervisor:
    """Runs the processes until SIGTERM or SIGINT. Their socket stays open while they come and go, so no connection is refused meanwhile."""

    def __init__(self, settings: Settings, listening: socket.socket) -> None:
        self._settings, self._listening = settings, listening
        self._children: list[_Child] = []
        self._is_stopping = self._is_to_replace = False

    def run(self) -> None:
        """Starts the processes and watches them."""
        set_up_logs(self._settings)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGHUP, self._ask_to_replace)
        self._children = [self._start() for _ in range(self._settings.serve_workers)]
        while not self._is_stopping:
            if self._is_to_replace:
                self._is_to_replace = False
                self._replace_all()
            self._start_dead_again()
            time.sleep(POLL_SECONDS)
        self._end(self._children)

    def _stop(self, *_: object) -> None:
        self._is_stopping = True

    def _ask_to_replace(self, *_: object) -> None:
        self._is_to_replace = True

    def _start(self) -> _Child:
        reading, writing = os.pipe()
        try:
            arguments = map(str, (self._listening.fileno(), os.getpid(), writing))
            process = subprocess.Popen(
                [sys.executable, "-m", "workers.serving.process", *arguments], pass_fds=[self._listening.fileno(), writing]
            )
        finally:
            os.close(writing)
        return _Child(process=process, ready=reading)

    def _start_dead_again(self) -> None:
        for place, child in enumerate(self._children):
            if not child.is_alive and time.monotonic() - child.started > REST_SECONDS:
                log.error("process ended by itself; starting it again", pid=child.process.pid, code=child.process.returncode)
                _forget(child)
                self._children[place] = self._start()

    def _replace_all(self) -> None:
        """Replaces the processes one by one; each ends once another one can answer in its place."""
        for place, old in enumerate(self._children):
            new = self._start()
            if not self._gets_ready(new):
                log.error("new process does not get ready; the old one stays", pid=new.process.pid)
                self._end([new])
                return
            self._children[place] = new
            self._end([old])
        log.info("all processes replaced")

    def _gets_ready(self, child: _Child) -> bool:
        limit = time.monotonic() + START_SECONDS
        while time.monotonic() < limit and child.is_alive and not self._is_stopping:
            if select.select([child.ready], [], [], POLL_SECONDS)[0]:
                return os.read(child.ready, 1) != b""
        return False

    def _end(self, children: list[_Child]) -> None:
        for child in children:
            child.process.terminate()
        limit = time.monotonic() + STOP_SECONDS
        for child in children:
            try:
                child.process.wait(max(limit - time.monotonic(), POLL_SECONDS))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
            _forget(child)


def _forget(child: _Child) -> None:
    os.close(child.ready)
    mark_dead(child.process.pid)
