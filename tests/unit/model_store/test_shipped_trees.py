"""Releases of v2 and v3 are evaluated fast, also those of an earlier version; a model text that could end the process is refused."""

import collections
import dataclasses
import io
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import lightgbm
import numpy as np
import pandas as pd
import pytest
import structlog
from rich.console import Console
from skops.io import dump, load

from model_store.definitions import load_definition
from model_store.shipped_trees import choose_evaluation
from model_store.store import load_copy, load_release
from model_store.trees import Trees
from model_store.trees.booster import Way, same_bits
from model_store.trees.evaluator import Evaluator
from producers.display.releases import print_release
from producers.releases.finding import find_release
from shared.bucket.local import LocalBucket
from shared.catalog.manifests import ReleaseManifest, TreeEvaluation, TreeEvaluator
from shared.catalog.paths import release_folder
from shared.errors import ModelError
from tests.trainings import make_training, manifest_of, train, write_training_tables

CACHE = Path("no-cache")


@pytest.fixture(scope="module")
def bucket(tmp_path_factory) -> LocalBucket:
    bucket = LocalBucket(tmp_path_factory.mktemp("trees") / "bucket")
    write_training_tables(bucket, 2000)
    return bucket


@pytest.fixture(scope="module")
def manifest(bucket) -> ReleaseManifest:
    """Of a release of v2."""
    return manifest_of(bucket, train(make_training(bucket, "v2")))


@pytest.fixture
def files(bucket, manifest, tmp_path) -> Path:
    """A private copy of the release's model file."""
    file = tmp_path / manifest.model_file
    file.write_bytes(bucket.place(f"{release_folder(manifest.release)}/{manifest.model_file}").read_bytes())
    return tmp_path


def rates_of(model: object, rows: int = 2000) -> np.ndarray:
    columns = model.model["columns"]
    return model.predict(pd.DataFrame(np.random.default_rng(1).integers(0, 2, (rows, len(columns)), dtype=np.int8), columns=columns))


def test_a_training_writes_how_its_trees_are_evaluated_and_models_show_says_so(bucket, manifest):
    assert manifest.trees == TreeEvaluation(evaluator=TreeEvaluator.BITWISE)
    text = io.StringIO()
    print_release(Console(file=text, width=200), find_release(bucket, manifest.release))
    assert "evaluated 64 rows at a time, with LightGBM's digits" in text.getvalue()


def test_a_release_is_evaluated_fast_with_the_digits_of_its_booster(bucket, manifest):
    model = load_release(bucket, manifest.release, CACHE).model
    assert (type(model._booster), model._booster.way) == (Trees, Way.BITWISE)
    fast, trees = rates_of(model), model._booster
    model._booster = trees.booster
    assert same_bits(fast, rates_of(model))
    model._booster = trees
    assert sum(model.importance().values()) == pytest.approx(1)


def test_a_release_of_an_earlier_version_is_evaluated_fast_too(manifest, files):
    record = json.loads(manifest.to_json())
    assert record.pop("trees")["evaluator"] == "bitwise"
    earlier = ReleaseManifest.decode(record)
    assert earlier.trees is None
    assert b"trees" not in earlier.to_json()
    assert load_copy(files, earlier, None).model._booster.way is Way.BITWISE


def test_a_release_whose_manifest_says_so_is_evaluated_by_lightgbm(bucket, manifest, files):
    by_lightgbm = TreeEvaluation(evaluator=TreeEvaluator.LIGHTGBM, reason="3 rows differ")
    assert type(load_copy(files, manifest.model_copy(update={"trees": by_lightgbm}), None).model._booster) is lightgbm.Booster
    assert by_lightgbm.in_words == "evaluated by LightGBM itself: 3 rows differ"


def test_trees_with_another_rate_for_one_training_row_are_evaluated_by_lightgbm(manifest, files, monkeypatch):
    model = load_definition("v2").model_class()
    model.load(str(files / manifest.model_file))
    really = Evaluator.predict

    def predict(self, values: np.ndarray) -> np.ndarray:
        rates = really(self, values)
        rates[700:701] = np.nextafter(rates[700:701], 1)
        return rates

    monkeypatch.setattr(Evaluator, "predict", predict)
    chosen = choose_evaluation(model, lambda: rates_of(model), "the first 2,000 rows")
    reason = "1 of the first 2,000 rows get other rates than from LightGBM"
    assert chosen == TreeEvaluation(evaluator=TreeEvaluator.LIGHTGBM, reason=reason)
    assert type(model._booster) is lightgbm.Booster


