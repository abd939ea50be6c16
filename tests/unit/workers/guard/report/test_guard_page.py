"""The picture of a verdict holds the numbers of guard.json, makes no markup of a table's texts, and decides nothing."""

import re

import numpy as np
import pytest

from producers.channels.differences import compare
from shared.catalog.manifests import ResultManifest
from shared.guard.config import ChannelGuard
from shared.guard.groups import groups_of
from shared.guard.verdict import CheckOutcome, Outcome, RowProblem, WorstRow, worst_in_words
from shared.index_format import DEVICES, FeatureCounts
from shared.prediction_index import PredictionIndex
from shared.retention.results import places_in
from tests.guarded import broken_lines, lines_with_clicks, make_guarded_bucket, manifest_of, score_on_channel, verdict_of
from tests.html_pages import SeenPage, check_that_it_loads_and_runs_nothing
from tests.unit.workers.guard.made_up import NOON, OTHER, index, keys, result
from workers.guard.checks.words import in_unit
from workers.guard.judging import judge
from workers.guard.measures.measuring import Unchanged, measure
from workers.guard.measures.rate_bins import BINS, CENTERS, bins_of
from workers.guard.report import drawing
from workers.guard.report.changed_columns import changed_columns
from workers.guard.report.distribution_chart import distribution_chart
from workers.guard.report.page import make_page
from workers.guard.report.picture import Picture, read_picture
from workers.scoring import publishing

HOSTILE = "<script>alert('\"&')</script>"


@pytest.fixture
def live(tmp_path):
    return make_guarded_bucket(tmp_path / "bucket")[0]


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    """A bucket with a held result: its folder, outcome, manifest, verdict and page."""
    bucket, _ = make_guarded_bucket(tmp_path_factory.mktemp("held") / "bucket")
    folder, outcome = score_on_channel(bucket, broken_lines(), 5)
    manifest = manifest_of(folder, outcome)
    page = bucket.read(f"{manifest.revision}/guard.html").decode()
    return folder, outcome, manifest, verdict_of(folder, outcome), page


def picture_of(
    old: PredictionIndex | None, new: PredictionIndex, *, verdict: dict | None = None, manifest: ResultManifest | None = None
) -> Picture:
    base = None if old is None else result(old, job="job-before")
    judged = result(new, release=OTHER, table="b")
    found = judge(ChannelGuard(), channel="live", new=judged, base=base, now=NOON)
    groups = groups_of(*(one for one in (new, old) if one is not None))
    return Picture(
        manifest=manifest or judged.manifest,
        verdict=found.model_copy(update=verdict or {}),
        held_because=tuple(worst_in_words(found)),
        base=base and base.manifest,
        groups=groups,
        measures=measure(old, new, groups, 0.0, Unchanged()),
        columns=[] if old is None else changed_columns(old, new),
    )


def test_a_held_result_has_a_page_that_its_outcome_names(held):
    folder, outcome, manifest, _, page = held
    assert outcome.state == "held"
    assert outcome.facts["report"] == f"{manifest.revision}/guard.html"
    check_that_it_loads_and_runs_nothing(page)
    text = SeenPage(page).text
    assert f"scoring results approve {folder.job_id} --reason TEXT" in text
    assert f"scoring results refuse {folder.job_id} --reason TEXT" in text
    assert manifest.table.contents in text
    assert manifest.release in text


def test_its_numbers_are_those_of_guard_json(held):
    *_, verdict, page = held
    seen = SeenPage(page)
    for check in verdict.checks:
        if check.value is not None:
            assert in_unit(check.value, check.unit) in seen.words
    for words in worst_in_words(verdict):
        assert f"{words[1:]}." in seen.text
    means = [re.search(r"\((\S+) instead of (\S+)\)", check.sentence) for check in verdict.checks if check.check == "mean_cr"]
    assert {float(number) for found in means for number in found.groups()} <= {float(word) for word in seen.words if is_number(word)}
    [lost] = [check.sentence for check in verdict.checks if check.check == "keys_lost"]
    figures = dict(zip(seen.words, seen.words[1:], strict=False))
    assert f"({figures['keys lost']} rows)" in lost
    assert figures["keys doubled"] == "1"
    for row in verdict.worst:
        assert f"{row.file}, line {row.line:,}" in seen.words


def is_number(word: str) -> bool:
    return re.fullmatch(r"[\d.]+(e-\d+)?", word) is not None and word != "."


