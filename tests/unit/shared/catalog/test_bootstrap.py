"""Intervals hold the truth about as often as they say, and pairing makes them narrower."""

import numpy as np
import pytest

from shared.catalog import bootstrap
from shared.catalog.keyword_losses import KeywordLosses, compare, read_losses
from shared.errors import ModelError


def keyword_sums(random: np.random.Generator, keywords: int = 150, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Sums by keyword of a figure whose true ratio is ``shift``: the rows of a keyword err alike, and keywords differ much in clicks."""
    clicks = np.ceil(random.pareto(2.5, keywords) * 4 + 1)
    return (clicks * (shift + random.normal(0.0, 0.5, keywords)))[:, None], clicks[:, None]


def test_an_interval_of_95_percent_holds_the_truth_about_95_times_of_100(monkeypatch):
    monkeypatch.setattr(bootstrap, "RESAMPLES", 400)
    random = np.random.default_rng(4)
    trials = 400
    held = 0
    for _ in range(trials):
        [[low, high]] = bootstrap.intervals(*keyword_sums(random, shift=0.1))
        held += low <= 0.1 <= high
    # a percentile interval of 150 keywords with heavy tails is known to hold it a little too rarely
    assert 0.90 <= held / trials <= 0.98


def test_a_lower_confidence_gives_a_narrower_interval():
    sums = keyword_sums(np.random.default_rng(5))
    [[wide_low, wide_high]], [[low, high]] = bootstrap.intervals(*sums, 0.95), bootstrap.intervals(*sums, 0.8)
    assert wide_low < low < high < wide_high


def test_pairing_shrinks_the_interval_of_a_difference():
    random = np.random.default_rng(6)
    loss, clicks = keyword_sums(random, keywords=2000)
    better = loss - 0.01 * clicks + random.normal(0, 0.02, loss.shape)
    [[low, high]] = bootstrap.intervals(better - loss, clicks)
    alone = [bootstrap.intervals(values, clicks)[0] for values in (loss, better)]
    unpaired = np.hypot(*(np.diff(ends)[0] for ends in alone))
    assert high - low < unpaired / 10
    assert high < 0


def test_resampling_rows_would_claim_more_than_is_known():
    random = np.random.default_rng(7)
    keyword = np.repeat(np.arange(300), 20)
    excess = random.normal(0, 1, 300)[keyword] + random.normal(0, 0.1, 6000)
    number, keywords = bootstrap.number_keywords(keyword)
    ones = np.ones(6000)
    [[low, high]] = bootstrap.intervals(
        bootstrap.sums_by_keyword(number, keywords, [excess]), bootstrap.sums_by_keyword(number, keywords, [ones])
    )
    [[row_low, row_high]] = bootstrap.intervals(excess[:, None], ones[:, None])
    assert high - low > 3 * (row_high - row_low)


def test_a_figure_gets_the_same_interval_alone_and_beside_others():
    random = np.random.default_rng(8)
    (one, clicks), (other, _) = keyword_sums(random), keyword_sums(random)
    both = bootstrap.intervals(np.hstack([one, other]), np.hstack([clicks, clicks]))
    assert both[0] == pytest.approx(bootstrap.intervals(one, clicks)[0], rel=1e-12)


def test_more_keywords_than_groups_give_about_the_same_interval(monkeypatch):
    sums = keyword_sums(np.random.default_rng(9), keywords=6000)
    [[low, high]] = bootstrap.intervals(*sums)
    monkeypatch.setattr(bootstrap, "MOST_GROUPS", 10_000)
    [[all_low, all_high]] = bootstrap.intervals(*sums)
    assert high - low == pytest.approx(all_high - all_low, rel=0.12)


def test_few_keywords_give_no_interval_whatever_stands_beside_them():
    clicks = np.ones((50, 2))
    clicks[bootstrap.FEWEST_KEYWORDS - 1 :, 1] = 0
    found = bootstrap.intervals(np.random.default_rng(1).random((50, 2)) * clicks, clicks)
    assert np.isfinite(found[0]).all()
    assert np.isnan(found[1]).all()


def losses(**more: np.ndarray) -> KeywordLosses:
    return KeywordLosses(keyword=np.arange(100), clicks=np.full(100, 3.0), losses=more)


def test_losses_come_back_from_their_file_which_is_always_the_same():
    kept = losses(a=np.random.default_rng(1).random(100))
    found = read_losses(kept.to_parquet(), "x")
    assert found.losses.keys() == {"a"}
    assert np.array_equal(found.losses["a"], kept.losses["a"])
    assert kept.to_parquet() == found.to_parquet()


def test_keywords_that_are_no_numbers_are_kept_too():
    kept = KeywordLosses(keyword=np.array(["a", "b"], dtype=object), clicks=np.ones(2), losses={"r": np.ones(2)})
    assert read_losses(kept.to_parquet(), "x").keyword.tolist() == ["a", "b"]


def test_what_is_no_file_of_losses_is_refused():
    for content in (b"", b"nothing of the kind", losses(a=np.ones(100)).to_parquet()[:-9]):
        with pytest.raises(ModelError, match="model/x does not hold the losses of keywords"):
            read_losses(content, "model/x")


def test_a_difference_is_that_of_the_losses_by_click():
    found = compare(losses(a=np.full(100, 1.5)), "a", losses(b=np.full(100, 3.0)), "b", 0.95)
    assert (found.value, found.low, found.high) == pytest.approx((-0.5, -0.5, -0.5))
    assert (found.keywords, found.clicks) == (100, 300.0)


def test_losses_of_other_rows_are_not_compared():
    other = KeywordLosses(keyword=np.arange(100) + 1, clicks=np.full(100, 3.0), losses={"b": np.ones(100)})
    with pytest.raises(ModelError, match="a and b were judged on the same table, but not on the same rows of it"):
        compare(losses(a=np.ones(100)), "a", other, "b", 0.95)
