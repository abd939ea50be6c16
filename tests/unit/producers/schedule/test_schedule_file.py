"""The schedule is read with every mistake named, and an entry with a mistake hides no other."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.schedule.entries import Entry
from producers.schedule.schedule_file import MAX_SCHEDULE_BYTES, Problem, read_schedule

EXAMPLE = b"""
- name: daily
  cron: "30 5 * * *"
  time_zone: Europe/Berlin
  score: data/predict/input/{date:%Y/%m/%d}
  model: champion
  interval: true
  catch_up: all
  wait_for: 2h
  late_after: 4h
- name: weekly
  cron: 0 3 * * mon
  time_zone: UTC
  train: v2
  table: data/train/{date:%Y/%m/%d}/train.csv.gz
  eval: data/train/{date:%Y/%m/%d}/eval.csv.gz
  alias: challenger
  promote: auto
  enabled: false
"""


def problems(text: bytes | str) -> list[tuple[str, str, str]]:
    found = read_schedule(text if isinstance(text, bytes) else text.encode())[1]
    assert all(problem.write for problem in found)
    return [(problem.entry, problem.field, problem.wrong) for problem in found]


def written(**fields: str | None) -> str:
    """An entry with these fields; None leaves one out."""
    whole = {"name": "daily", "cron": "30 5 * * *", "time_zone": "UTC", "score": "data/{date:%Y}", "model": "v1"} | fields
    return "- " + "\n  ".join(f"{name}: {value}" for name, value in whole.items() if value is not None)


def test_the_example_is_read_as_it_is_written():
    found, wrong = read_schedule(EXAMPLE)
    assert wrong == []
    assert found == [
        Entry(
            name="daily", cron="30 5 * * *", time_zone="Europe/Berlin", score="data/predict/input/{date:%Y/%m/%d}", model="champion",
            interval=True, catch_up="all", wait_for=timedelta(hours=2), late_after=timedelta(hours=4),
        ),
        Entry(
            name="weekly", cron="0 3 * * mon", time_zone="UTC", train="v2", table="data/train/{date:%Y/%m/%d}/train.csv.gz",
            eval="data/train/{date:%Y/%m/%d}/eval.csv.gz", alias="challenger", promote="auto", enabled=False,
        ),
    ]  # fmt: skip


@pytest.mark.parametrize("text", [b"", b"\n# nothing yet\n", b"[]"])
def test_a_file_without_entries_is_right(text):
    assert read_schedule(text) == ([], [])


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (b"daily: 5", "it is not a list of entries"),
        (b"- name: [", "it is not YAML: "),
        (b"- cron: * * * * *", "it is not YAML: "),
        (b"\xff\xfe\x00", "it is not YAML: "),
        (b"- !!python/object/apply:os.system ['true']", "it is not YAML: "),
        (b"- name: a\n  name: b", "it is not YAML: the field 'name' is there twice"),
        (b"[" * 5000, "it is not YAML: "),
        (b"#" * (MAX_SCHEDULE_BYTES + 1), "it has 262,145 bytes"),
    ],
)
def test_a_file_that_is_no_schedule_is_refused_whole(text, wrong):
    [(place, field, said)] = problems(text)
    assert (place, field) == ("the whole file", "")
    assert said.startswith(wrong)


@pytest.mark.parametrize(
    ("fields", "field", "wrong"),
    [
        ({"name": "Daily"}, "name", "'Daily' cannot be a name"),
        ({"name": "a" * 41}, "name", f"'{'a' * 41}' cannot be a name"),
        ({"name": None}, "name", "it is missing"),
        ({"cron": '"61 * * * *"'}, "cron", "the minute '61' is not in 0 to 59"),
        ({"cron": '"0 0 30 2 *"'}, "cron", "'0 0 30 2 *' never comes"),
        ({"cron": "5"}, "cron", "5 is not a text"),
        ({"cron": None}, "cron", "it is missing"),
        ({"time_zone": "Europe/Berln"}, "time_zone", "there is no time zone 'Europe/Berln'"),
        ({"time_zone": "/etc/passwd"}, "time_zone", "there is no time zone '/etc/passwd'"),
        ({"time_zone": "Europe"}, "time_zone", "there is no time zone 'Europe'"),
        ({"time_zone": None}, "time_zone", "it is missing"),
        ({"score": None}, "score", "it is missing, and so is train"),
        ({"train": "v2"}, "score", "an entry either scores or trains"),
        ({"score": "../{date:%Y}"}, "score", "'../{date:%Y}' must not hold empty parts, '.', '..' or control characters"),
        ({"score": "s3://shop/x"}, "score", "'s3://shop/x' must be a path inside the bucket, like data/predict/input/2026/11/23"),
        ({"score": "data/{day}"}, "score", "'data/{day}' has braces that are not {date:...}"),
        ({"score": "data/{date}"}, "score", "'data/{date}' has braces that are not {date:...}"),
        ({"model": None}, "model", "it is missing"),
        ({"model": '"a b"'}, "model", "'a b' cannot be a name"),
        ({"table": "x"}, "table", "it does not belong to an entry that scores"),
        ({"score": None, "train": "v2"}, "model", "it does not belong to an entry that trains"),
        ({"score": None, "model": None, "train": "v2", "eval": "x"}, "table", "it is missing, and eval is there"),
        (
            {"score": None, "model": None, "train": "v2", "table": "x", "promote": "auto"},
            "eval",
            "it is missing, and promote: auto judges on it",
        ),
        ({"catch_up": "some"}, "catch_up", "'some' cannot be"),
        ({"score": None, "model": None, "train": "v2", "promote": "maybe"}, "promote", "'maybe' cannot be"),
        ({"promote": "auto"}, "promote", "it does not belong to an entry that scores"),
        ({"force": True}, "force", "it does not belong to an entry that scores"),
        ({"score": None, "model": None, "train": "v2", "force": '"yes"'}, "force", "'yes' is neither true nor false"),
        ({"interval": "1"}, "interval", "1 is neither true nor false"),
        ({"wait_for": "2"}, "wait_for", "2 has no unit"),
        (
            {"late_after": "2 hours"},
            "late_after",
            "'2 hours' is not a length of time: write a whole number with d, h, min or s after it, like 30d",
        ),
        ({"enabled": '"yes"'}, "enabled", "'yes' is neither true nor false"),
        ({"timezone": "UTC"}, "timezone", "there is no such field"),
    ],
)
def test_each_mistake_is_named_with_its_entry_and_field(fields, field, wrong):
    found = problems(written(**fields))
    assert found == [(fields.get("name") or ("entry 1" if "name" in fields else "daily"), field, wrong)]


def test_a_field_that_is_written_wrong_is_answered_with_the_right_one():
    [problem] = read_schedule(written(timezone="UTC").encode())[1]
    assert problem == Problem(entry="daily", field="timezone", wrong="there is no such field", write="time_zone")


@pytest.mark.parametrize("name", ['"daily "', '" daily"', "|\n    daily", '"daily\\n"'])
def test_blanks_around_a_name_are_no_part_of_it(name):
    entries, found = read_schedule(written(name=name).encode())
    assert [entry.name for entry in entries] == ["daily"]
    assert found == []


def test_the_gate_may_judge_on_the_newest_table_there_is():
    entries, found = read_schedule(written(score=None, model=None, train="v2", promote="auto").encode())
    assert ([entry.promote for entry in entries], found) == (["auto"], [])


def test_all_mistakes_are_named_at_once_and_the_other_entries_are_kept():
    text = "\n".join([written(), written(name="two", cron='"x"', model=None), written(), written(name="four"), "- 5"])
    entries, found = read_schedule(text.encode())
    assert [entry.name for entry in entries] == ["daily", "four"]
    assert [(problem.entry, problem.field) for problem in found] == [("two", "cron"), ("two", "model"), ("daily", "name"), ("entry 5", "")]


keys = st.sampled_from(["name", "cron", "time_zone", "score", "train", "model", "table", "wait_for", "enabled", "catch_up"])
values = st.none() | st.booleans() | st.integers() | st.text(max_size=8)


@given(st.recursive(values, lambda kinds: st.lists(kinds) | st.dictionaries(keys | st.text(max_size=5), kinds)))
def test_nothing_that_yaml_can_say_is_more_than_a_mistake(data):
    import yaml

    entries, found = read_schedule(yaml.safe_dump([data]).encode())
    assert len(entries) + bool(found) == 1


@given(st.binary(max_size=60))
def test_no_bytes_are_more_than_a_mistake(data):
    read_schedule(data)
