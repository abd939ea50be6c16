"""The short form: a fault of each sort, and a row that kills its worker. The long form is ``python -m tests.acceptance.faults``.

Here the workers are forks of a process that has the libraries; there, and in little memory, each is a program of its own.
"""

import gzip
import json
import random
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from tests.acceptance.faults.__main__ import LITTLE_MEMORY, Run, Undisturbed, play, undisturbed
from tests.acceptance.faults.decisions import PLACES_OF_HELD, PLACES_OF_PUBLICATION
from tests.acceptance.faults.faults import FIT_PLACES, FROZEN_PLACES, HELD_PLACES, LOAD_PLACES, S3_TRAP_PLACES, TRAP_PLACES
from tests.acceptance.faults.memory import kills
from tests.acceptance.faults.stage import HALVED, PROCESSES, Stage, stage
from tests.conftest import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(900)]

SHORT = [
    "plan, half a slice written: kill the process",
    "chunk, half its part written: kill the worker",
    "finish, after the outcome: kill the process",
    "notify, before the webhook: kill the process",
    "server killed, data lost",
    "network cut",
    "disk full",
    "every message twice",
    "clocks step ahead and back",
    "fit, with the model: kill the process",
    "load, before the model: kill the process, again and again",
    "finish, between predictions and manifest: kill the process, again and again",
]
SHORT_OF_HELD = [
    "held: held, before its mark: kill the process",
    "approved: killed at a write, then again, and channel, after its predictions: kill the worker",
    "rolled back: killed at a write, then again",
]
SHORT_IN_LITTLE_MEMORY = ["memory: fit, before the model: eats it, again and again"]
SHORT_ON_S3 = [
    "s3: finish, half the result written: kill the process",
    "s3: store does it and is not heard",
    "s3: approved: killed at a write, then again",
]

CHUNK_SECONDS = 0.1
RECOVERY_SECONDS = 30
"""What a killed worker may cost, beside one chunk's time."""

DEADLY = """
import os, signal
from model_store.v1 import model as v1

class Model(v1.Model):
    def predict(self, X):
        if (X["att1"] + X["att2"] == 2).any() and not os.environ.get("FAULT_HARMLESS"):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().predict(X)
"""


@pytest.fixture(scope="module")
def playing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stage, Undisturbed]]:
    with stage(tmp_path_factory.mktemp("faults"), chunk_seconds=CHUNK_SECONDS, forked=True) as started:
        yield started, undisturbed(started, jobs=1)


@pytest.fixture(scope="module")
def playing_on_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stage, Undisturbed]]:
    with stage(tmp_path_factory.mktemp("faults"), on_s3=True, forked=True) as started:
        yield started, undisturbed(started, jobs=1)


def test_every_named_point_is_come_to(playing: tuple[Stage, Undisturbed]) -> None:
    started, _ = playing
    with started.saying("passed"):
        started.end_of(started.enqueue())
        started.end_of(started.enqueue_training())
        started.end_of(started.enqueue(HALVED))
        passed = set((started.talk / "passed").read_text().splitlines())
    started.clear_channel(started.last_of_sample)
    places = {*TRAP_PLACES, *FROZEN_PLACES, *HELD_PLACES, *S3_TRAP_PLACES, *FIT_PLACES, *LOAD_PLACES}
    assert passed >= places | {*PLACES_OF_HELD, *PLACES_OF_PUBLICATION}


@pytest.mark.parametrize("kind", SHORT)
def test_a_fault_changes_nothing_but_the_time(playing: tuple[Stage, Undisturbed], kind: str) -> None:
    started, before = playing
    check(play(started, kind, before, random.Random(kind)))


@pytest.mark.parametrize("kind", SHORT_OF_HELD)
def test_the_channel_shows_one_whole_approved_result_whatever_is_killed(playing: tuple[Stage, Undisturbed], kind: str) -> None:
    started, before = playing
    check(play(started, kind, before, random.Random(kind)))
    assert started.watcher is not None
    assert started.watcher.reads > 0


@pytest.mark.parametrize("kind", SHORT_ON_S3)
def test_a_fault_of_an_object_store_changes_nothing_but_the_time(playing_on_s3: tuple[Stage, Undisturbed], kind: str) -> None:
    started, before = playing_on_s3
    check(play(started, kind, before, random.Random(kind)))


def test_in_little_memory_a_fit_that_does_not_fit_fails_after_three_tries(tmp_path: Path) -> None:
    with stage(tmp_path, memory=LITTLE_MEMORY, workers=1, forked=True) as started:
        before = undisturbed(started, jobs=1)
        for kind in SHORT_IN_LITTLE_MEMORY:
            run = play(started, kind, before, random.Random(kind))
            check(run)
            outcome = started.outcome(run.endings[0].job_id)
            if kills(started.before_worker):
                assert "of which the process had 1.1 GB, the limit of its container" in outcome.reason


def check(run: Run) -> None:
    assert run.problems == []
    assert run.identical, [ending.state for ending in run.endings]
    assert {ending.notices for ending in run.endings} == {1}


def test_a_row_that_kills_its_worker_becomes_a_reject_and_its_neighbours_are_scored(playing: tuple[Stage, Undisturbed]) -> None:
    started, _ = playing
    check_bad_row(started, "deadly", DEADLY, chunk_rows=20)


