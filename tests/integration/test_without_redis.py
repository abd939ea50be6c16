"""Redis may be away, or lose all it holds, at any moment: a job that is written runs, ends in the right result, and is reported once."""

import itertools
import os
import re
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import psutil
import pytest
import redis

from tests.conftest import Place, make_place, stop, wait_until
from tests.integration.test_main_job import result_text

CHUNK_ROWS = "20"
STARTS = itertools.count(0, 2000)


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory, trained: Place) -> Iterator[Place]:
    """A place with the releases and tables of the shared stack, in which nothing runs."""
    place = make_place(tmp_path_factory.mktemp("without_redis"))
    for folder in ("model", "data/predict/input"):
        shutil.copytree(trained.bucket / folder, place.bucket / folder)
    yield place
    place.webhook.close()


@pytest.fixture(scope="module")
def place(quiet: Place) -> Iterator[Place]:
    """The same place with its stack running, from the first test that asks for it to the last."""
    running = quiet.start()
    yield quiet
    assert stop(running) == 0


@pytest.fixture
def table(trained: Place, tmp_path: Path) -> Path:
    """A table of 100 chunks; another one for every test."""
    table = tmp_path / "table.csv"
    start = next(STARTS)
    pd.read_csv(trained.sample_table)[start : start + 2000].to_csv(table, index=False)
    return table


def client(place: Place) -> redis.Redis:
    return redis.Redis(port=int(place.environment["SCORING_REDIS_PORT"]))


def undisturbed(trained: Place, table: Path) -> bytes:
    """The text of the same table, scored on the shared stack."""
    return result_text(trained, trained.scoring_json("score", table, "--model", "v1"))


def only_notice(place: Place, job_id: str) -> None:
    """The job was reported once, and nothing more will be."""
    place.webhook.sent_about(job_id)
    wait_until(lambda: not (place.bucket / "jobs/_open" / job_id).exists(), what="the end of the job")
    assert len(place.webhook.sent_about(job_id)) == 1


def test_without_redis_requests_are_kept_and_carried_out_by_themselves_once_redis_is_back(
    quiet: Place, trained: Place, table: Path, request: pytest.FixtureRequest
) -> None:
    began = time.monotonic()
    said = quiet.scoring("score", table, "--model", "v1", "--no-wait", code=6)
    took = time.monotonic() - began
    job_id = re.match(r"Job (\S+) is written but not sent; it runs by itself once Redis is back", said.stderr)[1]
    assert re.search(r"^Error: Redis at redis://127.0.0.1:\d+/0 does not take messages: .*refused\.$", said.stderr, re.MULTILINE)
    assert "scoring up" in said.stderr.splitlines()[-1]
    assert said.stdout == f"{job_id}\n", "a script goes on with it"
    assert took < 10, "a second or two on a machine that is not busy, most of it to start Python"
    assert (quiet.bucket / "jobs" / job_id / "job.json").exists()

    # what needs no worker works without Redis too
    assert quiet.scoring_json("jobs", "show", job_id)["state"] == "queued"
    assert job_id in quiet.scoring("jobs", "list").stdout
    again = quiet.scoring("score", table, "--model", "v1", "--no-wait")
    assert again.stdout.strip() == job_id
    assert "The same request was made before" in again.stderr
    cancelled = quiet.scoring("score", table, "--model", "v1", "--no-wait", "--chunk-rows", "3", code=6).stderr.split()[1]
    assert "Cancelled" in quiet.scoring("jobs", "cancel", cancelled).stdout

    place = request.getfixturevalue("place")
    outcome = place.scoring_json("jobs", "show", job_id, "--follow")
    assert result_text(place, outcome) == undisturbed(trained, table)
    only_notice(place, job_id)
    only_notice(place, cancelled)
    assert place.scoring_json("jobs", "show", cancelled)["state"] == "cancelled"
    assert not (place.bucket / "jobs" / cancelled / "plan.json").exists()


def test_a_job_that_lost_its_messages_leases_and_hints_ends_in_the_same_result(place: Place, trained: Place, table: Path) -> None:
    expected = undisturbed(trained, table)
    jobs = place.bucket / "jobs"
    for lose, seen in (
        ("the first message", lambda job: True),
        ("the chunks", lambda job: client(place).llen("score") > 20),
        ("a part of them", lambda job: len(list((job / "parts").glob("*.json"))) > 10),
        ("what is left", lambda job: len(list((job / "parts").glob("*.json"))) > 60),
    ):
        said = place.scoring_json("score", table, "--model", "v1", "--chunk-rows", CHUNK_ROWS, "--no-wait", "--again")
        job_id = said["job_id"]
        wait_until(lambda seen=seen, job_id=job_id: seen(jobs / job_id), what=lose)
        client(place).flushall()
        outcome = place.scoring_json("jobs", "show", job_id, "--follow")
        assert result_text(place, outcome) == expected, lose
        only_notice(place, job_id)


def test_a_job_whose_hint_is_lost_again_and_again_is_finished_by_the_sweep(place: Place, trained: Place, table: Path) -> None:
    job_id = place.scoring_json("score", table, "--model", "v1", "--chunk-rows", CHUNK_ROWS, "--no-wait")["job_id"]
    job = place.bucket / "jobs" / job_id
    key = f"scoring:parts:{job_id}"

    def lose_the_hint() -> bool:
        client(place).delete(key)
        return (job / "outcome.json").exists()

    wait_until(lose_the_hint, 60, "the end of the job")
    outcome = place.scoring_json("jobs", "show", job_id, "--follow")
    assert outcome["facts"]["scored"] == "2,000"
    assert result_text(place, outcome) == undisturbed(trained, table)
    only_notice(place, job_id)


def test_a_hint_that_says_too_much_publishes_nothing_too_early(place: Place, trained: Place, table: Path) -> None:
    job_id = place.scoring_json("score", table, "--model", "v1", "--chunk-rows", CHUNK_ROWS, "--no-wait")["job_id"]
    client(place).hset(f"scoring:parts:{job_id}", mapping={str(chunk): "20" for chunk in range(1000)})
    outcome = place.scoring_json("jobs", "show", job_id, "--follow")
    assert outcome["facts"]["scored"] == "2,000"
    assert result_text(place, outcome) == undisturbed(trained, table)
    only_notice(place, job_id)


def test_a_redis_that_stands_still_delays_a_job_and_no_more(place: Place, trained: Place, table: Path) -> None:
    """SIGSTOP: connections stay open and nobody answers, which no closed port can imitate."""
    job_id = place.scoring_json("score", table, "--model", "v1", "--chunk-rows", CHUNK_ROWS, "--no-wait")["job_id"]
    parts = place.bucket / "jobs" / job_id / "parts"
    wait_until(lambda: len(list(parts.glob("*.json"))) > 5, what="the first parts")
    port = place.environment["SCORING_REDIS_PORT"]
    [server] = [
        process
        for process in psutil.process_iter(["cmdline"])
        if port in (process.info["cmdline"] or []) and "--port" in process.info["cmdline"]
    ]
    os.kill(server.pid, signal.SIGSTOP)
    try:
        done = len(list(parts.glob("*.json")))
        began = time.monotonic()
        shown = place.scoring_json("jobs", "show", job_id)
        assert shown["chunks_done"] >= done
        assert time.monotonic() - began < 10
    finally:
        os.kill(server.pid, signal.SIGCONT)
    outcome = place.scoring_json("jobs", "show", job_id, "--follow")
    assert result_text(place, outcome) == undisturbed(trained, table)
    only_notice(place, job_id)
