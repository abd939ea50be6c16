"""Two releases are compared on the same rows or not at all, from what their trainings wrote down."""

import json
import shutil

import pytest
from click.testing import CliRunner

from producers.cli import root as cli_root
from producers.releases import comparing
from shared.bucket.local import LocalBucket
from shared.catalog.manifests import LOSSES
from shared.catalog.paths import MANIFEST
from shared.errors import ModelError
from tests.trainings import EVAL, TRAIN, add_definition, make_training, manifest_of, train, write_training_tables


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A bucket in which ``guessing`` was judged on another table than v1, and then beside v1 when that was trained."""
    root = tmp_path_factory.mktemp("comparing")
    bucket = LocalBucket(root / "bucket")
    write_training_tables(bucket)
    definitions = add_definition(root / "definitions", "guessing")
    half = "data/train/half.csv"
    bucket.write(half, b"\n".join((bucket.read(EVAL) or b"").splitlines()[:800]) + b"\n")
    guessing = train(make_training(bucket, "guessing", eval=half), definitions)
    v1 = train(make_training(bucket, "v1", minute=1, promote="always"), definitions)
    in_sample = train(make_training(bucket, "v1", minute=2, eval=None), definitions)
    return root, bucket, guessing, v1, in_sample


@pytest.fixture
def bucket(made, tmp_path) -> LocalBucket:
    shutil.copytree(made[0] / "bucket", tmp_path / "bucket")
    return LocalBucket(tmp_path / "bucket")


def compare(bucket, one, other, table=None):
    return comparing.compare_releases(bucket, one, other, table=table, confidence=0.95)


def test_two_releases_are_compared_on_the_table_on_which_both_were_judged(made, bucket):
    _, _, guessing, v1, _ = made
    found = compare(bucket, "champion", "guessing")
    kept = manifest_of(bucket, v1)
    assert (found.one, found.other, found.table.path) == (v1.release, guessing.release, EVAL)
    difference = kept.evaluation.differences[guessing.release]
    assert (found.difference.value, found.difference.low, found.difference.high) == pytest.approx(
        (difference.value, difference.low, difference.high), abs=1e-9
    )
    assert found.metrics == (kept.metrics["eval"]["v1"], kept.metrics["eval"][guessing.release])
    assert found.slices["device"]["Tablet"][1] == kept.evaluation.slices["device"]["Tablet"].metrics[guessing.release]
    assert f"{v1.release} is better than {guessing.release}, and this is more than chance" in found.verdict


@pytest.mark.parametrize("named", ["week31.csv.gz", "/data/of/mine/week31.csv.gz", "jobs/20261123t1-train-1/input/eval/week31.csv.gz"])
def test_a_table_that_was_brought_along_is_named_as_it_was_given(named):
    assert comparing._is_named(named, "jobs/20261123t1-train-1/input/eval/week31.csv.gz")
    assert not comparing._is_named("/data/of/mine/eval.csv", EVAL), "a table in the bucket has a path"


def test_turned_around_the_same_release_is_better(made, bucket):
    there, back = compare(bucket, "champion", "guessing"), compare(bucket, "guessing", "champion")
    assert back.difference.value == -there.difference.value
    assert back.verdict == there.verdict


def test_a_release_and_itself_are_the_same(made, bucket):
    assert compare(bucket, "champion", made[3].release).verdict == f"Both names mean the release {made[3].release}."


def test_releases_that_were_judged_on_no_common_table_are_refused_with_what_makes_them_comparable(made, bucket):
    _, _, guessing, _, in_sample = made
    with pytest.raises(ModelError) as refused:
        compare(bucket, in_sample.release, guessing.release)
    assert "were not both judged on the rows of one evaluation table" in refused.value.message
    assert refused.value.next_step == f"Make them comparable with: scoring train v1 --train {TRAIN} --eval data/train/half.csv --again"
    with pytest.raises(ModelError, match=r"were not both judged on the table data/train/half\.csv"):
        compare(bucket, "champion", "guessing", table="data/train/half.csv")


def test_releases_with_other_columns_are_given_no_command_that_cannot_work(made, bucket):
    _, _, guessing, _, in_sample = made
    path = f"{guessing.result}/{MANIFEST}"
    other = json.loads(bucket.read(path) or b"")
    other["columns"] = [{"format": 1, "name": "price", "type": "number"}]
    bucket.write(path, json.dumps(other).encode())
    with pytest.raises(ModelError) as refused:
        compare(bucket, in_sample.release, guessing.release)
    assert refused.value.next_step.startswith("Train v1 and guessing with the same --eval TABLE, one that has the columns of both: ")
    other["keys"] = ["keyword"]
    bucket.write(path, json.dumps(other).encode())
    with pytest.raises(ModelError, match="they name rows by different columns, entity_id and device and keyword"):
        compare(bucket, in_sample.release, guessing.release)


def test_a_table_that_is_gone_is_not_named_in_the_command(made, bucket):
    _, _, guessing, _, in_sample = made
    bucket.delete("data/train/half.csv")
    with pytest.raises(ModelError) as refused:
        compare(bucket, in_sample.release, guessing.release)
    assert "half.csv" not in refused.value.next_step


def test_table_and_sentence_say_the_difference_with_the_same_words(made, bucket):
    environment = {"BUCKET_URL": bucket.url, "COLUMNS": "200"}
    for names, word in ((["champion", "guessing"], "lower"), (["guessing", "champion"], "higher")):
        said = CliRunner().invoke(cli_root.scoring, ["models", "compare", *names], env=environment, catch_exceptions=False).output
        difference = abs(compare(bucket, *names).difference.value)
        [line] = [line for line in said.splitlines() if line.startswith("log-loss per click")]
        assert line.rstrip().endswith(f"{difference:.5f} {word}")
        assert f"its log-loss per click is {difference:.5f} lower (better; 95 % interval " in said
        assert "-0.0" not in said
        assert "+0.0" not in said


def test_losses_that_were_changed_are_refused(made, bucket):
    bucket.write(f"{made[3].result}/{LOSSES}", b"other")
    with pytest.raises(ModelError, match="was changed after it was published"):
        compare(bucket, "champion", "guessing")


def test_a_manifest_of_before_there_were_evaluations_still_reads_and_is_compared_with_nothing(made, bucket):
    path = f"{made[3].result}/{MANIFEST}"
    old = json.loads(bucket.read(path) or b"")
    del old["evaluation"]
    bucket.write(path, json.dumps(old).encode())
    with pytest.raises(ModelError, match="were not both judged"):
        compare(bucket, "champion", "guessing")


def test_the_commands_print_the_comparison_and_write_the_report(made, bucket, tmp_path):
    environment = {"BUCKET_URL": bucket.url}
    run = CliRunner().invoke
    said = run(cli_root.scoring, ["models", "compare", "champion", "guessing"], env=environment, catch_exceptions=False).output
    for words in ("log-loss per click", "log-loss by device", "Smartphone", "10 to 29", "more than chance"):
        assert words in said
    data = json.loads(run(cli_root.scoring, ["models", "compare", "champion", "guessing", "--json"], env=environment).output)
    assert data["releases"] == [made[3].release, made[2].release]
    assert data["difference"]["high"] < 0
    file = tmp_path / "report.html"
    run(cli_root.scoring, ["models", "show", "champion", "--report", str(file)], env=environment, catch_exceptions=False)
    assert file.read_bytes() == bucket.read(f"{made[3].result}/report.html")
