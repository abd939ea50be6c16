"""Whatever a definition's code does wrong ends in one sentence, wherever that code runs, and changes nobody's rate."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from model_store import checks, isolated_loading
from model_store.foreign_code import DefinitionError
from model_store.library import ModelLibrary
from shared.bucket.local import LocalBucket
from shared.catalog.aliases import list_aliases
from shared.errors import ModelError, ScoringError
from shared.jobs.folder import Outcome
from tests.conftest import READY_PROGRAMS, wait_until
from tests.handmade import make_job, plan, text_at
from tests.trainings import EVAL, TRAIN, add_definition, library_of, make_training, manifest_of, train, write_training_tables
from workers.scoring import chunk, publishing
from workers.training import releasing
from workers.training.rivals import IsolatedLoading

WELL_BEHAVED = """
from pathlib import Path

import numpy as np
import pandas as pd

from model_store import model_template

FLAG = Path(__file__).with_name("bad")


def data_preparation(df, target_col="cr", cols_to_drop=["entity_id"]):
    if FLAG.exists() and "preparing" in FLAG.read_text():
        pass  # PREPARING
    return model_template.data_preparation(df, target_col, cols_to_drop)


class Model(model_template.Model):
    MODEL_FILE = "model.txt"

    def _model_definition(self, config=None):
        return None

    def train(self, X, y, sample_weight=None):
        self.model = 0.25
        return self.score(y, self.predict(X))

    def predict(self, X):
        rates = 0.25 + 0.001 * X["att1"].to_numpy(np.float64)
        if FLAG.exists() and "predicting" in FLAG.read_text():
            pass  # PREDICTING
        return rates

    def save(self, path):
        Path(path, self.MODEL_FILE).write_text(str(self.model))

    def load(self, path):
        if FLAG.exists() and "loading" in FLAG.read_text():
            pass  # LOADING
        self.model = float(Path(path).read_text())
