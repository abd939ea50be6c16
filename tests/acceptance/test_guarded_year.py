"""A year of weekly tables on a real stack: real trainings, real jobs, one channel; the guard holds none of them.

The market is that of ``tests/unit/workers/guard/market.py``: a yearly season, 5 % of weekly noise of its level, 2 % of the keywords missing
each week, 1 % of the rows with other attributes, and a release that is trained on the last four weeks every fourth week.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.conftest import READY_CLI, Place
from tests.unit.workers.guard.market import SHARES, Market, Model, Table, bits_of, season

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(1800)]

WEEKS = 52
HELD = 7
"""The exit code of a job whose result is held."""
KEYWORDS = 3000
ATTRIBUTES = 160
"""Of the raw layout; the market has fewer, and the others are 0."""
RELEASE_EVERY = TRAINING_WEEKS = 4


def raw(table: Table) -> pd.DataFrame:
    """A table to score."""
    attributes = np.zeros((len(table), ATTRIBUTES), dtype=np.int8)
    attributes[:, : len(SHARES)] = bits_of(table.attributes)
    named = pd.DataFrame(attributes, columns=[f"att{place + 1}" for place in range(ATTRIBUTES)])
    return named.assign(entity_id=table.entity, device=table.device, Clicks=table.clicks.astype(int))


def observed(market: Market, week: int, level: float) -> pd.DataFrame:
    """A table to train on: what happened in a week, with conversions."""
    table = market.table(market.without_some(0.02))
    rows = raw(table)
    return rows.assign(week=week, Conversions=market.random.binomial(rows["Clicks"], Model.true().rates(table, level)))


def written(rows: pd.DataFrame, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows.to_csv(path, index=False)
    return path


def score(place: Place, table: Path, release: str, channel: str) -> dict:
    """The outcome of a job, done or held."""
    done = READY_CLI.run(["score", str(table), "--model", release, "--channel", channel, "--json"], place.environment, 300)
    assert done.returncode in (0, HELD), done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(("definition", "seed"), [("v1", 1), ("v2", 2)])
def test_no_week_of_a_year_is_held_on_a_stack(stack: Place, tmp_path: Path, definition: str, seed: int) -> None:
    market, channel = Market.of(KEYWORDS, seed), f"year-{definition}"
    past = [observed(market, week, season(week)) for week in range(-TRAINING_WEEKS, 0)]
    held, warned, release = {}, {}, ""
    for week in range(WEEKS + 1):
        level = season(week) + market.random.normal(0, 0.05)
        if week % RELEASE_EVERY == 0:
            train = written(pd.concat(past[-TRAINING_WEEKS:]), tmp_path / f"train-{week}.csv")
            evaluation = written(observed(market, week, level), tmp_path / f"eval-{week}.csv")
            release = stack.scoring_json("train", definition, "--train", train, "--eval", evaluation, "--force")["release"]
        table = written(raw(market.table(market.without_some(0.02))), tmp_path / f"week-{week:02}.csv")
        outcome = score(stack, table, release, channel)
        if outcome["state"] == "held":
            held[week] = outcome["reason"]
            stack.scoring("results", "approve", outcome["job_id"], "--reason", "a false hold")
        elif "guard" in outcome["facts"]:
            warned[week] = outcome["facts"]["guard"]
        past.append(observed(market, week, level))
        market.change_some_keywords(0.01)
    counts = f"{len(held)} of {WEEKS} weeks were held, {len(warned)} were published with a warning"
    print(f"\n{definition}: {counts}: {warned}")  # noqa: T201 - a measurement
    changes = stack.scoring_json("results", "history", channel)
    assert len({change["release"] for change in changes}) == WEEKS // RELEASE_EVERY + 1
    assert held == {}
