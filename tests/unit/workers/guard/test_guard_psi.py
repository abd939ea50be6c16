"""PSI and quantiles: the known formula, what chance gives, and the error of fine bins."""

import numpy as np
import pytest

from workers.guard.checks.psi import BINS, chance, in_quantile_bins, psi_above_chance, with_own_bins
from workers.guard.measures.rate_bins import BINS as FINE
from workers.guard.measures.rate_bins import LOWER_EDGES, RELATIVE_WIDTH, bins_of, mean, quantiles, rescaled


def histogram(rates):
    return np.bincount(bins_of(np.asarray(rates, dtype=float)), minlength=FINE)


def test_two_large_tables_give_the_sum_of_the_formula():
    old, new = np.array([1, 1]) * 10**9, np.array([3, 1]) * 10**9
    assert psi_above_chance(old, new) == pytest.approx(0.25 * np.log(1.5) - 0.25 * np.log(0.5), abs=1e-6)


@pytest.mark.parametrize("rows", [200, 2_000, 20_000])
def test_samples_of_one_distribution_exceed_the_limit_of_chance_once_in_a_thousand(rows):
    random, above = np.random.default_rng(rows), 0
    for _ in range(1000):
        old, new = (histogram(np.exp(random.normal(-3, 0.5, rows))) for _ in range(2))
        above += psi_above_chance(*in_quantile_bins(old, new)) > 0
    assert above <= 6


def test_chance_needs_no_scaling_and_falls_with_the_rows():
    assert chance(1000, 1000, BINS) == pytest.approx(27.877 * 0.002, rel=1e-3)
    assert chance(10_000, 1000, BINS) < chance(1000, 1000, BINS)


def test_a_bin_that_becomes_empty_counts_the_same_whatever_the_number_of_rows():
    values = [psi_above_chance(np.full(10, rows), np.array([0, *[rows] * 8, 2 * rows])) for rows in (10**5, 10**8)]
    assert values[0] == pytest.approx(values[1], rel=0.01)
    assert 0.4 < values[1] < 0.6


def test_quantile_bins_hold_about_as_many_rows_each():
    old = histogram(np.exp(np.random.default_rng(0).normal(-3, 0.5, 100_000)))
    coarse, _ = in_quantile_bins(old, old)
    assert len(coarse) == BINS
    assert coarse.min() > 9_000
    assert coarse.max() < 11_000


def test_few_different_rates_may_each_change_a_little():
    random = np.random.default_rng(0)
    rates = random.choice([0.01, 0.02, 0.03, 0.05, 0.08], 10_000)
    old, new = histogram(rates), histogram(rates * random.normal(1, 0.02, 10_000))
    assert psi_above_chance(*in_quantile_bins(old, new)) == 0


def test_a_frequent_value_of_a_column_is_a_bin_of_its_own():
    old, new = np.array([0, 50, 900, 50, 0]), np.array([450, 50, 0, 50, 450])
    assert [counts.tolist() for counts in with_own_bins(old, new)] == [[50, 900, 50], [500, 0, 500]]


@pytest.mark.parametrize("level", [0.01, 0.5, 0.9, 0.99])
def test_quantiles_of_fine_bins_are_off_by_less_than_a_bin(level):
    rates = np.exp(np.random.default_rng(0).normal(-3, 0.5, 50_000)).clip(0, 1)
    assert quantiles(histogram(rates), np.array([level]))[0] == pytest.approx(np.quantile(rates, level), rel=RELATIVE_WIDTH)


def test_every_rate_is_in_its_bin():
    rates = np.concatenate([[0.0, 1e-300, 1e-9, 2**-20, 0.5, 1 - 1e-16, 1.0], np.random.default_rng(0).random(1000)])
    places = bins_of(rates)
    assert (LOWER_EDGES[places] <= rates).all()
    assert (rates < LOWER_EDGES[places + 1]).all()
    assert places.max() == FINE - 1


def test_a_rescaled_histogram_has_the_rescaled_mean():
    old = histogram(np.exp(np.random.default_rng(0).normal(-3, 0.5, 50_000)).clip(0, 1))
    assert mean(rescaled(old, 1.17)) == pytest.approx(mean(old) * 1.17, rel=0.005)
    assert rescaled(old, 1.0).tolist() == old.tolist()
