"""Chunks are sent while the table is still being cut; that only makes things quicker."""

import pytest

from shared.bucket.local import LocalBucket
from shared.errors import BrokerError
from shared.queue import broker
from shared.queue.routes import SCORE_CHUNK
from tests.handmade import make_job, publish_handmade, row, write_table
from workers.scoring import planning
from workers.tasks.chunks import sender


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder of a job whose table makes several chunks."""
    monkeypatch.setattr(sender, "SENDING_PAUSE_SECONDS", 0)
    bucket = LocalBucket(tmp_path / "bucket")
    publish_handmade(bucket)
    write_table(bucket, [row(number) for number in range(200_000)])
    return make_job(bucket)


def test_chunks_are_sent_in_their_order_before_there_is_a_plan_each_with_what_it_is_cut_to(folder, monkeypatch):
    sent = []

    def send(_app, task, messages):
        assert task == SCORE_CHUNK
        assert not folder.has("plan.json")
        sent.extend(messages)

    monkeypatch.setattr(broker, "send", send)
    early = sender.ChunkSender(None, folder.job_id)
    plan = planning.plan_job(folder, early.send_early)
    assert len(plan.chunks) > 3
    assert early.sent == len(sent) == len(plan.chunks)
    assert [(message.index, message.cut) for message in sent] == list(enumerate(plan.chunks))


def test_a_lot_waits_a_moment_for_the_next_chunks_and_nothing_is_sent_twice(folder, monkeypatch):
    lots = []
    monkeypatch.setattr(sender, "SENDING_PAUSE_SECONDS", 3600)
    monkeypatch.setattr(broker, "send", lambda _app, _task, messages: lots.append([message.index for message in messages]))
    early = sender.ChunkSender(None, folder.job_id)
    planning.plan_job(folder, early.send_early)
    assert lots == [[0]]
    assert early.sent == 1


def test_where_redis_is_away_the_table_is_cut_all_the_same_and_it_is_tried_once(folder, monkeypatch):
    tried = []

    def send(*_):
        tried.append(1)
        raise BrokerError("Redis does not take messages")

    monkeypatch.setattr(broker, "send", send)
    early = sender.ChunkSender(None, folder.job_id)
    plan = planning.plan_job(folder, early.send_early)
    assert len(plan.chunks) > 3
    assert (early.sent, len(tried)) == (0, 1)
