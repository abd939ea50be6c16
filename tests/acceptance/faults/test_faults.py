"""The short form: a fault of each sort, and a row that kills its worker. The long form is ``python -m tests.acceptance.faults``."""

import gzip
import json
import random
from collections.abc import Iterator

import pandas as pd
import pytest

from tests.acceptance.faults.__main__ import play
from tests.acceptance.faults.stage import Stage, stage
from tests.conftest import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(400)]

SHORT = [
    "plan, after its file: kill the process",
    "chunk, half its part written: kill the worker",
    "finish, after the outcome: kill the worker",
    "notify, before the webhook: kill the process",
    "server killed, data lost",
    "network cut",
    "disk full",
    "every waiting message twice",
]

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
def playing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stage, bytes]]:
    with stage(tmp_path_factory.mktemp("faults")) as started:
        _, expected = started.prepare()
        yield started, expected


@pytest.mark.parametrize("kind", SHORT)
def test_a_fault_changes_nothing_but_the_time(playing: tuple[Stage, bytes], kind: str) -> None:
    started, expected = playing
    run = play(started, kind, expected, random.Random(kind))
    assert run.identical, run.ending.state
    assert run.ending.notices == 1
    assert run.leftovers == []


def test_a_row_that_kills_its_worker_becomes_a_reject_and_its_neighbours_are_scored(playing: tuple[Stage, bytes]) -> None:
    started, _ = playing
    definition = started.root / "definitions" / "deadly"
    definition.mkdir(parents=True)
    (definition / "model.py").write_text(DEADLY)
    generator = random.Random(1)
    rows = [{"entity_id": number, "att1": number % 2, "att2": 0, "device": generator.choice([0, 1, 2])} for number in range(60)]
    train = started.root / "train_deadly.csv"
    pd.DataFrame([row | {"Clicks": 3, "Conversions": number % 2} for number, row in enumerate(rows)]).to_csv(train, index=False)
    started.place.scoring("train", "deadly", "--train", train)
    rows[41] |= {"att1": 1, "att2": 1}
    table = started.root / "deadly.csv"
    pd.DataFrame(rows).to_csv(table, index=False)
    command = ["score", table, "--model", "deadly", "--chunk-rows", "20", "--max-reject-share", "0.1", "--no-wait", "--json"]
    job_id = json.loads(started.place.scoring(*command).stdout)["job_id"]
    ending = started.end_of(job_id)
    assert ending.state == "done"
    assert [int(line.split(b",")[0]) for line in ending.text.splitlines()[1:]] == [number for number in range(60) if number != 41]
    outcome = json.loads((started.place.bucket / "jobs" / job_id / "outcome.json").read_text())
    rejects = gzip.decompress((started.place.bucket / outcome["result"] / "rejects.csv.gz").read_bytes()).decode().splitlines()
    assert len(rejects) == 2
    assert ",43,," in rejects[1]
    assert rejects[1].endswith("scoring this row killed the worker process")
    wait_until(started.is_consuming, 60, "the workers' return")
