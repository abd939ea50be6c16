"""The checks of rates: each blocks, warns, and passes at its limit."""

import numpy as np
import pytest

from shared.guard.checks import Checks, MeanCr, Moved, P99Cr, PsiCr, Weight
from shared.guard.config import ChannelGuard
from shared.guard.verdict import CheckOutcome
from tests.unit.workers.guard.made_up import index, judged, keys, only, outcomes, result

OK, WARN, BLOCK, SKIPPED = CheckOutcome.OK, CheckOutcome.WARN, CheckOutcome.BLOCK, CheckOutcome.SKIPPED
DEVICES = ("Computer", "Smartphone", "Tablet")
KEYS = keys(4000)
DEVICE = KEYS & 3
RATES = np.exp(np.random.default_rng(0).normal(-3, 0.5, len(KEYS))).clip(0, 0.5)
BASE = result(index(KEYS, RATES))


def verdict_of(rates, config=None, clicks=None):
    return judged(result(index(KEYS, rates, clicks=clicks)), BASE, config=config)


def on_tablet(rates):
    return np.where(DEVICE == 2, rates, RATES)


def test_one_rate_for_all_rows_of_a_device_blocks():
    verdict = verdict_of(on_tablet(np.full(len(KEYS), 0.0123)))
    assert outcomes(verdict, "constant") == {"Computer": OK, "Smartphone": OK, "Tablet": BLOCK}
    assert "all 4,000 rows of Tablet have the rate 0.0123" in [found.sentence for found in verdict.checks]


def test_two_rates_are_not_constant():
    rates = np.full(len(KEYS), 0.0123)
    rates[-1] = 0.0124
    assert outcomes(verdict_of(on_tablet(rates)), "constant")["Tablet"] == OK


def test_a_device_with_few_rows_may_have_one_rate():
    rows = np.flatnonzero((DEVICE != 2) | (KEYS < 99 * 4 + 4))
    verdict = judged(result(index(KEYS[rows], np.where(DEVICE[rows] == 2, 0.05, RATES[rows]))), None)
    assert outcomes(verdict, "constant") == {"Computer": OK, "Smartphone": OK, "Tablet": SKIPPED}


@pytest.mark.parametrize(
    ("factor", "outcome"), [(1.0, OK), (1.1, OK), (1.11, WARN), (1.25, WARN), (1.26, BLOCK), (0.9, OK), (0.76, WARN), (0.74, BLOCK)]
)
def test_the_mean_of_a_device_warns_above_10_percent_and_blocks_above_25_up_and_down(factor, outcome):
    clicks = np.ones(len(KEYS))
    verdict = verdict_of(on_tablet(RATES * factor), clicks=clicks)
    assert outcomes(verdict, "mean_cr") == {"Computer": OK, "Smartphone": OK, "Tablet": outcome}


def test_the_mean_counts_the_clicks_of_the_new_table_in_both():
    clicks = np.where(KEYS < 400, 1000.0, 0.1)
    verdict = verdict_of(np.where(KEYS < 400, RATES * 1.3, RATES), clicks=clicks)
    assert set(outcomes(verdict, "mean_cr").values()) == {BLOCK}
    assert {found.weight for found in verdict.checks if found.check == "mean_cr"} == {Weight.CLICKS}
    by_rows = verdict_of(np.where(KEYS < 400, RATES * 1.3, RATES))
    assert set(outcomes(by_rows, "mean_cr").values()) == {OK}
    assert all("by rows because they have no clicks" in found.sentence for found in by_rows.checks if found.check == "mean_cr")


def test_the_clicks_of_the_base_count_when_the_new_table_has_none():
    clicks = np.where(KEYS < 400, 1000.0, 0.1)
    base = result(index(KEYS, RATES, clicks=clicks))
    verdict = judged(result(index(KEYS, np.where(KEYS < 400, RATES * 1.3, RATES))), base)
    assert set(outcomes(verdict, "mean_cr").values()) == {BLOCK}
    assert only(verdict, "moved").weight == Weight.CLICKS


def test_a_change_of_clicks_alone_moves_no_mean():
    clicks = np.where(RATES > 0.05, 1000.0, 1.0)
    base = result(index(KEYS, RATES, clicks=1001 - clicks))
    verdict = judged(result(index(KEYS, RATES, clicks=clicks)), base)
    assert {found.value for found in verdict.checks if found.check == "mean_cr"} == {0.0}


def test_the_mean_of_all_devices_together_is_judged_on_request():
    config = ChannelGuard(checks=Checks(mean_cr=MeanCr(by="all")))
    assert outcomes(verdict_of(on_tablet(RATES * 1.6), config), "mean_cr") == {"all": WARN}


