"""The checks of the table that was scored: psi_features and same_table."""

from datetime import timedelta

import numpy as np
import pytest

from shared.guard.checks import Checks, Constant, PsiFeatures
from shared.guard.config import ChannelGuard
from shared.guard.verdict import CheckOutcome
from tests.unit.workers.guard.made_up import NOON, index, judged, keys, only, outcomes, result
from workers.guard.index.feature_counts import _BIN_SHIFT

OK, WARN, BLOCK, SKIPPED = CheckOutcome.OK, CheckOutcome.WARN, CheckOutcome.BLOCK, CheckOutcome.SKIPPED
KEYS = keys(4000)
ROWS = len(KEYS)
RATES = np.linspace(0.01, 0.09, ROWS)


def table(ones=None, numbers=None):
    bins = {name: counted(values) for name, values in (numbers or {}).items()}
    return result(index(KEYS, RATES, features=np.zeros(ROWS), ones=ones, bins=bins, columns=[*(ones or {}), *bins]))


def counted(numbers) -> dict[int, int]:
    places, counts = np.unique(np.asarray(numbers, dtype=np.float64).view(np.uint64) >> np.uint64(_BIN_SHIFT), return_counts=True)
    return dict(zip(places.tolist(), counts.tolist(), strict=True))


def test_a_column_that_becomes_constant_warns_and_the_others_pass():
    verdict = judged(table({"att1": 0, "att2": 600}), table({"att1": 6000, "att2": 600}))
    assert outcomes(verdict, "psi_features") == {"att1": WARN, "att2": OK}


@pytest.mark.parametrize("now", [0, ROWS])
def test_an_important_column_that_becomes_constant_is_held(now):
    verdict = judged(table({"att1": now, "att2": 600}), table({"att1": 6000, "att2": 600}), important_columns=["att2", "att1"])
    assert outcomes(verdict, "constant") == dict.fromkeys(("Computer", "Smartphone", "Tablet"), OK) | {"att1": BLOCK}
    [sentence] = [check.sentence for check in verdict.checks if check.group == "att1" and check.outcome == BLOCK]
    assert sentence == f"all 12,000 rows have the value {int(now > 0)} in att1; 50 % of the rows of live's result had others"
    assert verdict.outcome == "hold"


