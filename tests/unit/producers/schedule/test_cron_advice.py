"""A cron line that cannot be read is answered with the one that was meant."""

import pytest

from producers.schedule.cron import read_cron
from producers.schedule.cron_advice import advise
from producers.schedule.schedule_file import read_schedule


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("30 5 * * sat-sun", '"30 5 * * 6-7"'),
        ("30 5 * * mon-sun", '"30 5 * * 1-7"'),
        ("30 5 * * fri-mon", '"30 5 * * 5-6,0-1"'),
        ("30 5 * * 6-0", '"30 5 * * 6-7"'),
        ("0 22-3 * * *", '"0 22-23,0-3 * * *"'),
        ("0 3 25-5 * *", '"0 3 25-31,1-5 * *"'),
        ("0 3 1 nov-feb *", '"0 3 1 11-12,1-2 *"'),
        ("50-10 * * * *", '"50-59,0-10 * * * *"'),
        ("0 24 * * *", '"0 0 * * *"'),
        ("60 5 * * *", '"0 5 * * *"'),
        ("@daily", '"0 0 * * *"'),
        ("@Weekly", '"0 0 * * 0"'),
        ("0 30 5 * * *", '"30 5 * * *"'),
        ("0 30 5 ? * MON-FRI", '"30 5 * * MON-FRI"'),
        ("0 30 5 * * ? 2026", '"30 5 * * *"'),
        ("30 5 ? * mon", '"30 5 * * mon"'),
        ("30 5 * * Monday", '"30 5 * * mon"'),
        ("30 5 * * Monday-Friday", '"30 5 * * mon-fri"'),
        ("30 5 1 January *", '"30 5 1 jan *"'),
    ],
)
def test_what_was_meant_is_written_out_and_can_be_read(line, meant):
    assert advise(line) == meant
    read_cron(meant.strip('"'))


@pytest.mark.parametrize("line", ["", "daily", "* * * *", "@reboot", "99 5 * * *", "30 5 L * *", "30 5 * * mon#2", 5, None, "30 5 * * *"])
def test_where_nothing_can_be_guessed_nothing_is_said(line):
    assert advise(line) == ""


def test_the_check_of_the_schedule_says_what_to_write():
    text = """
- {name: a, cron: "30 5 * * sat-sun", time_zone: UTC, train: v1}
- {name: b, cron: "@daily", time_zone: UTC, train: v1}
- {name: c, cron: "99 5 * * *", time_zone: UTC, train: v1}
- {name: d, cron: "30 5 * * *", time_zone: UTC, score: "data/{date:%Y/%m/%Q}", model: v1}
- {name: e, cron: "30 5 * * *", time_zone: UTC, score: "data/{date:%Y/%m/%}", model: v1}
- {name: f, cron: "30 5 * * *", time_zone: UTC, score: "data/{date:%Y%%/%-d/%j}", model: v1}
"""
    entries, problems = read_schedule(text.encode())
    found = {problem.entry: (problem.wrong, problem.write) for problem in problems}
    assert found["a"] == ("the day of week 'sat-sun' runs backwards", '"30 5 * * 6-7"')
    assert found["b"][1] == '"0 0 * * *"'
    assert found["c"][1].endswith('like "30 5 * * *"')
    assert "'%Q' means nothing, the year is %Y, the month %m, the day %d" in found["d"][0]
    assert "'%'" in found["e"][0]
    assert [entry.name for entry in entries] == ["f"]
