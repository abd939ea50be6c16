"""The HTTP server under load: wrk on one core, the server on another, and a bare FastAPI route around the same trees beside it."""

import contextlib
import csv
import itertools
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.inputs import make_table
from benchmarks.lanes import BenchmarkError
from benchmarks.stack import ROOT, Stack
from shared.catalog.aliases import point_alias
from shared.catalog.paths import MANIFEST

ALIAS, CHANNEL = "benchmark", "benchmark"
KEYS_AT_ONCE = 1000
CONNECTIONS = 4
READY_SECONDS = 120.0
SWAPS = 20
BARE = "bare FastAPI, v2"
SERVER_CORE, CLIENT_CORE = "0", "1"
_UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


@dataclass(frozen=True, kw_only=True)
class Load:
    """What one run of wrk measured."""

    requests: int
    per_second: float
    p50_ms: float
    p99_ms: float
    failed: int


@dataclass(frozen=True, kw_only=True)
class Served:
    """All that was measured."""

    loads: dict[str, Load]
    ready_seconds: float
    memory_mb: float
    swap_failures: int


def measure_serving(stack: Stack, releases: Mapping[str, str], rows: int, seconds: float, say: Callable[[str], None]) -> Served:
    """Measures the server with each release.

    Raises:
        BenchmarkError: wrk is not installed, or the server does not get ready.
    """
    if shutil.which("wrk") is None:
        raise BenchmarkError("wrk is not installed, and it makes the load: apt-get install wrk")
    say(f"publishing {rows:,} rows")
    table = make_table(stack.root / "bucket" / "tables", rows, "csv")
    stack.run(table, releases["v2"], channel=CHANNEL)
    with table.open(newline="") as lines:
        cells = [dict(found) for found in itertools.islice(csv.DictReader(lines), KEYS_AT_ONCE)]
    keys = [{"entity_id": int(row["entity_id"]), "device": row["device"]} for row in cells]
    row = {name: int(text) if text.isdigit() else text for name, text in cells[0].items()}
    loads: dict[str, Load] = {}
    for model in ("v1", "v2"):
        point_alias(stack.bucket, ALIAS, releases[model])
        with _server(stack, say) as (url, process, ready_seconds):
            ask = _Asking(stack.root, f"{url}/v1/rates", seconds)
            loads[f"computed, {model}, one row"] = ask.load("?source=computed", {"rows": [row]})
            loads[f"computed, {model}, one row, one connection"] = ask.load("?source=computed", {"rows": [row]}, connections=1)
            if model == "v2":
                loads["published, one key"] = ask.load("", {"rows": keys[:1]})
                loads["published, one key, one connection"] = ask.load("", {"rows": keys[:1]}, connections=1)
                loads["published, 1,000 keys"] = ask.load("", {"rows": keys}, connections=1)
                memory_mb = process.memory_info().rss / 1e6
                say(f"{SWAPS} swaps, half of them to a release that is not there")
                loads["published, one key, during swaps"] = _load_with_swaps(stack, releases, ask, keys[:1])
                failures = _failures(url)
    say(f"{BARE}: no check of a row, no published rate")
    with _bare(stack, releases["v2"]) as url:
        loads[BARE] = _Asking(stack.root, f"{url}/predict", seconds).load("", {"values": [0.0] * (len(row) - 2)})
    return Served(loads=loads, ready_seconds=ready_seconds, memory_mb=memory_mb, swap_failures=failures)


