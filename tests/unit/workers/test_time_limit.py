"""The end of a step's time is no failure of the definition that it strikes: it passes through whatever a definition may raise."""

import pytest
from billiard.exceptions import SoftTimeLimitExceeded

from model_store.store import load_release
from shared.bucket import LocalBucket
from tests.trainings import GUESSING, add_definition, make_training, train, write_training_tables
from workers import tuning

CONFIG = b"search: grid\nparameters:\n  leaves: [1, 2]\n"
TIMED_OUT = "from billiard.exceptions import SoftTimeLimitExceeded\n\n\nclass Model(model_template.Model):"
RAISES = "raise SoftTimeLimitExceeded"


@pytest.fixture
def bucket(tmp_path) -> LocalBucket:
    bucket = LocalBucket(tmp_path / "bucket")
    write_training_tables(bucket, rows=1000)
    return bucket


def add_slow(definitions, old: str, new: str):
    """Add a definition whose time is over where it would do what ``old`` does."""
    assert old in GUESSING
    return add_definition(definitions, "slow", GUESSING.replace("class Model(model_template.Model):", TIMED_OUT).replace(old, new))


def test_while_a_rival_is_asked(bucket, tmp_path):
    # it predicts in its own training and in the judgement of that, and its time is over only when it was loaded
    definitions = add_slow(
        tmp_path / "definitions",
        "return np.full(len(X), self.model)",
        f'if hasattr(self, "loaded"):\n            {RAISES}\n        return np.full(len(X), self.model)',
    )
    file = definitions / "slow" / "model.py"
    file.write_text(file.read_text() + "        self.loaded = True\n")
    train(make_training(bucket, "slow", promote="always"), definitions)
    with pytest.raises(SoftTimeLimitExceeded):
        train(make_training(bucket, "v1", minute=1), definitions)


def test_while_the_importance_of_columns_is_found(bucket, tmp_path):
    definitions = add_slow(tmp_path / "definitions", "    def save(", f"    def importance(self):\n        {RAISES}\n\n    def save(")
    with pytest.raises(SoftTimeLimitExceeded):
        train(make_training(bucket, "slow"), definitions)


def test_while_a_release_is_loaded(bucket, tmp_path):
    definitions = add_slow(tmp_path / "definitions", "self.model = float(Path(path).read_text())", RAISES)
    outcome = train(make_training(bucket, "slow"), definitions)
    with pytest.raises(SoftTimeLimitExceeded):
        load_release(bucket, outcome.release, tmp_path / "cache", definitions)


def test_while_the_parameters_of_a_search_are_checked(bucket, tmp_path):
    definitions = add_slow(tmp_path / "definitions", "return None", RAISES)
    bucket.write("params.yaml", CONFIG)
    with pytest.raises(SoftTimeLimitExceeded):
        tuning.next_orders(make_training(bucket, "slow", config="params.yaml"), definitions)
