"""A list shows every column, letter and digit of every record, however narrow the terminal is."""

import io
import re

import pytest

from producers.display.consoles import PlainConsole
from producers.display.listing import print_list

JOB = "20261130t102234229z-score-hourly-20261130t1022"
COLUMNS = ("result", "release", "rows", "job", "why")
ROWS = [
    ("v2/2026/11/30/good", "v2@20261130T102234Z-9bfad3", "1,000,000", JOB, "a long reason " * 9 + "end"),
    ("v1/2026/11/30/Schlüssel/日本語", "v1@20261130T102234Z-9bfad4", "7", "20261130t102234229z-score-52c4e6", ""),
]


def printed(width: int, whole: tuple[str, ...] = COLUMNS[:4]) -> list[str]:
    text = io.StringIO()
    print_list(PlainConsole(file=text, width=width), COLUMNS, ROWS, whole=whole)
    return text.getvalue().splitlines()


@pytest.mark.parametrize("width", [20, 40, 50, 60, 72, 79, 80, 81, 100, 110, 120, 132, 160, 200, 400])
def test_nothing_of_a_record_is_lost_at_any_width(width):
    said = printed(width)
    packed = re.sub(r"\s+", "", "".join(said))
    for row in ROWS:
        for value in row[:4]:
            assert sum(value in line for line in said) == 1, "whole, on one line, once"
        assert re.sub(r"\s+", "", row[4]) in packed
    for name in COLUMNS:
        assert name in "".join(said)
    if width >= 60:
        assert max(map(len, said)) <= width


def test_a_record_has_one_line_where_there_is_room():
    assert len(printed(400)) == 3
    assert printed(400)[0].split() == list(COLUMNS)


def test_what_does_not_fit_stands_below_with_its_name():
    said = printed(80)
    assert said[0].split() == ["result", "release", "rows"]
    assert said[1].split() == ["v2/2026/11/30/good", "v2@20261130T102234Z-9bfad3", "1,000,000"]
    assert said[2] == f"  job: {JOB}"
    assert said[3].startswith("  why: a long reason")
    assert said[-1] == "  job: 20261130t102234229z-score-52c4e6", "of what is empty nothing is said"