def test_the_means_of_a_table_without_clicks_are_exact():
    generator = np.random.default_rng(3)
    numbers = keys(400)
    old, new = (index(numbers, np.exp(generator.normal(-3, 0.7, len(numbers))).clip(0, 1)) for _ in range(2))
    seen = SeenPage(make_page(picture_of(old, new)))
    found = compare(old, new, top=1, by_more_than=0.5)
    assert len(found.devices) == 3
    for device in found.devices:
        assert {f"{device.mean_before:.4g}", f"{device.mean_now:.4g}"} <= {*seen.words}
        rates = [one.at(0, one.rows).cr[one.at(0, one.rows).key & 3 == DEVICES.index(device.device)] for one in (old, new)]
        assert [device.mean_before, device.mean_now] == pytest.approx([float(of_device.mean()) for of_device in rates], rel=1e-12)


def test_checks_that_hold_the_result_come_first(held):
    page = held[-1]
    outcomes = re.findall(r'class="badge (\w+)"', page)
    order = [CheckOutcome.BLOCK, CheckOutcome.FAILED, CheckOutcome.WARN, CheckOutcome.OK, CheckOutcome.SKIPPED]
    assert outcomes == sorted(outcomes, key=order.index)
    assert len(set(outcomes)) >= 2


def test_the_same_inputs_give_the_same_page(held):
    folder, outcome, manifest, verdict, page = held
    for _ in range(2):
        reasons = worst_in_words(verdict)
        assert make_page(read_picture(folder.bucket, manifest, verdict, reasons)) == page
    assert outcome.facts["report"]


def test_a_result_that_passes_has_no_page(live):
    lines = lines_with_clicks()
    folder, outcome = score_on_channel(live, [lines[0].replace(",0,", ",1,", 1), *lines[1:]], 5)
    assert outcome.state == "done"
    assert "report" not in outcome.facts
    assert not live.exists(f"{manifest_of(folder, outcome).revision}/guard.html")


def test_the_page_of_a_warned_result_says_how_to_go_back(live):
    live.write("config/guard.yaml", b"live: {mode: warn}")
    folder, outcome = score_on_channel(live, broken_lines(), 5)
    assert outcome.state == "done"
    text = SeenPage(live.read(outcome.facts["report"]).decode()).text
    assert "On live, with warnings" in text
    assert "scoring results rollback live --reason TEXT" in text
    assert f"scoring results diff {folder.job_id}" in text
    assert "approve" not in text


def test_texts_of_a_table_cannot_become_markup():
    names = np.array([f"{HOSTILE}{number:04}" for number in range(400)])
    columns = (HOSTILE, "att2")
    old = index(names, np.linspace(0.01, 0.1, 400), features=np.arange(400), ones={HOSTILE: 20, "att2": 3}, columns=columns)
    new = index(names[:200], np.full(200, 0.9), features=np.arange(200), ones={HOSTILE: 190, "att2": 1}, columns=columns)
    row = WorstRow(problem=RowProblem.MOVED, key=HOSTILE, device=HOSTILE, rate_before=0.1, rate_now=0.9, clicks=1, file=HOSTILE, line=2)
    judged = result(new)
    table = judged.manifest.table.model_copy(update={"path": HOSTILE})
    manifest = judged.manifest.model_copy(update={"table": table, "release": HOSTILE, "job_id": HOSTILE, "revision": HOSTILE})
    failed = (
        picture_of(old, new)
        .verdict.checks[0]
        .model_copy(update={"outcome": CheckOutcome.FAILED, "group": HOSTILE, "reason": HOSTILE, "sentence": HOSTILE})
    )
    verdict = {"channel": HOSTILE, "job_id": HOSTILE, "worst": [row], "checks": [failed], "failures": [HOSTILE]}
    page = make_page(picture_of(old, new, verdict=verdict, manifest=manifest))
    assert "<script" not in page
    seen = SeenPage(page)
    assert not seen.open
    assert "script" not in seen.tags
    assert seen.text.count(HOSTILE) >= 10


def test_marks_that_turn_the_direction_of_text_are_escaped():
    row = WorstRow(problem=RowProblem.LOST, key="a\u202eb", device="all", rate_before=0.1, rate_now=None, clicks=None, file=None, line=None)
    new = index(keys(50), np.linspace(0.01, 0.1, 150))
    page = make_page(picture_of(new, new, verdict={"worst": [row]}))
    assert "\u202e" not in page
    assert "a\\u202eb" in page


@pytest.mark.parametrize("when", ["make_page", "read_picture"])
def test_a_page_that_cannot_be_drawn_changes_nothing_else(live, monkeypatch, when):
    def fail(*_: object) -> str:
        raise RuntimeError("no ink")

    monkeypatch.setattr(drawing, when, fail)
    folder, outcome = score_on_channel(live, broken_lines(), 5)
    assert outcome.state == "held"
    assert "report" not in outcome.facts
    assert not live.exists(f"{manifest_of(folder, outcome).revision}/guard.html")
    assert verdict_of(folder, outcome).holds


