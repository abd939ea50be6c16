"""On a real stack: no absurd result reaches a channel, a good one does, and people approve, refuse and roll back."""

import gzip
import json
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from tests.conftest import Place

PREDICTIONS = "prediction_output.csv.gz"
ROWS = 6000
HELD = 7

RATES_OF_COLUMNS = '''
"""The rates of columns, for tests: what a broken model would say."""

from pathlib import Path

from model_store import model_template


class Model(model_template.Model):
    MODEL_FILE = "model.txt"

    def _model_definition(self, config=None):
        return None

    def train(self, X, y, sample_weight=None):
        self.model = float(y.mean())
        return self.score(y, self.predict(X))

    def predict(self, X):
        low = X["att2"].to_numpy() * 0.01 + X["att3"].to_numpy() * 0.02 + 0.02
        return RATE

    def save(self, path):
        Path(path, self.MODEL_FILE).write_text(str(self.model))

    def load(self, path):
        self.model = float(Path(path).read_text())
'''
"""A definition whose rate is an expression of the columns."""
CLICKS_AT_99 = 'low + X["att1"].to_numpy() * 0.94'
"""0.96 or more where ``att1`` is 1."""


def release_of(place: Place, name: str, rate: str) -> str:
    """Returns a release of a new definition with this rate."""
    folder = place.root / "definitions" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.py").write_text(RATES_OF_COLUMNS.replace("RATE", rate))
    return place.scoring_json("train", name, "--force")["release"]


def revision_of(place: Place, outcome: dict) -> Path:
    return place.bucket / outcome["revision"]


def verdict_of(place: Place, outcome: dict) -> dict:
    return json.loads((revision_of(place, outcome) / "guard.json").read_text())


@dataclass
class Channel:
    """A channel with a good base, and the tables that are scored for it."""

    place: Place
    name: str
    frame: pd.DataFrame
    """The table of the base."""
    model: str = "v1"

    @property
    def folder(self) -> Path:
        return self.place.bucket / "data/predict/output/channels" / self.name

    @property
    def rates(self) -> bytes:
        return (self.folder / PREDICTIONS).read_bytes()

    def score(self, frame: pd.DataFrame, table: str, *more: str, code: int = 0, model: str = "") -> dict:
        """Scores a table on the channel, and returns the outcome of the job."""
        path = self.place.bucket / f"data/predict/input/{self.name}/{table}/keywords.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        frame.to_csv(path, index=False)
        relative = str(path.relative_to(self.place.bucket))
        done = self.place.scoring("score", relative, "--model", model or self.model, "--channel", self.name, "--json", *more, code=code)
        return json.loads(done.stdout)


def good_table(place: Place) -> pd.DataFrame:
    """A table whose first attributes vary, and which has clicks."""
    frame = pd.read_csv(place.sample_table, nrows=ROWS)
    return frame.copy().assign(Clicks=np.arange(len(frame)) % 40 + 1)


@pytest.fixture(scope="module")
def frame(trained: Place) -> pd.DataFrame:
    return good_table(trained)


@pytest.fixture(scope="module")
def live(trained: Place, frame: pd.DataFrame) -> Channel:
    channel = Channel(place=trained, name="live", frame=frame)
    channel.score(frame, "base")
    return channel


def important_column(place: Place, model: str = "v1") -> str:
    """The attribute whose change moves the rates of a model most."""
    columns = place.scoring_json("models", "show", model)["evaluation"]["importance"]["columns"]
    return max((name for name in columns if name.startswith("att")), key=lambda name: abs(columns[name]))


def halved(place: Place, frame: pd.DataFrame) -> pd.DataFrame:
    return frame.iloc[::2]