@pytest.mark.parametrize(
    ("before", "important", "config"),
    [
        (0, ["att1"], Constant()),  # it has always been so
        (ROWS // 101, ["att1"], Constant()),  # fewer than 1 % of the rows: a campaign that ended
        (6000, [], Constant()),  # a release without importance
        (6000, ["att2", "att1"], Constant(columns=1)),
        (6000, ["att1"], Constant(columns=0)),
        (6000, ["att1"], Constant(min_rows=ROWS + 1)),
    ],
)
def test_a_column_that_never_varied_or_is_not_important_is_not_held(before, important, config):
    config = ChannelGuard(checks=Checks(constant=config))
    verdict = judged(table({"att1": 0, "att2": 600}), table({"att1": before, "att2": 600}), important_columns=important, config=config)
    assert BLOCK not in outcomes(verdict, "constant").values()


def test_a_column_of_a_small_table_that_may_be_constant_by_chance_is_not_held():
    few = [result(index(KEYS[:150], RATES[:150], features=np.zeros(150), ones={"att1": ones}, columns=["att1"])) for ones in (4, 0)]
    verdict = judged(few[1], few[0], important_columns=["att1"])
    assert BLOCK not in outcomes(verdict, "constant").values()


def test_a_number_that_becomes_constant_is_held_with_its_value():
    random = np.random.default_rng(1)
    verdict = judged(
        table(numbers={"price": np.full(ROWS, 5.0)}), table(numbers={"price": random.normal(9, 4, ROWS)}), important_columns=["price"]
    )
    [found] = [check for check in verdict.checks if check.group == "price" and check.check == "constant"]
    assert found.outcome == BLOCK
    assert found.sentence.startswith("all 12,000 rows have the value about 5 in price; ")
    assert outcomes(judged(table(numbers={"price": np.zeros(ROWS)}), None, important_columns=["price"]), "constant").get("price") is None


@pytest.mark.parametrize(("ones", "outcome"), [(6000, OK), (7000, OK), (9000, WARN)])
def test_a_column_warns_above_its_limit_and_blocks_only_on_request(ones, outcome):
    assert outcomes(judged(table({"a": ones}), table({"a": 6000})), "psi_features") == {"a": outcome}
    config = ChannelGuard(checks=Checks(psi_features=PsiFeatures(block=0.2)))
    blocked = outcomes(judged(table({"a": ones}), table({"a": 6000}), config=config), "psi_features")["a"]
    assert blocked == (BLOCK if outcome == WARN else OK)


def test_a_value_that_equals_the_limit_of_a_column_passes():
    value = only(judged(table({"a": 9000}), table({"a": 6000})), "psi_features").value
    config = ChannelGuard(checks=Checks(psi_features=PsiFeatures(warn=value)))
    assert only(judged(table({"a": 9000}), table({"a": 6000}), config=config), "psi_features").outcome == OK


def test_the_most_important_columns_of_the_release_are_judged():
    base, new = table({f"att{i}": 6000 for i in range(30)}), table({f"att{i}": 0 for i in range(30)})
    important = ["smartphone", *(f"att{i}" for i in range(20, 5, -1))]
    judged_columns = outcomes(judged(new, base, important_columns=important), "psi_features")
    assert set(judged_columns) == {f"att{i}" for i in range(20, 10, -1)}


def test_without_importance_the_columns_that_changed_most_are_judged():
    base = table({f"att{i}": 6000 for i in range(30)})
    new = table({f"att{i}": 6000 + 100 * i for i in range(30)})
    assert set(outcomes(judged(new, base), "psi_features")) == {f"att{i}" for i in range(20, 30)}


def test_numbers_are_compared_in_quantile_bins_with_negative_ones_in_order():
    random = np.random.default_rng(1)
    base = table(numbers={"price": random.normal(0, 10, ROWS)})
    assert only(judged(table(numbers={"price": random.normal(0, 10, ROWS)}), base), "psi_features").value == 0.0
    assert only(judged(table(numbers={"price": random.normal(8, 10, ROWS)}), base), "psi_features").outcome == WARN
    assert only(judged(table(numbers={"price": np.zeros(ROWS)}), base), "psi_features").outcome == WARN


def test_a_number_that_was_constant_and_no_longer_is_warns():
    for other in (0.0, 3.0, 1e6, -5.0):
        verdict = judged(table(numbers={"price": np.full(ROWS, other)}), table(numbers={"price": np.full(ROWS, 5.0)}))
        assert only(verdict, "psi_features").outcome == WARN, other


def test_results_without_counts_are_skipped_with_the_reason():
    without = result(index(KEYS, RATES))
    reasons = [
        only(judged(table({"a": 1}), without), "psi_features").reason,
        only(judged(without, table({"a": 1})), "psi_features").reason,
        only(judged(table({"a": 1}), table({"b": 1})), "psi_features").reason,
    ]
    assert reasons == [
        "live's result has no counts of the values of its columns",
        "the result has no counts of the values of its columns",
        "the two results have no column in common",
    ]


@pytest.mark.parametrize(("hours", "outcome"), [(1, OK), (26, OK), (26.5, WARN), (50, WARN), (50.5, BLOCK)])
def test_the_same_table_again_warns_after_26_hours_and_blocks_after_50(hours, outcome):
    verdict = judged(result(index(KEYS, RATES), table="a"), result(index(KEYS, RATES), table="a"), days=hours / 24)
    assert only(verdict, "same_table").outcome == outcome
    assert verdict.table_since == NOON


def test_the_age_counts_from_the_first_result_in_a_row_on_the_table():
    base = result(index(KEYS, RATES), table="a", table_since=NOON - timedelta(hours=30))
    verdict = judged(result(index(KEYS, RATES), table="a"), base)
    found = only(verdict, "same_table")
    assert (found.outcome, verdict.table_since) == (BLOCK, NOON - timedelta(hours=30))
    assert found.sentence == "live has had results on this same table for 54 h; the limit is 50 h"


def test_another_table_starts_its_own_time():
    verdict = judged(result(index(KEYS, RATES), table="b"), result(index(KEYS, RATES), table="a"), days=9)
    assert only(verdict, "same_table").outcome == OK
    assert verdict.table_since == NOON + timedelta(days=9)
