"""A search of 24 candidates on three folds runs on both worker processes, survives a killed one, and shows how far it is."""

import json
import os
import re
import signal
from pathlib import Path

import pytest
import redis

from producers.sample.tables import write_tables
from tests.acceptance.test_killed_process import busy_seconds, pool
from tests.conftest import Place, wait_until
from tests.integration.test_following import Terminal

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.server]

GRID = """
search: grid
folds: 3
stop_early: false
parameters:
  num_leaves: [3, 7, 15, 31]
  learning_rate: [0.03, 0.1, 1e-6]
  lambda_l2: [1.0, 20.0]
  num_boost_round: [100]
"""
CANDIDATES, FOLDS = 24, 3


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four weeks to train on and a fifth to judge on."""
    folder = tmp_path_factory.mktemp("weeks")
    write_tables(folder, 100, 1, train_rows=8000, weeks=4)
    return folder


def write_config(place: Place, text: str) -> str:
    path = place.bucket / "config/v2/params.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return "config/v2/params.yaml"


def tried(place: Place, job_id: str) -> dict[str, float]:
    """What was tried so far and when its file was written."""
    folder = place.bucket / "jobs" / job_id / "candidates"
    return {file.name: file.stat().st_mtime for file in folder.glob("*.json")}


def train(tables: Path, config: str, *more: str) -> list[str]:
    return ["train", "v2", "--train", str(tables / "train.csv.gz"), "--eval", str(tables / "eval.csv.gz"), "--config", config, *more]


def test_a_grid_runs_on_both_processes_survives_a_killed_one_and_shows_its_progress(stack: Place, tables: Path) -> None:
    before = {process: busy_seconds(process) for process in pool(stack)}
    terminal = Terminal(stack, *train(tables, write_config(stack, GRID)))
    try:
        job_id = wait_until(lambda: (found := re.search(r"^Job (\S+)", terminal.text, re.MULTILINE)) and found[1], what="the id of the job")
        wait_until(lambda: len(tried(stack, job_id)) >= CANDIDATES, 90, "a third of the search")
        used = {process: busy_seconds(process) - before[process] for process in pool(stack) if process in before}
        kept = tried(stack, job_id)
        os.kill(max(used, key=used.get).pid, signal.SIGKILL)
        assert len(tried(stack, job_id)) < CANDIDATES * FOLDS, "the search was over before the kill"
        assert terminal.end() == 0, terminal.text[-3000:]
    finally:
        terminal.close()

    # both did their share
    assert len(used) == 2
    assert min(used.values()) > max(used.values()) / 2, used

    # everything was tried, and nothing twice: what was there before the kill was left alone
    after = tried(stack, job_id)
    assert len(after) == CANDIDATES * FOLDS
    assert kept.items() <= after.items()

    # the bar moved, and said which was the best so far
    progress = rf"(\d+) of {CANDIDATES * FOLDS} candidate folds"
    assert len(set(re.findall(progress, terminal.text))) >= 3, terminal.text[-3000:]
    assert re.search(rf"{progress} [^\n]*\n+  best so far 0\.\d+ on \d of 3 folds: num_leaves", terminal.text), terminal.text[-3000:]

    # the release tells of all of them, the best first
    outcome = stack.scoring_json("jobs", "show", job_id, "--follow")
    search = stack.scoring_json("models", "show", outcome["release"])["search"]
    states = [candidate["state"] for candidate in search["candidates"]]
    assert states == ["chosen"] + ["tried"] * (CANDIDATES - 1)
    losses = [candidate["log_loss_per_click"] for candidate in search["candidates"]]
    assert losses == sorted(losses)
    assert search["chosen"]["learning_rate"] != 1e-6
    assert all(len(candidate["folds"]) == FOLDS for candidate in search["candidates"])
    wait_until(lambda: not (stack.bucket / "jobs/_open" / job_id).exists(), what="the end of the job")
    assert len(stack.webhook.sent_about(job_id)) == 1


KILLER = """
import os, signal
from model_store import model_template
import numpy as np

class Model(model_template.Model):
    MODEL_FILE = "model.skops"

    def _model_definition(self, config=None):
        self.params = dict(config or {})

    def train(self, X, y, sample_weight=None):
        if self.params.get("deadly"):
            os.kill(os.getpid(), signal.SIGKILL)
        self.model = {"rate": self.params.get("rate", 0.05)}
        return self.score(y, self.predict(X))

    def predict(self, X):
        return np.full(len(X), float(self.model["rate"]))
"""


def test_a_candidate_that_kills_its_worker_is_given_up_and_an_emptied_redis_loses_nothing(stack: Place, tables: Path) -> None:
    folder = Path(stack.environment["SCORING_DEFINITIONS"]) / "killer"
    folder.mkdir(parents=True)
    (folder / "model.py").write_text(KILLER)
    config = tables / "killer.yaml"
    config.write_text(json.dumps({"stop_early": False, "parameters": {"rate": [0.04, 0.05, 0.06], "deadly": [False, True]}}))
    done = stack.scoring_json("train", "killer", "--train", tables / "train.csv.gz", "--config", config, "--no-wait")
    job_id = done["job_id"]
    wait_until(lambda: tried(stack, job_id), 60, "the first candidate")
    redis.Redis(port=int(stack.environment["SCORING_REDIS_PORT"])).flushall()
    outcome = stack.scoring_json("jobs", "show", job_id, "--follow")
    search = stack.scoring_json("models", "show", outcome["release"])["search"]
    assert search["chosen"]["deadly"] is False
    failed = [candidate for candidate in search["candidates"] if candidate["state"] == "failed"]
    assert [candidate["params"]["deadly"] for candidate in failed] == [True] * 3
    assert {candidate["reason"] for candidate in failed} == {"it killed its worker 3 times"}
