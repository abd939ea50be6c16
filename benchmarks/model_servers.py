"""Other servers with the trees of a release: MLServer, ``mlflow models serve``, and the FastAPI route that anyone would write first.

MLServer and mlflow run in environments of their own, which their interpreters name:

    python -m venv ENV; ENV/bin/pip install mlserver mlserver-lightgbm
    python -m venv ENV; ENV/bin/pip install mlflow lightgbm
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.stack import ROOT
from benchmarks.wrk import SERVER_CORE, free_port, wait_ready
from model_store.library import ModelLibrary
from shared.bucket.local import LocalBucket

BARE, MLSERVER, MLFLOW = "bare FastAPI, v2", "MLServer, v2", "mlflow models serve, v2"
MODEL = "model.txt"
_SAVE = "import sys, lightgbm, mlflow.lightgbm; mlflow.lightgbm.save_model(lightgbm.Booster(model_file=sys.argv[1]), sys.argv[2])"


@dataclass(frozen=True, kw_only=True)
class ModelServer:
    """A running server, and the request for the rate of one row."""

    url: str
    process: psutil.Process
    body: dict[str, Any]


@contextlib.contextmanager
def bare_route(root: Path, release: str, features: int) -> Iterator[ModelServer]:
    """Starts the FastAPI route; it checks nothing and knows no table."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.bare_route", str(root), release, str(port)]
    with _running(command, port, "/ready", {}, ROOT) as process:
        yield ModelServer(url=f"http://127.0.0.1:{port}/predict", process=process, body={"values": [0.0] * features})


@contextlib.contextmanager
def mlserver(python: Path, root: Path, release: str) -> Iterator[ModelServer]:
    """Starts MLServer with its LightGBM runtime, in one process."""
    folder, port = root / "mlserver", free_port()
    folder.mkdir()
    features = _write_trees(root, release, folder / MODEL)
    ports = {"http_port": port, "grpc_port": free_port(), "metrics_port": free_port()}
    (folder / "settings.json").write_text(json.dumps({"host": "127.0.0.1", "parallel_workers": 0, "debug": False} | ports))
    model = {"name": "v2", "implementation": "mlserver_lightgbm.LightGBMModel", "parameters": {"uri": f"./{MODEL}", "version": "1"}}
    (folder / "model-settings.json").write_text(json.dumps(model))
    values = {"name": "x", "shape": [1, features], "datatype": "FP32", "data": [0.0] * features}
    with _running([str(python.with_name("mlserver")), "start", str(folder)], port, "/v2/models/v2/ready", {}, folder) as process:
        yield ModelServer(url=f"http://127.0.0.1:{port}/v2/models/v2/infer", process=process, body={"inputs": [values]})


@contextlib.contextmanager
def mlflow(python: Path, root: Path, release: str) -> Iterator[ModelServer]:
    """Starts ``mlflow models serve`` in the environment of its interpreter."""
    folder, port = root / "mlflow", free_port()
    folder.mkdir()
    features = _write_trees(root, release, folder / MODEL)
    path = {"PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run([str(python), "-c", _SAVE, str(folder / MODEL), str(folder / "saved")], check=True, cwd=folder, env=_environment(path))
    options = ["-m", str(folder / "saved"), "--env-manager", "local", "-h", "127.0.0.1", "-p", str(port)]
    with _running([str(python), "-m", "mlflow", "models", "serve", *options], port, "/ping", path, folder) as process:
        yield ModelServer(url=f"http://127.0.0.1:{port}/invocations", process=process, body={"inputs": [[0.0] * features]})


def _write_trees(root: Path, release: str, file: Path) -> int:
    """Writes LightGBM's text of the trees of a release; returns the number of features."""
    trees = ModelLibrary(LocalBucket(root / "bucket"), root / "cache").release(release).model._booster
    file.write_text(trees.model_to_string())
    return int(trees.num_feature())


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    """Returns the variables of another environment: one thread for math, as our server has, and none of our modules."""
    own = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    return own | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **more}


@contextlib.contextmanager
def _running(command: Sequence[str], port: int, path: str, more: Mapping[str, str], folder: Path) -> Iterator[psutil.Process]:
    """Runs a server and its child processes on the core of the server."""
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    pinned = ["taskset", "-c", SERVER_CORE, *command]
    running = subprocess.Popen(pinned, cwd=folder, env=_environment(more), start_new_session=True, **quiet)
    try:
        wait_ready(f"http://127.0.0.1:{port}", path, running)
        yield psutil.Process(running.pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
