"""A verdict: its record, its outcome, the first result of a channel, failures of checks, and the worst rows."""

import hashlib
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from shared.guard.checks import CheckName, Checks, Rows
from shared.guard.config import ChannelGuard, GuardMode, parse_guard_config
from shared.guard.verdict import BaseResult, CheckOutcome, ConfigVersion, GuardVerdict, Outcome, RowProblem, worst_in_words
from shared.records import decode
from tests.unit.workers.guard.made_up import NOON, ONE, OTHER, exceeded, index, judged, keys, only, outcomes, result
from workers.guard.checks import registry
from workers.guard.checks.registry import CHECKS

KEYS = keys(1000)
RATES = np.exp(np.random.default_rng(0).normal(-3, 0.5, len(KEYS)))
CLICKS = np.random.default_rng(1).poisson(5, len(KEYS)).astype(float)
BASE = result(index(KEYS, RATES, features=np.arange(3000), clicks=CLICKS, ones={"att1": 900}), job="base-job")
GOOD = result(index(KEYS, RATES * 1.02, features=np.arange(3000), clicks=CLICKS, ones={"att1": 900}), table="b", job="new-job")
TEN_TIMES = result(index(KEYS, np.minimum(RATES * 10, 1), features=np.arange(3000), clicks=CLICKS, ones={"att1": 900}), table="b")


def test_a_good_result_passes_every_check_and_the_record_reads_back():
    verdict = judged(GOOD, BASE, version=ConfigVersion.of(parse_guard_config(b"live: {mode: block}")))
    assert verdict.config.source == "config/guard.yaml"
    assert verdict.config.sha256 == hashlib.sha256(b"live: {mode: block}").hexdigest()
    assert verdict.outcome == Outcome.PASS
    assert {found.check for found in verdict.checks} == set(CheckName)
    assert {found.outcome for found in verdict.checks} == {CheckOutcome.OK}
    assert (verdict.job_id, verdict.release, verdict.channel, verdict.mode) == ("new-job", ONE, "live", GuardMode.BLOCK)
    assert verdict.base == BaseResult(revision="data/predict/output/v1/t/revisions/base-job", job_id="base-job", release=ONE)
    assert verdict.at == NOON + timedelta(days=1)
    assert (verdict.worst, worst_in_words(verdict), verdict.release_difference) == ([], [], None)
    assert decode(GuardVerdict, verdict.to_json()) == verdict


def test_a_bad_result_is_held_and_the_three_worst_numbers_are_of_different_checks():
    verdict = judged(TEN_TIMES, BASE)
    assert verdict.outcome == Outcome.HOLD
    assert decode(GuardVerdict, verdict.to_json()) == verdict
    first, second, third = worst_in_words(verdict)
    assert "the mean rate of" in first
    assert "the 99th percentile" in second or "moved" in second
    assert first.endswith("; the limit is 25 %")
    assert len({first, second, third}) == 3


def test_mode_warn_publishes_what_mode_block_holds_and_mode_off_checks_nothing():
    assert judged(TEN_TIMES, BASE, config=ChannelGuard(mode="warn")).outcome == Outcome.WARN
    off = judged(TEN_TIMES, BASE, config=ChannelGuard(mode="off"))
    assert (off.outcome, off.checks, off.worst) == (Outcome.PASS, [], [])


def test_a_guard_that_a_person_switched_off_says_why():
    verdict = judged(TEN_TIMES, BASE, off_reason="the campaign of the year")
    assert (verdict.outcome, verdict.checks, verdict.off_reason) == (Outcome.PASS, [], "the campaign of the year")


def test_the_first_result_of_a_channel_is_judged_by_the_checks_that_need_no_base():
    verdict = judged(GOOD, None)
    made = {found.check.value for found in verdict.checks if found.outcome != CheckOutcome.SKIPPED}
    assert (verdict.outcome, verdict.base, made) == (Outcome.PASS, None, {"keys_doubled", "clipped", "constant"})
    assert only(verdict, "mean_cr").reason == "live has no result to compare with"
    doubled = index(np.append(KEYS, KEYS[:5]), np.full(3005, 0.05))
    assert exceeded(judged(result(doubled, clipped=100), None)) == {"keys_doubled", "clipped", "constant"}