def all_zero(place: Place, frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(**{name: 0 for name in frame.columns if name.startswith("att")})


def partly_zero(place: Place, frame: pd.DataFrame) -> pd.DataFrame:
    """Some keywords keep their attributes, so no column is constant and no device has one rate."""
    names = [name for name in frame.columns if name.startswith("att")]
    zero = frame.copy()
    zero.loc[np.arange(len(frame)) % 3 > 0, names] = 0
    return zero


def swapped(place: Place, frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(device=frame["device"].replace({"Computer": "Tablet", "Tablet": "Computer"}))


def doubled(place: Place, frame: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([frame, frame.iloc[:300]])


@pytest.mark.parametrize("broken", [halved, all_zero, swapped, doubled])
def test_a_broken_table_is_held_and_the_channel_keeps_its_bytes(live: Channel, broken) -> None:
    before = live.rates
    outcome = live.score(broken(live.place, live.frame), broken.__name__, code=HELD)
    assert outcome["state"] == "held"
    assert live.rates == before
    revision = revision_of(live.place, outcome)
    assert {file.name for file in revision.iterdir()} >= {PREDICTIONS, "manifest.json", "guard.json", "prediction_index.arrow"}
    assert not (revision.parents[1] / "manifest.json").exists()
    verdict = json.loads((revision / "guard.json").read_text())
    assert any(check["outcome"] == "block" for check in verdict["checks"])
    held = {result["job_id"] for result in live.place.scoring_json("results", "held")}
    assert outcome["job_id"] in held
    [notice] = live.place.webhook.sent_about(outcome["job_id"])
    text = json.dumps(notice)
    assert f"scoring results approve {outcome['job_id']}" in text
    assert f"scoring results refuse {outcome['job_id']}" in text
    live.place.scoring("results", "refuse", outcome["job_id"], "--reason", "broken on purpose")
    assert outcome["job_id"] not in {result["job_id"] for result in live.place.scoring_json("results", "held")}


def test_a_held_result_has_a_picture_that_the_notice_names_and_its_lost_rows_are_listed(live: Channel, tmp_path: Path) -> None:
    half = halved(live.place, live.frame)
    lost = len(live.frame) - len(half)
    outcome = live.score(half, "pictured", code=HELD)
    job_id = outcome["job_id"]
    picture = f"{outcome['revision']}/guard.html"
    page = (live.place.bucket / picture).read_text()
    assert f"scoring results approve {job_id}" in page
    assert f"({lost:,} rows)" in page
    [notice] = live.place.webhook.sent_about(job_id)
    assert picture in json.dumps(notice)
    changed = tmp_path / "changed.csv"
    found = live.place.scoring_json("results", "diff", job_id, "--csv", changed)
    shown = json.loads((live.folder / "manifest.json").read_text())
    assert found["before"]["job_id"] == shown["job_id"]
    assert (found["rows"]["lost"], found["rows"]["new"], found["rows"]["moved_alone"]) == (lost, 0, 0)
    rows = pd.read_csv(changed)
    assert set(rows.loc[rows["what"] == "lost", "key"]) <= set(live.frame["entity_id"])
    assert (rows["what"] == "lost").sum() == lost
    said = live.place.scoring("results", "diff", job_id, "--top", "3").stdout
    assert "Lost rows, the worst first" in said
    live.place.scoring("results", "refuse", job_id, "--reason", "broken on purpose")


def test_a_good_table_of_the_next_day_is_shown(live: Channel) -> None:
    later = live.frame.copy()
    changed = later.index[:100]
    later.loc[changed, "att5"] = 1 - later.loc[changed, "att5"]
    outcome = live.score(later, "next")
    manifest = json.loads((live.folder / "manifest.json").read_text())
    assert manifest["job_id"] == outcome["job_id"]
    assert live.rates == (live.place.bucket / manifest["revision"] / PREDICTIONS).read_bytes()


def back_date_table(channel: Channel, hours: float) -> None:
    """Lets the channel have results on its table for some hours, as if its result had been made then."""
    revision = channel.place.bucket / json.loads((channel.folder / "manifest.json").read_text())["revision"]
    verdict = json.loads((revision / "guard.json").read_text())
    verdict["table_since"] = (datetime.now(UTC) - timedelta(hours=hours)).isoformat()
    (revision / "guard.json").write_text(json.dumps(verdict))


def test_yesterdays_table_again_is_held_by_the_default_limits(trained: Place, frame: pd.DataFrame) -> None:
    assert not (trained.bucket / "config/guard.yaml").exists()
    channel = Channel(place=trained, name="stale", frame=frame)
    channel.score(frame, "base")
    back_date_table(channel, 24)
    assert "guard" not in channel.score(frame, "base", "--again")["facts"]
    back_date_table(channel, 27)
    warned = channel.score(frame, "base", "--again")
    assert warned["facts"]["guard"] == "stale has had results on this same table for 27 h; the limit is 26 h"
    before = channel.rates
    back_date_table(channel, 51)
    outcome = channel.score(frame, "base", "--again", code=HELD)
    assert "stale has had results on this same table for 51 h; the limit is 50 h" in outcome["reason"]
    assert channel.rates == before


def test_a_model_whose_rates_are_ten_times_as_high_is_held(trained: Place, frame: pd.DataFrame) -> None:
    honest, tenfold = release_of(trained, "honest", "low"), release_of(trained, "tenfold", "10 * low")
    channel = Channel(place=trained, name="tenfold", frame=frame)
    channel.score(frame, "base", model=honest)
    before = channel.rates
    outcome = channel.score(frame, "base", code=HELD, model=tenfold)
    rates = [pd.read_csv(folder / PREDICTIONS)["cr"] for folder in (channel.folder, revision_of(trained, outcome))]
    assert np.allclose(rates[1], 10 * rates[0])
    assert channel.rates == before
    blocking = {check["check"] for check in verdict_of(trained, outcome)["checks"] if check["outcome"] == "block"}
    assert {"mean_cr", "p99_cr", "moved"} <= blocking


def test_three_percent_of_the_clicks_at_almost_one_are_held(trained: Place, frame: pd.DataFrame) -> None:
    channel = Channel(place=trained, name="spoiled", frame=frame, model=release_of(trained, "spoiled", CLICKS_AT_99))
    channel.score(frame.assign(att1=0), "base")
    before = channel.rates
    clicks = frame["Clicks"].to_numpy()
    few = np.cumsum(clicks) <= 0.03 * clicks.sum()
    outcome = channel.score(frame.assign(att1=few.astype(int)), "spoiled", code=HELD)
    assert outcome["state"] == "held"
    assert channel.rates == before


def test_a_constant_important_column_is_held(trained: Place, frame: pd.DataFrame) -> None:
    channel = Channel(place=trained, name="constant", frame=frame)
    column = important_column(trained)
    base = frame.assign(**{column: (np.arange(len(frame)) % 2)})
    channel.score(base, "base")
    before = channel.rates
    channel.score(base.assign(**{column: 1}), "constant", code=HELD)
    assert channel.rates == before


def test_a_constant_important_column_that_hardly_moves_rates_is_held(trained: Place, frame: pd.DataFrame) -> None:
    channel = Channel(place=trained, name="stuck", frame=frame, model="v2")
    columns = trained.scoring_json("models", "show", "v2")["evaluation"]["importance"]["columns"]
    # of the ten columns that are watched, the one whose loss moves the rates least, among those that are not nearly constant already
    watched = sorted((name for name in columns), key=lambda name: -abs(columns[name]))[:10]
    column = [name for name in watched if name.startswith("att") and 0.05 < frame[name].mean() < 0.95][-1]
    channel.score(frame, "base")
    before = channel.rates
    outcome = channel.score(frame.assign(**{column: 0}), "stuck", code=HELD)
    assert f"all {len(frame):,} rows have the value 0 in {column}" in outcome["reason"]
    assert channel.rates == before


def test_an_approved_result_is_published_at_its_place_and_on_the_channel(trained: Place, frame: pd.DataFrame) -> None:
    channel = Channel(place=trained, name="approved", frame=frame)
    channel.score(frame, "base")
    outcome = channel.score(frame.iloc[::2], "half", code=HELD)
    job_id = outcome["job_id"]
    approved = trained.scoring_json("results", "approve", job_id, "--reason", "the shop closed")
    assert approved["state"] == "done"
    assert channel.rates == (trained.bucket / approved["result"] / PREDICTIONS).read_bytes()
    assert len(gzip.decompress(channel.rates).splitlines()) == 1 + len(frame.iloc[::2])
    [newest, *_] = trained.scoring_json("results", "history", "approved")
    assert (newest["how"], newest["reason"], newest["job_id"]) == ("approved", "the shop closed", job_id)
    again = trained.scoring("results", "approve", job_id, "--reason", "me too", code=2)
    assert "was approved by" in again.stderr
    late = trained.scoring("results", "refuse", job_id, "--reason", "no", code=2)
    assert "the shop closed" in late.stderr


def test_an_approval_after_the_channel_moved_on_compares_anew(trained: Place, frame: pd.DataFrame) -> None:
    channel = Channel(place=trained, name="moved", frame=frame)
    channel.score(frame, "base")
    third = frame.iloc[::3]
    held = channel.score(third, "third", code=HELD)
    half = channel.score(frame.iloc[::2], "half", code=HELD)
    trained.scoring("results", "approve", half["job_id"], "--reason", "meant")
    done = trained.scoring("results", "approve", held["job_id"], "--reason", "meant", code=HELD)
    assert "compared once more" in done.stderr
    trained.scoring("results", "approve", held["job_id"], "--reason", "really meant")
    manifest = json.loads((channel.folder / "manifest.json").read_text())
    assert manifest["job_id"] == held["job_id"]


def test_a_rollback_pins_the_channel_until_it_is_unpinned(trained: Place, frame: pd.DataFrame) -> None:
    channel = Channel(place=trained, name="pinned", frame=frame)
    channel.score(frame, "first")
    first = channel.rates
    later = frame.assign(att5=frame["att5"].where(np.arange(len(frame)) >= 50, 1 - frame["att5"]))
    channel.score(later, "second")
    assert channel.rates != first
    trained.scoring("results", "rollback", "pinned", "--reason", "tablets are too high")
    assert channel.rates == first
    outcome = channel.score(later, "third", code=HELD)
    assert "pinned" in outcome["reason"]
    assert channel.rates == first
    trained.scoring("results", "unpin", "pinned")
    assert channel.rates == first
    channel.score(later, "fourth")
    assert channel.rates != first


def test_the_schedule_does_not_undo_a_rollback_and_goes_on_after_it(trained: Place, frame: pd.DataFrame) -> None:
    channel = Channel(place=trained, name="nightly", frame=frame)
    channel.score(frame, "first")
    first = channel.rates
    later = frame.assign(att5=frame["att5"].where(np.arange(len(frame)) >= 50, 1 - frame["att5"]))
    channel.score(later, "second")
    trained.scoring("results", "rollback", "nightly", "--reason", "tablets are too high")
    table = trained.bucket / "data/predict/input/nightly/second"
    for file in table.iterdir():
        os.utime(file, (time.time() - 3600,) * 2)  # the schedule leaves alone what was written a moment ago
    schedule = trained.bucket / "config/schedule.yaml"
    schedule.parent.mkdir(exist_ok=True)
    entry = {"name": "nightly", "cron": "0 0 * * *", "time_zone": "UTC", "model": "v1", "score": str(table.relative_to(trained.bucket))}
    schedule.write_text(yaml.safe_dump([entry]))
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    try:
        held = trained.scoring("schedule", "run", "nightly", "--date", today, code=HELD)
        assert "nightly is pinned to the result of job" in held.stderr
        assert channel.rates == first
        trained.scoring("results", "unpin", "nightly")
        trained.scoring("schedule", "run", "nightly", "--date", today, "--again")
    finally:
        schedule.write_text("[]\n")  # a file that is gone would be a fault
    assert channel.rates != first


def test_a_new_champion_is_shown_on_a_good_table_and_held_on_a_broken_one(trained: Place, frame: pd.DataFrame) -> None:
    channel = Channel(place=trained, name="champion", frame=frame)
    # other tests of this stack train, too
    table = next((trained.bucket / "data/train").glob("*/*/*/train.csv.gz")).relative_to(trained.bucket)
    tables = ["--train", table, "--eval", table.with_name("eval.csv.gz")]
    old, new = (trained.scoring_json("train", name, *tables, "--again")["release"] for name in ("v1", "v2"))
    channel.score(frame, "base", model=old)
    outcome = channel.score(frame, "new", model=new)
    assert outcome["state"] == "done"
    assert json.loads((channel.folder / "manifest.json").read_text())["release"] == new
    before = channel.rates
    held = channel.score(partly_zero(trained, frame), "zero", code=HELD, model=old)
    assert channel.rates == before
    # no column and no rate is constant: only the comparison with the translated rates of the base holds it
    verdict = verdict_of(trained, held)
    assert verdict["release_difference"]["is_excused"]
    blocking = [check for check in verdict["checks"] if check["outcome"] == "block"]
    assert "psi_cr" in {check["check"] for check in blocking} <= {"mean_cr", "p99_cr", "moved", "psi_cr"}
    assert all(check["value"] > check["block"] and check["model_value"] < check["model_limit"] for check in blocking)


def test_the_guard_can_be_switched_off_with_a_reason(trained: Place, frame: pd.DataFrame) -> None:
    channel = Channel(place=trained, name="unguarded", frame=frame)
    channel.score(frame, "base")
    refused = trained.scoring("score", "nothing.csv", "--channel", "unguarded", "--guard", "off", code=2)
    assert "--guard off needs a reason" in refused.stderr
    outcome = channel.score(frame.iloc[::4], "quarter", "--guard", "off", "--reason", "a new shop")
    manifest = json.loads((channel.folder / "manifest.json").read_text())
    assert (manifest["job_id"], manifest["guard_off"]) == (outcome["job_id"], "a new shop")
    assert "a new shop" in json.dumps(trained.webhook.sent_about(outcome["job_id"]))


@pytest.mark.parametrize("name", ["../live", "a/b", "", "1st", "x" * 65])
def test_a_channel_that_is_a_path_is_refused(trained: Place, frame: pd.DataFrame, name: str) -> None:
    table = str(trained.sample_table.relative_to(trained.bucket))
    refused = trained.scoring("score", table, "--model", "v1", "--channel", name, code=2)
    assert "--channel must be a name" in refused.stderr