def check_bad_row(started: Stage, name: str, definition: str, *, chunk_rows: int) -> None:
    """Scores a table of 60 rows with a definition that takes one of them ill: that one alone is a reject."""
    folder = started.root / "definitions" / name
    folder.mkdir(parents=True)
    (folder / "model.py").write_text(definition)
    generator = random.Random(1)
    rows = [{"entity_id": number, "att1": number % 2, "att2": 0, "device": generator.choice([0, 1, 2])} for number in range(60)]
    train = started.root / f"train_{name}.csv"
    pd.DataFrame([row | {"Clicks": 3, "Conversions": number % 2} for number, row in enumerate(rows)]).to_csv(train, index=False)
    started.place.scoring("train", name, "--train", train)
    rows[41] |= {"att1": 1, "att2": 1}
    table = started.root / f"{name}.csv"
    pd.DataFrame(rows).to_csv(table, index=False)
    command = ["score", table, "--model", name, "--chunk-rows", str(chunk_rows), "--max-reject-share", "0.1", "--no-wait", "--json"]
    job_id = json.loads(started.place.scoring(*command).stdout)["job_id"]
    ending = started.end_of(job_id)
    assert ending.state == "done"
    assert [int(line.split(b",")[0]) for line in ending.text.splitlines()[1:]] == [number for number in range(60) if number != 41]
    outcome = json.loads((started.place.bucket / "jobs" / job_id / "outcome.json").read_text())
    rejects = gzip.decompress((started.place.bucket / outcome["result"] / "rejects.csv.gz").read_bytes()).decode().splitlines()
    assert len(rejects) == 2
    assert ",43,," in rejects[1]
    assert rejects[1].endswith("scoring this row killed the worker process or never ended")
    wait_until(started.is_consuming, 60, "the workers' return")


# These start the workers again with other settings: they come last, so that what is above finds the ones that it knows.


def test_a_worker_killed_on_another_machine_costs_a_chunk_and_half_a_minute_at_most(playing: tuple[Stage, Undisturbed]) -> None:
    started, before = playing
    # the sweep as often as it is by default, and no word from the machine that its processes are gone
    started.restart_with(SCORING_SWEEP_SECONDS="15", SCORING_STALL_SECONDS="5", FAULT_MACHINE="elsewhere")
    started.end_of(started.enqueue())  # every process has loaded the release
    for action in ("kill the process", "kill the worker"):
        started.disarm()
        started.arm("chunk, half its part written", action)
        job_id = started.enqueue()
        ending = started.end_of(job_id)
        assert started.sprung
        assert ending.text == before.text, started.outcome(job_id)
        assert ending.seconds < before.seconds + CHUNK_SECONDS + RECOVERY_SECONDS, action


@pytest.mark.parametrize(
    "way",
    [
        pytest.param({}, id="warm shutdown", marks=pytest.mark.long),
        pytest.param({"REMAP_SIGTERM": "SIGQUIT", "FAULT_SOFT_SECONDS": "3"}, id="soft shutdown"),
    ],
)
def test_a_rolling_restart_loses_no_message_and_repeats_only_chunks_in_hand(
    playing: tuple[Stage, Undisturbed], way: dict[str, str]
) -> None:
    started, before = playing
    # a sweep that sends nothing again within this test: what was lost would stay lost
    started.restart_with(SCORING_STALL_SECONDS="3600", FAULT_CHUNK_SECONDS="1.2", **way)
    job_id = started.enqueue()
    folder = started.folder(job_id)
    for name in list(started.workers):
        done = len(folder.parts_done())
        wait_until(lambda done=done: len(folder.parts_done()) >= done + 2, 60, "the job going on")  # type: ignore[misc]
        stopped = started.workers[name]
        stopped.terminate()
        wait_until(lambda stopped=stopped: stopped.poll() is not None, 60, "the worker's end")  # type: ignore[misc]
        assert folder.outcome() is None, "the job was over before the restarts were"
        wait_until(lambda name=name, stopped=stopped: started.workers[name] is not stopped, 60, "its successor")  # type: ignore[misc]
    assert started.end_of(job_id).text == before.text
    begun = started.times_begun(job_id)
    assert set(begun) == set(range(started.chunks))
    assert begun.total() - started.chunks <= PROCESSES * len(started.workers)


def test_a_row_that_hangs_becomes_a_reject_and_its_neighbours_are_scored(playing: tuple[Stage, Undisturbed]) -> None:
    started, _ = playing
    started.restart_with(SCORING_CHUNK_SECONDS="1", SCORING_STALL_SECONDS="0.5", FAULT_CHUNK_SECONDS="0")
    hanging = DEADLY.replace("import os, signal", "import os, time").replace("os.kill(os.getpid(), signal.SIGKILL)", "time.sleep(600)")
    check_bad_row(started, "hanging", hanging, chunk_rows=4)


def test_a_definition_that_kills_any_process_that_imports_it_stops_no_worker_and_is_named(playing: tuple[Stage, Undisturbed]) -> None:
    started, _ = playing
    folder = started.root / "definitions" / "aborting"
    folder.mkdir(parents=True)
    (folder / "model.py").write_text("import os\nos.abort()\n")
    started.restart_with(FAULT_CHUNK_SECONDS="0")
    assert started.end_of(started.enqueue()).state == "done"
    findings = json.loads(started.place.scoring("doctor", "--json", code=6).stdout)
    [named] = [finding for finding in findings if finding["subject"] == "definition aborting"]
    assert named["text"].startswith("it kills its process (SIGABRT) when it is imported, and is excluded on ")
    started.place.scoring("train", "aborting", "--train", started.root / "train_deadly.csv", code=4)
