"""One row of numbers is computed without a table, and has the digits and the reasons that it has in a table of many rows."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from model_store.definitions import load_definition
from model_store.single_row import SingleRowPredictor
from model_store.store import Release, library_versions
from shared.catalog.manifests import Column, FileDigest, ReleaseManifest, TableFingerprint
from tests.handmade import NOON
from workers.serving.rates.computing import compute
from workers.serving.rates.serving import LoadedRelease

ATTRIBUTES = [f"att{number}" for number in range(1, 9)]
COLUMNS = [Column(name=name, type="binary") for name in ["computer", "smartphone", *ATTRIBUTES]]
PARAMETERS = {"v1": {}, "v2": {"num_boost_round": 12}, "v3": {"num_boost_round": 12, "folds": 2}}
ROWS = 10_000
DEVICES = (0, 1, 2, "Computer", "smartphone", "Tablet", "1")


def make_rows(count, *, with_length):
    random = np.random.default_rng(16)
    rows = []
    for number in range(count):
        row = {"entity_id": 2**60 + number // 3, "device": DEVICES[number % len(DEVICES)]}
        row |= dict(zip(ATTRIBUTES, (random.random(len(ATTRIBUTES)) < 0.3).astype(int).tolist(), strict=True))
        rows.append(row | ({"length": number % 37 / 4 if number % 2 else number % 37} if with_length else {}))
    return rows


def train(name, *, with_length):
    """A release of a definition, trained on made-up rows; its columns are in another order than those of the rows."""
    columns = [*([Column(name="length", type="number")] if with_length else []), *COLUMNS]
    random = np.random.default_rng(7)
    table = pd.DataFrame({column.name: (random.random(600) < 0.4).astype(np.int8) for column in columns})
    table["smartphone"] &= 1 - table["computer"]
    if with_length:
        table["length"] = random.random(600) * 9
    if name == "v3":
        table.insert(0, "entity_id", 2**60 + np.arange(600) // 3)
    definition = load_definition(name)
    model = definition.model_class(config=PARAMETERS[name])
    rates = pd.Series(np.clip(table["att1"] * 0.1 + table["att2"] * 0.07 + random.random(600) * 0.1 - 0.05, 0, 1))
    model.train(table, rates, random.integers(1, 90, 600).astype(float))
    manifest = ReleaseManifest(
        release=f"{name}@20261123T120000Z-abcdef",
        definition=name,
        definition_sha256=definition.source_sha256,
        created=NOON,
        job_id="20261123t120000z-train-handmade",
        model_file=definition.model_file,
        columns=columns,
        files={definition.model_file: FileDigest(sha256="0" * 64, size=1)},
        tables={"train": TableFingerprint(path="data/train/train.csv", files={}, rows=1, rejected=0)},
        metrics={},
        libraries=library_versions(),
        seconds=0.1,
    )
    return LoadedRelease.of(Release(manifest=manifest, definition=definition, model=model))


@pytest.mark.parametrize("with_length", [False, True])
@pytest.mark.parametrize("name", ["v1", "v2", "v3"])
def test_a_row_alone_has_the_very_digits_that_it_has_in_a_table(name, with_length):
    loaded = train(name, with_length=with_length)
    rows = make_rows(ROWS if not with_length else ROWS // 10, with_length=with_length)
    in_table = [found.cr for found in compute(loaded, rows)]
    assert loaded.single_rows is not None
    # not through compute(), which falls back to a table
    alone = [loaded.single_rows.rate(row) for row in rows]
    assert list(map(repr, alone)) == list(map(repr, in_table))
    assert len(set(alone)) > 50


def test_a_row_with_flags_has_the_rate_of_its_device():
    loaded = train("v2", with_length=False)
    [row] = make_rows(1, with_length=False)
    for device, (computer, smartphone) in enumerate([(1, 0), (0, 1), (0, 0)]):
        flags = {name: value for name, value in row.items() if name != "device"} | {"computer": computer, "smartphone": smartphone}
        assert loaded.single_rows.rate(flags) == compute(loaded, [row | {"device": device}] * 2)[0].cr
    assert loaded.single_rows.rate(flags | {"computer": 1, "smartphone": 1}) is None


@pytest.mark.parametrize(
    "changed",
    [
        {"att3": 2},
        {"att3": -1},
        {"att3": 256},
        {"att3": "x"},
        {"att3": None},
        {"att3": 0.5},
        {"att3": [1]},
        {"length": "NaN"},
        {"length": None},
        {"device": 3},
        {"device": None},
        {"device": "Desktop"},
        {"device": 1.5},
        {"entity_id": 2**63},
        {"entity_id": "x7"},
        {"entity_id": 1e300},
        {"entity_id": None},
    ],
)
def test_a_row_that_a_table_rejects_is_left_to_the_table_and_has_its_reason(changed):
    loaded = train("v1", with_length=True)
    [row] = make_rows(1, with_length=True)
    assert loaded.single_rows.rate(row) is not None
    assert loaded.single_rows.rate(row | changed) is None
    [alone] = compute(loaded, [row | changed])
    assert alone == compute(loaded, [row | changed, row])[0]
    assert alone.reject is not None


@pytest.mark.parametrize(
    "changed", [{"att3": "1"}, {"att3": True}, {"att3": 1.0}, {"length": "2.5"}, {"entity_id": "77"}, {"device": "2.0"}]
)
def test_another_way_of_writing_a_value_has_the_same_digits(changed):
    loaded = train("v1", with_length=True)
    [row] = make_rows(1, with_length=True)
    [alone] = compute(loaded, [row | changed])
    assert alone == compute(loaded, [row | changed, row])[0]
    assert alone.reject is None


def test_a_row_with_which_the_definition_fails_has_the_reason_of_a_table(monkeypatch):
    loaded = train("v1", with_length=False)
    monkeypatch.setattr(type(loaded.release.model), "predict", lambda self, X: 1 / 0)
    [row] = make_rows(1, with_length=False)
    assert loaded.single_rows.rate(row) is None
    assert compute(loaded, [row])[0].reject.reason == "the definition fails on this row"


def predictor_of(loaded, model=None, **changed):
    names = [column.name for column in loaded.release.manifest.columns]
    return SingleRowPredictor.of(replace(loaded.release.definition, **changed), model or loaded.release.model, names, names)


def test_only_a_shipped_definition_is_asked_without_a_table(tmp_path):
    loaded = train("v2", with_length=False)
    assert predictor_of(loaded) is not None
    assert predictor_of(loaded, folder=tmp_path / "v2") is None
    assert predictor_of(loaded, data_preparation=lambda df, target_col: (df * 2, None, None)) is None


@pytest.mark.parametrize("uses", ["X.sum(axis=1).to_numpy() * 0.01", "X.to_numpy()[:, 0] * 0.1 + (0.1 if len(X) > 1 else 0)"])
def test_a_definition_whose_rates_need_a_frame_is_asked_with_one(uses):
    class Other:
        def predict(self, X):
            return eval(uses)

    assert predictor_of(train("v2", with_length=False), Other()) is None
