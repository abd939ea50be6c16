"""What config/retention.yaml may say, and what is said about what it may not."""

from datetime import timedelta

import pytest

from producers.schedule.runs import LONGEST_CAUGHT_UP
from shared.bucket.local import LocalBucket
from shared.errors import RequestError
from shared.retention.config import A_YEAR, RETENTION, parse_retention, read_retention

WHOLE = b"""
jobs:      {parts: 1d, done: 30d, failed: 90d}      # request, outcome and manifest stay a year
revisions: {keep_last: 3, keep_daily: 14, keep_weekly: 8, keep_within: 7d}
notices: 90d
"""


def test_the_whole_file_is_read():
    rules = parse_retention(WHOLE)
    assert (rules.jobs.parts, rules.jobs.done, rules.jobs.failed) == (timedelta(days=1), timedelta(days=30), timedelta(days=90))
    assert (rules.revisions.keep_last, rules.revisions.keep_daily, rules.revisions.keep_weekly) == (3, 14, 8)
    assert (rules.revisions.keep_within, rules.notices, rules.results) == (timedelta(days=7), timedelta(days=90), None)
    assert rules.records_stay == A_YEAR


def test_without_a_file_slices_and_parts_go_after_a_day_and_nothing_else(tmp_path):
    rules = read_retention(LocalBucket(tmp_path))
    assert rules.jobs.parts == timedelta(days=1)
    assert [rules.jobs.done, rules.jobs.failed, rules.revisions, rules.notices, rules.results, rules.records_stay] == [None] * 6


def test_requests_stay_longer_than_the_schedule_looks_back():
    assert LONGEST_CAUGHT_UP < A_YEAR


@pytest.mark.parametrize(
    ("text", "said", "write"),
    [
        ("job: {done: 30d}", "there is no key 'job'", "Write one of jobs, notices, results, revisions"),
        ("jobs: {dnoe: 30d}", "there is no key 'jobs.dnoe'", "Write one of done, failed, parts"),
        ("revisions: {last: 3}", "there is no key 'revisions.last'", "keep_daily, keep_last, keep_weekly, keep_within"),
        ("is_set: true", "there is no key 'is_set'", "Write one of"),
        ("records: 1d", "there is no key 'records'", "Write one of"),
        ("jobs: {done: 30}", "jobs.done: 30 has no unit", "like 30d"),
        ("jobs: {done: soon}", "jobs.done: 'soon' is not a length of time", "like 30d"),
        ("jobs: {done: -1d}", "jobs.done: '-1d' is not a length of time", "like 30d"),
        ("jobs: {done: 999999d}", "jobs.done: '999999d' is longer than a hundred years", "like 30d"),
        ("jobs: 30d", "jobs: '30d' is not a mapping", "Write for example jobs: {"),
        ("revisions: {keep_last: many}", "revisions.keep_last: 'many' is not a count", "Write a whole number"),
        ("revisions: {keep_last: 3.0}", "revisions.keep_last: 3.0 is not a count", "Write a whole number"),
        ("revisions: {keep_last: true}", "revisions.keep_last: True is not a count", "Write a whole number"),
        ("revisions: {keep_daily: -1}", "revisions.keep_daily: -1 is not a count", "Write a whole number"),
        ("notices: 1d", "notices: it is shorter than 2d", "Write 2d or more"),
        ("notices: [90d]", "notices: ['90d'] has no unit", "like 30d"),
        ("", "it says nothing", "remove the file"),
        ("- jobs", "it is not a mapping", "remove the file"),
        ("jobs: {done: 30d", "it is not YAML", "Write for example"),
        ("jobs: {done: 1d, done: 90d}", "it is not YAML: the field 'done' is there twice in line 1", "Write for example"),
        ("jobs: &a {done: 1d}\nrevisions: *a", "it uses an alias", "Write for example"),
        ("jobs: !!python/object:os.system {}", "it is not YAML", "Write for example"),
        ("\x00", "it is not YAML", "Write for example"),
    ],
)
def test_what_cannot_be_used_is_named_with_what_to_write(text, said, write):
    with pytest.raises(RequestError) as refused:
        parse_retention(text.encode())
    assert refused.value.message.startswith(f"{RETENTION} cannot be used: {said}")
    assert write in refused.value.next_step
    assert "nothing is removed until then" in refused.value.next_step


def test_a_file_that_is_too_long_is_refused_unread(tmp_path):
    bucket = LocalBucket(tmp_path)
    bucket.write(RETENTION, b"#" * 70_000)
    with pytest.raises(RequestError, match="70,000 bytes long"):
        read_retention(bucket)
