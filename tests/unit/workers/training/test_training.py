"""A training may run twice, be killed anywhere or be cancelled: there is one whole release, and the names mean what they should."""

import hashlib
from datetime import UTC, datetime

import pytest

from model_store.store import read_manifest
from producers.releases.promoting import roll_back
from shared.bucket.local import LocalBucket
from shared.catalog.aliases import changes, list_aliases, point_alias
from shared.errors import ModelError, RequestError, StaleMessageError, TableError
from shared.jobs.folder import JobFolder
from shared.jobs.messages import TrainJob
from tests.handmade import HEADER, NOON, die_after, make_job, publish_handmade, row, tree
from tests.trainings import library_of, make_training, train, write_training_tables
from workers.training import aliases, fitting, releasing

TRAIN = "data/train/2026/11/23/train.csv"
RELEASE = "v1@20261123T120000Z-"


@pytest.fixture
def bucket(tmp_path) -> LocalBucket:
    bucket = LocalBucket(tmp_path / "bucket")
    lines = [f"{row(number)},{number % 9 + 1},{int(number % 4 == 0)}" for number in range(60)]
    bucket.write(TRAIN, "\n".join([f"{HEADER},Clicks,Conversions", *lines, ""]).encode())
    return bucket


def train_job(bucket, *, job_id="20261123t120000z-train-1", created=NOON, definition="v1", **more) -> JobFolder:
    folder = JobFolder(bucket, job_id)
    assert folder.create(TrainJob(job_id=job_id, created=created, definition=definition, train=TRAIN, **more))
    return folder


def test_a_training_that_runs_twice_makes_one_release(bucket):
    folder = train_job(bucket, alias="champion")
    outcome = train(folder)
    before = tree(bucket.root)
    assert train(folder) == outcome
    assert tree(bucket.root) == before
    assert outcome.release.startswith(RELEASE)
    assert list_aliases(bucket) == {"v1.latest": outcome.release, "champion": outcome.release}
    assert folder.status().state == "done"


@pytest.mark.parametrize("alias", ["latest", "v1", "v2"])
def test_an_alias_that_names_something_already_is_refused_before_any_work(bucket, alias):
    with pytest.raises(ModelError, match=f"{alias} cannot be an alias: it names something already"):
        train(train_job(bucket, alias=alias))
    assert not bucket.folders("model")


def test_a_training_that_was_killed_after_any_of_its_writes_is_completed_by_the_next(bucket, monkeypatch):
    kills = 0
    for number in range(1, 40):
        folder = train_job(bucket, job_id=f"job-{number}", alias=f"alias-{number}")
        with monkeypatch.context() as patch:
            left = die_after(patch, bucket, number, ("create", "writer", "put_folder"))
            try:
                train(folder)
            except KeyboardInterrupt:
                kills += 1
        outcome = train(folder)
        assert folder.status().state == "done", number
        assert list_aliases(bucket)[f"alias-{number}"] == outcome.release, number
        if left[0] >= 0:
            break
    assert kills >= 6, "the kills did not go through the whole training"


def test_latest_is_pointed_even_when_the_first_run_was_killed_before_it(bucket):
    folder = train_job(bucket)
    outcome = train(folder)
    bucket.delete_folder("model/aliases")
    for name in ("published.json", "outcome.json"):
        bucket.delete(folder.file(name))
    train(folder)
    assert list_aliases(bucket) == {"v1.latest": outcome.release}


def test_a_run_that_comes_late_leaves_latest_at_a_newer_release(bucket):
    folder = train_job(bucket)
    train(folder)
    newer = publish_handmade(bucket, made=NOON.replace(hour=13))
    bucket.delete(folder.file("published.json"))
    train(folder)
    assert list_aliases(bucket) == {"v1.latest": newer}


def test_a_run_that_comes_late_leaves_the_alias_where_people_moved_it(bucket):
    older = publish_handmade(bucket, made=NOON.replace(hour=11))
    point_alias(bucket, "champion", older)
    folder = train_job(bucket, alias="champion", created=datetime.now(UTC))
    outcome = train(folder)
    assert [change.by for change in changes(bucket, "champion")] == [f"job {folder.job_id}", ""]
    assert list_aliases(bucket)["champion"] == outcome.release
    assert roll_back(bucket, "champion").release == older
    bucket.delete(folder.file("published.json"))
    train(folder)
    assert list_aliases(bucket)["champion"] == older


