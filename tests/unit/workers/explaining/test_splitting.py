"""The parts of a change add up to it for every definition, whatever the rows."""

from dataclasses import replace
from types import SimpleNamespace

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
from hypothesis import given

from model_store import checks
from model_store.contributing import contributions_of
from model_store.definitions import Definition, load_definition
from model_store.predicting import prepare
from model_store.shipped_contributions import shipped_contributions
from model_store.store import Release
from shared.guard.explanation import Split
from tests.definitions import BOOSTED, drop_in
from workers.explaining import column_changes
from workers.explaining.splitting import OtherRateError, RatesBefore, history_of, rates_of, split_change

TOLERANCE = 1e-9
NAMES = ("v1", "v2", "v3", "boosted")
"""Linear, trees, trees with a history, and one without contributions, whose columns are replaced one by one."""


class Models:
    """Two releases of a definition, trained on the same rows with other clicks, and rows to predict."""

    def __init__(self, definition: Definition) -> None:
        table = checks.make_table(definition)
        features, target, _ = definition.prepare(table)
        self.frame = table[definition.columns_of_table([name for name in table.columns if name not in {"cr", "entity_id"}])]
        clicks = checks.make_clicks(len(table))
        self.releases = [self._train(definition, features, target, weights) for weights in (clicks, clicks[::-1].copy())]

    def _train(self, definition: Definition, features: pd.DataFrame, target: pd.Series, weights: np.ndarray) -> Release:
        model = definition.model_class()
        rows = slice(None) if weights[0] < weights[-1] else slice(0, 900)
        more = {"sample_weight": weights[rows]} if definition.name != "boosted" else {}
        model.train(features.iloc[rows], target.iloc[rows], **more)
        columns = [SimpleNamespace(name=name) for name in self.frame.columns if name != "entity_id"]
        return Release(manifest=SimpleNamespace(columns=columns, release="a release"), definition=definition, model=model)


@pytest.fixture(scope="module")
def models(request, tmp_path_factory) -> Models:
    if request.param != "boosted":
        return Models(load_definition(request.param))
    folder = tmp_path_factory.mktemp("definitions")
    drop_in(folder, "boosted", BOOSTED, template=True)
    return Models(load_definition("boosted", folder))


def split(old: Release, new: Release, rows: pd.DataFrame) -> tuple[Split, float, list[str]]:
    before, now = rates_of(old, rows.iloc[[0]].reset_index(drop=True), "t")[0], rates_of(new, rows, "t")[1]
    reasons = history_of(old, rows.iloc[[0]].reset_index(drop=True), "t")
    found, notes = split_change(new, rows, RatesBefore(rate=before, reasons=reasons), now, "t")
    return found, now - before, notes


def assert_adds_up(found: Split, change: float) -> None:
    assert found.total == pytest.approx(change, abs=TOLERANCE)
    assert sum(column.change for column in found.columns) + sum(found.rests.values()) == pytest.approx(found.row, abs=TOLERANCE)
    assert sum(found.reasons.values()) == pytest.approx(found.history, abs=TOLERANCE)


@pytest.mark.parametrize("models", NAMES, indirect=True)
@given(data=st.data())
def test_the_parts_of_a_change_add_up_to_it(models, data):
    number = data.draw(st.integers(0, len(models.frame) - 1))
    flipped = data.draw(st.lists(st.integers(1, 160), max_size=160, unique=True))
    scale = data.draw(st.floats(-1e6, 1e6))
    rows = models.frame.iloc[[number, number]].reset_index(drop=True)
    names = [f"att{place}" for place in flipped]
    rows.loc[1, names] = 1 - rows.loc[0, names]
    rows["attrs_scale"] = [rows["attrs_scale"][0], scale]
    old, new = data.draw(st.permutations(models.releases))
    found, change, notes = split(old, new, rows)
    assert_adds_up(found, change)
    assert notes == []
    same, change_of_row, _ = split(new, new, rows)
    assert_adds_up(same, change_of_row)
    assert same.model == pytest.approx(0, abs=TOLERANCE)


@pytest.mark.parametrize("models", ["v3"], indirect=True)
def test_the_history_of_a_keyword_is_a_part_with_a_name(models):
    old, new = models.releases
    found, change, _ = split(old, new, models.frame.iloc[[0, 0]].reset_index(drop=True))
    assert_adds_up(found, change)
    assert found.reasons.keys() == {"history of the keyword on all devices", "history of the keyword on this device"}
    assert found.history != 0
    assert found.row == pytest.approx(0, abs=TOLERANCE)


@pytest.mark.parametrize("models", ["v2"], indirect=True)
def test_contributions_that_do_not_add_up_are_replaced_by_single_columns_with_a_note(models, monkeypatch):
    [release, _] = models.releases
    rows = models.frame.iloc[[0, 3]].reset_index(drop=True)
    right, _ = shipped_contributions(release.model)
    monkeypatch.setattr(release.model, "contributions", lambda X: (right(X)[0] + 1, right(X)[1]), raising=False)
    monkeypatch.setattr(release.model, "LINK", "logit", raising=False)
    found, change, notes = split(release, release, rows)
    assert_adds_up(found, change)
    assert "replaced alone" in found.method
    assert "contributions add up to another rate" in notes[0]


@pytest.mark.parametrize("models", ["v1"], indirect=True)
def test_another_rate_than_the_published_one_is_not_split(models):
    [release, _] = models.releases
    rows = models.frame.iloc[[0, 3]].reset_index(drop=True)
    with pytest.raises(OtherRateError, match="was published"):
        split_change(release, rows, RatesBefore(rate=0.5, reasons={}), 0.75, "t")


@pytest.mark.parametrize("models", ["v3"], indirect=True)
def test_an_old_release_that_cannot_be_asked_leaves_the_history_within_the_model(models):
    [_, new] = models.releases
    rows = models.frame.iloc[[0, 3]].reset_index(drop=True)
    now = rates_of(new, rows, "t")[1]
    found, notes = split_change(new, rows, RatesBefore(rate=0.5, reasons=None), now, "t")
    assert_adds_up(found, now - 0.5)
    assert "within the model" in notes[0]


@pytest.mark.parametrize("models", ["v2"], indirect=True)
def test_columns_beyond_the_shown_ones_are_one_part(models, monkeypatch):
    monkeypatch.setattr(column_changes, "SHOWN_COLUMNS", 3)
    [release, _] = models.releases
    found, change, _ = split(release, release, models.frame.iloc[[0, 3]].reset_index(drop=True))
    assert_adds_up(found, change)
    assert len(found.columns) == 3
    assert "other columns" in found.rests


@pytest.mark.parametrize("models", ["v1"], indirect=True)
def test_the_contributions_of_v1_are_weight_times_value(models):
    [release, _] = models.releases
    features = prepare(release.definition, models.frame, None)[0]
    found = contributions_of(release.definition, release.model, features.iloc[:, ::-1])
    weights = dict(zip(release.model.model["columns"], release.model.model["weights"], strict=True))
    for place, name in enumerate(found.names):
        assert np.array_equal(found.columns[:, place], weights[name] * features[name].to_numpy(np.float64))
    assert replace(found, columns=found.columns * 0).raw.tolist() == found.base.tolist()
