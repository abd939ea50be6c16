"""A number that is written for people is distinguished from a plain number and from words."""

import pytest

from tests.growth import best_of
from workers.tables.training.written_numbers import is_written_number, split_thousands


@pytest.mark.parametrize(
    "text",
    [
        "1,801", "1 801", "1\u00a0801", "1\u202f801", "1'801", "1\u2019801", "1.801,5", "1.234.567", "1,5", "1_801", "12,34,567",
        "6.14%", "6,14 %", "$5", "5 \u20ac", "EUR 5", "5.20 USD", "-1,801", "\u22125", "(5)", "1.8k", "2M", "\u0661\u0662",
    ],
)  # fmt: skip
def test_a_number_with_separators_signs_or_units_is_written_for_people(text):
    assert is_written_number(text)


@pytest.mark.parametrize("text", ["1801", " 1801 ", "-5", "1.801", "1e3", "1E+04", "inf", "nan", ".5"])
def test_a_plain_number_is_not(text):
    assert not is_written_number(text)


@pytest.mark.parametrize(
    "text", ["", " ", "--", " --", "-", "< 10", "> 90%", "n/a", "many17", "2026-11-23", "12:30", "0x1F", "shoes", "EUR", "%"]
)
def test_words_dates_and_marks_for_missing_values_are_not(text):
    assert not is_written_number(text)


@pytest.mark.parametrize(
    ("record", "fields", "number"),
    [
        (["7", "Computer", "1", "801", "90"], 4, "1,801"),
        (["7", "Computer", "1", "234", "567", "90"], 4, "1,234,567"),
        (["7", "Computer", "9", "1", "801"], 4, "1,801"),
        (["7", "Computer", "18", "90"], 4, ""),
        (["7", "Computer", "18", "90", "more"], 4, ""),
        (["7", "Computer"], 4, ""),
        (["123", "456"], 2, ""),
        (["1", "234", "x", "1", "234", "567", "90"], 5, "1,234,567"),
    ],
)
def test_a_number_that_its_own_comma_cut_in_two_is_found(record, fields, number):
    assert split_thousands(record, fields) == number


@pytest.mark.parametrize("too_many", [-1, 1, 10_000])
def test_the_time_to_find_it_grows_with_the_record_alone(too_many):
    def seconds(values: int) -> float:
        record = ["123"] * (values - 1) + ["1"]
        return best_of(lambda: split_thousands(record, values - min(too_many, values)))

    assert seconds(8000) < 8 * seconds(2000) + 0.001, "four times the length"
