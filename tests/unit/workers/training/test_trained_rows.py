"""A release that has seen rows of a table in another file is not judged on them as if they were new."""

import numpy as np
import pandas as pd
import pytest

from shared.bucket.local import LocalBucket
from shared.catalog.aliases import point_alias
from shared.catalog.manifests import TRAINED_ROWS
from tests.trainings import EVAL, TRAIN, make_training, manifest_of, train, write_training_tables
from workers.tables.training.table import read_training_table
from workers.training import trained_rows
from workers.training.trained_rows import share_seen_by, share_trained_on, sketch


@pytest.fixture
def bucket(tmp_path) -> LocalBucket:
    bucket = LocalBucket(tmp_path / "bucket")
    write_training_tables(bucket, rows=3000)
    return bucket


def split(bucket: LocalBucket, keep: float) -> tuple[str, str]:
    """A random part of the rows of ``TRAIN`` in one file and the others in another, without their week."""
    frame = pd.read_csv(bucket.place(TRAIN)).drop(columns="week")
    chosen = np.random.default_rng(1).random(len(frame)) < keep
    paths = ("data/part.csv", "data/rest.csv")
    for path, rows in zip(paths, (chosen, ~chosen), strict=True):
        bucket.write(path, frame[rows].to_csv(index=False).encode())
    return paths


def test_a_champion_that_has_seen_a_random_part_of_the_same_table_is_not_judged_on_it(bucket):
    fifth, rest = split(bucket, 0.2)
    seen = train(make_training(bucket, eval=None))
    point_alias(bucket, "champion", seen.release)
    outcome = train(make_training(bucket, minute=1, train=rest, eval=fifth, promote="auto"))
    assert outcome.facts["gate"].startswith(f"not promoted: the champion {seen.release} was trained on the evaluation table")
    [why] = manifest_of(bucket, outcome).evaluation.not_compared.values()
    assert why == "it was trained on 100% of the rows with conversions of this table, in another file"


def test_a_release_judged_on_rows_that_it_was_trained_on_says_so(bucket):
    fifth, _ = split(bucket, 0.2)
    outcome = train(make_training(bucket, eval=fifth))
    manifest = manifest_of(bucket, outcome)
    assert manifest.judged_on_seen
    assert f"100% of the rows with conversions of {fifth} were trained on too" in outcome.facts["warning"]
    assert any("trained on too" in name for name in outcome.facts)


def test_a_table_of_a_later_time_is_new(bucket):
    earlier = train(make_training(bucket, eval=None))
    outcome = train(make_training(bucket, minute=1))
    manifest = manifest_of(bucket, outcome)
    assert not manifest.judged_on_seen
    assert earlier.release in manifest.evaluation.differences


@pytest.mark.parametrize("rows", [50, 4096])
def test_the_share_is_estimated_well_from_a_sketch_of_any_size(bucket, monkeypatch, rows):
    monkeypatch.setattr(trained_rows, "SKETCH_ROWS", rows)
    whole = read_training_table(bucket, TRAIN, None)
    half = whole.only(np.arange(len(whole.frame)) % 2 == 0)
    outcome = train(make_training(bucket, eval=None))
    manifest = manifest_of(bucket, outcome)
    assert share_seen_by(bucket, manifest, half) == share_seen_by(bucket, manifest, whole) == 1.0
    assert share_trained_on(whole, half) == pytest.approx(0.5, abs=0.1)
    later = read_training_table(bucket, EVAL, None)
    assert share_seen_by(bucket, manifest, later) < 0.05


def test_a_sketch_does_not_depend_on_the_order_of_rows_and_a_damaged_one_says_nothing(bucket):
    whole = read_training_table(bucket, TRAIN, None)
    backwards = whole.only(np.arange(len(whole.frame)) < 10**9)
    order = np.argsort(-whole.observations.entity_id)
    frame = pd.read_csv(bucket.place(TRAIN)).iloc[order]
    bucket.write("data/turned.csv", frame.to_csv(index=False).encode())
    assert sketch(whole) == sketch(backwards) == sketch(read_training_table(bucket, "data/turned.csv", None))
    outcome = train(make_training(bucket, eval=None))
    manifest = manifest_of(bucket, outcome)
    bucket.write(f"{outcome.result}/{TRAINED_ROWS}", b"other")
    assert share_seen_by(bucket, manifest, whole) == 0.0
