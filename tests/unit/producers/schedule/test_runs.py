"""An entry has the runs that its cron line, its time zone and its rule for missed runs say."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.schedule.entries import Entry
from producers.schedule.runs import MOST_CAUGHT_UP, ON_TIME, Run, due_runs, next_run, one_run, runs_on
from shared.errors import RequestError

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
LONG_AGO = NOON - timedelta(days=1000)


def entry(**fields) -> Entry:
    return Entry(**{"name": "daily", "cron": "0 6 * * *", "time_zone": "UTC", "score": "t/{date:%Y/%m/%d}", "model": "v1"} | fields)


def test_a_table_is_that_of_the_logical_date_by_the_clock_of_the_zone():
    run = Run(entry=entry(time_zone="America/New_York", score="in/{date:%Y/%m/%d}/{date:%H}.csv"), at=datetime(2026, 11, 24, 3, tzinfo=UTC))
    assert run.path(run.entry.score) == "in/2026/11/23/22.csv"
    assert run.key == "daily-20261124t0300"


def due(kept: Entry, now: datetime = NOON, since: datetime = LONG_AGO) -> list[datetime]:
    return [run.at for run in due_runs(kept, since, now)]


SIX = NOON.replace(hour=6)


@pytest.mark.parametrize("rule", ["none", "last", "all"])
def test_a_run_is_due_at_its_moment_and_not_before(rule):
    kept = entry(catch_up=rule)
    since = SIX - timedelta(hours=1)
    assert due(kept, SIX - timedelta(seconds=1), since) == []
    assert due(kept, SIX, since) == due(kept, SIX + ON_TIME / 2, since) == [SIX]


def test_what_was_missed_is_forgotten_or_the_last_is_caught_up_or_all_the_oldest_first():
    days = timedelta(days=1)
    since = SIX - 3 * days - timedelta(hours=1)
    assert due(entry(catch_up="none"), NOON, since) == []
    assert due(entry(catch_up="last"), NOON, since) == [SIX]
    assert due(entry(catch_up="all"), NOON, since) == [SIX - 3 * days, SIX - 2 * days, SIX - days, SIX]


@pytest.mark.parametrize("rule", ["none", "last", "all"])
def test_a_look_that_comes_a_little_late_leaves_no_run_out(rule):
    minutes = [NOON - timedelta(minutes=number) for number in (2, 1, 0)]
    assert due(entry(cron="* * * * *", catch_up=rule), NOON + timedelta(seconds=40), NOON - timedelta(minutes=3)) == minutes


def test_nothing_is_caught_up_from_before_the_entry_was_in_force():
    for rule in ("none", "last", "all"):
        assert due(entry(catch_up=rule), NOON, SIX) == []


def test_all_is_bounded_and_spares_the_newest():
    found = due(entry(catch_up="all", cron="* * * * *"))
    assert len(found) == MOST_CAUGHT_UP
    assert found[-1] == NOON
    assert due(entry(catch_up="all", cron="0 0 1 1 *"), NOON) == [datetime(2026, 1, 1, tzinfo=UTC)], "none is more than a year old"


@given(
    rule=st.sampled_from(["none", "last", "all"]),
    cron=st.sampled_from(["0 6 * * *", "*/5 * * * *", "30 2 * * *", "15 */2 * * sun"]),
    zone=st.sampled_from(["UTC", "Europe/Berlin"]),
    looks=st.lists(st.integers(1, 60 * 24 * 3), min_size=1, max_size=12),
    start=st.sampled_from([NOON, datetime(2026, 3, 28, 22, tzinfo=UTC), datetime(2026, 10, 24, 20, tzinfo=UTC)]),
)
def test_looks_at_any_times_start_each_run_once_and_by_the_rule(rule, cron, zone, looks, start):
    """``looks`` are the pauses in minutes between two looks: short ones, and those of a beat that was down."""
    kept = entry(catch_up=rule, cron=cron, time_zone=zone)
    started: list[datetime] = []
    now = start
    for pause in looks:
        before, now = now, now + timedelta(minutes=pause)
        fresh = [at for at in due(kept, now, start) if at not in started]
        assert fresh == sorted(fresh)
        missed = [run.at for run in due_runs(entry(catch_up="all", cron=cron, time_zone=zone), before, now)]
        on_time = [at for at in missed if at > now - ON_TIME]
        if rule == "all":
            assert fresh == missed or len(missed) == MOST_CAUGHT_UP
        else:
            assert fresh == (on_time or (missed[-1:] if rule == "last" else []))
        started += fresh
    assert len(started) == len(set(started))


def test_the_next_run_is_after_now():
    assert next_run(entry(), SIX).at == SIX + timedelta(days=1)


def test_the_runs_of_some_days_are_those_by_the_clock_of_the_zone():
    kept = entry(cron="0 1,23 * * *", time_zone="Asia/Kolkata")
    found = runs_on(kept, date(2026, 11, 1), date(2026, 11, 2))
    assert [f"{run.local:%d %H}" for run in found] == ["01 01", "01 23", "02 01", "02 23"]


def test_one_run_is_named_by_its_day_or_its_minute():
    assert one_run(entry(), "2026-11-23").at == SIX
    assert one_run(entry(), "2026-11-23T06:00").at == SIX
    assert one_run(entry(cron="0 * * * *"), "2026-11-23T06:00").at == SIX
    doubled = one_run(entry(cron="30 * * * *", time_zone="Europe/Berlin"), "2026-10-25T02:30")
    assert doubled.at == datetime(2026, 10, 25, 0, 30, tzinfo=UTC), "the first of the doubled hour"


def test_a_moment_with_an_offset_names_the_run_of_that_moment():
    berlin = entry(cron="0 6 * * *", time_zone="Europe/Berlin")
    for text in ("2026-11-23T05:00Z", "2026-11-23T06:00+01:00", "2026-11-22T23:00-06:00"):
        assert one_run(berlin, text).at == datetime(2026, 11, 23, 5, tzinfo=UTC)
    with pytest.raises(RequestError, match="no run at 07:00 on 2026-11-23"):
        one_run(berlin, "2026-11-23T06:00+00:00")
    doubled = one_run(entry(cron="30 * * * *", time_zone="Europe/Berlin"), "2026-10-25T02:30+01:00")
    assert doubled.at == datetime(2026, 10, 25, 1, 30, tzinfo=UTC), "the second of the doubled hour"


@pytest.mark.parametrize(
    ("cron", "text", "sentence"),
    [
        ("0 6 * * *", "yesterday", "'yesterday' is not a date"),
        ("0 6 * * *", "0001-01-01", "'0001-01-01' is not a date"),
        ("0 6 * * *", "9999-12-31T23:00-05:00", "'9999-12-31T23:00-05:00' is not a date"),
        ("0 6 * * mon", "2026-11-24", "daily has no run on 2026-11-24: it runs at 0 6 * * mon UTC"),
        ("0 * * * *", "2026-11-23", "daily has several runs on 2026-11-23; its times are: 00:00, 01:00, 02:00, 03:00, 04:00, 05:00, ..."),
        ("0 6 * * *", "2026-11-23T07:00", "daily has no run at 07:00 on 2026-11-23; its times are: 06:00"),
    ],
)
def test_a_date_that_names_no_run_is_refused_with_those_that_there_are(cron, text, sentence):
    with pytest.raises(RequestError) as refused:
        one_run(entry(cron=cron), text)
    assert refused.value.message == sentence
    assert refused.value.next_step
