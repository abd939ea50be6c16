"""Asking a worker about a rate, when none is there, when it is slow, and when it is of another version."""

import pytest
import redis

from producers.explaining import asking
from shared.errors import BrokerError, MessageError, ModelError, TransientError
from shared.guard.explanation import Answer, Question
from shared.queue import questions
from shared.settings import Settings
from tests.conftest import free_port, own_server

QUESTION = Question(job_id="20261123t101500z-score-9bfad3", against=None, keys=["1", "1"])


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with own_server(tmp_path_factory.mktemp("server")) as url:
        yield url


@pytest.fixture
def settings(server, monkeypatch) -> Settings:
    monkeypatch.setenv("REDIS_URL", server)
    for name, seconds in (("HEAD_START_SECONDS", 0.05), ("TAKING_SECONDS", 0.2), ("ANSWERING_SECONDS", 0.4)):
        monkeypatch.setattr(asking, name, seconds)
    return Settings()


@pytest.fixture
def client(server) -> redis.Redis:
    client = redis.Redis.from_url(server)
    client.flushall()
    return client


def test_without_a_worker_the_question_ends_in_one_sentence_with_the_next_command(settings, client):
    with pytest.raises(TransientError, match="no worker took the question within 0 s") as error:
        asking.ask(settings, QUESTION)
    assert "scoring up" in error.value.next_step
    assert {queue: client.llen(queue) for queue in ("score", "control", "train")} == {"score": 1, "control": 1, "train": 0}


def test_a_taken_question_without_an_answer_says_so(settings, client):
    questions.take_question(client, QUESTION, "a process")
    with pytest.raises(TransientError, match="gave no answer"):
        asking.ask(settings, QUESTION)
    assert client.llen("control") == 0


def test_the_second_process_does_not_take_a_question(client):
    assert questions.take_question(client, QUESTION, "one")
    assert not questions.take_question(client, QUESTION, "other")
    assert 0 < client.ttl("scoring:why:" + QUESTION.token) <= questions.KEPT_SECONDS


def test_a_refusal_becomes_the_error_of_its_kind(settings, client):
    questions.write_answer(client, QUESTION, Answer(error="the release is gone", next_step="Train it.", exit_code=4))
    with pytest.raises(ModelError) as error:
        asking.ask(settings, QUESTION)
    assert str(error.value) == "the release is gone. Train it."


def test_an_answer_of_another_version_is_refused(settings, client):
    client.hset("scoring:why:" + QUESTION.token, questions.ANSWER, b'{"format": 2}')
    with pytest.raises(MessageError, match="upgrade the older side"):
        asking.ask(settings, QUESTION)


def test_a_redis_that_is_not_there_is_named(settings, monkeypatch):
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(BrokerError, match="Redis at"):
        asking.ask(Settings(), QUESTION)
