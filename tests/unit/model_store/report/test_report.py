"""The report of a release needs nothing beside it, escapes every name, and holds the figures of the manifest."""

import itertools
import re

import pytest

from model_store.report.charts import ticks
from model_store.report.page import make_report
from shared.bucket.local import LocalBucket
from shared.catalog.manifests import REPORT, Candidate, CandidateState, Estimate, ReleaseManifest, Search
from tests.html_pages import SeenPage, check_that_it_loads_and_runs_nothing
from tests.trainings import TRAIN, make_training, manifest_of, train, write_training_tables


@pytest.fixture(scope="module")
def bucket(tmp_path_factory) -> LocalBucket:
    bucket = LocalBucket(tmp_path_factory.mktemp("report") / "bucket")
    write_training_tables(bucket, rows=2500)
    train(make_training(bucket, "v1", promote="auto"))
    return bucket


@pytest.fixture(scope="module")
def outcome(bucket):
    return train(make_training(bucket, "v2", minute=1, promote="auto"))


@pytest.fixture(scope="module")
def manifest(bucket, outcome) -> ReleaseManifest:
    return manifest_of(bucket, outcome)


@pytest.fixture(scope="module")
def page(bucket, outcome) -> str:
    return bucket.read(f"{outcome.result}/{REPORT}").decode()


def test_the_report_is_one_of_the_files_that_the_manifest_vouches_for(manifest, page):
    assert manifest.files[REPORT].size == len(page.encode())


def test_the_page_loads_nothing_and_runs_nothing(page):
    check_that_it_loads_and_runs_nothing(page)


def test_its_figures_are_those_of_the_manifest(manifest, page):
    text, found = SeenPage(page).text, manifest.evaluation
    for predictors in manifest.metrics.values():
        for metrics in predictors.values():
            for name in ("log_loss_per_click", "mae_by_click", "calibration_error"):
                assert f"{metrics[name]:.5f}" in text
    for name, difference in found.differences.items():
        assert name in text
        assert f"{difference.value:+.5f}" in text
        assert f"{difference.low:+.5f} to {difference.high:+.5f}" in text
    for slices in found.slices.values():
        for name, figures in slices.items():
            assert name in text
            assert f"{figures.metrics['v2']['log_loss_per_click']:.5f}" in text
            assert f"{figures.residual.value * 100:+.2f}" in text
    for name in list(found.importance.columns)[:12]:
        assert name in text
    assert found.gate.reason[1:] in text
    for table in manifest.tables.values():
        assert table.contents in text
        assert f"{table.rows:,} rows used" in text
    assert manifest.definition_sha256 in text
    assert f"lightgbm {manifest.libraries['lightgbm']}" in text


def test_every_chart_is_there_with_words_for_who_does_not_see_it(page):
    seen = SeenPage(page)
    assert seen.tags.count("svg") == seen.tags.count("figure") == 7
    assert [value for name, value in seen.attributes if name == "role"].count("img") == 7
    assert seen.tags.count("title") >= 8


def test_names_cannot_become_markup(manifest):
    hostile = "<script>alert('\"&')</script>"
    evaluation, summary = manifest.evaluation, manifest.evaluation.summaries["eval"]
    tablet = evaluation.slices["device"]["Tablet"]
    metrics = {table: {hostile if name == "v2" else name: of for name, of in found.items()} for table, found in manifest.metrics.items()}
    swapped = {
        "release": f"{hostile}@20261123T120100Z-abcdef",
        "definition": hostile,
        "job_id": hostile,
        "columns": [manifest.columns[0].model_copy(update={"name": hostile})],
        "tables": {hostile: manifest.tables["eval"].model_copy(update={"path": hostile})},
        "metrics": metrics,
        "libraries": {hostile: hostile},
        "evaluation": evaluation.model_copy(
            update={
                "differences": evaluation.differences | {hostile: evaluation.differences["mean of all"]},
                "not_compared": {hostile: hostile},
                "gains": {hostile: evaluation.gains["v2"]},
                "importance": evaluation.importance.model_copy(update={"what": hostile, "columns": {hostile: 1.0}}),
                "summaries": evaluation.summaries | {hostile: summary.model_copy(update={"device_clicks": {hostile: 1.0}})},
                "gate": evaluation.gate.model_copy(update={"reason": hostile, "champion": hostile}),
                "slices": {hostile: {hostile: tablet.model_copy(update={"metrics": {hostile: tablet.metrics["v2"]}})}},
            }
        ),
    }
    page = make_report(manifest.model_copy(update=swapped))
    assert "<script" not in page
    seen = SeenPage(page)
    assert not seen.open
    assert "script" not in seen.tags
    assert seen.text.count(hostile) >= 10


