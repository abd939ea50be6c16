"""A cron line gives the moments that people expect by the clock of its zone, also on the days when that clock is changed."""

import itertools
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.schedule.cron import DAY, moments, newest_moments, read_cron

BERLIN, NEW_YORK = ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York")
SPRING, AUTUMN = date(2026, 3, 29), date(2026, 10, 25)
"""In Berlin 02:00 becomes 03:00 on the one, and 03:00 becomes 02:00 on the other."""


def walls(line: str, zone: ZoneInfo, day: date, days: int = 1) -> list[str]:
    start = datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)
    after, until = start - timedelta(seconds=1), start + days * DAY
    return [f"{moment.astimezone(zone):%m-%d %H:%M%z}" for moment in moments(read_cron(line), zone, after, until)]


def test_a_run_keeps_its_hour_when_the_clock_is_changed():
    assert walls("30 5 * * *", BERLIN, SPRING - DAY, 3)[:2] == ["03-28 05:30+0100", "03-29 05:30+0200"]
    assert walls("30 5 * * *", BERLIN, AUTUMN - DAY, 3)[:2] == ["10-24 05:30+0200", "10-25 05:30+0100"]


def test_a_run_in_the_hour_that_is_skipped_comes_once_an_hour_later():
    assert walls("30 2 * * *", BERLIN, SPRING) == ["03-29 03:30+0200"]
    assert walls("30 2,3 * * *", BERLIN, SPRING) == ["03-29 03:30+0200"]


def test_a_run_in_the_hour_that_is_doubled_comes_once():
    assert walls("30 2 * * *", BERLIN, AUTUMN) == ["10-25 02:30+0200"]
    assert walls("*/30 1-3 * * *", BERLIN, AUTUMN) == [
        "10-25 01:00+0200", "10-25 01:30+0200", "10-25 02:00+0200", "10-25 02:30+0200", "10-25 03:00+0100", "10-25 03:30+0100",
    ]  # fmt: skip


@pytest.mark.parametrize(("day", "hours"), [(SPRING, 23), (AUTUMN, 25), (SPRING + DAY, 24)])
def test_what_runs_every_hour_runs_in_each_of_the_day(day, hours):
    start = datetime(day.year, day.month, day.day, tzinfo=BERLIN).astimezone(UTC)
    end = datetime(day.year, day.month, day.day + 1, tzinfo=BERLIN).astimezone(UTC)
    found = list(moments(read_cron("7 * * * *"), BERLIN, start, end))
    assert len(found) == hours
    assert {later - earlier for earlier, later in itertools.pairwise(found)} == {timedelta(hours=1)}


def test_where_half_an_hour_is_skipped_what_fell_into_it_comes_half_an_hour_later():
    found = walls("15,45 * * * *", ZoneInfo("Australia/Lord_Howe"), date(2026, 10, 4))
    assert [wall[6:11] for wall in found[2:6]] == ["01:15", "01:45", "02:45", "03:15"]
    found = walls("15 * * * *", ZoneInfo("Australia/Lord_Howe"), date(2026, 10, 4))
    assert [wall[6:11] for wall in found[:4]] == ["00:15", "01:15", "02:45", "03:15"]


def test_one_line_means_other_moments_in_other_zones():
    assert walls("0 6 * * *", NEW_YORK, date(2026, 11, 23)) == ["11-23 06:00-0500"]
    [moment] = moments(read_cron("0 6 * * *"), NEW_YORK, datetime(2026, 11, 23, tzinfo=UTC), datetime(2026, 11, 24, tzinfo=UTC))
    assert moment == datetime(2026, 11, 23, 11, tzinfo=UTC)


