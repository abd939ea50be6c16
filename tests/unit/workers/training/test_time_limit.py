"""The end of a step's time is no failure of the definition that it strikes: it passes through whatever a definition may raise."""

import pytest
from billiard.exceptions import SoftTimeLimitExceeded

from model_store import isolated_loading
from model_store.store import load_release
from shared.bucket.local import LocalBucket
from tests.trainings import GUESSING, add_definition, library_of, make_training, train, write_training_tables
from workers.training.search import steps

CONFIG = b"search: grid\nparameters:\n  leaves: [1, 2]\n"
TIMED_OUT = "from billiard.exceptions import SoftTimeLimitExceeded\n\n\nclass Model(model_template.Model):"
RAISES = "raise SoftTimeLimitExceeded"


@pytest.fixture
def bucket(tmp_path) -> LocalBucket:
    bucket = LocalBucket(tmp_path / "bucket")
    write_training_tables(bucket, rows=1000)
    return bucket


def add_slow(definitions, old: str, new: str):
    """Adds a definition whose time is over where it would do what ``old`` does."""
    assert old in GUESSING
    return add_definition(definitions, "slow", GUESSING.replace("class Model(model_template.Model):", TIMED_OUT).replace(old, new))


def test_while_a_rival_is_asked_whose_process_ends_with_it(bucket, tmp_path, monkeypatch):
    started, wait, start = [], isolated_loading._wait_for, isolated_loading.start_loader
    monkeypatch.setattr(isolated_loading, "start_loader", lambda *asked: started.append(start(*asked)) or started[-1])

    def wait_for_a_rival(loader, place, number, seconds):
        if number:
            raise SoftTimeLimitExceeded
        return wait(loader, place, number, seconds)

    definitions = add_definition(tmp_path / "definitions", "guessing")
    train(make_training(bucket, "guessing", promote="always"), definitions)
    monkeypatch.setattr(isolated_loading, "_wait_for", wait_for_a_rival)
    with pytest.raises(SoftTimeLimitExceeded):
        train(make_training(bucket, "v1", minute=1), definitions)
    assert started[-1].poll() is not None


def test_while_the_importance_of_columns_is_found(bucket, tmp_path):
    definitions = add_slow(tmp_path / "definitions", "    def save(", f"    def importance(self):\n        {RAISES}\n\n    def save(")
    with pytest.raises(SoftTimeLimitExceeded):
        train(make_training(bucket, "slow"), definitions)


def test_while_a_release_is_loaded(bucket, tmp_path):
    loading = "self.model = float(Path(path).read_text())"
    definitions = add_slow(
        tmp_path / "definitions", loading, f"if Path(__file__).with_name('late').exists():\n            {RAISES}\n        {loading}"
    )
    outcome = train(make_training(bucket, "slow"), definitions)
    (definitions / "slow" / "late").touch()
    with pytest.raises(
        SoftTimeLimitExceeded, match=r"the definition slow failed in load: it hung, and was stopped in .*model.py, line \d+"
    ):
        load_release(bucket, outcome.release, tmp_path / "cache", definitions)


def test_while_the_parameters_of_a_search_are_checked(bucket, tmp_path):
    definitions = add_slow(tmp_path / "definitions", "return None", RAISES)
    bucket.write("params.yaml", CONFIG)
    with pytest.raises(SoftTimeLimitExceeded):
        steps.next_messages(make_training(bucket, "slow", config="params.yaml"), library_of(bucket, definitions))
