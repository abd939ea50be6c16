"""A search tries every candidate on folds that are honest, wastes nothing on hopeless ones, and goes on from whatever is in the folder."""

import json
import math
import re
from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_store.evaluation.metrics import Observations
from model_store.store import read_manifest
from producers.sample.tables import write_table
from shared.bucket.local import LocalBucket
from shared.catalog.manifests import TableFingerprint
from shared.errors import ModelError, RequestError, StaleMessageError, TableError
from shared.jobs.folder import JobFolder
from shared.jobs.messages import TrainJob
from shared.jobs.search_config import SearchConfig
from shared.queue.broker import make_app
from shared.queue.routes import TRAIN_CANDIDATE, TRAIN_FIT
from shared.settings import Settings
from tests.handmade import NOON
from tests.trainings import library_of
from tests.unit.workers.recovery.test_sweep import make_older, sent
from workers.tables.training import table as training_table
from workers.tables.training.table import TrainingTable
from workers.tasks import candidates, context
from workers.training import fitting, releasing
from workers.training.search import steps
from workers.training.search.folds import BLOCKS, folds_of, sides, weeks_in_order
from workers.training.search.rounds import FoldRecord, SearchPlan, compare, conclude, next_round

TRAIN = "data/train/2026/11/23/train.csv"
GRID = b"folds: 3\nparameters:\n  ridge_clicks: [10, 30000, 1e+9]\n"

CLUMSY = """
from model_store import model_template
import numpy as np

class Model(model_template.Model):
    MODEL_FILE = "model.skops"

    def _model_definition(self, config=None):
        self.params = dict(config or {})

    def train(self, X, y, sample_weight=None):
        if self.params.get("rate", 0.05) > 1:
            raise ValueError("a rate above 1")
        self.model = {"rate": self.params.get("rate", 0.05)}
        return self.score(y, self.predict(X))

    def predict(self, X):
        return np.full(len(X), float(self.model["rate"]))
"""

OLDER_WITH_A_SEARCH = """
from pathlib import Path
import importlib.util, json
import numpy as np
from model_store import model_template

class Tree:
    def __init__(self, depth): self.depth = depth
    def get_params(self): return {"depth": self.depth, "other": 1}

class Model(model_template.Model):
    def _model_definition(self, config=None): pass
    def train(self, X, y): raise AssertionError("the search trains")
    def grid_search(self, X, y, config):
        assert config == {"depth": [5, 10]}, config
        self.model = Tree(config["depth"][1])
        return self.score(y, self.predict(X))
    def predict(self, X): return np.full(len(X), 0.05)
    def save(self, path):
        Path(path).mkdir(parents=True, exist_ok=True)
        (Path(path) / "model.pkl").write_text(str(self.model.depth))
    def load(self, path): self.model = Tree(int(Path(path).read_text()))
"""


OLDER_WITHOUT_A_SEARCH = """
from sklearn.dummy import DummyRegressor
from model_store import model_template

class Model(model_template.Model):
    def __init__(self, model=None):
        self.model = model

    def _model_definition(self, config={"constant": 0.5}):
        if self.model is None:
            self.model = DummyRegressor(strategy="constant", **config)

    def train(self, X, y):
        if self.model is None:
            self._model_definition()
        self.model.fit(X, y)
        return self.score(y, self.predict(X))

    def predict(self, X):
        return self.model.predict(X)
"""


@pytest.fixture
def bucket(tmp_path) -> LocalBucket:
    bucket = LocalBucket(tmp_path / "bucket")
    made = write_table(tmp_path / "train.csv", 3000, 1, week=4, weeks=4)
    bucket.upload(made.path, TRAIN)
    steps.forget_table()
    return bucket


@pytest.fixture
def definitions(tmp_path):
    for name, source in (("clumsy", CLUMSY), ("older", OLDER_WITH_A_SEARCH), ("plain", OLDER_WITHOUT_A_SEARCH)):
        folder = tmp_path / "definitions" / name
        folder.mkdir(parents=True)
        (folder / "model.py").write_text(source)
    return tmp_path / "definitions"


