"""On a real stack the champion moves to a release that is better beyond chance and to none other, and people read why."""

import json
from pathlib import Path

import pytest

from producers.sample.tables import write_tables
from tests.conftest import Place
from tests.trainings import add_definition


def notice_of(stack: Place, outcome: dict) -> str:
    [notice] = stack.webhook.sent_about(outcome["job_id"])
    return json.dumps(notice)


def champion(stack: Place) -> str:
    [release] = [found["release"] for found in stack.scoring_json("models", "list") if "champion" in found["aliases"]]
    return release


def test_a_better_release_becomes_champion_and_a_worse_one_does_not(stack: Place, tmp_path: Path) -> None:
    made = write_tables(tmp_path, 10, 1, train_rows=6000, format="csv")
    tables = ("--train", made.train.path, "--eval", made.evaluation.path)
    for name in ("tiny", "tinier"):
        add_definition(stack.root / "definitions", name)
    tiny = stack.scoring_json("train", "tiny", *tables, "--promote", "always")
    assert champion(stack) == tiny["release"]
    better = stack.scoring_json("train", "v1", *tables, "--promote", "auto")
    assert champion(stack) == better["release"]
    assert "passed the gate: it beats the champion and every naive predictor; its log-loss per click is 0." in better["facts"]["gate"]
    assert better["facts"]["gate"].endswith(f" lower) than that of the champion {tiny['release']}")
    assert better["facts"]["gate"] in notice_of(stack, better)
    assert f"means {better['release']} now" in notice_of(stack, better)
    worse = stack.scoring_json("train", "tinier", *tables, "--promote", "auto")
    assert champion(stack) == better["release"]
    assert worse["facts"]["gate"].startswith("not promoted: its log-loss per click is 0.")
    assert f" higher) than that of the champion {better['release']}" in worse["facts"]["gate"]
    assert worse["facts"]["gate"] in notice_of(stack, worse)
    said = stack.scoring("models", "compare", "v1", "tinier").stdout
    assert f"{better['release']} is better than {worse['release']}, and this is more than chance" in said


def test_on_real_keywords_boosted_trees_replace_the_linear_model_and_not_the_other_way_round(stack: Place, real_keywords: Path) -> None:
    tables = ("--train", real_keywords / "week30.csv.gz", "--eval", real_keywords / "week31.csv.gz")
    linear = stack.scoring_json("train", "v1", *tables, "--promote", "always")
    trees = stack.scoring_json("train", "v2", *tables, "--promote", "auto")
    assert champion(stack) == trees["release"]
    found = stack.scoring_json("models", "compare", trees["release"], linear["release"])
    assert found["difference"]["value"] == pytest.approx(-0.0021, abs=0.0002)
    assert found["difference"]["high"] < 0
    again = stack.scoring_json("train", "v1", *tables, "--promote", "auto")
    assert "not promoted" in again["facts"]["gate"]
    assert champion(stack) == trees["release"]
