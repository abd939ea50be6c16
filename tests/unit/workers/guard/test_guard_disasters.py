"""Named disasters are held, by the default limits; good nights pass, also the first one of a new champion."""

import numpy as np
import pytest

from shared.guard.verdict import Outcome
from tests.unit.workers.guard.made_up import OTHER, exceeded, judged, result
from tests.unit.workers.guard.market import Market, Model, scored

MARKET = Market.of(4000, seed=5)
CHAMPION, NEXT = Model.trained(MARKET.random), Model.trained(MARKET.random)
YESTERDAY, TODAY = (MARKET.table(MARKET.without_some(0.02)) for _ in range(2))
BASE = result(scored(YESTERDAY, CHAMPION.rates(YESTERDAY)), table="a")
BASE_WITHOUT_CLICKS = result(scored(YESTERDAY, CHAMPION.rates(YESTERDAY), with_clicks=False), table="a")
IMPORTANT = [f"att{number}" for number in range(1, 11)]


def night(table, rates, *, with_clicks=True, name="b", days=1.0, **options):
    base = BASE if with_clicks else BASE_WITHOUT_CLICKS
    new = result(scored(table, rates, with_clicks=with_clicks), table=name, **options)
    return judged(new, base, days=days, important_columns=IMPORTANT)


def half(table):
    return table[np.flatnonzero(np.random.default_rng(0).random(len(table)) < 0.5)]


def all_zero(table):
    return table.with_attributes(table.attributes * np.uint64(0))


def important_column_is_zero(table):
    return table.with_attributes(table.attributes & ~np.uint64(1))


def important_column_is_one(table):
    return table.with_attributes(table.attributes | np.uint64(1))


def doubled_block(table):
    return table[np.concatenate([np.arange(len(table)), np.arange(1000, 1200)])]


BROKEN_TABLES = [half, all_zero, important_column_is_zero, important_column_is_one, doubled_block]
with_and_without_clicks = pytest.mark.parametrize("with_clicks", [True, False], ids=["clicks", "no clicks"])


@with_and_without_clicks
def test_a_good_table_is_published(with_clicks):
    assert exceeded(night(TODAY, CHAMPION.rates(TODAY), with_clicks=with_clicks)) == set()


@with_and_without_clicks
@pytest.mark.parametrize("broken", BROKEN_TABLES)
def test_a_broken_table_is_held(broken, with_clicks):
    table = broken(TODAY)
    assert night(table, CHAMPION.rates(table), with_clicks=with_clicks).outcome == Outcome.HOLD


@with_and_without_clicks
def test_computer_and_tablet_swapped_are_held(with_clicks):
    market = Market.of(4000, seed=6, all_devices=False)
    yesterday, today = (market.table(market.without_some(0.02)) for _ in range(2))
    base = result(scored(yesterday, CHAMPION.rates(yesterday), with_clicks=with_clicks), table="a")
    swapped = today.swapped()
    verdict = judged(result(scored(swapped, CHAMPION.rates(swapped), with_clicks=with_clicks), table="b"), base)
    assert "keys_lost" in exceeded(verdict)


@with_and_without_clicks
def test_every_rate_times_ten_by_a_new_release_is_held(with_clicks):
    rates = np.minimum(NEXT.rates(TODAY) * 10, 1)
    verdict = night(TODAY, rates, with_clicks=with_clicks, release=OTHER)
    assert {"mean_cr", "moved", "p99_cr"} <= exceeded(verdict)
    assert verdict.release_difference.is_excused
    assert verdict.release_difference.factors["Computer"] > 8


@with_and_without_clicks
@pytest.mark.parametrize("release", [None, OTHER], ids=["same release", "new release"])
def test_three_percent_of_the_clicks_at_99_percent_are_held(release, with_clicks):
    rates = (NEXT if release else CHAMPION).rates(TODAY)
    order = np.random.default_rng(1).permutation(len(TODAY))
    rates[order[np.cumsum(TODAY.clicks[order]) <= TODAY.clicks.sum() * 0.03]] = 0.99
    options = {"release": release} if release else {}
    assert night(TODAY, rates, with_clicks=with_clicks, **options).outcome == Outcome.HOLD


def test_the_table_of_the_day_before_yesterday_again_is_held():
    assert exceeded(night(YESTERDAY, CHAMPION.rates(YESTERDAY), name="a", days=51 / 24)) == {"same_table"}


@with_and_without_clicks
def test_a_new_champion_and_a_good_table_are_published(with_clicks):
    verdict = night(TODAY, NEXT.rates(TODAY), with_clicks=with_clicks, release=OTHER)
    assert exceeded(verdict) == set()
    assert "was taken out before the rates were compared" in verdict.release_difference.sentence


@with_and_without_clicks
@pytest.mark.parametrize("broken", BROKEN_TABLES)
def test_a_new_champion_and_a_broken_table_are_held(broken, with_clicks):
    table = broken(TODAY)
    assert night(table, NEXT.rates(table), with_clicks=with_clicks, release=OTHER).outcome == Outcome.HOLD
