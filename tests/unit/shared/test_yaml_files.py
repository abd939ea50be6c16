"""Whatever YAML can say, a file of ours is read as plain data or refused in one sentence, in bounded time."""

import json

import pytest
import yaml

from producers.schedule.schedule_file import read_schedule
from shared.errors import RequestError
from shared.jobs.search_config import read_config
from shared.retention.config import parse_retention
from shared.text import yaml_files
from shared.text.yaml_files import MOST_BYTES, MOST_LEVELS, NotYamlError, read_yaml


def why_not(text: str | bytes) -> str:
    with pytest.raises(NotYamlError) as caught:
        read_yaml(text.encode() if isinstance(text, str) else text)
    return str(caught.value)


def test_plain_data_is_read_and_dates_and_times_stay_text():
    text = b"a: [1, 0x1f, -2.5, .inf, true, null, x]\nb: {date: 2026-11-23, time: 5:30, later: 1:30:15.5}\n"
    assert read_yaml(text) == {
        "a": [1, 31, -2.5, float("inf"), True, None, "x"],
        "b": {"date": "2026-11-23", "time": "5:30", "later": "1:30:15.5"},
    }


@pytest.mark.parametrize("opening", ["[", "{", "{a: ", "- ", "? ", "[\n"])
def test_deep_nesting_is_refused_where_it_passes_the_limit_and_nothing_after_it_is_scanned(monkeypatch, opening):
    """16,000 brackets took the scanner 17 s: it looks at every level that is open for each token."""
    fetched = []
    fetch = yaml.scanner.Scanner.fetch_more_tokens
    monkeypatch.setattr(yaml.scanner.Scanner, "fetch_more_tokens", lambda self: (fetched.append(1), fetch(self))[1])
    said = why_not(opening * 16_000)
    assert said.startswith(f"it is not YAML: more than {MOST_LEVELS} levels, one inside the other, in line ")
    assert len(fetched) <= 4 * MOST_LEVELS


def test_ten_levels_are_read_in_either_style():
    assert json.dumps(read_yaml(b"[" * 10 + b"]" * 10)) == "[" * 10 + "]" * 10
    assert read_yaml("".join(f"{' ' * level}a:\n" for level in range(10)).encode())


def test_a_file_that_is_too_long_is_refused_unread():
    assert why_not(b"a" * (MOST_BYTES + 1)) == f"it has {MOST_BYTES + 1:,} bytes, more than the {MOST_BYTES:,} allowed"


def test_of_a_file_of_very_many_values_no_more_are_read_than_the_limit(monkeypatch):
    monkeypatch.setattr(yaml_files, "MOST_TOKENS", 100)
    assert why_not("[1,\n" + "1," * 100_000).startswith("it has more than 100 names, values and signs in line 2")


LONG = {"binary": f"0b{'1' * 20_000}", "decimal": "9" * 5_000, "hexadecimal": f"-0x{'f' * 5_000}", "a fraction": f"1.{'1' * 5_000}"}


@pytest.mark.parametrize("number", LONG.values(), ids=LONG)
def test_a_long_number_is_refused_in_every_file_with_its_line_and_its_beginning(number):
    """Python raises a bare ValueError when an integer of more than 4,300 digits is printed, as in the sentence that refuses it."""
    texts = [f"jobs:\n  {{parts: {number}}}", f"revisions:\n  {{keep_last: {number}}}", f"jobs: {{done: 1d}}\nnotices: {number}"]
    sentences = []
    for text in texts:
        with pytest.raises(RequestError) as caught:
            parse_retention(text.encode())
        sentences.append(caught.value.message)
    for text in (f"parameters:\n  a: [{number}]", f"search: grid\nseed: {number}", f"search: grid\n{number[:4]}: [{number}]"):
        with pytest.raises(RequestError) as caught:
            read_config(text.encode(), "params.yaml", 100)
        sentences.append(caught.value.message)
    sentences += [read_schedule(f"- name: daily\n  {field}: {number}".encode())[1][0].wrong for field in ("cron", "model", "wait_for", "x")]
    for sentence in sentences:
        assert f"the number {number[:20]}" in sentence
        assert "... in line 2 has" in sentence
        assert len(sentence) < 300


