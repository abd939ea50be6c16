"""The HTTP server under load: wrk on one core, the server on another, and other servers with the same trees in its place."""

import contextlib
import csv
import functools
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.inputs import make_table
from benchmarks.lanes import BenchmarkError
from benchmarks.model_servers import BARE, MLFLOW, MLSERVER, bare_route, mlflow, mlserver
from benchmarks.stack import ROOT, Stack
from benchmarks.wrk import SERVER_CORE, Asking, Load, check_wrk, free_port, read_wrk, wait_ready
from model_store.store import publish, read_manifest
from shared.catalog.aliases import point_alias
from shared.catalog.paths import MANIFEST, release_folder

ALIAS, CHANNEL = "benchmark", "benchmark"
KEYS_AT_ONCE = 1000
SWAPS = 20
SWAP_SECONDS = 180.0
"""A promoted release is served, or refused, within this time."""
PAUSE_MS = 1
"""Each connection rests so long between two requests while releases are exchanged: a core without any spare time has none for a release."""
PACED, SWAPPED = "published, one key, paced", "published, one key, paced, during swaps"


@dataclass(frozen=True, kw_only=True)
class Served:
    """All that was measured."""

    loads: dict[str, Load]
    ready_seconds: float
    memory_mb: float
    swap_failures: int


@dataclass(frozen=True, kw_only=True)
class Compared:
    """The interpreters of the environments of other servers; None for those that are not measured."""

    mlserver: Path | None = None
    mlflow: Path | None = None


def measure_serving(
    stack: Stack, releases: Mapping[str, str], rows: int, seconds: float, say: Callable[[str], None], compared: Compared
) -> Served:
    """Measures the server with each release, then other servers with the trees of ``v2``.

    Raises:
        BenchmarkError: wrk is not installed, or the server does not get ready.
    """
    check_wrk()
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
            ask = Asking(stack.root, f"{url}/v1/rates", seconds, process)
            loads[f"computed, {model}, one row"] = ask.load("?source=computed", {"rows": [row]})
            loads[f"computed, {model}, one row, one connection"] = ask.load("?source=computed", {"rows": [row]}, connections=1)
            if model == "v2":
                loads["published, one key"] = ask.load("", {"rows": keys[:1]})
                loads["published, one key, one connection"] = ask.load("", {"rows": keys[:1]}, connections=1)
                loads["published, 1,000 keys"] = ask.load("", {"rows": keys}, connections=1)
                memory_mb = process.memory_info().rss / 1e6
                loads[PACED] = ask.load("", {"rows": keys[:1]}, pause_ms=PAUSE_MS)
                say(f"{SWAPS} swaps, half of them to a release that is broken")
                loads[SWAPPED] = _load_with_swaps(stack, releases, ask, keys[:1], url)
                failures = _failures(url)
    others = [(BARE, lambda: bare_route(stack.root, releases["v2"], len(row) - 2))]
    if compared.mlserver is not None:
        others.append((MLSERVER, functools.partial(mlserver, compared.mlserver, stack.root, releases["v2"])))
    if compared.mlflow is not None:
        others.append((MLFLOW, functools.partial(mlflow, compared.mlflow, stack.root, releases["v2"])))
    for name, start in others:
        say(f"{name}: no check of a row, no published rate")
        with start() as server:
            loads[name] = Asking(stack.root, server.url, seconds, server.process).load("", server.body)
    return Served(loads=loads, ready_seconds=ready_seconds, memory_mb=memory_mb, swap_failures=failures)


def _load_with_swaps(stack: Stack, releases: Mapping[str, str], ask: Asking, keys: list[dict[str, Any]], url: str) -> Load:
    """Promotes one release after another, each second one broken, under load; each good one is new to the server."""
    running = ask.start("", {"rows": keys}, seconds=SWAPS * SWAP_SECONDS, pause_ms=PAUSE_MS)
    try:
        for number in range(SWAPS):
            release = _broken_release(stack, number) if number % 2 else _copy_of(stack, releases["v1" if number % 4 else "v2"], number)
            failed = _failures(url)
            point_alias(stack.bucket, ALIAS, release)
            limit = time.monotonic() + SWAP_SECONDS
            while _served(url) != release and _failures(url) == failed:
                if time.monotonic() > limit:
                    raise BenchmarkError(f"{release} is neither served nor refused within {SWAP_SECONDS:g} s")
                time.sleep(0.1)
    finally:
        running.send_signal(signal.SIGINT)  # wrk then prints what it has measured
    return read_wrk(running.communicate()[0])


def _copy_of(stack: Stack, release: str, number: int) -> str:
    """Publishes a release under another name; returns its id."""
    manifest = read_manifest(stack.bucket, release)
    other = f"{manifest.definition}@20200102T0000{number:02d}Z-abcdef"
    with tempfile.TemporaryDirectory() as made:
        for name in manifest.files:
            shutil.copy(stack.bucket.place(release_folder(release)) / name, made)
        publish(stack.bucket, Path(made), manifest.model_copy(update={"release": other}))
    return other


def _broken_release(stack: Stack, number: int) -> str:
    """Makes a release whose manifest is none; returns its id."""
    broken = f"v1@20200101T0000{number:02d}Z-abcdef"
    folder = stack.bucket.place(release_folder(broken))
    folder.mkdir(parents=True)
    (folder / MANIFEST).write_text("{}")
    return broken


def _served(url: str) -> str:
    with urllib.request.urlopen(f"{url}/v2/health/ready", timeout=10) as answer:
        return str(json.load(answer)["release"])


def _failures(url: str) -> int:
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return int(sum(float(number) for number in re.findall(r"^scoring_serve_swap_failures_total\{.*\} (\S+)$", text, flags=re.MULTILINE)))


@contextlib.contextmanager
def _server(stack: Stack, say: Callable[[str], None]) -> Iterator[tuple[str, psutil.Process, float]]:
    """Starts the server on its core; yields its address, its process, and the seconds until it was ready."""
    port = free_port()
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
        wait_ready(url, "/v2/health/ready", running, _is_whole)
        ready = time.perf_counter() - began
        say(f"ready after {ready:.1f} s")
        yield url, psutil.Process(running.pid), ready
    finally:
        running.terminate()
        running.wait(20)


def _is_whole(answer: bytes) -> bool:
    state = json.loads(answer)
    return bool(state.get("release") and state.get("job_id"))