def test_trees_that_differ_at_their_thresholds_are_evaluated_by_lightgbm(manifest, files, monkeypatch):
    monkeypatch.setattr(Evaluator, "predict", lambda self, values: np.zeros(len(values)))
    trees = load_copy(files, manifest, None).model._booster
    assert (trees.way, trees.reason) == (Way.LIGHTGBM, "its rates differ from those of LightGBM")


def test_models_show_says_that_an_earlier_release_decides_when_it_is_loaded(bucket, manifest):
    text, release = io.StringIO(), find_release(bucket, manifest.release)
    earlier = dataclasses.replace(release, manifest=manifest.model_copy(update={"trees": None}))
    print_release(Console(file=text, width=200), earlier)
    assert "how they are evaluated is decided when the release is loaded" in text.getvalue()


def test_a_host_on_which_the_probes_differ_logs_one_warning(manifest, files, monkeypatch):
    monkeypatch.setattr(Evaluator, "predict", lambda self, values: np.zeros(len(values)))
    with structlog.testing.capture_logs() as logs:
        load_copy(files, manifest, None)
    assert [(line["log_level"], line["reason"]) for line in logs] == [("warning", "its rates differ from those of LightGBM")]


def test_a_failure_to_speed_up_the_trees_names_the_release(manifest, files, monkeypatch):
    def fail(self, booster: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Trees, "__init__", fail)
    with pytest.raises(ModelError, match=f"the definition v2 cannot load {manifest.release}"):
        load_copy(files, manifest, None)


def as_defaultdict(held: dict[str, object]) -> object:
    return collections.defaultdict(list, held)


def as_ordered(held: dict[str, object]) -> object:
    return collections.OrderedDict(held)


@pytest.mark.parametrize("form", [dict, as_defaultdict, as_ordered])
@pytest.mark.parametrize("escaped", [False, True])
def test_a_hostile_text_is_refused_in_every_form_of_the_file(manifest, files, form: Callable[[dict[str, object]], object], escaped: bool):
    file = files / manifest.model_file
    held = load(file)
    held["booster"] = changed_children(held["booster"])
    dump(form(held), file)
    if escaped:
        with zipfile.ZipFile(file) as packed:
            entries = {name: packed.read(name) for name in packed.namelist()}
        entries["schema.json"] = entries["schema.json"].replace(b'"booster"', b'"\\u0062ooster"')
        with zipfile.ZipFile(file, "w") as packed:
            for name, content in entries.items():
                packed.writestr(name, content)
    with pytest.raises(ModelError, match="are refused: tree 0 has a split that is not the child of exactly one split"):
        load_copy(files, manifest, None)


def test_a_dict_as_one_json_value_is_checked(manifest, files):
    file = files / manifest.model_file
    held = load(file)
    held["booster"] = changed_children(held["booster"])
    dump("text", file)
    with zipfile.ZipFile(file) as packed:
        schema = json.loads(packed.read("schema.json"))
    assert schema["__loader__"] == "JsonNode"
    schema["content"] = json.dumps(held)
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr("schema.json", json.dumps(schema))
    with pytest.raises(ModelError, match="are refused: tree 0 has a split that is not the child of exactly one split"):
        load_copy(files, manifest, None)


def changed_children(text: str) -> str:
    head, found, rest = text.partition("left_child=")
    return f"{head}{found}9{rest[1:]}" if rest[0] != "9" else f"{head}{found}8{rest[1:]}"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (changed_children, "tree 0 has a split that is not the child of exactly one split"),
        (lambda text: re.sub(r"num_leaves=(\d)\d", r"num_leaves=\1x", text, count=1), "num_leaves of tree 0 is"),
        (lambda text: re.sub(r"tree_sizes=\d+", "tree_sizes=9", text), "tree 0 does not stand where tree_sizes says"),
    ],
)
def test_a_text_that_would_end_the_process_is_refused_before_lightgbm_reads_it(manifest, files, change: Callable[[str], str], problem: str):
    file = files / manifest.model_file
    held = load(file)
    held["booster"] = change(held["booster"])
    dump(held, file)
    with pytest.raises(ModelError) as raised:
        load_copy(files, manifest, None)
    assert raised.value.message.startswith(f"the trees in model.skops of {manifest.release} are refused: {problem}")
    assert "scoring train v2" in raised.value.next_step