@pytest.mark.parametrize(
    ("line", "days"),
    [
        ("0 0 * * mon-fri", [2, 3, 4, 5, 6, 9, 10, 11, 12, 13]),
        ("0 0 * * 7", [1, 8]),
        ("0 0 * * 0", [1, 8]),
        ("0 0 13 * *", [13]),
        ("0 0 13 * sun", [1, 8, 13]),
        ("0 0 */5 * *", [1, 6, 11]),
        ("0 0 2-9/3,11 nov *", [2, 5, 8, 11]),
        ("0 0 * DEC *", []),
        ("0 0 10/2 * *", [10, 12, 14]),
    ],
)
def test_days_are_those_of_crontab(line, days):
    utc = ZoneInfo("UTC")
    found = moments(read_cron(line), utc, datetime(2026, 10, 31, 23, tzinfo=UTC), datetime(2026, 11, 14, tzinfo=UTC))
    assert [moment.day for moment in found] == days


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("", "it has 0 fields and not 5"),
        ("* * * *", "it has 4 fields and not 5"),
        ("* * * * * *", "it has 6 fields and not 5"),
        ("60 * * * *", "the minute '60' is not in 0 to 59"),
        ("* 24 * * *", "the hour '24' is not in 0 to 23"),
        ("* * 0 * *", "the day of month '0' is not in 1 to 31"),
        ("* * * 13 *", "the month '13' is not in 1 to 12"),
        ("* * * * 8", "the day of week '8' is not in 0 to 7"),
        ("* * * * mo", "the day of week 'mo' is not in 0 to 7"),
        ("mon * * * *", "the minute 'mon' is not in 0 to 59"),
        ("5-1 * * * *", "the minute '5-1' runs backwards"),
        ("*/0 * * * *", "the step of the minute '0' is not in 1 to 59"),
        ("1,,2 * * * *", "the minute '' is not in 0 to 59"),
        ("-5 * * * *", "the minute '' is not in 0 to 59"),
        ("1.5 * * * *", "the minute '1.5' is not in 0 to 59"),
        ("٣ * * * *", "the minute '٣' is not in 0 to 59"),
        ("@daily", "it has 1 field and not 5"),
    ],
)
def test_a_line_that_cannot_be_is_refused_with_its_field(line, wrong):
    with pytest.raises(ValueError) as refused:
        read_cron(line)
    assert str(refused.value) == wrong


fields = st.tuples(
    st.sampled_from(["0", "30", "*/20", "5,55", "59", "*"]),
    st.sampled_from(["*", "2", "0", "23", "1-3", "*/6"]),
    st.sampled_from(["*", "1", "25,29", "*/7"]),
    st.sampled_from(["*", "3,10", "11"]),
    st.sampled_from(["*", "0", "sat", "1-5"]),
).map(" ".join)
zones = st.sampled_from(
    ["Europe/Berlin", "America/New_York", "America/Havana", "Australia/Lord_Howe", "Pacific/Apia", "Asia/Kolkata", "UTC"]
)
starts = st.datetimes(datetime(2011, 12, 20), datetime(2030, 1, 1)) | st.sampled_from(
    [datetime(2026, 3, 28, 12), datetime(2026, 10, 24, 12), datetime(2026, 3, 7, 12), datetime(2026, 10, 31, 12), datetime(2011, 12, 29)]
)


@given(line=fields, zone=zones, start=starts, hours=st.integers(1, 60))
def test_the_moments_are_those_of_a_clock_that_is_looked_at_every_minute(line, zone, start, hours):
    """What the clock shows at a moment is what the line says, each reading of the clock once, and none is left out."""
    cron, place = read_cron(line), ZoneInfo(zone)
    after = start.replace(tzinfo=UTC, second=0, microsecond=0)
    until = after + timedelta(hours=hours)
    found = list(moments(cron, place, after, until))
    assert found == sorted(set(found))
    assert found == list(newest_moments(cron, place, after, until))[::-1]
    assert all(after < moment <= until for moment in found)
    shown = {}
    for minute in range(1, hours * 60 + 1):
        moment = after + timedelta(minutes=minute)
        wall = moment.astimezone(place)
        if cron.is_on(wall.date()) and wall.hour in cron.hours and wall.minute in cron.minutes:
            shown[moment] = wall
    every_hour = len(cron.hours) == 24
    expected = {moment for moment, wall in shown.items() if every_hour or not wall.fold}
    assert expected <= set(found)
    for moment in set(found) - expected:
        # only what the clock never shows: an hour (in some places half of one, or a day) that was skipped before
        skipped = [moment.astimezone(place).replace(tzinfo=None) - shift for shift in (timedelta(hours=1), timedelta(minutes=30), DAY)]
        assert any(
            cron.is_on(wall.date())
            and wall.hour in cron.hours
            and wall.minute in cron.minutes
            and wall.replace(tzinfo=place).astimezone(UTC).astimezone(place).replace(tzinfo=None) != wall
            for wall in skipped
        )