@pytest.mark.parametrize("of_an_earlier_version", [False, True])
@pytest.mark.parametrize("there_before", [False, True])
def test_a_run_that_was_killed_before_it_pointed_leaves_the_alias_where_people_moved_it(
    bucket, monkeypatch, there_before, of_an_earlier_version
):
    if there_before:
        point_alias(bucket, "champion", publish_handmade(bucket, made=NOON.replace(hour=11)))
    folder = train_job(bucket, alias="champion")
    with monkeypatch.context() as patch:
        patch.setattr(aliases, "point_latest", lambda *arguments, **more: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(folder)
    outcome = folder.outcome()
    if of_an_earlier_version:
        bucket.write(folder.file("outcome.json"), outcome.model_copy(update={"pointing": None}).to_json())
    newer = publish_handmade(bucket, made=NOON.replace(hour=13))
    point_alias(bucket, "champion", newer)
    train(folder)
    assert list_aliases(bucket)["champion"] == newer


def test_an_outcome_of_an_earlier_version_still_points_its_alias(bucket):
    point_alias(bucket, "champion", publish_handmade(bucket, made=NOON.replace(hour=11)))
    folder = train_job(bucket, alias="champion")
    outcome = train(folder)
    roll_back(bucket, "champion")
    earlier = outcome.model_copy(update={"pointing": None, "at": datetime.now(UTC)})
    bucket.write(folder.file("outcome.json"), earlier.to_json())
    bucket.delete(folder.file("published.json"))
    train(folder)
    assert list_aliases(bucket)["champion"] == outcome.release


def test_a_release_says_which_tables_it_was_made_of(bucket):
    bucket.write("data/eval.csv", bucket.read(TRAIN))
    outcome = train(train_job(bucket, eval="data/eval.csv"))
    manifest = read_manifest(bucket, outcome.release)
    digest = hashlib.sha256(bucket.read(TRAIN)).hexdigest()
    assert {name: {path: file.sha256 for path, file in table.files.items()} for name, table in manifest.tables.items()} == {
        "train": {TRAIN: digest},
        "eval": {"data/eval.csv": digest},
    }


def test_a_training_cancelled_while_it_fits_publishes_nothing(bucket, monkeypatch):
    folder = train_job(bucket, alias="champion")
    fit = fitting.fit
    monkeypatch.setattr(fitting, "fit", lambda *arguments: (folder.cancel(), fit(*arguments))[1])
    monkeypatch.setattr(releasing, "fit", lambda *arguments: (folder.cancel(), fit(*arguments))[1])
    assert train(folder).state == "cancelled"
    assert train(folder).state == "cancelled"
    assert not bucket.folders("model")
    monkeypatch.undo()
    folder.reopen()
    outcome = train(folder)
    assert outcome.state == "done"
    assert list_aliases(bucket)["champion"] == outcome.release


def test_an_order_to_train_a_score_job_is_refused_whatever_its_state(bucket):
    train(train_job(bucket))
    folder = make_job(bucket, table=TRAIN)
    with pytest.raises(StaleMessageError, match="is a score job, not one that trains"):
        train(folder)
    before = tree(bucket.root / "model")
    folder.cancel()
    assert train(folder).state == "cancelled"
    assert tree(bucket.root / "model") == before


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        (HEADER, "has nothing to learn from: neither Clicks and Conversions nor cr. Train on a table with one of them"),
        ("entity_id,device,Clicks,Conversions", "has no feature beside the device"),
        (f"{HEADER},Clicks,Conversions", "0 of 0 rows of .*: it has a header but no row with clicks"),
        (
            f"{HEADER},Clicks,Conversions\n1,0,0,0,1,Computer,0,0",
            "0 of 0 rows of .*: it has a header but no row with clicks",
        ),
        (f"{HEADER},cr\n1,0,0,0,1,Computer,1.5", "1 of 1 rows .* line 2: its cr is not in 0 to 1"),
        (f"{HEADER},cr\n1,0,0,0,x,Computer,0.5", "line 2, column length: 'x' is not a finite number"),
        ("", "is empty"),
    ],
)
def test_a_table_that_cannot_be_trained_on_is_refused_with_the_reason(bucket, table, sentence):
    bucket.write(TRAIN, table.encode())
    folder = train_job(bucket)
    with pytest.raises(TableError, match=sentence):
        train(folder)
    assert not bucket.folders("model")
    assert folder.outcome() is None


def test_an_unknown_definition_is_refused_with_those_there_are(bucket):
    with pytest.raises(ModelError, match=r"there is no definition 'v99' on \S+; there are: v1, v2, v3 "):
        train(train_job(bucket, definition="v99"))
    assert not bucket.folders("model")


def test_a_staging_folder_that_somebody_else_made_first_is_refused_and_nothing_is_published(bucket, tmp_path):
    write_training_tables(bucket, 600)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o777)
    library_of(bucket).staging.symlink_to(elsewhere)
    folder = make_training(bucket)
    with pytest.raises(RequestError, match="is not a folder of this user"):
        train(folder)
    assert list(elsewhere.iterdir()) == []
    assert bucket.folders("model") == []