def search_job(bucket, config=GRID, definition="v1", created=NOON) -> JobFolder:
    folder = JobFolder(bucket, "20261123t120000z-train-1")
    job = TrainJob(job_id=folder.job_id, created=created, definition=definition, train=TRAIN, config=folder.file("params.yaml"))
    bucket.write(job.config, config)
    assert folder.create(job)
    return folder


def run_search(folder, definitions=None) -> list[tuple[int, int]]:
    """Tries what is to be tried until the search is over; returns candidate and fold of each try."""
    tried = []
    while messages := steps.next_messages(folder, library_of(folder.bucket, definitions)):
        for message in messages:
            steps.score_candidate(folder, message.candidate, message.fold, library_of(folder.bucket, definitions))
            tried.append((message.candidate, message.fold))
    return tried


def finish(folder, definitions=None):
    outcome = releasing.train_release(folder, library_of(folder.bucket, definitions), find=lambda table: steps.found(folder, table))
    return read_manifest(folder.bucket, outcome.release).search


# --- folds


def table_of(keywords, weeks) -> TrainingTable:
    rows = len(keywords)
    ones = np.ones(rows)
    happened = Observations(entity_id=np.array(keywords), device=np.zeros(rows, dtype=np.int8), conversions=ones, clicks=ones)
    fingerprint = TableFingerprint(path="data/train/train.csv", files={}, rows=rows, rejected=0)
    week = None if weeks is None else np.array(weeks, dtype=np.float64)
    return TrainingTable(frame=pd.DataFrame({"cr": ones}), observations=happened, columns=[], fingerprint=fingerprint, week=week)


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 6)), min_size=2, max_size=200), st.booleans(), st.integers(2, 8))
def test_no_keyword_of_a_week_is_ever_on_both_sides_of_a_fold(rows, has_weeks, wanted):
    keywords, weeks = zip(*rows, strict=True)
    table = table_of(keywords, weeks if has_weeks else None)
    several_weeks = has_weeks and len(set(weeks)) > 1
    if not several_weeks and len(set(keywords)) == 1:
        with pytest.raises(TableError, match="one keyword in one week"):
            folds_of(table, wanted)
        return
    folds = folds_of(table, wanted)
    assert 1 <= len(folds) <= wanted
    evaluated_before = np.zeros(len(rows), dtype=bool)
    for fold in folds:
        fitted, evaluated = sides(table, fold)
        assert fitted.any()
        assert evaluated.any()
        here = {(keyword, week) for (keyword, week), on in zip(rows, fitted, strict=True) if on}
        there = {(keyword, week) for (keyword, week), on in zip(rows, evaluated, strict=True) if on}
        assert not here & there
        if several_weeks:
            assert max(week for _, week in here) < min(week for _, week in there), "trained on what comes later"
        else:
            assert not {keyword for keyword, _ in here} & {keyword for keyword, _ in there}
            assert (fitted | evaluated).all()
        assert not (evaluated & evaluated_before).any(), "a row is evaluated on twice"
        evaluated_before |= evaluated


def test_folds_of_several_weeks_are_the_latest_ones():
    folds = folds_of(table_of([1] * 5, [30, 31, 32, 33, 34]), 3)
    assert [fold.words for fold in folds] == [
        "week 32 after weeks 30 to 31",
        "week 33 after weeks 30 to 32",
        "week 34 after weeks 30 to 33",
    ]
    assert [fold.words for fold in folds_of(table_of([1, 1], [30, 31]), 3)] == ["week 31 after week 30"]


def test_weeks_go_on_over_new_year():
    table = table_of([1] * 5, [1, 51, 2, 52, 50])
    folds = folds_of(table, 9)
    assert [fold.words for fold in folds] == [
        "week 51 after week 50",
        "week 52 after weeks 50 to 51",
        "week 1 after weeks 50 to 52",
        "week 2 after weeks 50 to 1",
    ]
    fitted, evaluated = sides(table, folds[2])
    assert (fitted.tolist(), evaluated.tolist()) == ([False, True, False, True, True], [True, False, False, False, False])
    # a number that is no week of a year is one of a longer count
    assert weeks_in_order(np.array([100, 1, 60])) == [1, 60, 100]


# --- a search from its beginning to its end


