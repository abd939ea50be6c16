"""A job is joined while its last chunks are still being scored, and gives the same bytes; a chunk that does not come holds up nothing."""

import threading
import time

import pytest
import redis

from model_store.library import ModelLibrary
from shared.bucket.local import LocalBucket
from shared.errors import TableError
from shared.jobs.messages import ChunkMessage, StepMessage
from shared.queue import broker, routes
from shared.queue.client import connect_to_redis
from shared.queue.state import progress
from shared.queue.state.leases import leased
from tests.handmade import make_job, plan, publish_handmade, row, run_job, score_chunks, text_at, write_table
from workers.recovery.sweep import lease_name
from workers.scoring import joining, publishing
from workers.scoring import plan as job_plan
from workers.scoring.chunks import chunk, planned_chunks
from workers.tasks import context
from workers.tasks import score as tasks_score


@pytest.fixture
def bucket(tmp_path):
    made = LocalBucket(tmp_path / "bucket")
    publish_handmade(made)
    write_table(made, [row(number) for number in range(40)])
    return made


def score(folder, *indexes):
    made = job_plan.read_plan(folder)
    for index in indexes:
        assert chunk.score_chunk(folder, made.chunk(index), ModelLibrary(folder.bucket, folder.bucket.root / "no-cache"))


def test_chunks_that_come_while_the_job_is_joined_give_the_same_bytes(bucket):
    first = make_job(bucket, minute=1, chunk_rows=2)
    whole = run_job(first)
    folder = make_job(bucket, minute=2, chunk_rows=2)
    assert joining.awaited_chunks(plan(folder)) == 5
    score(folder, *(index for index in range(20) if index not in (19, 18, 16, 14, 12)))
    outcomes = []
    finishing = threading.Thread(target=lambda: outcomes.append(publishing.finish_job(folder)))
    finishing.start()
    # the last first, and the one that is waited for as the last
    for index in (19, 18, 16, 14, 12):
        time.sleep(0.02)
        assert not outcomes
        score(folder, index)
    finishing.join(10)
    assert outcomes[0].facts["scored"] == whole.facts["scored"] == "40"
    assert text_at(bucket, outcomes[0].result) == text_at(bucket, f"{whole.result}/revisions/{first.job_id}")


def test_a_job_of_which_much_is_missing_is_not_waited_for(bucket, monkeypatch):
    monkeypatch.setattr(joining, "_wait_for", lambda *_: pytest.fail("nothing is waited for"))
    folder = make_job(bucket, chunk_rows=4)
    made = plan(folder)
    score(folder, *range(len(made.chunks) - joining.awaited_chunks(made) - 1))
    assert publishing.finish_job(folder) is None


def test_a_chunk_that_does_not_come_is_waited_for_a_moment_and_nothing_half_joined_is_seen(bucket, monkeypatch):
    monkeypatch.setattr(joining, "AWAITED_SECONDS", 0.05)
    folder = make_job(bucket, chunk_rows=4)
    plan(folder)
    score(folder, *range(9))
    assert publishing.finish_job(folder) is None
    assert not bucket.folders("data/predict/output")
    assert not list((bucket.root / ".tmp").iterdir())
    assert folder.outcome() is None
    score(folder, 9)
    assert publishing.finish_job(folder).facts["scored"] == "40"


def test_a_job_that_was_cancelled_meanwhile_is_reported(bucket, monkeypatch):
    monkeypatch.setattr(joining, "AWAITED_SECONDS", 0.05)
    folder = make_job(bucket, chunk_rows=4)
    plan(folder)
    score(folder, *range(9))
    monkeypatch.setattr(joining, "POLL_SECONDS", 0.2)
    cancelling = threading.Timer(0.1, folder.cancel)
    cancelling.start()
    assert publishing.finish_job(folder).state == "cancelled"
    cancelling.join()


def test_rejects_of_the_last_chunk_count_as_well(bucket):
    lines = [row(number) for number in range(36)] + ["1,2,3,4,5,Fridge"] * 4
    write_table(bucket, lines)
    folder = make_job(bucket, chunk_rows=4, max_rejects=3)
    plan(folder)
    score(folder, *range(9))
    late = threading.Timer(0.1, score, (folder, 9))
    late.start()
    with pytest.raises(TableError, match=r"4 of 40 rows .* cannot be scored"):
        publishing.finish_job(folder)
    late.join()
    assert not bucket.folders("data/predict/output")


# --- several at once ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def sent(bucket, redis_url, monkeypatch):
    """What tasks send to the queue, which is nobody's."""
    found = []
    client = connect_to_redis(redis_url)
    client.flushall()
    monkeypatch.setattr(context, "bucket", lambda: bucket)
    monkeypatch.setattr(context, "redis_client", lambda: client)
    serve_only(monkeypatch, routes.QUEUE_CONTROL)
    monkeypatch.setattr(broker, "send", lambda _app, task, messages: found.extend((task, message) for message in messages))
    planned_chunks.read_plan_once.cache_clear()
    return found


def serve_only(monkeypatch, *queues):
    """Whatever a test before this one made of the Celery application, this process serves these queues."""
    monkeypatch.setattr(type(tasks_score.score_finish.app.amqp.queues), "consume_from", dict.fromkeys(queues))


def finish(folder):
    tasks_score.score_finish(StepMessage(job_id=folder.job_id).encode())


