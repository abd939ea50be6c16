"""On a real stack: any worker explains a rate, and neither a hostile question nor a deadly definition harms the workers."""

import json

import numpy as np
import pandas as pd
import pytest
import redis

from producers.explaining.asking import ask
from shared.guard.explanation import Question
from shared.queue import questions
from shared.queue.broker import make_app, send_question
from shared.queue.routes import QUEUE_CONTROL
from shared.queue.state.crashing_releases import KEY as CRASHING
from shared.settings import Settings
from tests.conftest import Place, wait_until
from tests.integration.test_hostile_messages import Queue

ROWS = 600

DEADLY = '''
"""A rate of one column; it ends its process when it is asked for contributions."""

import os
from pathlib import Path

import numpy as np

from model_store import model_template


class Model(model_template.Model):
    MODEL_FILE = "model.txt"

    def _model_definition(self, config=None):
        return None

    def train(self, X, y, sample_weight=None):
        self.model = float(y.mean())
        return self.score(y, self.predict(X))

    def predict(self, X):
        return self.model + 0.001 * X["att1"].to_numpy(np.float64)

    def contributions(self, X):
        os._exit(7)

    def save(self, path):
        Path(path, self.MODEL_FILE).write_text(str(self.model))

    def load(self, path):
        self.model = float(Path(path).read_text())
'''


class Pair:
    """A channel that shows a second result; in its table all attributes of the first row are turned round."""

    def __init__(self, place: Place, model: str) -> None:
        self.place, self.channel = place, f"why-{model}"
        # other tests of this stack train, too
        table = next((place.bucket / "data/train").glob("*/*/*/train.csv.gz")).relative_to(place.bucket)
        tables = ["--train", table, "--eval", table.with_name("eval.csv.gz")]
        release = place.scoring_json("train", model, *tables, "--again", "--force")["release"]
        frame = pd.read_csv(place.sample_table, nrows=ROWS).copy()
        frame = frame.assign(Clicks=np.arange(ROWS) % 40 + 1)
        self.release = release
        self.first = self._score(frame, release, "first")
        names = [name for name in frame.columns if name.startswith("att") and name[3:].isdigit()]
        changed = frame.copy()
        changed.loc[0, names] = 1 - changed.loc[0, names]
        self.key = str(frame["entity_id"][0]), str(frame["device"][0])
        self.second = self._score(changed, release, "second")

    def _score(self, frame: pd.DataFrame, model: str, table: str) -> str:
        path = self.place.bucket / f"data/predict/input/{self.channel}/{table}/keywords.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        frame.to_csv(path, index=False)
        relative = str(path.relative_to(self.place.bucket))
        more = ("--channel", self.channel, "--guard", "off", "--reason", "one row changes on purpose", "--json")
        return json.loads(self.place.scoring("score", relative, "--model", model, *more).stdout)["job_id"]

    def why(self, *more: str) -> dict:
        return self.place.scoring_json("why", *self.key, "--in", self.channel, *more)


def assert_adds_up(found: dict) -> None:
    split = found["split"]
    assert split is not None, found["why_not"]
    assert split["model"] + split["history"] + split["row"] == pytest.approx(found["change"], abs=1e-9)
    of_row = sum(column["change"] for column in split["columns"]) + sum(split["rests"].values())
    assert of_row == pytest.approx(split["row"], abs=1e-9)


def rate_in(place: Place, result: str, key: tuple[str, str]) -> float:
    [row] = [row for row in place.scoring_json("results", "head", result, "-n", str(ROWS)) if (str(row["entity_id"])) == key[0]][:1]
    return row["cr"]


@pytest.fixture(scope="module")
def settings(trained: Place) -> Settings:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in trained.environment.items():
            patch.setenv(name, value)
        return Settings()


@pytest.fixture(scope="module")
def linear(trained: Place) -> Pair:
    return Pair(trained, "v1")


@pytest.fixture(scope="module")
def trees(trained: Place) -> Pair:
    return Pair(trained, "v2")


@pytest.mark.parametrize("name", ["linear", "trees"])
def test_a_change_on_a_channel_is_split_exactly(trained: Place, name: str, request: pytest.FixtureRequest) -> None:
    pair = request.getfixturevalue(name)
    found = pair.why()
    assert (found["now"]["job_id"], found["before"]["job_id"]) == (pair.second, pair.first)
    assert (found["now"]["line"], found["now"]["chunk"], found["now"]["clicks"]) == (2, 0, 1)
    assert found["now"]["rate"] == rate_in(trained, pair.second, pair.key)
    assert found["change"] != 0
    assert found["split"]["model"] == 0
    assert_adds_up(found)
    back = pair.why("--against", pair.first)
    assert trained.scoring_json("why", *pair.key, "--in", pair.first, "--against", pair.channel)["before"]["job_id"] == pair.second
    assert back["split"] == found["split"]
    [text] = [trained.scoring("why", *pair.key, "--in", pair.second).stdout]
    assert repr(found["now"]["rate"]) in text
    assert "The parts add up to the change." in text


