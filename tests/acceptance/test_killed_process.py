"""All processes of a worker work on a job, and one that is killed in the middle of it costs nothing but its chunk's time."""

import json
import os
import signal
from pathlib import Path

import pandas as pd
import psutil
import pytest

from tests.conftest import Place, wait_until
from tests.integration.test_main_job import result_text

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.server]

CHUNK_ROWS = "100"
CHUNKS = 200


@pytest.fixture(scope="module")
def table(trained: Place, tmp_path_factory: pytest.TempPathFactory) -> Path:
    table = tmp_path_factory.mktemp("killed") / "killed.csv"
    pd.read_csv(trained.sample_table).to_csv(table, index=False)
    return table


@pytest.fixture(scope="module")
def undisturbed(trained: Place, table: Path) -> bytes:
    """The text of a run in which nothing happened."""
    return result_text(trained, trained.scoring_json("score", table, "--model", "v2"))


def score_worker(place: Place) -> psutil.Process:
    """The main process of the worker that scores."""
    up = psutil.Process(json.loads((place.root / "ready.json").read_text())["pid"])
    [worker] = [child for child in up.children() if "score@%h" in child.cmdline()]
    return worker


def pool(place: Place) -> list[psutil.Process]:
    """The living processes that do its work; a killed one is a zombie until the worker notices."""
    return [process for process in score_worker(place).children() if _is_alive(process)]


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def busy_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def enqueue(place: Place, table: Path) -> str:
    arguments = ("score", table, "--model", "v2", "--chunk-rows", CHUNK_ROWS, "--no-wait", "--again")
    return place.scoring_json(*arguments)["job_id"]


def parts(place: Place, job_id: str) -> int:
    return len(list((place.bucket / "jobs" / job_id / "parts").glob("*.json")))


def check_end(place: Place, job_id: str, expected: bytes) -> None:
    """The job ended in the right result, was reported once, and needs nothing more."""
    outcome = place.scoring_json("jobs", "show", job_id, "--follow")
    assert (outcome["facts"]["scored"], outcome["facts"]["rejected"]) == ("20,000", "0")
    assert result_text(place, outcome) == expected
    wait_until(lambda: not (place.bucket / "jobs/_open" / job_id).exists(), what="the end of the job")
    assert len(place.webhook.sent_about(job_id)) == 1


def test_every_process_of_the_worker_is_busy_with_a_job(trained: Place, table: Path, undisturbed: bytes) -> None:
    before = {process: busy_seconds(process) for process in pool(trained)}
    assert len(before) == 2
    job_id = enqueue(trained, table)
    check_end(trained, job_id, undisturbed)
    used = [busy_seconds(process) - seconds for process, seconds in before.items()]
    # each did its share: chunks go to any free process
    assert min(used) > max(used) / 4 > 0.02, used


@pytest.mark.parametrize(
    "done", [CHUNKS // 2, *(pytest.param(done, marks=pytest.mark.long) for done in (1, CHUNKS - 20))], ids=lambda done: f"{done} parts done"
)
def test_a_process_killed_during_a_job_changes_nothing_of_its_result(trained: Place, table: Path, undisturbed: bytes, done: int) -> None:
    worker = score_worker(trained)
    processes = pool(trained)
    before = {process: busy_seconds(process) for process in processes}
    job_id = enqueue(trained, table)
    wait_until(lambda: parts(trained, job_id) >= done, 60, f"{done} parts")
    # the one that worked more lately is in the middle of a chunk
    victim = max(processes, key=lambda process: busy_seconds(process) - before[process])
    os.kill(victim.pid, signal.SIGKILL)
    assert parts(trained, job_id) < CHUNKS, "the job was over before the kill"
    check_end(trained, job_id, undisturbed)
    assert score_worker(trained) == worker, "the worker itself lives"
    after = wait_until(lambda: len(found := pool(trained)) == 2 and found, what="the process that takes the place of the killed one")
    assert victim not in after


def test_all_processes_killed_at_once_change_nothing_either(trained: Place, table: Path, undisturbed: bytes) -> None:
    job_id = enqueue(trained, table)
    wait_until(lambda: parts(trained, job_id) >= CHUNKS // 3, 60, "a third of the parts")
    killed = pool(trained)
    for process in killed:
        os.kill(process.pid, signal.SIGKILL)
    check_end(trained, job_id, undisturbed)
    after = wait_until(lambda: len(found := pool(trained)) == 2 and found, what="the processes that take their places")
    assert not set(after) & set(killed)
