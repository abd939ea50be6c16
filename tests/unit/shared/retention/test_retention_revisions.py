"""Which revisions stay: each rule keeps some, and what no rule keeps goes."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from shared.retention.config import KeptRevisions
from shared.retention.revisions import kept_revisions

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)


def at(*days_ago: float) -> dict[str, datetime]:
    """Revisions of so many days ago, named as jobs are: by their time."""
    moments = [NOW - timedelta(days=days) for days in days_ago]
    return {f"{moment:%Y%m%dt%H%M%S}z-score-000000": moment for moment in moments}


def kept_days(made: dict[str, datetime], rules: KeptRevisions) -> list[float]:
    kept = kept_revisions(made, rules, NOW)
    return sorted((NOW - made[name]) / timedelta(days=1) for name in kept)


def test_the_last_ones_stay():
    assert kept_days(at(0, 1, 2, 3, 400), KeptRevisions(keep_last=3)) == [0, 1, 2]


def test_the_newest_stays_whatever_the_rules():
    assert kept_days(at(400, 500), KeptRevisions()) == [400]


def test_the_newest_of_each_of_the_last_days_that_have_one_stays():
    assert kept_days(at(0, 0.1, 0.2, 1, 1.1, 5, 5.1, 9), KeptRevisions(keep_daily=3)) == [0, 1, 5]


def test_the_newest_of_each_week_stays():
    # 2026-11-30 is a Monday
    assert kept_days(at(0, 1, 2, 7, 8, 9, 14, 15), KeptRevisions(keep_weekly=3)) == [0, 1, 8]


def test_what_is_young_stays():
    assert kept_days(at(0, 1, 6.9, 7, 8), KeptRevisions(keep_within=timedelta(days=7))) == [0, 1, 6.9]


def test_the_rules_add_up():
    rules = KeptRevisions(keep_last=3, keep_daily=14, keep_weekly=8, keep_within=timedelta(days=7))
    days = kept_days(at(*range(200)), rules)
    assert days[:14] == list(range(14))
    assert days[14:] == [15, 22, 29, 36, 43], "the Sundays of the weeks before"


@given(st.lists(st.integers(0, 100_000), max_size=40, unique=True), st.integers(0, 5), st.integers(0, 5), st.integers(0, 5))
def test_never_fewer_than_the_rules_ask_for(minutes, last, daily, weekly):
    made = at(*(minute / 1440 for minute in minutes))
    kept = kept_revisions(made, KeptRevisions(keep_last=last, keep_daily=daily, keep_weekly=weekly), NOW)
    assert kept.keys() >= set(sorted(made)[max(len(made) - last, 0) :] if last else ())
    assert len({made[name].date() for name in kept}) >= min(daily, len({moment.date() for moment in made.values()}))
    assert bool(kept) == bool(made)
    assert len(kept) <= 1 + last + daily + weekly
