"""A new release: its difference on unchanged rows is taken out, within bounds, and only when there are enough such rows."""

import numpy as np
import pytest

from shared.guard.config import ChannelGuard
from shared.guard.verdict import Outcome
from tests.unit.workers.guard.made_up import ONE, OTHER, exceeded, index, judged, keys, only, result

KEYS = keys(4000)
FEATURES = np.arange(len(KEYS))
RATES = np.exp(np.random.default_rng(0).normal(-3, 0.5, len(KEYS)))
BASE = result(index(KEYS, RATES, features=FEATURES))
HIGHER = np.minimum(RATES * 1.4, 1)
"""The new release: 40 % more than before, which would be held without a new release."""


def night(rates, features=FEATURES, *, base=BASE, on_new_release="expected", **options):
    new = result(index(KEYS, rates, features=features, **options), release=OTHER, table="b")
    return judged(new, base, config=ChannelGuard(on_new_release=on_new_release))


def test_a_difference_of_the_release_on_unchanged_rows_is_expected():
    verdict = night(HIGHER)
    difference = verdict.release_difference
    assert verdict.outcome == Outcome.PASS
    assert (difference.before, difference.unchanged_rows, difference.is_excused) == (ONE, len(KEYS), True)
    assert difference.factors == pytest.approx({"Computer": 1.4, "Smartphone": 1.4, "Tablet": 1.4}, rel=0.01)
    assert difference.sentence == (
        f"the release changed from {ONE} to {OTHER}; its difference on 12,000 unchanged rows was taken out before the rates were compared"
    )
    mean = next(found for found in verdict.checks if found.check == "mean_cr")
    assert (mean.value, mean.model_value, mean.model_limit) == pytest.approx((0.0, 0.4, 0.75), abs=0.01)


def test_the_same_difference_is_held_as_always_or_within_three_times_the_limits():
    assert exceeded(night(HIGHER, on_new_release="same")) == {"mean_cr"}
    wider = night(HIGHER, on_new_release="wider")
    assert exceeded(wider) == set()
    assert next(found for found in wider.checks if found.check == "mean_cr").block == 0.75
    assert only(wider, "rows").block == 0.10
    assert exceeded(night(RATES * 1.8, on_new_release="wider")) == {"mean_cr", "moved"}


def test_the_difference_of_a_release_has_bounds_of_its_own():
    verdict = night(np.minimum(RATES * 1.8, 1))
    assert "mean_cr" in exceeded(verdict)
    mean = next(found for found in verdict.checks if found.check == "mean_cr")
    assert mean.sentence.startswith("the new release on unchanged rows: the mean rate of Computer is 80 % higher")
    assert mean.sentence.endswith("; the limit is 75 %, 3 times that of a table")


def test_changed_rows_are_compared_with_what_the_new_release_would_give_them():
    changed = np.arange(len(KEYS)) % 10 == 0
    features = np.where(changed, FEATURES + 10**6, FEATURES)
    assert night(np.where(changed, HIGHER * 1.1, HIGHER), features).outcome == Outcome.PASS
    broken = night(np.where(changed, HIGHER * 20, HIGHER).clip(0, 1), features)
    assert {"mean_cr", "p99_cr", "psi_cr"} <= exceeded(broken)
    assert only(broken, "moved").value == pytest.approx(0.1, abs=0.02)


def test_the_spread_between_two_releases_does_not_count_as_moved_rows():
    changed = np.arange(len(KEYS)) % 2 == 0
    features = np.where(changed, FEATURES + 10**6, FEATURES)
    noise = np.exp(np.random.default_rng(2).normal(0, 0.4, len(KEYS)))
    verdict = night((RATES * noise).clip(0, 1), features)
    assert only(verdict, "moved").value < 0.02
    assert 0.1 < only(verdict, "moved").model_value < 0.6
    assert verdict.outcome != Outcome.HOLD


@pytest.mark.parametrize(("of_each_device", "outcome"), [(99, Outcome.HOLD), (100, Outcome.PASS)])
def test_with_few_unchanged_rows_nothing_is_excused(of_each_device, outcome):
    features = FEATURES.copy()
    features[3 * of_each_device :] += 10**6
    verdict = night(HIGHER, features)
    assert verdict.outcome == outcome
    assert verdict.release_difference.unchanged_rows == 3 * of_each_device
    assert verdict.release_difference.is_excused == (outcome == Outcome.PASS)
    if outcome == Outcome.HOLD:
        assert exceeded(verdict) == {"mean_cr"}
        assert verdict.release_difference.sentence.endswith("297 rows are unchanged, so nothing is excused: no device has 100 of them")


def test_a_device_with_few_unchanged_rows_is_compared_as_it_is():
    features = np.where((KEYS & 3) == 2, FEATURES + 10**6, FEATURES)
    verdict = night(HIGHER, features)
    assert {found.group for found in verdict.checks if found.check == "mean_cr" and found.outcome == "block"} == {"Tablet"}


def test_releases_with_other_columns_share_no_unchanged_rows_and_the_notice_says_so():
    verdict = night(HIGHER, columns=("att1", "att3", "att4"))
    assert exceeded(verdict) == {"mean_cr"}
    assert verdict.facts["new release"] == (
        f"the release changed from {ONE} to {OTHER}; nothing is excused: the two releases read different columns "
        "(2 only the new one, 1 only the one before), so no row is known to be unchanged; "
        "config/guard.yaml can widen the limits of rates for such a change: on_new_release: wider"
    )
    assert night(RATES, columns=("att1", "att3", "att4")).facts == {}
    assert "new release" not in night(RATES * 1.8, on_new_release="wider").facts


def test_a_base_without_digests_excuses_nothing():
    verdict = night(HIGHER, base=result(index(KEYS, RATES)))
    assert exceeded(verdict) == {"mean_cr"}
    assert "the index of one of the two results has no digests of features" in verdict.release_difference.sentence