@dataclass(frozen=True)
class _Asking:
    """Loads one address."""

    folder: Path
    url: str
    seconds: float

    def start(self, query: str, body: Any, connections: int = CONNECTIONS, seconds: float | None = None) -> "subprocess.Popen[str]":  # noqa: ANN401 - JSON
        script = self.folder / "load.lua"
        head = "wrk.method = 'POST'; wrk.headers['Content-Type'] = 'application/json'"
        script.write_text(f"{head}; wrk.body = [==[{json.dumps(body)}]==]")
        options = ["-t1", f"-c{connections}", f"-d{seconds or self.seconds:g}s", "--latency", "-s", str(script)]
        return subprocess.Popen(["taskset", "-c", CLIENT_CORE, "wrk", *options, f"{self.url}{query}"], stdout=subprocess.PIPE, text=True)

    def load(self, query: str, body: Any, connections: int = CONNECTIONS) -> Load:  # noqa: ANN401 - JSON
        """Asks for a second to warm up, then for the time that is measured."""
        self.start(query, body, connections, 1).communicate()
        return read_wrk(self.start(query, body, connections).communicate()[0])


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
    )


def _load_with_swaps(stack: Stack, releases: Mapping[str, str], ask: _Asking, keys: list[dict[str, Any]]) -> Load:
    """Moves the alias once in two seconds, each second time to a release that cannot be opened."""
    # a release whose files are those of no manifest
    running = ask.start("", {"rows": keys}, seconds=2.0 * SWAPS + 2)
    for number in range(SWAPS):
        broken = f"v1@20200101T0000{number:02d}Z-abcdef"
        if number % 2:
            folder = stack.bucket.place(f"model/v1/{broken}")
            folder.mkdir(parents=True)
            (folder / MANIFEST).write_text("{}")
        point_alias(stack.bucket, ALIAS, broken if number % 2 else releases["v1" if number % 4 else "v2"])
        time.sleep(2)
    return read_wrk(running.communicate()[0])


def _failures(url: str) -> int:
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return int(sum(float(number) for number in re.findall(r"^scoring_serve_swap_failures_total\{.*\} (\S+)$", text, flags=re.MULTILINE)))


@contextlib.contextmanager
def _server(stack: Stack, say: Callable[[str], None]) -> Iterator[tuple[str, psutil.Process, float]]:
    """Starts the server on its core; yields its address, its process, and the seconds until it was ready."""
    port = _free_port()
    environment = os.environ | {
        "BUCKET_URL": str(stack.root / "bucket"),
        "SCORING_HOME": str(stack.root / "home-of-serve"),
        "SCORING_LOG": "json",
    }
    log = stack.root / "serve.log"
    command = ["taskset", "-c", SERVER_CORE, sys.executable, "-m", "producers.cli", "serve", "--model", ALIAS, "--channel", CHANNEL]
    began = time.perf_counter()
    with log.open("wb") as out:
        running = subprocess.Popen([*command, "--port", str(port)], cwd=ROOT, env=environment, stderr=out)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(url, "/v2/health/ready", running, lambda state: state.get("release") and state.get("job_id"))
        ready = time.perf_counter() - began
        say(f"ready after {ready:.1f} s")
        yield url, psutil.Process(running.pid), ready
    finally:
        running.terminate()
        running.wait(20)


@contextlib.contextmanager
def _bare(stack: Stack, release: str) -> Iterator[str]:
    """Starts the bare route on the same core."""
    port = _free_port()
    command = ["taskset", "-c", SERVER_CORE, sys.executable, "-m", "benchmarks.bare_route", str(stack.root), release, str(port)]
    running = subprocess.Popen(command, cwd=ROOT)
    try:
        _wait(f"http://127.0.0.1:{port}", "/ready", running, lambda _: True)
        yield f"http://127.0.0.1:{port}"
    finally:
        running.terminate()
        running.wait(20)


def _wait(url: str, path: str, running: "subprocess.Popen[bytes]", is_ready: Callable[[dict[str, Any]], object]) -> None:
    limit = time.monotonic() + READY_SECONDS
    while time.monotonic() < limit and running.poll() is None:
        with contextlib.suppress(OSError, ValueError), urllib.request.urlopen(f"{url}{path}", timeout=5) as answer:
            if is_ready(json.load(answer)):
                return
        time.sleep(0.02)
    raise BenchmarkError(f"{url} does not get ready")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
