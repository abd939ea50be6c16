"""Makes load with wrk on one core, for a server on another one."""

import contextlib
import json
import re
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from benchmarks.lanes import BenchmarkError

SERVER_CORE, CLIENT_CORE = "0", "1"
CONNECTIONS = 4
READY_SECONDS = 120.0
_UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


@dataclass(frozen=True, kw_only=True)
class Load:
    """What one run of wrk measured."""

    requests: int
    per_second: float
    p50_ms: float
    p99_ms: float
    failed: int
    """Requests without an answer, with another code than one of success, or answered after more than 2 s."""
    late: int = 0
    """Those of the failed ones that were answered after more than 2 s."""
    cpu_us: float | None = None
    """Time of the processor that the server took for a request, in microseconds: it depends less on what else runs than requests/s."""


@dataclass(frozen=True)
class Asking:
    """Loads one address."""

    folder: Path
    url: str
    seconds: float
    server: psutil.Process
    """The process that answers, or whose children do."""

    def start(
        self,
        query: str,
        body: Any,  # noqa: ANN401 - JSON
        connections: int = CONNECTIONS,
        seconds: float | None = None,
        pause_ms: int = 0,
    ) -> "subprocess.Popen[str]":
        """Starts wrk; ``pause_ms`` is the time that each connection waits between an answer and its next request."""
        script = self.folder / "load.lua"
        head = "wrk.method = 'POST'; wrk.headers['Content-Type'] = 'application/json'"
        pause = f"; function delay() return {pause_ms} end" if pause_ms else ""
        script.write_text(f"{head}; wrk.body = [==[{json.dumps(body)}]==]{pause}")
        options = ["-t1", f"-c{connections}", f"-d{seconds or self.seconds:g}s", "--latency", "-s", str(script)]
        return subprocess.Popen(["taskset", "-c", CLIENT_CORE, "wrk", *options, f"{self.url}{query}"], stdout=subprocess.PIPE, text=True)

    def load(self, query: str, body: Any, connections: int = CONNECTIONS, pause_ms: int = 0) -> Load:  # noqa: ANN401 - JSON
        """Asks for a second to warm up, then for the time that is measured."""
        self.start(query, body, connections, 1).communicate()
        before = _cpu_seconds(self.server)
        found = read_wrk(self.start(query, body, connections, pause_ms=pause_ms).communicate()[0])
        return replace(found, cpu_us=(_cpu_seconds(self.server) - before) / max(found.requests, 1) * 1e6)


def _cpu_seconds(server: psutil.Process) -> float:
    return float(sum(sum(process.cpu_times()[:2]) for process in (server, *server.children(recursive=True))))


def check_wrk() -> None:
    """Raises BenchmarkError if wrk is not installed."""
    if shutil.which("wrk") is None:
        raise BenchmarkError("wrk is not installed, and it makes the load: apt-get install wrk")


def read_wrk(text: str) -> Load:
    """Reads what wrk prints."""
    found = {share: float(number) * _UNITS[unit] for share, number, unit in re.findall(r"(\d\d)%\s+([\d.]+)(us|ms|s|m)\b", text)}
    requests = re.search(r"(\d+) requests in", text)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    if requests is None or rate is None or not {"50", "99"} <= found.keys():
        raise BenchmarkError(f"wrk measured nothing: {text[-500:]}")
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    failed = sum(map(int, errors.groups())) if errors else 0
    return Load(
        requests=int(requests[1]),
        per_second=float(rate[1]),
        p50_ms=found["50"],
        p99_ms=found["99"],
        failed=failed + (int(refused[1]) if refused else 0),
        late=int(errors[4]) if errors else 0,
    )


def wait_ready(url: str, path: str, running: "subprocess.Popen[bytes]", is_ready: Callable[[bytes], object] = lambda _: True) -> None:
    """Waits until an address answers with what ``is_ready`` accepts.

    Raises:
        BenchmarkError: the process ends, or the time is over.
    """
    limit = time.monotonic() + READY_SECONDS
    while time.monotonic() < limit and running.poll() is None:
        with contextlib.suppress(OSError, ValueError), urllib.request.urlopen(f"{url}{path}", timeout=5) as answer:
            if is_ready(answer.read()):
                return
        time.sleep(0.02)
    raise BenchmarkError(f"{url} does not get ready")


def free_port() -> int:
    """Returns a port that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
