"""Lengths of time and sizes are read and written in people's words."""

from datetime import timedelta

import pytest

from producers import durations
from tests.handmade import NOON


@pytest.mark.parametrize(
    ("seconds", "shown"), [(-5, "0 s ago"), (59.4, "59 s ago"), (60, "1 min ago"), (5400, "2 h ago"), (3 * 86400, "3 d ago")]
)
def test_a_time_is_shown_in_its_largest_unit(monkeypatch, seconds, shown):
    class Clock(durations.datetime):
        @classmethod
        def now(cls, tz=None):
            return NOON + timedelta(seconds=seconds)

    monkeypatch.setattr(durations, "datetime", Clock)
    assert durations.ago(NOON) == shown


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("30d", timedelta(days=30)),
        ("2h", timedelta(hours=2)),
        (" 90 min ", timedelta(minutes=90)),
        ("0s", timedelta(0)),
        ("36500d", timedelta(days=36_500)),
    ],
)
def test_a_length_of_time_is_a_number_with_its_unit(text, length):
    assert durations.read_duration(text) == length


@pytest.mark.parametrize("text", ["", "30", "d", "-1d", "1.5h", "1w", "1d2h", "36501d", "999999999d", "9" * 400 + "d", "١d"])
def test_what_is_no_length_of_time_is_refused(text):
    with pytest.raises(
        ValueError, match=r"is not a length of time: write a whole number with d, h, min or s|is longer than a hundred years"
    ):
        durations.read_duration(text)


@pytest.mark.parametrize(
    ("size", "shown"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KB"), (1_500_000, "1.4 MB"), (5 << 40, "5,120.0 GB")]
)
def test_a_size_is_shown_in_its_largest_unit(size, shown):
    assert durations.human_size(size) == shown
