"""The main job on a real stack: train, score, read the result."""

import gzip
import hashlib
import json
import re
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import Place, wait_until


def result_text(place: Place, outcome: dict) -> bytes:
    return gzip.decompress((place.bucket / outcome["result"] / "prediction_output.csv.gz").read_bytes())


def test_output_is_as_contracted_one_row_each_in_input_order(trained: Place) -> None:
    table = trained.sample_table
    outcome = trained.scoring_json("score", table.parent.relative_to(trained.bucket), "--model", "v1")
    lines = result_text(trained, outcome).decode().splitlines()
    assert lines[0] == "entity_id,device,cr"
    codes = {"Computer": "0", "Smartphone": "1", "Tablet": "2"}
    given = pd.read_csv(table, usecols=["entity_id", "device"], dtype=str)
    expected = [f"{entity},{codes[device]}" for entity, device in zip(given["entity_id"], given["device"], strict=True)]
    assert [line.rpartition(",")[0] for line in lines[1:]] == expected
    rates = [line.rpartition(",")[2] for line in lines[1:]]
    assert all(0 <= float(rate) <= 1 and float(rate) == float(repr(float(rate))) for rate in rates)
    assert outcome["result"].endswith("/".join(table.parent.parts[-3:]))


def test_manifest_vouches_for_the_result(trained: Place) -> None:
    table = trained.sample_table
    outcome = trained.scoring_json("score", table.parent.relative_to(trained.bucket), "--model", "v2")
    folder = trained.bucket / outcome["result"]
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["job_id"] == outcome["job_id"]
    assert manifest["release"] == outcome["release"]
    assert manifest["text_sha256"] == hashlib.sha256(result_text(trained, outcome)).hexdigest()
    assert manifest["output"]["sha256"] == hashlib.sha256((folder / "prediction_output.csv.gz").read_bytes()).hexdigest()
    relative = str(table.relative_to(trained.bucket))
    assert manifest["table"]["files"][relative]["sha256"] == hashlib.sha256(table.read_bytes()).hexdigest()
    rates = pd.read_csv(folder / "prediction_output.csv.gz")
    assert (manifest["rows_in"], manifest["rows_scored"], manifest["rows_rejected"]) == (20000, 20000, 0)
    for code, name in enumerate(("Computer", "Smartphone", "Tablet")):
        of_device = rates.loc[rates["device"] == code, "cr"]
        assert manifest["devices"][name]["rows"] == len(of_device)
        assert manifest["devices"][name]["mean_cr"] == pytest.approx(of_device.mean())
    release = json.loads((trained.bucket / "model" / "v2" / outcome["release"] / "manifest.json").read_text())
    assert manifest["release_files"] == release["files"]


@pytest.fixture(scope="module")
def reference(trained: Place, tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, bytes]:
    """A small table, and the text of its result."""
    frame = pd.read_csv(trained.sample_table).head(3000)
    plain = tmp_path_factory.mktemp("reference") / "reference.csv"
    frame.to_csv(plain, index=False)
    return frame, result_text(trained, trained.scoring_json("score", plain, "--model", "v2"))


@pytest.mark.parametrize("form", ["csv.gz", "parquet", "folder", "codes", "flags", "many small chunks"])
def test_text_is_the_same_for_every_form_of_the_table(
    trained: Place, reference: tuple[pd.DataFrame, bytes], tmp_path: Path, form: str
) -> None:
    frame, expected = reference
    more: list[str] = []
    table = tmp_path / f"table_{form.replace('.', '_').replace(' ', '_')}.csv"
    codes = frame["device"].map({"Computer": 0, "Smartphone": 1, "Tablet": 2})
    if form == "csv.gz":
        table = table.with_suffix(".csv.gz")
        frame.to_csv(table, index=False)
    elif form == "parquet":
        table = table.with_suffix(".parquet")
        pq.write_table(pa.Table.from_pandas(frame), table, row_group_size=700)
    elif form == "folder":
        table = tmp_path / "folder_of_files"
        table.mkdir()
        frame[:1000].to_csv(table / "a.csv", index=False)
        frame[1000:1001].to_csv(table / "b.csv.gz", index=False)
        frame[1001:][list(reversed(frame.columns))].to_parquet(table / "c.parquet")
    elif form == "codes":
        frame.assign(device=codes).to_csv(table, index=False)
    elif form == "flags":
        frame.drop(columns="device").assign(computer=(codes == 0) * 1, smartphone=(codes == 1) * 1).to_csv(table, index=False)
    else:
        frame.to_csv(table, index=False)
        more = ["--chunk-rows", "19"]
    outcome = trained.scoring_json("score", table, "--model", "v2", *more)
    assert result_text(trained, outcome) == expected