@pytest.mark.server
def test_a_finish_that_another_process_is_at_is_left_to_it(bucket, sent):
    folder = make_job(bucket, chunk_rows=4)
    plan(folder)
    score_chunks(folder, bucket.root)
    message = StepMessage(job_id=folder.job_id)
    with leased(context.redis_client(), lease_name(routes.SCORE_FINISH, message)):
        finish(folder)
        assert folder.outcome() is None
    finish(folder)
    assert folder.outcome().state == "done"
    assert sent == [(routes.NOTIFY, message)]


@pytest.mark.server
def test_a_part_that_came_after_the_join_had_given_up_but_before_its_lease_was_given_back_is_not_forgotten(bucket, sent, monkeypatch):
    folder = make_job(bucket, chunk_rows=4)
    plan(folder)
    score(folder, *range(9))
    join_now, looks = publishing.finish_job, []

    def finish_job(folder, *, awaits, **more):
        looks.append(awaits)
        if len(looks) > 1:
            return join_now(folder)
        score(folder, 9)
        finish(folder)  # by the process that wrote the last part: the step is taken
        assert folder.outcome() is None
        return None

    monkeypatch.setattr(publishing, "finish_job", finish_job)
    finish(folder)
    assert looks == [True, True]
    assert folder.outcome().state == "done"


@pytest.mark.server
def test_a_process_that_could_score_the_last_chunks_itself_does_not_wait_for_them(bucket, sent, monkeypatch):
    folder = make_job(bucket, chunk_rows=4)
    plan(folder)
    score(folder, *range(9))
    monkeypatch.setattr(joining, "_wait_for", lambda *_: pytest.fail("nothing is waited for"))
    serve_only(monkeypatch, routes.QUEUE_SCORE, routes.QUEUE_CONTROL)
    finish(folder)
    assert folder.outcome() is None
    score(folder, 9)
    finish(folder)
    assert folder.outcome().state == "done"


@pytest.mark.server
def test_the_join_is_sent_for_before_the_last_chunks_are_there_and_again_with_the_last(bucket, sent):
    folder = make_job(bucket, chunk_rows=4)
    made = plan(folder)
    message = StepMessage(job_id=folder.job_id)
    sent_with = {}
    for index in range(10):
        tasks_score.score_chunk(ChunkMessage(job_id=folder.job_id, index=index, of=len(made.chunks)).encode())
        sent_with[index] = len(sent)
    assert sent == [(routes.SCORE_FINISH, message)] * 2
    assert [index for index in range(1, 10) if sent_with[index] > sent_with[index - 1]] == [10 - joining.awaited_chunks(made) - 1, 9]


@pytest.mark.server
def test_chunks_that_take_long_are_not_waited_for(bucket, sent, monkeypatch):
    monkeypatch.setattr(joining, "AWAITED_SECONDS", 0.0)
    folder = make_job(bucket, chunk_rows=4)
    made = plan(folder)
    for index in range(9):
        tasks_score.score_chunk(ChunkMessage(job_id=folder.job_id, index=index, of=len(made.chunks)).encode())
    assert not sent


@pytest.mark.server
def test_a_plan_that_comes_when_nearly_all_is_scored_sends_for_the_join(bucket, sent):
    folder = make_job(bucket, chunk_rows=4)
    made = plan(folder)
    score(folder, *range(8))
    tasks_score.score_plan(StepMessage(job_id=folder.job_id).encode())
    message = StepMessage(job_id=folder.job_id)
    assert sent[0] == (routes.SCORE_FINISH, message)
    assert [(task, message.index) for task, message in sent[1:]] == [(routes.SCORE_CHUNK, index) for index in range(8, len(made.chunks))]


@pytest.mark.server
def test_a_job_of_few_chunks_is_joined_once_and_for_all(bucket, sent):
    folder = make_job(bucket, chunk_rows=14)
    made = plan(folder)
    assert (len(made.chunks), joining.awaited_chunks(made)) == (3, 0)
    for index in range(3):
        tasks_score.score_chunk(ChunkMessage(job_id=folder.job_id, index=index, of=3).encode())
    assert sent == [(routes.SCORE_FINISH, StepMessage(job_id=folder.job_id))]


# --- chunks that were begun ------------------------------------------------------------------------------------------------------


@pytest.mark.server
def test_a_chunk_that_is_done_was_not_begun_in_vain_whether_that_could_be_marked_or_not(bucket, sent, monkeypatch):
    folder = make_job(bucket, chunk_rows=14)
    plan(folder)
    client, begun = context.redis_client(), f"scoring:attempts:{folder.job_id}"
    client.hset(begun, "1", 1)

    def score_now(index):
        tasks_score.score_chunk(ChunkMessage(job_id=folder.job_id, index=index, of=3).encode())
        return client.hgetall(begun)

    with monkeypatch.context() as patch:
        patch.setattr(type(client), "hdel", lambda *_: pytest.fail("it is said together with the mark"))
        assert score_now(0) == {b"1": b"1"}
        assert score_now(1) == {b"lost": b"1"}, "that the job lost a process stays known"

    def gone(*_, **__):
        raise redis.ConnectionError("Redis is away")

    monkeypatch.setattr(progress, "mark_part", gone)
    assert score_now(2) == {b"lost": b"1"}