def test_a_grid_is_tried_candidate_by_candidate_and_the_best_one_is_fitted_on_all_rows(bucket):
    folder = search_job(bucket)
    tried = run_search(folder)
    assert [pair for pair in tried if pair[1] == 1] == [(1, 1), (2, 1), (3, 1)]
    search = finish(folder)
    assert search.candidates[0].state == "chosen"
    assert search.chosen == {"ridge_clicks": 30000} == search.candidates[0].params
    assert len(search.candidates[0].folds) == 3
    complete = [candidate.log_loss_per_click for candidate in search.candidates if len(candidate.folds) == 3]
    assert complete == sorted(complete)
    assert search.folds == ["week 2 after week 1", "week 3 after weeks 1 to 2", "week 4 after weeks 1 to 3"]
    assert "standard errors" in search.rule
    assert folder.status().state == "done"


def test_what_a_candidate_reaches_is_what_training_by_hand_reaches(bucket):
    folder = search_job(bucket)
    steps.next_messages(folder, library_of(folder.bucket))
    record = steps.score_candidate(folder, 2, 1, library_of(folder.bucket))
    table = training_table.read_training_table(bucket, TRAIN, None, with_week=True)
    from model_store.evaluation.metrics import evaluate
    from model_store.v1.model import Model

    fitted, later = table.only(table.week == 1), table.only(table.week == 2)
    model = Model(config={"ridge_clicks": 30000})
    model.train(fitted.frame.drop(columns=["cr", "entity_id"]), fitted.frame["cr"], fitted.observations.clicks)
    rates = model.predict(later.frame.drop(columns=["cr", "entity_id"]))
    by_hand = evaluate(later.observations.conversions, later.observations.clicks, rates).log_loss_per_click
    assert sum(record.losses) / sum(record.clicks) == pytest.approx(by_hand, rel=1e-12)


def test_candidates_that_are_clearly_worse_get_no_further_folds_unless_that_is_switched_off(bucket):
    clumsy = b"parameters:\n  ridge_clicks: [0.001, 30000, 1e+12]\n"
    folder = search_job(bucket, clumsy)
    tried = run_search(folder)
    search = finish(folder)
    stopped = [candidate for candidate in search.candidates if candidate.state == "stopped"]
    assert stopped
    assert all("above the chosen one" in candidate.reason for candidate in stopped)
    assert len(tried) < 9
    assert folder.status().chunks == len(tried)


def test_without_early_stops_every_candidate_gets_every_fold(bucket):
    tried = run_search(search_job(bucket, b"stop_early: false\nparameters:\n  ridge_clicks: [0.001, 30000, 1e+12]\n"))
    assert len(tried) == 9


def test_a_resumed_job_does_not_try_finished_candidates_again(bucket, monkeypatch):
    folder = search_job(bucket)
    messages = steps.next_messages(folder, library_of(folder.bucket))
    for message in messages[:2]:
        steps.score_candidate(folder, message.candidate, message.fold, library_of(folder.bucket))
    folder.cancel()
    assert steps.next_messages(folder, library_of(folder.bucket)) == []
    assert steps.score_candidate(folder, 3, 1, library_of(folder.bucket)) is None, "a cancelled job tries nothing"
    folder.reopen()
    fits = []
    fit = fitting.fit
    monkeypatch.setattr(steps, "fit", lambda definition, table, params: (fits.append(dict(params)), fit(definition, table, params))[1])
    assert [(message.candidate, message.fold) for message in steps.next_messages(folder, library_of(folder.bucket))] == [(3, 1)]
    for message in messages:  # messages may come twice
        steps.score_candidate(folder, message.candidate, message.fold, library_of(folder.bucket))
    assert fits == [{"ridge_clicks": 1e9}]


def test_a_broken_record_is_made_again(bucket):
    folder = search_job(bucket)
    run_search(folder)
    before = bucket.read(folder.file("candidates/0002.01.json"))
    for damage in (b"{", before.replace(b'"candidate": 2', b'"candidate": 3'), b"[]"):
        bucket.write(folder.file("candidates/0002.01.json"), damage)
        assert run_search(folder) == [(2, 1)]
        again = json.loads(bucket.read(folder.file("candidates/0002.01.json")))
        assert again | {"seconds": 0} == json.loads(before) | {"seconds": 0}