"""
"""A definition that misbehaves as soon as a file ``bad`` beside it says where."""

RAISES = {
    "raises": ("raise KeyError(99.0)", r"KeyError\(99.0\)"),
    "exits": ("raise SystemExit(3)", r"SystemExit\(3\)"),
    "says that the disk is full": ("raise OSError(28, 'No space left')", r"OSError\(28, 'No space left'\)"),
    "says that the bucket is away": ("from shared.errors import BucketError; raise BucketError('away')", "away"),
    "says that the message is stray": ("from shared.errors import StaleMessageError; raise StaleMessageError('stray')", "stray"),
    "has a repr that raises": (
        "\n            class Odd(Exception):\n                def __repr__(self):\n                    1 / 0\n            raise Odd",
        "Odd",
    ),
    "raises over many lines": ("raise ValueError('one\\ntwo' + 'x' * 10000)", r"ValueError\('one\\ntwox+\.\.\."),
    "runs out of memory": ("raise MemoryError", "it ran out of memory, of which its process may use"),
    "recurses": ("self.predict(X)", "RecursionError"),
}
"""What a definition does -> the statement, and what the sentence says of it."""

GIVES = {
    "too few": ("rates[:-1]", r"gave (\d+) predictions for (\d+) rows"),
    "too many": ("np.append(rates, 1)", r"gave (\d+) predictions for (\d+) rows"),
    "nothing": ("None", r"gave no predictions for \d+ rows but None"),
    "a generator": ("(rate for rate in rates)", r"gave no predictions for \d+ rows but a generator"),
    "a dict": ("{'cr': rates}", r"gave no predictions for \d+ rows but a dict"),
    "texts": ("rates.astype(str)", r"gave predictions of type <U\d+ for \d+ rows, not numbers"),
    "texts as objects": ("pd.Series(rates).astype(str).astype(object)", r"gave a str among its predictions"),
    "truth values": ("rates > 0", r"gave predictions of type bool"),
    "complex numbers": ("rates + 1j", r"gave predictions of type complex128"),
    "times": ("pd.to_datetime(rates).to_numpy()", r"gave predictions of type datetime64"),
    "two columns": ("np.column_stack([rates, rates])", r"gave [\d,]+ x 2 predictions for [\d,]+ rows"),
    "a table": ("pd.DataFrame({'a': rates, 'b': rates})", r"gave [\d,]+ x 2 predictions"),
    "rows of different lengths": ("[[1.0, 2.0], [], *[[1.0]] * (len(rates) - 1)]", r"gave a list of no one shape for 59 rows"),
    "a sorted series": ("pd.Series(rates, index=X.index).sort_values(kind='stable', ascending=False)", "in another order than the rows"),
}

SILENTLY_WRONG = {
    "sorts the table it is given": "df.sort_values('att1', inplace=True, kind='stable')",
    "drops rows": "df = df.iloc[1:]",
    "doubles rows": "df = pd.concat([df, df])",
    "turns the table round": "df = df.iloc[::-1]",
    "gives no three values": "return None",
    "gives no features": "return None, None, None",
}

HARMLESS = {
    "overwrites its input": "X.loc[:, :] = 0",
    "adds a column": "X['new'] = 1",
    "empties its input": "X.drop(index=X.index, inplace=True)",
    "lets numpy raise": "np.seterr(all='raise')",
    "goes elsewhere": "import os; os.chdir('/')",
    "takes a signal": "import signal; signal.signal(signal.SIGTERM, lambda *_: None)",
    "prints": "print('hello' * 100)",
    "warns": "import warnings; warnings.warn('careful')",
}


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    bucket = LocalBucket(tmp_path_factory.mktemp("tables") / "bucket")
    write_training_tables(bucket, rows=400)
    lines = (bucket.read(EVAL) or b"").splitlines(keepends=True)[:60]
    bucket.write(EVAL, b"".join(lines))
    return bucket


@pytest.fixture
def bucket(tmp_path, tables, monkeypatch) -> LocalBucket:
    monkeypatch.setattr(isolated_loading, "start_loader", READY_PROGRAMS.start_loader)
    bucket = LocalBucket(tmp_path / "bucket")
    for path in (TRAIN, EVAL):
        bucket.write(path, tables.read(path))
    return bucket


@pytest.fixture
def definitions(tmp_path) -> Path:
    return tmp_path / "definitions"


def define(definitions: Path, **what: str) -> Path:
    """Add the definition with these statements at the places of their names."""
    code = WELL_BEHAVED
    for place, statement in what.items():
        code = code.replace(f"pass  # {place.upper()}", statement)
    add_definition(definitions, "bad", code)
    return definitions / "bad" / "model.py"


def spoil(definitions: Path, place: str) -> None:
    (definitions / "bad" / "bad").write_text(place)


def score(bucket: LocalBucket, definitions: Path, **more: object) -> Outcome:
    """Score the evaluation table in this process."""
    folder = make_job(bucket, table=EVAL, model="bad", **{"minute": 30, **more})
    made = plan(folder)
    for index in range(len(made.chunks)):
        chunk.score_chunk(folder, made.chunk(index), ModelLibrary(folder.bucket, Path(bucket.url) / "no-cache", definitions))
    return publishing.finish_job(folder)


def failure(bucket: LocalBucket, definitions: Path) -> ScoringError:
    with pytest.raises(ScoringError) as raised:
        score(bucket, definitions)
    assert isinstance(raised.value, ModelError), raised.value
    assert raised.value.exit_code == 4
    assert "\n" not in raised.value.message
    assert len(raised.value.message) < 1500
    return raised.value


# --- while scoring


@pytest.mark.parametrize("what", RAISES)
def test_a_definition_that_raises_while_scoring_is_named_with_file_line_and_first_row(bucket, definitions, what):
    statement, says = RAISES[what]
    file = define(definitions, predicting=statement if statement.startswith("\n") else f"if X['att1'].any(): {statement}")
    train(make_training(bucket, "bad"), definitions)
    spoil(definitions, "predicting")
    said = failure(bucket, definitions).message
    lines = (bucket.read(EVAL) or b"").decode().splitlines()
    first = next(number for number, line in enumerate(lines[1:], 2) if line.split(",")[1] == "1" or statement.startswith("\n"))
    assert re.match(rf"the definition bad failed in predict on line {first} of {EVAL} \(entity_id \d+, device \d\): ", said), said
    assert re.search(says, said), said
    assert re.search(rf"\({file}, line \d+\)$", said), said


def test_a_failure_of_a_whole_block_that_no_row_causes_alone_is_said_to_be_one(bucket, definitions):
    define(definitions, predicting="if len(X) > 7: raise ValueError('too many')")
    train(make_training(bucket, "bad"), definitions)
    spoil(definitions, "predicting")
    assert re.search(
        r"on the 14 rows from line \d+ of .* to line \d+ of .*, and on none of them alone: ValueError", failure(bucket, definitions).message
    )


@pytest.mark.parametrize("what", GIVES)
def test_a_definition_that_gives_something_else_than_rates_is_named_with_file_line_and_first_row(bucket, definitions, what):
    given, says = GIVES[what]
    file = define(definitions, predicting=f"return {given}")
    train(make_training(bucket, "bad"), definitions)
    spoil(definitions, "predicting")
    said = failure(bucket, definitions).message
    assert re.match(f"the definition bad {says}", said) or re.search(says, said), said
    assert re.search(rf"first with (line 2 |the \d+ rows from line 2 )of {EVAL}" if what != "a sorted series" else "first with ", said), (
        said
    )
    assert re.search(rf"\(predict in {file}, line \d+\)$", said), said


@pytest.mark.parametrize("what", SILENTLY_WRONG)
def test_a_preparation_that_moves_or_loses_rows_is_refused(bucket, definitions, what):
    file = define(definitions, preparing=SILENTLY_WRONG[what])
    train(make_training(bucket, "bad"), definitions)
    spoil(definitions, "preparing")
    said = failure(bucket, definitions).message
    assert said.startswith("the definition bad gave "), said
    assert f"(data_preparation in {file}, line " in said


@pytest.mark.parametrize("what", HARMLESS)
@pytest.mark.filterwarnings("ignore")
def test_what_a_definition_does_to_its_input_or_process_changes_no_rate(bucket, definitions, what):
    define(definitions, predicting=HARMLESS[what])
    train(make_training(bucket, "bad"), definitions)
    before = Path.cwd(), signal.getsignal(signal.SIGTERM), np.geterr()
    text = text_at(bucket, score(bucket, definitions).result)
    spoil(definitions, "predicting")
    assert text_at(bucket, score(bucket, definitions, minute=40).result) == text
    assert (Path.cwd(), signal.getsignal(signal.SIGTERM), np.geterr()) == before


def test_rates_that_are_no_numbers_reject_single_rows_and_fail_the_job_when_they_are_most_of_the_rejects(bucket, definitions):
    file = define(definitions, predicting="rates[X['att1'].to_numpy() == 1] = np.nan")
    train(make_training(bucket, "bad"), definitions)
    spoil(definitions, "predicting")
    said = failure(bucket, definitions)
    assert re.search(rf"\d+ of 59 rows of {EVAL} cannot be scored .*; the definition bad gave no number that can be a rate", said.message)
    assert f"(predict in {file}, line " in said.message
    assert "scoring models check bad" in said.next_step
    score_with_rejects = make_job(bucket, table=EVAL, model="bad", minute=50, max_reject_share=1.0)
    made = plan(score_with_rejects)
    for index in range(len(made.chunks)):
        chunk.score_chunk(score_with_rejects, made.chunk(index), ModelLibrary(score_with_rejects.bucket, bucket.root, definitions))
    assert publishing.finish_job(score_with_rejects).state == "done"


def test_rates_that_are_all_no_numbers_fail_the_job_however_many_rejects_it_allows(bucket, definitions):
    define(definitions, predicting="rates[:] = np.nan")
    train(make_training(bucket, "bad"), definitions)
    spoil(definitions, "predicting")
    assert failure(bucket, definitions).message.startswith(
        f"none of the 59 rows of {EVAL} can be scored; the definition bad gave no number"
    )


# --- while loading


@pytest.mark.parametrize("what", [name for name in RAISES if name != "recurses"])
def test_a_definition_that_raises_while_loading_is_named_with_its_release(bucket, definitions, what):
    statement, says = RAISES[what]
    file = define(definitions, loading=statement)
    release = train(make_training(bucket, "bad"), definitions).release
    spoil(definitions, "loading")
    said = failure(bucket, definitions).message
    assert said.startswith(f"the definition bad cannot load {release}: "), said
    assert re.search(says, said), said
    assert re.search(rf"\({file}, line \d+\)$", said), said


def test_code_that_changes_is_refused_by_a_process_that_has_the_release_in_memory(bucket, definitions):
    file = define(definitions)
    train(make_training(bucket, "bad"), definitions)
    score(bucket, definitions)
    text = file.read_text()
    for changed in (text.replace("0.25 + ", "0.75 + "), text + "\n"):
        file.write_text(changed)
        with pytest.raises(ModelError, match="the code of the definition bad was changed since") as refused:
            score_again(bucket, definitions)
        assert "scoring train bad" in refused.value.next_step
    (file.parent / "helper.py").touch()
    file.write_text(text)
    with pytest.raises(ModelError, match="the code of the definition bad was changed since"):
        score_again(bucket, definitions)
    (file.parent / "helper.py").unlink()
    score_again(bucket, definitions)


def score_again(bucket: LocalBucket, definitions: Path) -> None:
    minute = 31 + len(bucket.folders("jobs"))
    folder = make_job(bucket, table=EVAL, model="bad", minute=minute)
    chunk.score_chunk(folder, plan(folder).chunk(0), ModelLibrary(folder.bucket, bucket.root, definitions))


# --- while training


@pytest.mark.parametrize("what", RAISES)
def test_a_definition_that_raises_in_training_fails_it_and_nothing_is_published(bucket, definitions, what):
    statement, says = RAISES[what]
    define(definitions, predicting=statement)
    spoil(definitions, "predicting")
    with pytest.raises(ModelError) as raised:
        train(make_training(bucket, "bad"), definitions)
    assert raised.value.message.startswith("the definition bad failed in train: ")
    assert re.search(says, raised.value.message)
    assert not bucket.folders("model")


def test_rates_that_are_no_numbers_in_training_are_told_with_row_file_and_line(bucket, definitions):
    file = define(definitions, predicting="rates[3:] = np.nan")
    spoil(definitions, "predicting")
    with pytest.raises(DefinitionError) as raised:
        train(make_training(bucket, "bad"), definitions)
    assert re.match(
        r"the definition bad gave nan as the rate of \d+ of \d+ rows of .*train.csv, first with row 4 of ", raised.value.message
    )
    assert f"(predict in {file}, line " in raised.value.message
    assert "scoring models check bad" in raised.value.next_step
    assert "resume" not in raised.value.next_step


@pytest.mark.parametrize(
    ("saving", "says"),
    [
        ("Path(path, 'more').mkdir()", "saves more, which is not a file"),
        ("Path(path, 'more').symlink_to('/etc/passwd')", "saves more, which is not a file"),
        ("import os; os.mkfifo(Path(path, 'more'))", "saves more, which is not a file"),
        ("raise OSError(28, 'No space left')", r"failed in save: OSError\(28"),
        ("return", "saved no model.txt"),
    ],
)
def test_a_definition_that_saves_something_else_than_files_fails_the_training(bucket, definitions, saving, says):
    file = define(definitions)
    file.write_text(file.read_text().replace("    def save(self, path):\n", f"    def save(self, path):\n        {saving}\n"))
    with pytest.raises(ModelError, match=says):
        train(make_training(bucket, "bad"), definitions)
    assert not bucket.folders("model")


# --- what is published is what was judged


@pytest.mark.parametrize(
    ("loading", "says"),
    [
        ("raise ImportError('No module named numpy._cure')", r"the definition bad cannot load bad@\S+: ImportError"),
        ("import os; os.abort()", r"it kills its process when it is loaded \(SIGABRT\)"),
        ("import os; os._exit(0)", r"it kills its process when it is loaded \(exit code 0\)"),
        ("import os; os.kill(os.getpid(), 9)", "SIGKILL.*most likely for lack of memory"),
        ("import time; time.sleep(600)", "it hangs when it is loaded: it was stopped after 1 s"),
        ("import os; os.kill(os.getppid(), 0); raise SystemExit", "SystemExit"),
    ],
)
def test_a_release_that_cannot_be_loaded_in_a_process_of_its_own_is_not_published(bucket, definitions, loading, says):
    define(definitions, loading=loading)
    spoil(definitions, "loading")
    folder = make_training(bucket, "bad", promote="always", alias="mine")
    with pytest.raises(ModelError, match=says) as raised:
        releasing.train_release(folder, library_of(bucket, definitions), loading=IsolatedLoading(seconds=1.0))
    assert "the release that bad saved cannot be used, and nothing is published" in raised.value.message
    assert not bucket.folders("model/v1")
    assert not list_aliases(bucket)


@pytest.mark.parametrize(
    ("loaded", "says"),
    [
        ("self.model = 0.5", "gives another rate than was judged for 59 of 59 rows"),
        ("self.model = 0.25 + 1e-15", "gives another rate than was judged for 59 of 59 rows"),
        ("self.model = float('nan')", "nan instead of 0.25"),
    ],
)
def test_a_release_that_gives_other_rates_than_were_judged_is_not_published(bucket, definitions, loaded, says):
    file = define(definitions)
    code = file.read_text().replace("self.model = float(Path(path).read_text())", loaded)
    file.write_text(code.replace("rates = 0.25 +", "rates = self.model +"))
    with pytest.raises(ModelError, match=says) as raised:
        train(make_training(bucket, "bad", promote="always"), definitions)
    assert f"for row 1 of {EVAL} (entity_id " in raised.value.message
    assert not list_aliases(bucket)


def test_a_release_that_lives_on_what_its_training_left_in_memory_is_not_published(bucket, definitions):
    file = define(definitions)
    code = file.read_text().replace("self.model = 0.25\n", "self.model = 0.25\n        type(self).LEFT = 0.01\n")
    file.write_text(code.replace("rates = 0.25 +", "rates = 0.25 + getattr(type(self), 'LEFT', 0) +"))
    with pytest.raises(ModelError, match="gives another rate than was judged"):
        train(make_training(bucket, "bad"), definitions)


def test_a_release_whose_bounds_are_others_once_it_is_loaded_is_not_published(bucket, definitions):
    file = define(definitions)
    interval = "    def predict_interval(self, X):\n        return self.predict(X) * getattr(self, 'low', 0.5), self.predict(X) * 2\n\n"
    code = file.read_text().replace("    def save(", f"{interval}    def save(")
    file.write_text(code)
    assert manifest_of(bucket, train(make_training(bucket, "bad"), definitions)).interval
    file.write_text(code + "        self.low = 0.25\n")
    with pytest.raises(ModelError, match="gives another lower bound than was judged for 59 of 59 rows"):
        train(make_training(bucket, "bad", minute=1), definitions)


# --- rivals


@pytest.mark.parametrize(
    ("loading", "says"),
    [
        ("import os; os.abort()", "it kills its process when it is loaded (SIGABRT)"),
        ("import time; time.sleep(600)", "it hangs when it is loaded: it was stopped after 2 s"),
        ("raise SystemExit(1)", "SystemExit(1)"),
        ("raise OSError(28, 'No space left')", "No space left"),
    ],
)
def test_a_rival_that_dies_hangs_or_raises_is_left_out_and_the_others_are_compared(bucket, definitions, loading, says):
    define(definitions, loading=loading)
    add_definition(definitions, "good", WELL_BEHAVED)
    bad = train(make_training(bucket, "bad", minute=1), definitions).release
    good = train(make_training(bucket, "good"), definitions).release  # the older one, so it is asked after the bad one
    spoil(definitions, "loading")
    told = []
    loading = IsolatedLoading(seconds=2.0, on_crash=lambda *killer: told.append(killer))
    outcome = releasing.train_release(make_training(bucket, "v1", minute=2), library_of(bucket, definitions), loading=loading)
    evaluation = manifest_of(bucket, outcome).evaluation
    assert outcome.state == "done"
    assert list(evaluation.not_compared) == [bad]
    assert says in evaluation.not_compared[bad]
    assert good in evaluation.differences
    assert [release for release, _ in told] == ([bad] if says.startswith("it ") else [])


def test_a_rival_whose_code_ends_the_process_at_import_is_left_out(bucket, definitions):
    file = define(definitions)
    bad = train(make_training(bucket, "bad"), definitions).release
    file.write_text("import os\nif 'isolated' in str(os.environ.get('PYTHONPATH', '')) or True:\n    os.abort()\n")
    outcome = train(make_training(bucket, "v1", minute=2), definitions)
    assert outcome.state == "done"
    assert "it kills its process when it is loaded (SIGABRT)" in manifest_of(bucket, outcome).evaluation.not_compared[bad]


# --- importance and checks


@pytest.mark.parametrize(
    "statement", ["raise SystemExit", "raise OSError(28, 'full')", "return {'att1': 'much'}", "return None", "return 5"]
)
def test_a_definition_whose_importance_fails_is_published_without_it(bucket, definitions, statement):
    file = define(definitions)
    file.write_text(file.read_text().replace("    def save(", f"    def importance(self):\n        {statement}\n\n    def save("))
    outcome = train(make_training(bucket, "bad"), definitions)
    assert manifest_of(bucket, outcome).evaluation.importance is None


@pytest.mark.parametrize("what", RAISES)
def test_the_checks_name_the_line_that_raises(definitions, what):
    statement, says = RAISES[what]
    file = define(definitions, predicting=statement)
    spoil(definitions, "predicting")
    findings = {finding.check: finding for finding in checks.run_checks("bad", definitions)}
    assert findings["predicts_every_row"].outcome == "failed"
    assert re.search(says, findings["predicts_every_row"].why), findings["predicts_every_row"].why
    assert f"{file}, line " in findings["predicts_every_row"].why


def test_the_fresh_interpreter_loads_a_release_and_ends_with_its_parent(bucket, definitions, monkeypatch):
    monkeypatch.setattr(isolated_loading, "start_loader", isolated_loading.FreshInterpreter)
    define(definitions, loading="import time; time.sleep(600)")
    assert train(make_training(bucket, "bad"), definitions).state == "done"
    spoil(definitions, "loading")
    code = f"""
from pathlib import Path
from model_store.library import ModelLibrary
from shared.bucket.local import LocalBucket
from tests.trainings import make_training
from workers.training import releasing as training
bucket = LocalBucket(Path({str(bucket.root)!r}))
library = ModelLibrary(bucket, Path({str(bucket.root.parent / "home" / "releases")!r}), Path({str(definitions)!r}))
training.train_release(make_training(bucket, "bad", minute=3), library)
"""
    parent = subprocess.Popen([sys.executable, "-c", code])
    loaders = wait_until(lambda: children_of(parent.pid), 60, "the start of the loader")
    parent.kill()
    parent.wait()
    wait_until(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in loaders), 20, "the end of the loader")


def children_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
