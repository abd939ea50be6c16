"""Definitions in a mounted folder, older ones among them, run on a real stack with no other change; one started without it says so."""

import csv
import gzip
import io
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from model_store import model_template
from tests.conftest import READY_PROGRAMS, REPOSITORY, Place, make_place, stop
from tests.definitions import BOOSTED, LINEAR, OWN_KEYS, drop_in
from tests.integration.test_main_job import result_text

pytestmark = [pytest.mark.slow, pytest.mark.server]

ATTRIBUTES = [f"att{number}" for number in (5, 27, 2, 34, 29, 30, 9, 7, 142, 11)]
OLDER = {"old_linear": LINEAR, "old_boosted": BOOSTED}


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A stack with a folder of definitions that nothing else speaks of; what is in it came before the start."""
    place = make_place(tmp_path_factory.mktemp("mounted"))
    definitions = place.root / "definitions"
    for name, source in OLDER.items():
        drop_in(definitions, name, source, template=True)
    running = place.start()
    yield place
    if running.poll() is None:
        stop(running)
    place.webhook.close()


@pytest.fixture(scope="module")
def prepared(mounted: Place) -> tuple[Path, Path, Path]:
    """Tables for training, judging and scoring in the layout that the older service prepared."""
    mounted.scoring("sample", "--rows", "3000", "--train-rows", "4000")
    day = mounted.sample_table.parent.relative_to(mounted.bucket / "data/predict/input")
    folder = mounted.root / "features_v1"
    folder.mkdir()
    paths = []
    for name, raw in (
        ("train", mounted.bucket / "data/train" / day / "train.csv.gz"),
        ("eval", mounted.bucket / "data/train" / day / "eval.csv.gz"),
        ("prediction_input", mounted.sample_table),
    ):
        frame = pd.read_csv(raw)
        columns = {"cr": frame["Conversions"].clip(upper=frame["Clicks"]) / frame["Clicks"]} if "Clicks" in frame else {}
        columns |= {"entity_id": frame["entity_id"], "computer": (frame["device"] == "Computer") * 1}
        columns |= {"smartphone": (frame["device"] == "Smartphone") * 1, "attrs_scale": frame[ATTRIBUTES].mean(axis=1)}
        paths.append(folder / f"{name}.csv.gz")
        pd.DataFrame(columns | {name: frame[name] for name in ATTRIBUTES}).to_csv(paths[-1], index=False)
    return paths[0], paths[1], paths[2]


@pytest.mark.parametrize("name", OLDER)
def test_an_older_definition_trains_scores_and_is_listed(mounted: Place, prepared: tuple[Path, Path, Path], name: str) -> None:
    train, judge, table = prepared
    trained = mounted.scoring_json("train", name, "--train", train, "--eval", judge)
    shown = mounted.scoring_json("models", "show", name)
    assert "model.pkl" in shown["files"]
    assert [column["name"] for column in shown["columns"]] == ["computer", "smartphone", "attrs_scale", *ATTRIBUTES]
    assert shown["metrics"]["eval"][name]["log_loss_per_click"] < shown["metrics"]["eval"]["always zero"]["log_loss_per_click"]
    outcome = mounted.scoring_json("score", table, "--model", name, "--chunk-rows", "700")
    assert outcome["release"] == trained["release"]
    given, rates = pd.read_csv(table), pd.read_csv(io.BytesIO(result_text(mounted, outcome)))
    assert rates.columns.tolist() == ["entity_id", "device", "cr"]
    assert rates["entity_id"].tolist() == given["entity_id"].tolist()
    assert rates["device"].tolist() == (2 - 2 * given["computer"] - given["smartphone"]).tolist()
    assert rates["cr"].between(0, 1).all()
    assert rates["cr"].nunique() > 10
    assert any(release["definition"] == name for release in mounted.scoring_json("models", "list"))


def test_the_real_prepared_tables_train_and_score_with_an_older_definition(mounted: Place, real_keywords: Path) -> None:
    folder = real_keywords / "features_v1"
    mounted.scoring("train", "old_linear", "--train", folder / "train.csv.gz", "--eval", folder / "eval.csv.gz")
    mse = mounted.scoring_json("models", "show", "old_linear")["metrics"]["eval"]["old_linear"]["mse"]
    train, judge = (pd.read_csv(folder / f"{name}.csv.gz") for name in ("train", "eval"))
    away = ["cr", "entity_id"]
    rates = LinearRegression().fit(train.drop(columns=away), train["cr"]).predict(judge.drop(columns=away))
    assert mse == pytest.approx(((rates.clip(0, 1) - judge["cr"]) ** 2).mean(), rel=1e-9)
    outcome = mounted.scoring_json("score", folder / "prediction_input.csv.gz", "--model", "old_linear", "--chunk-rows", "5000")
    assert len(result_text(mounted, outcome).splitlines()) == 1 + len(pd.read_csv(folder / "prediction_input.csv.gz"))


def test_a_definition_with_keys_and_text_of_its_own_may_come_while_the_workers_run(mounted: Place, tmp_path: Path) -> None:
    drop_in(mounted.root / "definitions", "text", OWN_KEYS)
    keywords = [(f"red, shoes {number}", ("broad", "exact")[number % 2], number / 7) for number in range(200)]
    frame = pd.DataFrame(keywords, columns=["keyword", "match_type", "price"])
    frame.to_csv(tmp_path / "table.csv", index=False)
    frame.assign(Clicks=5, Conversions=frame.index % 3).to_csv(tmp_path / "train.csv", index=False)
    mounted.scoring("train", "text", "--train", tmp_path / "train.csv")
    outcome = mounted.scoring_json("score", tmp_path / "table.csv", "--model", "text", "--chunk-rows", "30")
    text = result_text(mounted, outcome).decode()
    header, *rows = csv.reader(io.StringIO(text, newline=""))
    assert header == ["keyword", "match_type", "cr"]
    assert [tuple(row[:2]) for row in rows] == [keyword[:2] for keyword in keywords]
    assert outcome["facts"]["mean cr, all"]
    [first] = mounted.scoring_json("results", "head", outcome["job_id"], "-n", "1")
    assert (first["keyword"], first["match_type"], type(first["cr"])) == ("red, shoes 0", "broad", float)
    bounded = mounted.scoring_json("score", tmp_path / "table.csv", "--model", "text", "--interval")
    lines = result_text(mounted, bounded).decode().splitlines()
    assert lines[0] == "keyword,match_type,cr,cr_low,cr_high"
    assert [line.rsplit(",", 2)[0] for line in lines] == text.splitlines()
    assert mounted.scoring_json("results", "show", bounded["job_id"])["interval"]


def test_an_interval_of_a_release_that_gives_none_is_refused_before_anything_is_written(
    mounted: Place, prepared: tuple[Path, Path, Path]
) -> None:
    mounted.scoring("train", "old_linear", "--train", prepared[0])
    before = sorted((mounted.bucket / "jobs").iterdir())
    refused = mounted.scoring("score", prepared[2], "--model", "old_linear", "--interval", code=4)
    assert "gives no interval: its definition has no predict_interval" in refused.stderr
    assert "Leave out --interval" in refused.stderr
    assert sorted((mounted.bucket / "jobs").iterdir()) == before


@pytest.mark.usefixtures("prepared")
def test_a_new_skeleton_is_checked_trained_scored_and_tested_as_it_stands(mounted: Place) -> None:
    folder = mounted.root / "definitions"
    said = mounted.scoring("models", "new", "v4").stdout
    assert sorted(file.name for file in (folder / "v4").iterdir()) == ["__init__.py", "install_dependencies.sh", "model.py"]
    assert f"pytest {folder}/tests/test_v4.py" in said
    again = mounted.scoring("models", "new", "v4", code=2)
    assert f"{folder}/v4 is there already" in again.stderr
    assert "v4 keeps all its promises" in mounted.scoring("models", "check", "v4").stdout
    mounted.scoring("train", "v4", "--alias", "skeleton")
    shown = mounted.scoring_json("models", "show", "skeleton")["metrics"]["eval"]
    assert shown["v4"]["log_loss_per_click"] < shown["mean of all"]["log_loss_per_click"]
    outcome = mounted.scoring_json("score", mounted.sample_table.parent.relative_to(mounted.bucket), "--model", "skeleton")
    assert outcome["facts"]["scored"] == "3,000"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder / "tests/test_v4.py")]
    tested = READY_PROGRAMS.run(command, env=mounted.environment, capture_output=True)
    assert tested.returncode == 0, tested.stdout
    assert "passed" in tested.stdout
    assert "failed" not in tested.stdout


def test_workers_that_were_started_without_the_folder_name_the_variable(mounted: Place, prepared: tuple[Path, Path, Path]) -> None:
    mounted.scoring("train", "old_linear", "--train", prepared[0])
    other = make_place(mounted.root / "other", BUCKET_URL=str(mounted.bucket))
    del other.environment["SCORING_DEFINITIONS"]
    running = other.start()
    try:
        scored = other.scoring("score", prepared[2], "--model", "old_linear", "--again", code=4)
        trained = other.scoring("train", "old_boosted", "--train", prepared[0], "--again", code=4)
    finally:
        stop(running)
        other.webhook.close()
    for refused in (scored, trained):
        assert "there is no definition 'old_" in refused.stderr
        assert "(SCORING_DEFINITIONS is not set there)" in refused.stderr
        assert "name the folder above it in SCORING_DEFINITIONS and restart the workers" in refused.stderr
    assert "was trained where its definition is known" in scored.stderr


def test_an_older_definition_finds_the_template_of_the_repository_above_it(
    mounted: Place, prepared: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    """As when the folder is put next to v1 and v2: here into a copy of the repository's packages."""
    for package in ("model_store", "producers", "workers", "shared"):
        shutil.copytree(REPOSITORY / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    drop_in(tmp_path / "model_store", "old", LINEAR)
    assert (tmp_path / "model_store/model_template.py").read_bytes() == Path(model_template.__file__).read_bytes()
    code = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from model_store.definitions import list_definitions, load_definition
from model_store.library import ModelLibrary
from shared.bucket.local import LocalBucket
from shared.jobs.folder import JobFolder
from shared.jobs.messages import ScoreJob, TrainJob
from workers.scoring import planning, publishing, chunk
from workers.training import releasing
from workers.scoring.plan import read_plan
bucket, now = LocalBucket(Path("bucket").absolute()), datetime(2026, 11, 23, tzinfo=UTC)
library = ModelLibrary(bucket, Path("no-cache"))
for name in ("train", "table"):
    bucket.upload(Path(sys.argv[1 + (name == "table")]), f"data/{name}.csv.gz")
fit, score = (JobFolder(bucket, f"20261123t000000000z-{kind}-1") for kind in ("train", "score"))
fit.create(TrainJob(job_id=fit.job_id, created=now, definition="old", train="data/train.csv.gz"))
print(releasing.train_release(fit, library).state, "old" in list_definitions(), load_definition("old").model_class.__module__)
score.create(ScoreJob(job_id=score.job_id, created=now, model="old", table="data/table.csv.gz", place="2026/11/23"))
plan = planning.plan_job(score)
for index in range(len(plan.chunks)):
    chunk.score_chunk(score, plan.chunk(index), library)
print(publishing.finish_job(score).state)
"""
    command = [sys.executable, "-c", code, str(prepared[0]), str(prepared[2])]
    done = subprocess.run(
        command, cwd=tmp_path, env=mounted.environment | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["done", "True", "model_store.old.model", "done"], done.stderr
    [result] = (tmp_path / "bucket/data/predict/output/old/2026/11/23").glob("prediction_output.csv.gz")
    assert len(gzip.decompress(result.read_bytes()).splitlines()) == 3001