def test_a_worker_without_definitions_answers_in_a_process_of_its_own(trained: Place, linear: Pair, settings: Settings) -> None:
    question = Question(job_id=linear.second, against=linear.first, keys=list(linear.key))
    client = redis.Redis(port=int(trained.environment["SCORING_REDIS_PORT"]))
    send_question(make_app(settings), QUEUE_CONTROL, question)
    answer = wait_until(lambda: questions.read_answer(client, question), 60, "the answer of a control worker")
    assert answer.explanation.encode() == ask(settings, question.model_copy(update={"token": "0" * 16})).encode()


def test_a_definition_that_kills_its_process_costs_one_process_and_says_so(trained: Place) -> None:
    folder = trained.root / "definitions" / "deadly"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.py").write_text(DEADLY)
    client = redis.Redis(port=int(trained.environment["SCORING_REDIS_PORT"]))
    try:
        pair = Pair(trained, "deadly")
        for _ in range(2):
            refused = trained.scoring("why", *pair.key, "--in", pair.channel, code=4)
            assert f"the release {pair.release} killed the process that explained a rate" in refused.stderr
            assert "scoring models check deadly" in refused.stderr
        assert pair.release in [name.decode() for name in client.hkeys(CRASHING)]
    finally:
        client.delete(CRASHING)
        (folder / "model.py").unlink()
        folder.rmdir()


def test_hostile_questions_are_refused_with_a_line_in_the_log(trained: Place) -> None:
    queue = Queue(trained)
    good = Question(job_id="20261123t101500z-score-9bfad3", against=None, keys=["1", "1"]).encode()
    for wrong in (
        {"token": "../../etc"},
        {"job_id": "../../etc/passwd"},
        {"against": "/etc"},
        {"keys": []},
        {"keys": ["1"] * 1000},
        {"keys": ["x" * 5000]},
        {"keys": [1, 2]},
        {"run": "os.system"},
    ):
        for name in ("score", "control"):
            queue.send("explain", good | wrong, queue=name)
    for message in (None, [], "text", 5):
        queue.send("explain", message, queue="score")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("1", "1", "--in", "20261123t101500z-score-nothing"), 2, "there is no result, job or channel 20261123t101500z-score-nothing"),
        (("1", "Watch"), 2, "'Watch' is not a device"),
        (("shoes", "1"), 2, "'shoes' is not the id of a keyword"),
        (("1",), 2, "are named by entity_id, device, and 1 value came"),
        (("1", "1", "--against", "../../etc"), 2, "not"),
    ],
)
def test_a_question_that_cannot_be_is_refused_in_one_sentence(trained: Place, arguments, code: int, says: str) -> None:
    table = str(trained.sample_table.relative_to(trained.bucket))
    job_id = trained.scoring_json("score", table, "--model", "v1")["job_id"]
    more = () if "--in" in arguments else ("--in", job_id)
    refused = trained.scoring("why", *arguments, *more, code=code)
    assert says in refused.stderr
    assert refused.stderr.startswith("Error: ")


def test_a_row_that_is_in_no_table_is_an_answer_and_an_error(trained: Place) -> None:
    table = str(trained.sample_table.relative_to(trained.bucket))
    job_id = trained.scoring_json("score", table, "--model", "v1")["job_id"]
    found = json.loads(trained.scoring("why", "999999999", "Tablet", "--in", job_id, "--json", code=2).stdout)
    assert (found["now"]["state"], found["now"]["rate"]) == ("not in the table", None)
    said = trained.scoring("why", "999999999", "Tablet", "--in", job_id, code=2)
    assert "none: not in the table" in said.stdout
    assert f"Error: there is no row with entity_id 999999999, device Tablet in the table of job {job_id}" in said.stderr


def test_a_held_result_is_compared_with_what_the_channel_shows(trained: Place, linear: Pair) -> None:
    pair = linear
    frame = pd.read_csv(trained.bucket / f"data/predict/input/{pair.channel}/first/keywords.csv").iloc[::2]
    path = trained.bucket / f"data/predict/input/{pair.channel}/half/keywords.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(path, index=False)
    relative = str(path.relative_to(trained.bucket))
    outcome = json.loads(trained.scoring("score", relative, "--model", "v1", "--channel", pair.channel, "--json", code=7).stdout)
    try:
        found = trained.scoring_json("why", *pair.key, "--in", outcome["job_id"])
        assert found["now"]["is_held"]
        assert found["before"]["job_id"] == pair.second
        assert_adds_up(found)
        assert outcome["job_id"] in trained.scoring("why", *pair.key, "--in", pair.channel).stderr
    finally:
        trained.scoring("results", "refuse", outcome["job_id"], "--reason", "made for a test")