def test_a_change_of_the_mean_is_said_in_words():
    clicks = np.ones(len(KEYS))
    base = result(index(KEYS, np.full(len(KEYS), 0.02), clicks=clicks))
    verdict = judged(result(index(KEYS, np.full(len(KEYS), 0.03), clicks=clicks)), base)
    assert [found.sentence for found in verdict.checks if found.check == "mean_cr"][2] == (
        "the mean rate of Tablet is 50 % higher (0.03 instead of 0.02); the limit is 25 %"
    )


def with_tail(rate: float) -> np.ndarray:
    """The rates, where 2 % of the rows of a device have another one."""
    rates = np.full(len(KEYS), 0.05) + np.arange(len(KEYS)) * 1e-9
    rates[KEYS >> 2 <= 80] = rate
    return rates


@pytest.mark.parametrize(("rate", "outcome"), [(0.1, OK), (0.124, OK), (0.128, WARN), (0.198, WARN), (0.203, BLOCK), (0.074, WARN)])
def test_the_99th_percentile_warns_above_25_percent_and_blocks_above_100(rate, outcome):
    base = result(index(KEYS, with_tail(0.1)))
    verdict = judged(result(index(KEYS, with_tail(rate))), base)
    assert set(outcomes(verdict, "p99_cr").values()) == {outcome}


def test_the_99th_percentile_is_off_by_less_than_a_hundredth():
    verdict = verdict_of(RATES * 1.2, ChannelGuard(checks=Checks(p99_cr=P99Cr(by="all"))))
    assert only(verdict, "p99_cr").value == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize(("moved", "outcome"), [(0, OK), (600, OK), (601, WARN), (2400, WARN), (2401, BLOCK)])
def test_moved_rows_warn_above_5_percent_and_block_above_20(moved, outcome):
    rates = RATES.copy()
    rates[:moved] *= 1.51
    found = only(verdict_of(rates), "moved")
    assert (found.outcome, found.value) == (outcome, pytest.approx(moved / len(KEYS)))


def test_a_rate_that_moves_by_exactly_the_limit_has_not_moved():
    base = result(index(KEYS, np.full(len(KEYS), 0.25)))
    for rate, share in ((0.375, 0.0), (0.125, 0.0), (0.376, 1.0), (0.124, 1.0)):
        assert only(judged(result(index(KEYS, np.full(len(KEYS), rate))), base), "moved").value == share


def test_moved_rows_count_their_clicks_and_another_distance_on_request():
    clicks = np.ones(len(KEYS))
    clicks[:10] = 1e6
    rates = RATES.copy()
    rates[:10] *= 1.4
    assert only(verdict_of(rates, clicks=clicks), "moved").outcome == OK
    config = ChannelGuard(checks=Checks(moved=Moved(by_more_than="30%")))
    assert only(verdict_of(rates, config, clicks=clicks), "moved").outcome == BLOCK


def spread(sigma: float) -> np.ndarray:
    """The same ranks with a distribution that is wider or narrower, with the same mean."""
    rates = np.exp((np.log(RATES) + 3) * sigma - 3)
    return rates * RATES.mean() / rates.mean()


@pytest.mark.parametrize(("sigma", "outcome"), [(1.0, OK), (1.1, OK), (1.4, WARN), (1.8, BLOCK), (0.5, BLOCK)])
def test_another_shape_of_the_distribution_warns_and_blocks(sigma, outcome):
    assert set(outcomes(verdict_of(spread(sigma)), "psi_cr").values()) == {outcome}


def test_a_change_of_the_level_alone_is_left_to_the_check_of_the_mean():
    verdict = verdict_of(RATES * 1.2)
    assert {found.value for found in verdict.checks if found.check == "psi_cr"} == {0.0}


def test_a_value_that_equals_the_limit_of_the_shape_passes():
    value = next(found.value for found in verdict_of(spread(1.4)).checks if found.check == "psi_cr")
    for limit, outcome in ((value, OK), (value * 0.99, WARN)):
        config = ChannelGuard(checks=Checks(psi_cr=PsiCr(warn=limit)))
        assert outcomes(verdict_of(spread(1.4), config), "psi_cr")["Computer"] == outcome


def test_a_device_that_is_gone_is_skipped_with_the_reason():
    rows = np.flatnonzero(DEVICE != 2)
    verdict = judged(result(index(KEYS[rows], RATES[rows])), BASE)
    [tablet] = [found for found in verdict.checks if found.check == "mean_cr" and found.group == "Tablet"]
    assert (tablet.outcome, tablet.reason) == (SKIPPED, "the result has 0 rows of Tablet, fewer than 100")


def test_a_base_of_zeros_does_not_divide_by_zero():
    zeros = result(index(KEYS, np.zeros(len(KEYS))))
    verdict = judged(result(index(KEYS, RATES)), zeros)
    assert CheckOutcome.FAILED not in {found.outcome for found in verdict.checks}
    assert set(outcomes(verdict, "mean_cr").values()) == {BLOCK}
    assert set(outcomes(judged(zeros, zeros), "mean_cr").values()) == {OK}