def test_the_sweep_sends_the_candidates_that_are_missing_and_then_the_fit(bucket):
    folder = search_job(bucket, created=datetime.now(UTC))
    assert sent(bucket) == [(TRAIN_FIT, folder.job_id, [])]
    messages = steps.next_messages(folder, library_of(folder.bucket))
    make_older(folder)
    assert sent(bucket) == [(TRAIN_CANDIDATE, folder.job_id, [])]
    for message in messages:
        steps.score_candidate(folder, message.candidate, message.fold, library_of(folder.bucket))
    make_older(folder)
    assert sent(bucket) == [(TRAIN_FIT, folder.job_id, [])], "the fit makes the next wave"


# --- what fails


def test_a_candidate_that_fails_does_not_fail_the_others(bucket, definitions):
    folder = search_job(bucket, b"parameters:\n  rate: [0.05, 7]\n", "clumsy")
    run_search(folder, definitions)
    search = finish(folder, definitions)
    assert search.chosen == {"rate": 0.05}
    failed = search.candidates[-1]
    assert (failed.state, failed.params, failed.folds) == ("failed", {"rate": 7}, [])
    assert "the definition clumsy failed in train: ValueError('a rate above 1')" in failed.reason


def test_a_job_fails_when_all_its_candidates_do(bucket, definitions):
    folder = search_job(bucket, b"parameters:\n  rate: [7, 8]\n", "clumsy")
    assert run_search(folder, definitions) == [(1, 1), (2, 1)]
    with pytest.raises(ModelError, match=r"all 2 candidates failed, the first one so: .*a rate above 1"):
        finish(folder, definitions)
    assert not bucket.folders("model")


def test_a_candidate_that_is_given_up_counts_as_failed_and_the_search_goes_on(bucket):
    folder = search_job(bucket)
    steps.next_messages(folder, library_of(folder.bucket))
    steps.give_up(folder, 2, 1, "it killed its worker 3 times")
    assert run_search(folder)[:2] == [(1, 1), (3, 1)]
    [failed] = [candidate for candidate in finish(folder).candidates if candidate.state == "failed"]
    assert (failed.number, failed.reason) == (2, "it killed its worker 3 times")


def test_a_candidate_whose_time_is_over_is_given_up_by_its_task(bucket, definitions, monkeypatch):
    source = definitions / "clumsy/model.py"
    late = CLUMSY.replace("ValueError(", "SoftTimeLimitExceeded(").replace(
        "import numpy", "from billiard.exceptions import SoftTimeLimitExceeded\nimport numpy"
    )
    source.write_text(late)
    monkeypatch.setattr(context, "settings", lambda: Settings(definitions=definitions))
    folder = search_job(bucket, b"parameters:\n  rate: [0.05, 7]\n", "clumsy")
    [_, message] = steps.next_messages(folder, library_of(folder.bucket, definitions))
    candidates.try_or_give_up(SimpleNamespace(app=make_app(Settings())), message, folder, SimpleNamespace(crashes=0))
    run_search(folder, definitions)
    [failed] = [candidate for candidate in finish(folder, definitions).candidates if candidate.state == "failed"]
    assert (failed.params, failed.reason) == ({"rate": 7}, "it took longer than 840 seconds")


def test_people_are_notified_of_the_best_so_far_but_not_with_every_candidate(bucket):
    folder = search_job(bucket, b"parameters:\n  ridge_clicks: [10, 30000]\n")
    messages = steps.next_messages(folder, library_of(folder.bucket))
    steps.score_candidate(folder, 1, 1, library_of(folder.bucket))
    steps.write_best_candidate(folder)
    assert "trying 2 candidates" in folder.status().reason, "that was said a moment ago"
    make_older(folder)
    steps.write_best_candidate(folder)
    assert re.fullmatch(r"best so far 0\.\d{5} on 1 of 3 folds: ridge_clicks 10", folder.status().reason)
    steps.score_candidate(folder, 2, 1, library_of(folder.bucket))
    make_older(folder)
    steps.write_best_candidate(folder)
    assert folder.status().reason.endswith("on 1 of 3 folds: ridge_clicks 30000")
    assert (folder.status().chunks_done, folder.status().chunks) == (len(messages), 6)