def broken(comparison):
    raise ZeroDivisionError("no luck")


def test_a_check_that_fails_holds_in_mode_block_publishes_in_mode_warn_and_says_which(monkeypatch):
    monkeypatch.setitem(registry.CHECKS, CheckName.P99_CR, replace(CHECKS[CheckName.P99_CR], find=broken))
    verdict = judged(GOOD, BASE)
    found = only(verdict, "p99_cr")
    assert (verdict.outcome, found.outcome, found.reason) == (Outcome.HOLD, CheckOutcome.FAILED, "ZeroDivisionError: no luck")
    assert worst_in_words(verdict) == ["the check p99_cr failed: ZeroDivisionError: no luck"]
    assert exceeded(verdict, CheckOutcome.FAILED) == {"p99_cr"}
    assert judged(GOOD, BASE, config=ChannelGuard(mode="warn")).outcome == Outcome.WARN


def test_an_index_that_cannot_be_read_fails_the_checks_that_read_it(monkeypatch):
    bad = index(KEYS, RATES)
    monkeypatch.setattr(bad, "slices", lambda *_: broken(None))
    verdict = judged(result(bad, table="b"), BASE)
    assert verdict.outcome == Outcome.HOLD
    assert outcomes(verdict, "rows") == {"all": CheckOutcome.OK}
    assert {"keys_lost", "constant", "moved", "psi_cr"} <= exceeded(verdict, CheckOutcome.FAILED)
    assert decode(GuardVerdict, verdict.to_json()) == verdict


def test_a_value_that_is_not_a_number_fails_instead_of_passing():
    clicks = CLICKS.copy()
    clicks[7] = np.inf
    verdict = judged(result(index(KEYS, RATES, clicks=clicks), table="b"), BASE)
    assert "mean_cr" in exceeded(verdict, CheckOutcome.FAILED)
    assert verdict.outcome == Outcome.HOLD
    assert decode(GuardVerdict, verdict.to_json()) == verdict


def test_the_worst_rows_are_those_whose_clicks_times_change_is_largest():
    rates, clicks = RATES.copy(), np.ones(len(KEYS))
    rates[300:900] = RATES[300:900] * 2
    clicks[[301, 700]] = [1000, 500]
    verdict = judged(result(index(KEYS, rates, clicks=clicks)), BASE)
    assert len(verdict.worst) == 10
    first, second = verdict.worst[:2]
    assert {(first.key, first.device), (second.key, second.device)} == {
        (str(KEYS[301] >> 2), "Smartphone"),
        (str(KEYS[700] >> 2), ("Computer", "Smartphone", "Tablet")[KEYS[700] & 3]),
    }
    of_301 = first if first.clicks == 1000 else second
    assert (of_301.rate_before, of_301.rate_now) == (RATES[301], rates[301])
    assert (of_301.problem, of_301.file, of_301.line) == (RowProblem.MOVED, "table.csv", 303)


def test_the_worst_rows_are_found_wherever_they_lie_in_a_large_table():
    many = keys(40_000)
    rates = np.full(len(many), 0.05)
    places = np.array([0, 7, 65_535, 65_536, 65_537, 100_000, 119_999, 30_000, 80_000, 90_000])
    new = rates.copy()
    new[places] = 0.9
    new[::3] += 0.02
    verdict = judged(result(index(many, new)), result(index(many, rates)))
    assert {(row.key, row.line) for row in verdict.worst} == {(str(many[place] >> 2), place + 2) for place in places}


def test_lost_rows_are_among_the_worst_when_too_many_are_lost():
    verdict = judged(result(index(KEYS[:1500], RATES[:1500], clicks=CLICKS[:1500])), BASE)
    assert {row.problem for row in verdict.worst} == {RowProblem.LOST}
    assert all(row.rate_now is None and row.rate_before is not None for row in verdict.worst)
    costs = [row.clicks * row.rate_before for row in verdict.worst]
    assert costs == sorted(costs, reverse=True)
    assert costs[0] == (CLICKS * RATES)[1500:].max()


