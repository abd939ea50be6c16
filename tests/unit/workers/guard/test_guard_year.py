"""A year of weekly results is never held: a season, noise, keywords that come and go, and a new release every fourth week."""

from datetime import timedelta

import pytest

from shared.guard.config import ChannelGuard
from shared.guard.verdict import Outcome
from tests.unit.workers.guard.made_up import NOON, result
from tests.unit.workers.guard.market import Market, Model, scored, season
from workers.guard.judging import judge


def replay(market, *, with_clicks=True, weeks=52):
    """Judge each week against the week before; yields each verdict."""
    base = model = release = None
    for week in range(weeks + 1):
        level = season(week) + market.random.normal(0, 0.05)
        if week % 4 == 0:
            model, release = Model.trained(market.random), f"v1@202601{week // 4 + 1:02}T101500Z-9bfad3"
        table = market.table(market.without_some(0.02))
        new = result(scored(table, model.rates(table, level), with_clicks=with_clicks), release=release, table="ab"[week % 2])
        now = NOON + timedelta(weeks=week)
        yield judge(ChannelGuard(), channel="live", new=new, base=base, now=now, important_columns=model.important_columns)
        base = new
        market.change_some_keywords(0.01)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("all_devices", [True, False], ids=["all devices", "some devices"])
@pytest.mark.parametrize("with_clicks", [True, False], ids=["clicks", "no clicks"])
def test_no_week_of_a_year_is_held(seed, all_devices, with_clicks):
    market = Market.of(3000, seed, all_devices=all_devices)
    verdicts = list(replay(market, with_clicks=with_clicks))
    held = {number: [check.sentence for check in verdict.checks if check.outcome == "block"] for number, verdict in enumerate(verdicts)}
    assert {number: sentences for number, sentences in held.items() if sentences} == {}
    assert Outcome.HOLD not in {verdict.outcome for verdict in verdicts}
    assert sum(verdict.release_difference is not None for verdict in verdicts) == 13


def test_no_week_of_a_year_of_a_large_table_is_held():
    market = Market.of(67_000, seed=1)
    verdicts = list(replay(market))
    assert len(market.whole) > 200_000
    assert Outcome.HOLD not in {verdict.outcome for verdict in verdicts}