def test_bad_rows_become_rejects_and_their_neighbours_are_scored(
    trained: Place, reference: tuple[pd.DataFrame, bytes], tmp_path: Path
) -> None:
    frame, expected = reference
    table = tmp_path / "with_bad_rows.csv"
    lines = frame.to_csv(index=False).splitlines()
    spoiled = lines.copy()
    spoiled[10] = spoiled[10].replace(",0,", ",x,", 1)
    spoiled[500] = spoiled[500] + ",1"
    spoiled[2999] = spoiled[2999].rpartition(",")[0] + ",Watch"
    table.write_text("\n".join(spoiled) + "\n")
    outcome = trained.scoring_json("score", table, "--model", "v2")
    wanted = [line for number, line in enumerate(expected.decode().splitlines()) if number not in (10, 500, 2999)]
    assert result_text(trained, outcome).decode().splitlines() == wanted
    rejects = pd.read_csv(trained.bucket / outcome["result"] / "rejects.csv.gz", keep_default_na=False)
    assert rejects["line"].tolist() == [11, 501, 3000]
    assert rejects["value"].tolist()[0] == "x"
    assert rejects["column"].tolist() == [lines[0].split(",")[spoiled[10].split(",").index("x")], "", "device"]
    assert (outcome["facts"]["scored"], outcome["facts"]["rejected"]) == ("2,997", "3")


def test_too_many_rejects_fail_the_job_with_the_first_quoted(trained: Place, tmp_path: Path) -> None:
    frame = pd.read_csv(trained.sample_table).head(100)
    table = tmp_path / "mostly_bad.csv"
    frame.assign(device="Watch").to_csv(table, index=False)
    failed = trained.scoring("score", table, "--model", "v1", code=3)
    assert re.search(r"none of the 100 rows .* line 2, column device: 'Watch' is not one of", failed.stderr)
    job_id = re.search(r"Job (\S+)", failed.stderr)[1]
    assert not list((trained.bucket / "data/predict/output").rglob(f"revisions/{job_id}"))
    trained.webhook.sent_about(job_id)


def test_same_request_twice_is_one_job(trained: Place, tmp_path: Path) -> None:
    table = tmp_path / "twice.csv"
    pd.read_csv(trained.sample_table).head(50).to_csv(table, index=False)
    first = trained.scoring_json("score", table, "--model", "v1", "--no-wait")
    second = trained.scoring_json("score", table, "--model", "v1", "--no-wait")
    again = trained.scoring_json("score", table, "--model", "v1")
    assert first["job_id"] == second["job_id"] == again["job_id"]
    assert (first["fresh"], second["fresh"]) == (True, False)
    repeated = trained.scoring_json("score", table, "--model", "v1", "--again")
    assert repeated["job_id"] != first["job_id"]
    assert repeated["facts"]["scored"] == again["facts"]["scored"]


def test_each_job_brings_one_notice_with_the_facts(trained: Place, tmp_path: Path) -> None:
    table = tmp_path / "noticed.csv"
    pd.read_csv(trained.sample_table).head(50).to_csv(table, index=False)
    outcome = trained.scoring_json("score", table, "--model", "v1")
    [notice] = trained.webhook.sent_about(outcome["job_id"])
    facts = {field["title"]: field["value"] for field in notice["attachments"][0]["fields"]}
    assert notice["text"].startswith("done: score ")
    assert facts["release"] == outcome["release"]
    assert facts["path"] == outcome["result"]
    assert facts["scored"] == "50"
    assert notice["attachments"][0]["footer"].startswith("Look at it with: scoring results head")
    assert notice["attachments"][0]["color"] == "#2eb67d"
    job = trained.bucket / "jobs" / outcome["job_id"]
    wait_until(lambda: (job / "notified.json").exists() and not (trained.bucket / "jobs/_open" / outcome["job_id"]).exists())
    assert len(trained.webhook.sent_about(outcome["job_id"])) == 1


def test_newer_result_takes_the_place_and_the_older_is_kept(trained: Place, tmp_path: Path) -> None:
    table = tmp_path / "replaced.csv"
    frame = pd.read_csv(trained.sample_table).head(20)
    frame.to_csv(table, index=False)
    first = trained.scoring_json("score", table, "--model", "v1")
    frame.head(10).to_csv(table, index=False)
    second = trained.scoring_json("score", table, "--model", "v1")
    assert first["result"] == second["result"]
    assert len(result_text(trained, second).splitlines()) == 11
    assert len(trained.scoring("results", "head", first["job_id"], "-n", "100").stdout.splitlines()) == 21
    assert trained.scoring_json("results", "show", second["result"])["job_id"] == second["job_id"]