def test_when_the_leader_fails_later_those_that_were_stopped_for_it_go_on(bucket, definitions):
    folder = search_job(bucket, b"parameters:\n  rate: [0.9, 0.05]\n", "clumsy")
    library = library_of(bucket, definitions)
    for message in steps.next_messages(folder, library):
        steps.score_candidate(folder, message.candidate, message.fold, library)
    assert [(message.candidate, message.fold) for message in steps.next_messages(folder, library)] == [(2, 2)], "the first one is stopped"
    steps.give_up(folder, 2, 2, "it killed its worker 3 times")
    assert run_search(folder, definitions) == [(1, 2), (1, 3)]
    assert finish(folder, definitions).chosen == {"rate": 0.9}


@pytest.mark.parametrize(
    ("config", "definition", "error", "sentence"),
    [
        (
            b"parameters:\n  leaves: [1, 2]\n",
            "v1",
            ModelError,
            "v1 takes none of the candidates of the config: there is no parameter leaves",
        ),
        (b"parameters:\n  rigde: [1]\n", "v2", ModelError, "there is no parameter rigde; there are"),
        (b"{", "v1", RequestError, "is not YAML"),
        (GRID, "v99", ModelError, "there is no definition 'v99'"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_the_table_is_read(bucket, monkeypatch, config, definition, error, sentence):
    monkeypatch.setattr(steps, "read_training_table", lambda *_, **__: pytest.fail("the table was read"))
    with pytest.raises(error, match=sentence):
        steps.next_messages(search_job(bucket, config, definition), library_of(bucket))


def test_a_table_that_changes_when_its_search_is_over_is_not_fitted_with_what_was_found_on_another(bucket, definitions):
    folder = search_job(bucket, b"parameters:\n  rate: [0.05, 0.06]\n", "clumsy")
    run_search(folder, definitions)
    header, *rows = (bucket.read(TRAIN) or b"").splitlines(keepends=True)
    bucket.write(TRAIN, header + b"".join(rows[1:]))
    with pytest.raises(TableError, match="changed while its job ran"):
        finish(folder, definitions)
    assert bucket.folders("model") == []


def test_a_definition_or_table_that_changes_while_candidates_are_tried_fails_the_job(bucket, definitions):
    folder = search_job(bucket, b"parameters:\n  rate: [0.05, 0.06]\n", "clumsy")
    steps.next_messages(folder, library_of(folder.bucket, definitions))
    source = definitions / "clumsy/model.py"
    source.write_text(CLUMSY.replace("0.05", "0.07"))
    with pytest.raises(ModelError, match="the definition clumsy was changed since the search"):
        steps.score_candidate(folder, 1, 1, library_of(folder.bucket, definitions))
    source.write_text(CLUMSY)
    bucket.write(TRAIN, bucket.read(TRAIN) + b"\n")
    steps.forget_table()
    with pytest.raises(TableError, match="changed while its job ran"):
        steps.score_candidate(folder, 1, 1, library_of(folder.bucket, definitions))


def test_an_order_for_what_the_search_does_not_try_is_refused(bucket):
    folder = search_job(bucket)
    with pytest.raises(StaleMessageError, match="searches for nothing"):
        steps.score_candidate(folder, 1, 1, library_of(folder.bucket))
    steps.next_messages(folder, library_of(folder.bucket))
    for candidate, fold in ((4, 1), (1, 2)):
        with pytest.raises(StaleMessageError, match=f"does not try a candidate {candidate} on a fold {fold}"):
            steps.score_candidate(folder, candidate, fold, library_of(folder.bucket))


def test_a_definition_that_brings_its_own_search_is_left_to_it(bucket, definitions):
    folder = search_job(bucket, b"depth: [5, 10]\n", "older")
    assert steps.next_messages(folder, library_of(folder.bucket, definitions)) == []
    search = finish(folder, definitions)
    assert search.method == "the grid_search of older itself"
    assert search.chosen == {"depth": 10}
    assert search.config == {"parameters": {"depth": [5, 10]}}


def test_parameters_reach_a_definition_that_is_set_up_as_the_older_service_did(bucket, definitions):
    folder = search_job(bucket, b"constant: [0.9, 0.05, 0.5]\n", "plain")
    run_search(folder, definitions)
    search = finish(folder, definitions)
    assert search.chosen == {"constant": 0.05}
    assert [candidate.params["constant"] for candidate in search.candidates] == [0.05, 0.5, 0.9]
    assert folder.outcome().facts["best parameters"] == "constant=0.05"
    assert folder.outcome().facts["candidates"] == "3 on 3 folds, 2 stopped"


# --- early stops


CLICKS = [100.0] * BLOCKS


def plan_of(count, folds=3) -> SearchPlan:
    return SearchPlan(
        job_id="job-1",
        made=NOON,
        definition_sha256="0" * 64,
        config=SearchConfig(parameters={"a": list(range(count))}),
        folds=[{"week": float(week), "words": f"week {week}"} for week in range(2, folds + 2)],
        table=TableFingerprint(path="data/train/train.csv", files={}, rows=1, rejected=0),
    )


def simulate(losses: np.ndarray):
    """Runs a whole search on losses of the shape candidates x folds x blocks; returns what was found and which pairs were tried."""
    plan, rounds, records = plan_of(*losses.shape[:2]), [], {}
    while (this_round := next_round(plan, rounds, records)) is not None:
        rounds.append(this_round)
        for trial in this_round.candidates:
            values = losses[trial.number - 1, this_round.fold - 1].tolist()
            key = (trial.number, this_round.fold)
            records[key] = FoldRecord(candidate=key[0], fold=key[1], params=trial.params, losses=values, clicks=CLICKS, seconds=1.0)
    return conclude(plan, rounds, records), set(records)


@given(st.integers(2, 8), st.integers(0, 10_000))
def test_the_winner_is_never_stopped_where_its_lead_is_hidden_by_no_more_than_the_margin(count, seed):
    dice = np.random.default_rng(seed)
    groups = dice.normal(20, 4, (1, 3, BLOCKS))
    quality = np.sort(dice.gamma(1, 1.0, count))[:, None, None]
    losses = groups + quality + dice.normal(0, 1.5, (count, 3, BLOCKS))
    totals = losses.sum(axis=(1, 2))
    winner = int(np.argmin(totals)) + 1

    # by hand, all groups having as many clicks: the mean over groups of the surplus, and three times its standard error
    surplus = [losses[winner - 1, :upto].sum(axis=0) - losses[:, :upto].sum(axis=1) for upto in (1, 2)]
    holds = all((one.mean(axis=1) <= 3 * one.std(axis=1, ddof=1) / math.sqrt(BLOCKS)).all() for one in surplus)
    search, tried = simulate(losses)
    if holds:
        assert search.candidates[0].number == winner
        assert {(winner, fold) for fold in (1, 2, 3)} <= tried
    again, tried_again = simulate(losses)
    assert (again, tried_again) == (search, tried), "the same losses stop the same candidates"


def test_hopeless_candidates_are_stopped_after_their_first_fold():
    dice = np.random.default_rng(1)
    losses = dice.normal(20, 4, (1, 3, BLOCKS)) + np.array([0.0, 0.02, 9.0])[:, None, None] + dice.normal(0, 0.3, (3, 3, BLOCKS))
    search, tried = simulate(losses)
    assert len(tried) == 7
    assert (3, 2) not in tried
    assert [candidate.state for candidate in search.candidates] == ["chosen", "tried", "stopped"]


def test_the_difference_of_two_candidates_is_judged_by_its_paired_error():
    """The error against that of a mean over groups, which it is where all groups have as many clicks."""
    dice = np.random.default_rng(3)
    one, other = dice.normal(20, 4, BLOCKS), dice.normal(21, 4, BLOCKS)

    def record(values):
        return FoldRecord(candidate=1, fold=1, params={}, losses=values.tolist(), clicks=CLICKS, seconds=1.0)

    found = compare([record(one)], [record(other)])
    assert found.mean == pytest.approx((one - other).mean() / 100)
    assert found.error == pytest.approx((one - other).std(ddof=1) / math.sqrt(BLOCKS) / 100)