def test_a_process_that_dies_before_the_page_leaves_it_to_the_next_one(live, monkeypatch):
    def die(*_: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(drawing, "make_page", die)
        score_on_channel(live, broken_lines(), 5)
    [job_id] = [name for name in live.folders("jobs") if name.endswith("000005")]
    folder = publishing.JobFolder(live, job_id)
    assert folder.has("guard.json")
    outcome = publishing.finish_job(folder)
    assert live.exists(outcome.facts["report"])


def test_a_judgement_that_is_repeated_has_a_page_of_its_own(held):
    folder, _, manifest, verdict, page = held
    drawing.remove_report(folder.bucket, manifest)
    later = verdict.model_copy(update={"compared_with": 2, "channel": "other"})
    path = drawing.draw_report(folder.bucket, manifest, later, ["moved on"])
    drawn = folder.bucket.read(path).decode()
    assert drawn != page
    assert "Held back from other" in drawn
    drawing.remove_report(folder.bucket, manifest)
    drawing.draw_report(folder.bucket, manifest, verdict, worst_in_words(verdict))
    assert folder.bucket.read(path).decode() == page


def test_a_page_without_a_base_shows_the_new_rates_alone():
    new = index(keys(200), np.full(600, 0.25))
    page = make_page(picture_of(None, new))
    assert "There is no result before" in page
    assert "before: dashed" not in page
    assert page.count("now: filled") == 3


def test_the_page_of_a_result_whose_base_is_gone_is_still_drawn(held):
    folder, _, manifest, verdict, _ = held
    gone = verdict.base.model_copy(update={"revision": "data/predict/output/v1/gone"})
    picture = read_picture(folder.bucket, manifest, verdict.model_copy(update={"base": gone}), ["it is"])
    assert picture.base is None
    assert "There is no result before" in make_page(picture)


def test_columns_whose_values_changed_most_come_first():
    def counted(ones, bins):
        found = index(keys(400), np.linspace(0.01, 0.1, 1200), features=np.arange(1200), ones=ones, bins={"price": bins})
        assert isinstance(found.feature_counts, FeatureCounts)
        return found

    low, high = (int(np.float64(number).view(np.uint64) >> np.uint64(50)) for number in (1.5, 100.0))
    old = counted({"att1": 600, "att2": 100}, {low: 1200})
    new = counted({"att1": 0, "att2": 101}, {low: 100, high: 1100})
    found = {column.name: column for column in changed_columns(old, new)}
    assert [*found] == ["price", "att1"]
    assert (found["att1"].before, found["att1"].now) == ("50 % are 1", "0 % are 1")
    before, now = (float(words.removeprefix("median ")) for words in (found["price"].before, found["price"].now))
    assert before == pytest.approx(1.5, rel=0.2)
    assert now == pytest.approx(100, rel=0.2)


@pytest.mark.parametrize("rates", [[0.0], [1.0], [0.05], [0.0, 1.0], [1e-7, 0.02, 0.99], np.geomspace(1e-6, 1, 50), []])
def test_a_chart_of_any_rates_has_round_rates_on_its_axis(rates):
    counts = np.bincount(bins_of(np.array(rates)), minlength=BINS) if len(rates) else np.zeros(BINS, dtype=np.int64)
    chart = distribution_chart(counts, np.zeros(BINS, dtype=np.int64), alt="rates")
    below = re.findall(r'<text class="axis"[^>]*text-anchor="middle">([^<]*)', chart)
    assert len(set(below)) == len(below)
    assert 1 <= len(below) <= 7
    places = [float(place) for points in re.findall(r'points="([^"]*)"', chart) for pair in points.split() for place in pair.split(",")]
    assert all(0 <= place <= 400 for place in places)


def test_a_chart_shows_the_shares_of_the_rows():
    counts = np.bincount(bins_of(np.concatenate([np.full(300, 0.02), np.full(100, 0.3)])), minlength=BINS)
    chart = distribution_chart(np.zeros(BINS, dtype=np.int64), counts, alt="rates")
    [points] = re.findall(r'<polygon class="own area" points="([^"]*)"', chart)
    heights = sorted({208 - float(pair.split(",")[1]) for pair in points.split()})
    assert heights[-1] / (208 - 44) == pytest.approx(1 / 1.05, abs=0.01)
    assert any(height / heights[-1] == pytest.approx(1 / 3, abs=0.01) for height in heights)
    assert CENTERS[0] < 1e-5


def test_the_page_is_removed_with_its_revision(held):
    folder, outcome, manifest, *_ = held
    [place] = places_in(folder.bucket.tree(outcome.result))
    assert f"{manifest.revision}/guard.html" in {info.path for info in place.revisions[folder.job_id]}


def test_a_verdict_that_passes_draws_nothing(held):
    folder, _, manifest, verdict, _ = held
    passed = verdict.model_copy(update={"outcome": Outcome.PASS})
    assert drawing.draw_report(folder.bucket, manifest, passed, []) == ""
