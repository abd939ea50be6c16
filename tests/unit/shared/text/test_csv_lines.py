"""A line that a stray quote joins with others is given back with its own cells."""

import pytest

from producers.results.rejects import _values
from shared.text.csv_lines import fields_of_line, value_of


@pytest.mark.parametrize(
    ("line", "cells"),
    [
        ('11,Computer,"24 inch,1,0', ["11", "Computer", '"24 inch', "1", "0"]),
        ('13,Smartphone,32",0,1', ["13", "Smartphone", '32"', "0", "1"]),
        ('1,"a, b","c ""d"""', ["1", "a, b", 'c "d"']),
        ('1,"a" b,', ["1", '"a" b', ""]),
        ("", [""]),
    ],
)
def test_a_quote_that_closes_nothing_on_its_line_is_a_letter(line, cells):
    assert [value_of(field) for _, field in fields_of_line(line)] == cells


def test_a_rejected_line_with_a_stray_quote_comes_back_cell_by_cell():
    assert _values('11,Computer,"24 inch,1,0\r\n') == ["11", "Computer", '"24 inch', "1", "0"]
    assert _values('11,Computer,"two\nlines",1,0\n') == ["11", "Computer", "two\nlines", "1", "0"]