def test_a_release_without_a_later_table_says_what_its_figures_are_worth(bucket):
    outcome = train(make_training(bucket, "v1", minute=9, eval=None, promote="auto"))
    page = bucket.read(f"{outcome.result}/{REPORT}").decode()
    assert "There was no evaluation table: all figures are of the training table itself" in page
    assert "Not promoted: it was judged on no table but the one it was trained on" in page


def test_the_page_of_a_searched_release_says_what_was_tried_and_chosen(manifest, page):
    assert "found by" not in page
    states = map(CandidateState, ("chosen", "tried", "stopped", "stopped", "failed"))
    search = Search(
        method="a grid",
        config={},
        folds=["week 2 by week 1", "week 3 by weeks 1 to 2"],
        candidates=[
            Candidate(number=number, params={"alpha": number}, state=state, log_loss_per_click=None, folds=[])
            for number, state in enumerate(states)
        ],
        chosen={"alpha": 0, "depth": "<deep>"},
    )
    words = SeenPage(make_report(manifest.model_copy(update={"search": search}))).words
    facts = dict(itertools.pairwise(words))
    assert facts["found by"] == "a grid, 5 candidates, 2 stopped, 1 failed"
    assert facts["folds"] == "week 2 by week 1; week 3 by weeks 1 to 2"
    assert facts["chosen"] == "alpha=0, depth=<deep>"
    own = Search(method="the grid_search of old itself", config={}, chosen={})
    words = SeenPage(make_report(manifest.model_copy(update={"search": own}))).words
    facts = dict(itertools.pairwise(words))
    assert [facts[name] for name in ("found by", "folds", "chosen")] == [own.method, "its own", "not recorded"]


def test_a_release_judged_on_the_table_it_was_trained_on_says_so(bucket):
    outcome = train(make_training(bucket, "v1", minute=10, eval=TRAIN))
    page = bucket.read(f"{outcome.result}/{REPORT}").decode()
    assert "has not seen in training" not in page
    assert "The evaluation table is one that it was trained on: all figures are of rows it has seen" in page
    assert "On the evaluation table, which it was trained on, where every model looks better than it is" in page
    assert "log-loss per click (eval, trained on too)" in outcome.facts


@pytest.mark.parametrize("value", [0.0, 1e-13, 1e-8])
def test_axes_of_figures_that_are_all_nothing_can_still_be_read(manifest, value):
    nothing = Estimate(value=value, low=-value, high=value)
    bins = [part.model_copy(update={"predicted": value, "happened": nothing}) for part in manifest.evaluation.calibration]
    found = manifest.evaluation
    slices = {"device": {"Tablet": found.slices["device"]["Tablet"].model_copy(update={"residual": nothing})}}
    more = {"differences": dict.fromkeys(found.differences, nothing), "calibration": bins, "slices": slices, "importance": None}
    page = make_report(manifest.model_copy(update={"evaluation": found.model_copy(update=more)}))
    charts = re.findall("<svg.*?</svg>", page, flags=re.DOTALL)
    assert len(charts) == 4
    for chart in charts:
        below = re.findall(r'<text class="axis"[^>]*text-anchor="middle">([^<]*)', chart)
        assert len(set(below)) == len(below) >= 3
        assert not re.search(r"\de-\d", chart)


@pytest.mark.parametrize(("ends", "expected"), [((0, 1), [0, 0.25, 0.5, 0.75, 1]), ((-7, 7), [-5, 0, 5]), ((0, 0.123), [0, 0.05, 0.1])])
def test_ticks_are_round_numbers_inside(ends, expected):
    assert ticks(*ends, 4) == pytest.approx(expected)
