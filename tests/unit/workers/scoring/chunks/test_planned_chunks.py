"""The chunk of a message is that of the plan, or of a table that is being cut."""

import pytest

from shared.bucket.local import LocalBucket
from shared.errors import StaleMessageError
from shared.jobs.messages import ChunkMessage
from tests.handmade import make_job, plan, publish_handmade, row, write_table
from workers.scoring import planning
from workers.scoring.chunks.planned_chunks import find_chunk, plan_of_chunk


@pytest.fixture
def folder(tmp_path):
    bucket = LocalBucket(tmp_path / "bucket")
    publish_handmade(bucket)
    write_table(bucket, [row(number) for number in range(40)])
    return make_job(bucket, chunk_rows=14)


def early(folder, cut) -> ChunkMessage:
    return ChunkMessage(job_id=folder.job_id, index=0, of=0, cut=cut)


def test_a_chunk_of_a_plan_is_found_by_its_number_alone(folder):
    made = plan(folder)
    message = ChunkMessage(job_id=folder.job_id, index=2, of=3)
    assert find_chunk(folder, message) == made.chunk(2)
    assert plan_of_chunk(folder, message) == made


def test_a_chunk_that_comes_before_the_plan_is_what_its_message_says(folder, monkeypatch):
    seen = []

    def ready(chunks):
        message = early(folder, chunks[0])
        seen.append((find_chunk(folder, message).chunk, plan_of_chunk(folder, message)))

    made = planning.plan_job(folder, ready)
    assert seen[0] == (made.chunks[0], None)
    assert find_chunk(folder, early(folder, made.chunks[0])) == made.chunk(0)


def test_a_chunk_that_was_cut_otherwise_and_one_of_no_plan_are_refused(folder):
    with pytest.raises(StaleMessageError, match=r"nothing of job .* is planned"):
        find_chunk(folder, early(folder, (0, 0, 10, 1)))
    plan(folder)
    with pytest.raises(StaleMessageError, match="was cut otherwise"):
        find_chunk(folder, early(folder, (0, 0, 10, 1)))
