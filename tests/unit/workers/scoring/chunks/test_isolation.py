"""A chunk that kills is cut down to the records that do it, whatever they are and however often the worker dies."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.bucket.local import LocalBucket
from shared.errors import ModelError
from shared.jobs.folder import JobFolder
from workers.scoring.chunks.isolation import CRASHES_OF_ONE_ROW, isolate_poison_rows


class Death(BaseException):
    """What takes the place of SIGKILL here: nothing catches it."""


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 200).flatmap(lambda count: st.tuples(st.just(count), st.sets(st.integers(0, count - 1), max_size=5))))
def test_only_the_records_that_kill_are_deadly(tmp_path_factory, case):
    count, killers = case
    folder = JobFolder(LocalBucket(tmp_path_factory.mktemp("bucket")), "a-job")
    deaths = 0

    def attempt(start, end):
        if killers & set(range(start, end)):
            raise Death

    while True:
        try:
            cleared, deadly = isolate_poison_rows(folder, 7, [(0, count)], attempt)
            break
        except Death:
            deaths += 1
            assert deaths <= len(killers) * (count.bit_length() + CRASHES_OF_ONE_ROW), "it does not come closer"
    assert {start for start, _ in deadly} == killers
    assert [record for start, end in sorted([*cleared, *deadly]) for record in range(start, end)] == list(range(count))


def test_one_kill_by_the_operator_rejects_no_row(tmp_path):
    folder = JobFolder(LocalBucket(tmp_path), "a-job")
    killed = []

    def attempt(start, end):
        if not killed:
            killed.append((start, end))
            raise Death

    with contextlib.suppress(Death):
        isolate_poison_rows(folder, 0, [(0, 1)], attempt)
    assert isolate_poison_rows(folder, 0, [(0, 1)], attempt) == ([(0, 1)], [])


def test_nothing_is_tried_again_once_all_is_known(tmp_path):
    folder = JobFolder(LocalBucket(tmp_path), "a-job")
    tried = []
    for _ in range(2):
        assert isolate_poison_rows(folder, 0, [(0, 9)], lambda start, end: tried.append((start, end))) == ([(0, 9)], [])
    assert tried == [(0, 9)]


def test_a_model_that_kills_for_every_record_fails_the_job_and_does_not_try_each(tmp_path):
    """Once, a chunk of 65,536 rows cost 131,072 processes, one after the other."""
    folder = JobFolder(LocalBucket(tmp_path), "a-job")
    deaths = 0

    def attempt(start, end):
        raise Death

    with pytest.raises(ModelError, match="11 single rows of chunk 3 killed the process that scored them") as refused:
        while True:
            try:
                isolate_poison_rows(folder, 3, [(0, 65_536)], attempt)
            except Death:
                deaths += 1
    assert deaths < 60
    assert "scoring models check" in refused.value.next_step


@pytest.mark.parametrize(
    "notes",
    [
        b"half of it",
        b'{"pending": [], "cleared": [[0, 2]]}',
        b'{"pending": [[0, 9]]}',
        b'{"pending": [[0, 3], [2, 5]]}',
        b'{"pending": [[2, 5]], "trying": [[0, 1], [1, 2]]}',
        b'{"pending": [[0, 5]], "deadly": [[5, 5]]}',
    ],
)
def test_notes_that_do_not_speak_of_every_record_once_are_begun_again(tmp_path, notes):
    """Records that damaged notes did not name were once left out of the result, without a reject."""
    folder = JobFolder(LocalBucket(tmp_path), "job-1")
    folder.bucket.write(folder.file("suspects/0000003.json"), notes)
    tried = []
    assert isolate_poison_rows(folder, 3, [(0, 5)], lambda *piece: tried.append(piece)) == ([(0, 5)], [])
    assert tried == [(0, 5)]
