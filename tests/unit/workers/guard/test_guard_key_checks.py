"""The checks of rows and keys: each blocks, warns, and passes at its limit."""

import numpy as np
import pytest

from shared.guard.checks import Checks, KeysDoubled, KeysNew, Rows, Weight
from shared.guard.config import ChannelGuard
from shared.guard.verdict import CheckOutcome
from tests.unit.workers.guard.made_up import exceeded, index, judged, keys, only, result

OK, WARN, BLOCK, SKIPPED = CheckOutcome.OK, CheckOutcome.WARN, CheckOutcome.BLOCK, CheckOutcome.SKIPPED
KEYS = keys(1000, devices=1)
RATES = np.linspace(0.01, 0.09, 1000)


def of_rows(count: int, **options):
    return result(index(KEYS[:count], RATES[:count]), **options)


@pytest.mark.parametrize(("rows", "outcome"), [(1000, OK), (950, OK), (949, WARN), (900, WARN), (899, BLOCK), (500, BLOCK)], ids=str)
def test_a_table_with_fewer_rows_than_before_warns_above_5_percent_and_blocks_above_10(rows, outcome):
    found = only(judged(of_rows(rows), of_rows(1000)), "rows")
    assert (found.outcome, found.value) == (outcome, pytest.approx(1 - rows / 1000))


@pytest.mark.parametrize(("rows", "outcome"), [(950, OK), (900, OK), (952, WARN)])
def test_more_rows_than_before_count_like_fewer(rows, outcome):
    before = {950: 905, 900: 860, 952: 900}[rows]
    assert only(judged(of_rows(rows), of_rows(before)), "rows").outcome == outcome


def test_the_number_of_rows_is_said_in_words():
    assert only(judged(of_rows(500), of_rows(1000)), "rows").sentence == (
        "the result has 50 % fewer rows than live's result (500 instead of 1,000); the limit is 10 %"
    )


def test_a_base_of_few_rows_is_not_compared():
    found = only(judged(of_rows(10), of_rows(99)), "rows")
    assert (found.outcome, found.reason) == (SKIPPED, "live's result has 99 rows, fewer than 100")


@pytest.mark.parametrize(("lost", "outcome"), [(0, OK), (20, OK), (21, WARN), (100, WARN), (101, BLOCK), (932, BLOCK)])
def test_lost_keys_warn_above_2_percent_and_block_above_10(lost, outcome):
    found = only(judged(of_rows(1000 - lost), of_rows(1000)), "keys_lost")
    assert (found.outcome, found.value) == (outcome, pytest.approx(lost / 1000))


def test_lost_keys_count_the_clicks_that_they_had_in_the_base():
    clicks = np.ones(1000)
    clicks[999] = 1001
    base, new = result(index(KEYS, RATES, clicks=clicks)), result(index(KEYS[:999], RATES[:999], clicks=clicks[:999]))
    found = only(judged(new, base), "keys_lost")
    assert (found.outcome, found.weight) == (BLOCK, Weight.CLICKS)
    assert found.sentence == "50 % of the clicks of live's result have no row any more (1 row); the limit is 10 %"


def test_without_clicks_lost_keys_count_rows_and_the_sentence_says_so():
    found = only(judged(of_rows(800), of_rows(1000)), "keys_lost")
    assert found.weight == Weight.ROWS
    assert found.sentence == (
        "20 % of the rows of live's result have no row any more (200 rows), by rows because the table has no clicks; the limit is 10 %"
    )


@pytest.mark.parametrize(("new", "outcome"), [(0, OK), (200, OK), (201, WARN), (900, WARN)])
def test_new_keys_warn_above_20_percent_and_never_block_by_default(new, outcome):
    assert only(judged(of_rows(1000), of_rows(1000 - new)), "keys_new").outcome == outcome


def test_new_keys_block_above_a_limit_of_the_channel():
    config = ChannelGuard(checks=Checks(keys_new=KeysNew(block="30%")))
    assert only(judged(of_rows(1000), of_rows(699), config=config), "keys_new").outcome == BLOCK
    assert only(judged(of_rows(1000), of_rows(700), config=config), "keys_new").outcome == WARN


def test_one_doubled_key_blocks_and_none_passes():
    doubled = result(index(np.append(KEYS, KEYS[5]), np.append(RATES, 0.5)))
    verdict = judged(doubled, of_rows(1000))
    assert only(verdict, "keys_doubled").sentence == "1 row has the key of an earlier row; the limit is 0"
    assert exceeded(verdict) == {"keys_doubled"}
    assert only(judged(of_rows(1000), of_rows(1000)), "keys_doubled").outcome == OK


def test_doubled_keys_may_warn_instead():
    doubled = result(index(np.append(KEYS, KEYS[:3]), np.append(RATES, RATES[:3])))
    for limits, outcome in (({"warn": 2, "block": 3}, WARN), ({"warn": 3, "block": 3}, OK), ({"block": 2}, BLOCK)):
        config = ChannelGuard(checks=Checks(keys_doubled=KeysDoubled(**limits)))
        assert only(judged(doubled, of_rows(1000), config=config), "keys_doubled").outcome == outcome


@pytest.mark.parametrize(("clipped", "outcome"), [(0, OK), (1, OK), (2, WARN), (10, WARN), (11, BLOCK)])
def test_clipped_predictions_warn_above_a_thousandth_and_block_above_1_percent(clipped, outcome):
    assert only(judged(of_rows(1000, clipped=clipped), of_rows(1000)), "clipped").outcome == outcome


def test_min_rows_of_a_check_is_configurable():
    config = ChannelGuard(checks=Checks(rows=Rows(min_rows=5)))
    assert only(judged(of_rows(10), of_rows(99), config=config), "rows").outcome == BLOCK