def test_doubled_rows_are_quoted_with_their_lines():
    verdict = judged(result(index(np.append(KEYS, KEYS[:3]), np.append(RATES, RATES[:3] * 5))), BASE)
    doubled = [row for row in verdict.worst if row.problem == RowProblem.DOUBLED]
    assert sorted((row.key, row.line) for row in doubled) == [("1", 3002), ("1", 3003), ("1", 3004)]


def test_text_keys_are_compared_as_one_group():
    texts = np.array([f"shop {number}|x" for number in range(3000)])
    base = result(index(texts, RATES, features=np.arange(3000)))
    assert judged(result(index(texts, RATES)), base).outcome == Outcome.PASS
    moved = RATES * np.where(np.arange(3000) < 1500, 3, 1)
    verdict = judged(result(index(texts[:2600], moved[:2600]), table="b"), base)
    assert exceeded(verdict) == {"rows", "keys_lost", "mean_cr", "p99_cr", "moved", "psi_cr"}
    assert {found.group for found in verdict.checks} <= {"all"}
    assert only(verdict, "keys_lost").value == pytest.approx(400 / 3000)


def as_texts(whole):
    return np.array([f"{key >> 2}|{key & 3}" for key in whole])


@pytest.mark.parametrize("night", ["it comes", "it goes"])
def test_one_id_that_is_too_large_does_not_disable_the_comparison(night):
    texts, rates = np.append(as_texts(KEYS), f"{1 << 61}|0"), np.append(RATES, 0.05)
    large = index(texts, rates, features=np.arange(3001), clicks=np.append(CLICKS, 1), ones={"att1": 900})
    one, other = (BASE.index, large) if night == "it comes" else (large, BASE.index)
    verdict = judged(result(other, table="b"), result(one))
    assert verdict.outcome == Outcome.PASS
    assert only(verdict, "keys_lost").value == pytest.approx(0 if night == "it comes" else 1 / (CLICKS.sum() + 1))
    assert only(verdict, "keys_new").value == pytest.approx(1 / 3001 if night == "it comes" else 0)
    assert only(verdict, "moved").value == 0
    half = index(texts[::2], rates[::2], features=np.arange(3001)[::2]) if night == "it comes" else index(KEYS[::2], RATES[::2])
    broken = judged(result(half, table="b"), result(one))
    assert {"rows", "keys_lost"} <= exceeded(broken)
    assert exceeded(broken, CheckOutcome.FAILED) == set()


def test_the_difference_of_a_release_is_excused_when_the_keys_of_one_result_are_text():
    higher = result(index(as_texts(KEYS), RATES * 1.4, features=np.arange(3000)), release=OTHER, table="b")
    verdict = judged(higher, BASE)
    assert verdict.release_difference.is_excused
    assert verdict.release_difference.unchanged_rows == len(KEYS)
    assert verdict.outcome == Outcome.PASS


def test_other_key_columns_fail_the_comparison_and_the_notice_says_so_once():
    other = result(index(KEYS, RATES, key_columns=("entity_id",)), table="b", keys=("entity_id",))
    verdict = judged(other, BASE)
    assert verdict.outcome == Outcome.HOLD
    [sentence] = worst_in_words(verdict)
    assert sentence.startswith("the checks keys_lost, keys_new, ")
    assert sentence.endswith("the two results have different key columns: entity_id, device and entity_id")


def test_results_without_a_device_are_one_group():
    without = result(index(np.arange(1000) << 2, RATES[:1000], key_columns=("entity_id",)), keys=("entity_id",), devices=("all",))
    verdict = judged(without, without)
    assert {found.group for found in verdict.checks if found.check == "mean_cr"} == {"all"}


def test_an_empty_result_is_held():
    verdict = judged(result(index(KEYS[:0], RATES[:0]), table="b"), BASE)
    assert verdict.outcome == Outcome.HOLD
    assert exceeded(verdict) == {"rows", "keys_lost"}
    assert exceeded(verdict, CheckOutcome.FAILED) == set()


def test_a_limit_that_is_off_never_warns():
    config = ChannelGuard(checks=Checks(rows=Rows(warn=False, block=False)))
    assert outcomes(judged(result(index(KEYS[:500], RATES[:500])), BASE, config=config), "rows") == {"all": CheckOutcome.OK}