def test_alias_moves_with_training_and_release_can_be_named(trained: Place) -> None:
    outcome = trained.scoring_json("train", "v1", "--alias", "champion", "--again")
    table = trained.sample_table.parent.relative_to(trained.bucket)
    by_alias = trained.scoring_json("score", table, "--model", "champion")
    assert by_alias["release"] == outcome["release"]
    older = next(release["release"] for release in trained.scoring_json("models", "list") if release["definition"] == "v2")
    assert trained.scoring_json("score", table, "--model", older, "--again")["release"] == older
    assert "champion" in trained.scoring_json("models", "show", "champion")["aliases"]


def test_training_reports_itself_beside_the_naive_predictors(trained: Place) -> None:
    manifest = trained.scoring_json("models", "show", "v2")
    for table in ("train", "eval"):
        # on the evaluation table other releases are judged too, on the same rows
        of_itself = {name for name in manifest["metrics"][table] if "@" not in name}
        assert of_itself == {"v2", "always zero", "mean of all", "mean of the device", "mean of the keyword"}
        assert set(manifest["metrics"][table]["v2"]) >= {"mse", "mae", "mae_by_click", "log_loss_per_click", "calibration_error"}
    assert manifest["metrics"]["eval"]["v2"]["log_loss_per_click"] < manifest["metrics"]["eval"]["mean of all"]["log_loss_per_click"]
    assert set(manifest["tables"]) == {"train", "eval"}
    assert {"numpy", "lightgbm", "scikit-learn"} <= set(manifest["libraries"])


def test_cancelled_job_publishes_nothing_and_resumes(trained: Place, tmp_path: Path) -> None:
    table = tmp_path / "cancelled.csv"
    pd.read_csv(trained.sample_table).to_csv(table, index=False)
    job_id = trained.scoring_json("score", table, "--model", "v2", "--chunk-rows", "100", "--no-wait")["job_id"]
    trained.scoring("jobs", "cancel", job_id)
    assert trained.scoring_json("jobs", "show", job_id)["state"] == "cancelled"
    trained.webhook.sent_about(job_id)
    assert not list((trained.bucket / "data/predict/output").rglob(f"revisions/{job_id}/manifest.json"))
    outcome = trained.scoring_json("jobs", "resume", job_id)
    assert outcome["facts"]["scored"] == "20,000"
    assert trained.scoring("jobs", "cancel", job_id, code=2).stderr.startswith(f"Error: job {job_id} cannot be cancelled: it is done")


def test_lists_show_what_there_is(trained: Place) -> None:
    assert trained.scoring("jobs", "list").stdout.count("done") >= 1
    assert "latest" in trained.scoring("models", "list").stdout
    assert trained.scoring("models", "list", "--quiet").stdout.startswith("v")
    assert "results" not in trained.scoring("results", "list").stderr
    shown = trained.scoring("models", "show", "v1").stdout
    assert "mean of the keyword" in shown
    assert trained.scoring("models", "check", "v1").returncode == 0


def test_real_keywords_score_the_same_for_any_chunk_size(stack: Place, real_keywords: Path) -> None:
    stack.scoring("train", "v2", "--train", real_keywords / "week30.csv.gz", "--eval", real_keywords / "week31.csv.gz")
    release = stack.scoring_json("models", "show", "v2")
    assert release["metrics"]["eval"]["v2"]["log_loss_per_click"] <= 0.2145
    small = stack.scoring_json("score", real_keywords / "week31.csv.gz", "--model", release["release"], "--chunk-rows", "500")
    large = stack.scoring_json("score", real_keywords / "week31.csv.gz", "--model", release["release"], "--chunk-rows", "100000")
    results = [stack.scoring_json("results", "show", outcome["job_id"]) for outcome in (small, large)]
    assert results[0]["text_sha256"] == results[1]["text_sha256"]
    assert results[0]["rows_scored"] + results[0]["rows_rejected"] == 19430
    assert results[0]["chunks"] > results[1]["chunks"]
    stack.scoring("train", "v1", "--train", real_keywords / "week30.csv.gz", "--eval", real_keywords / "week31.csv.gz")
    assert stack.scoring_json("models", "show", "v1")["metrics"]["eval"]["v1"]["log_loss_per_click"] <= 0.2170
