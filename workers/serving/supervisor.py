"""Starts the processes of the server on one socket, starts a dead one again, and replaces all of them, one by one, on SIGHUP.

A process that dies again and again rests longer each time. If none gets ready before it dies, the server gives up.
"""

import os
import select
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass

import structlog

from shared.errors import ScoringError
from shared.logs import set_up_logs
from shared.settings import Settings
from workers.serving.metrics import mark_dead

log = structlog.get_logger()

POLL_SECONDS = 0.1
START_SECONDS = 60.0
"""A process that takes the place of another one has this time to get ready; otherwise the other one stays."""
STOP_SECONDS = 10.0
"""A process that has not ended after this time is killed."""
FIRST_REST_SECONDS, LONGEST_REST_SECONDS = 1.0, 60.0
"""The rest after the first death of a process in a row, which doubles with each further one, and its longest."""
STEADY_SECONDS = 60.0
"""A process that was ready for this time ends a row of deaths."""
MOST_DEATHS = 5
"""The server gives up when so many processes in a row died before they were ready, in each place."""
OWN_EXIT_CODES = range(2, 8)
PROGRAM = (sys.executable, "-m", "workers.serving.process")


class NoProcessError(ScoringError):
    """Raised when the processes of the server die before they are ready, again and again."""

    def __init__(self, message: str, *, next_step: str, exit_code: int) -> None:
        super().__init__(message, next_step=next_step)
        self.exit_code = exit_code


@dataclass
class _Child:
    process: "subprocess.Popen[bytes]"
    ready: int
    """A pipe on which the process writes once it can answer."""
    ready_since: float | None = None

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    def gets_ready(self, seconds: float) -> bool:
        """Returns True once the process can answer, which is waited for so long."""
        if self.ready_since is None and select.select([self.ready], [], [], seconds)[0] and os.read(self.ready, 1) != b"":
            self.ready_since = time.monotonic()
        return self.ready_since is not None


@dataclass
class _Place:
    """One of the processes that are to run, and what became of those before it."""

    child: _Child
    deaths: int = 0
    """Deaths in a row, with less than ``STEADY_SECONDS`` between two of them."""
    deaths_unready: int = 0
    """Deaths in a row of processes that were never ready."""
    resting_until: float | None = None

    def note_death(self) -> None:
        """Records that its process has died, and lets the place rest."""
        since, now = self.child.ready_since, time.monotonic()
        self.deaths = 1 if since is not None and now - since > STEADY_SECONDS else self.deaths + 1
        self.deaths_unready = self.deaths_unready + 1 if since is None else 0
        self.resting_until = now + min(FIRST_REST_SECONDS * 2 ** (self.deaths - 1), LONGEST_REST_SECONDS)


class Supervisor:
    """Runs the processes until SIGTERM or SIGINT. Their socket stays open while they come and go, so no connection is refused meanwhile."""

    def __init__(self, settings: Settings, listening: socket.socket) -> None:
        self._settings, self._listening = settings, listening
        self._places: list[_Place] = []
        self._is_stopping = self._is_to_replace = False

    def run(self) -> None:
        """Starts the processes and watches them.

        Raises:
            NoProcessError: they die again and again before they are ready.
        """
        set_up_logs(self._settings)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGHUP, self._ask_to_replace)
        self._places = [_Place(self._start()) for _ in range(self._settings.serve_workers)]
        try:
            while not self._is_stopping:
                if self._is_to_replace:
                    self._is_to_replace = False
                    self._replace_all()
                self._start_dead_again()
                time.sleep(POLL_SECONDS)
        finally:
            self._end([place.child for place in self._places if place.resting_until is None])

    def _stop(self, *_: object) -> None:
        self._is_stopping = True

    def _ask_to_replace(self, *_: object) -> None:
        self._is_to_replace = True

    def _start(self) -> _Child:
        reading, writing = os.pipe()
        try:
            arguments = map(str, (self._listening.fileno(), os.getpid(), writing))
            process = subprocess.Popen([*PROGRAM, *arguments], pass_fds=[self._listening.fileno(), writing])
        finally:
            os.close(writing)
        return _Child(process=process, ready=reading)

    def _start_dead_again(self) -> None:
        for place in self._places:
            if place.resting_until is None:
                if place.child.gets_ready(0) and place.child.is_alive:
                    place.deaths_unready = 0
                elif not place.child.is_alive:
                    self._note_death(place)
            elif time.monotonic() > place.resting_until:
                place.child, place.resting_until = self._start(), None

    def _note_death(self, place: _Place) -> None:
        place.note_death()
        code = place.child.process.returncode
        rest = round((place.resting_until or 0.0) - time.monotonic(), 1)
        log.error("process ended by itself", pid=place.child.process.pid, code=code, deaths=place.deaths, seconds_to_next=rest)
        _forget(place.child)
        if all(other.deaths_unready >= MOST_DEATHS for other in self._places):
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            raise NoProcessError(
                f"no process of the server gets ready: each of the last {MOST_DEATHS} died before, the last one with {how}",
                next_step="See the log above. If a release is the cause: scoring models promote ANOTHER --alias "
                f"{self._settings.serve_model}",
                exit_code=code if code in OWN_EXIT_CODES else ScoringError.exit_code,
            )

    def _replace_all(self) -> None:
        """Replaces the processes one by one; each ends once another one can answer in its place."""
        for place in self._places:
            if place.resting_until is not None:
                continue
            new = self._start()
            if not self._waits_for(new):
                log.error("new process does not get ready; the old one stays", pid=new.process.pid)
                self._end([new])
                return
            old, place.child = place.child, new
            self._end([old])
        log.info("all processes replaced")

    def _waits_for(self, child: _Child) -> bool:
        """Waits until a process can answer; returns False if it dies or the time is over."""
        limit = time.monotonic() + START_SECONDS
        while time.monotonic() < limit and child.is_alive and not self._is_stopping:
            if child.gets_ready(POLL_SECONDS):
                return True
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