def test_an_integer_has_at_most_64_bits():
    assert read_yaml(b"[9223372036854775807, -9223372036854775807]") == [2**63 - 1, 1 - 2**63]
    assert why_not("[1,\n 9223372036854775808]") == "the integer 9223372036854775808 in line 2 has more than 64 bits: write a smaller one"


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("!!binary aGk=", "could not determine a constructor for the tag 'tag:yaml.org,2002:binary' in line 2"),
        ("!!set {a, b}", "could not determine a constructor"),
        ("!!omap [a: 1]", "could not determine a constructor"),
        ("!!timestamp soon", "could not determine a constructor"),
        ("!!python/object:os.system x", "could not determine a constructor"),
        ("!!int ''", "it is not YAML: '' is not a number in line 2"),
        ("!!float x", "it is not YAML: 'x' is not a number in line 2"),
        ("!!bool x", "it is not YAML: 'x' is neither true nor false in line 2"),
        ("!!map x", "expected a mapping node"),
        ("!!str [x]", "expected a scalar node"),
        ("!!int [1]", "expected a scalar node"),
        ("*name", "it uses an alias (*name) in line 2"),
        ("{? [a] : b}", "found unhashable key in line 2"),
        ("{<<: 3}", "expected a mapping"),
        ("=", "could not determine a constructor"),
        ('"\\ud800"', "is not Unicode"),
        ("1\n---\nb: 2", "expected a single document"),
    ],
)
def test_what_only_yaml_knows_is_refused_in_one_sentence(value, says):
    said = why_not(f"a: 1\nb: {value}")
    assert says in said
    assert "\n" not in said


@pytest.mark.parametrize(
    "value", [".inf", "-.inf", ".nan", "1.0e+9999", "2026-11-23", "1:30", "[]", "{}", "{.nan: 1}", "{1: 2}", "0.5", "yes"]
)
def test_where_a_count_or_a_length_is_wanted_any_other_value_gets_one_sentence(value):
    for text in (f"jobs: {{parts: {value}}}", f"revisions: {{keep_last: {value}}}", f"notices: {value}", f"{{{value}: 1}}"):
        with pytest.raises(RequestError, match="cannot be used"):
            parse_retention(text.encode())
    for text in (
        f"seed: {value}",
        f"candidates: {value}",
        f"folds: {value}",
        f"search: random\ncandidates: 3\nparameters: {{a: {{low: {value}}}}}",
    ):
        with pytest.raises(RequestError, match="cannot be used"):
            read_config(text.encode() if "parameters" in text else f"{text}\nparameters: {{a: [1]}}".encode(), "params.yaml", 100)
    for field in ("cron", "wait_for", "late_after"):
        problems = read_schedule(f"- {{name: daily, {field}: {value}}}".encode())[1]
        assert all(len(problem.wrong) < 300 for problem in problems)
        assert problems


def test_a_length_that_is_no_length_is_shown_short_and_whole_up_to_a_colon():
    with pytest.raises(RequestError) as caught:
        parse_retention(b"notices: 1:30")
    assert "notices: '1:30' is not a length of time" in caught.value.message
    for text in (f"notices: '{'x' * 50_000}'", f"notices: [{'1,' * 20_000}]", f"{'x' * 100}: 1"):
        with pytest.raises(RequestError) as caught:
            parse_retention(text.encode())
        assert len(caught.value.message) < 300
    assert len(read_schedule(f"- {{name: daily, wait_for: '{'x' * 50_000}'}}".encode())[1][0].wrong) < 300


def test_a_count_of_candidates_with_thousands_of_digits_is_reported_in_few():
    text = "\n".join(f"p{number}: [1, 2, 3, 4]" for number in range(3_000))
    with pytest.raises(RequestError, match="asks for more than 1,000,000,000,000,000 candidates"):
        read_config(text.encode(), "params.yaml", 100)
