"""The schedule is read with every mistake named, and says which of its runs are due."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.schedule.entries import Entry
from producers.schedule.runs import MOST_CAUGHT_UP, ON_TIME, Run, due_runs, next_run, one_run, runs_on
from producers.schedule.schedule_file import MAX_SCHEDULE_BYTES, Problem, read_schedule
from shared.errors import RequestError

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
LONG_AGO = NOON - timedelta(days=1000)

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


def entry(**fields) -> Entry:
    return Entry(**{"name": "daily", "cron": "0 6 * * *", "time_zone": "UTC", "score": "t/{date:%Y/%m/%d}", "model": "v1"} | fields)


def problems(text: bytes | str) -> list[tuple[str, str, str]]:
    found = read_schedule(text if isinstance(text, bytes) else text.encode())[1]
    assert all(problem.write for problem in found)
    return [(problem.entry, problem.field, problem.wrong) for problem in found]


def written(**fields: str | None) -> str:
    """An entry with these fields; None leaves one out."""
    whole = {"name": "daily", "cron": "30 5 * * *", "time_zone": "UTC", "score": "data/{date:%Y}", "model": "v1"} | fields
    return "- " + "\n  ".join(f"{name}: {value}" for name, value in whole.items() if value is not None)


# --- reading


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
        ({"cron": "5"}, "cron", "5 is no text"),
        ({"cron": None}, "cron", "it is missing"),
        ({"time_zone": "Europe/Berln"}, "time_zone", "there is no time zone 'Europe/Berln'"),
        ({"time_zone": "/etc/passwd"}, "time_zone", "there is no time zone '/etc/passwd'"),
        ({"time_zone": "Europe"}, "time_zone", "there is no time zone 'Europe'"),
        ({"time_zone": None}, "time_zone", "it is missing"),
        ({"score": None}, "score", "it is missing, and so is train"),
        ({"train": "v2"}, "score", "an entry either scores or trains"),
        ({"score": "../{date:%Y}"}, "score", "'../{date:%Y}' must not hold empty parts, '.', '..' or control characters"),
        ({"score": "s3://shop/x"}, "score", "'s3://shop/x' must be a path inside the bucket, like data/predict/input/2026/11/23"),
        ({"score": "data/{day}"}, "score", "'data/{day}' has braces that are no {date:...}"),
        ({"score": "data/{date}"}, "score", "'data/{date}' has braces that are no {date:...}"),
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
            "'2 hours' is no length of time: write a whole number with d, h, min or s behind it, like 30d",
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


# --- runs


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
def test_whoever_looks_when_starts_each_run_once_and_by_the_rule(rule, cron, zone, looks, start):
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


def test_the_next_run_is_behind_now():
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
        ("0 6 * * *", "yesterday", "'yesterday' is no date"),
        ("0 6 * * *", "0001-01-01", "'0001-01-01' is no date"),
        ("0 6 * * *", "9999-12-31T23:00-05:00", "'9999-12-31T23:00-05:00' is no date"),
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
