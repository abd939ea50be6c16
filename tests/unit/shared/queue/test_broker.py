"""Every process makes its Celery application in one way, with the settings that were measured, and sends in one way."""

import base64
import json
import time
from datetime import UTC, datetime, timedelta

import pytest
import redis

from shared.errors import BrokerError
from shared.jobs.messages import ChunkMessage, StepMessage
from shared.queue import routes
from shared.queue.broker import BATCH_MESSAGES, make_app, send, send_probe
from shared.queue.probe import Probe
from shared.settings import Settings

ORDER = StepMessage(job_id="job-1")

MEASURED = {
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    "worker_prefetch_multiplier": 1,
    "worker_disable_prefetch": True,
    "task_time_limit": 900,
    "task_soft_time_limit": 840,
    "task_ignore_result": True,
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    "worker_deduplicate_successful_tasks": False,
    "broker_channel_error_retry": True,
    "broker_connection_max_retries": None,
    "broker_connection_retry_on_startup": True,
    "worker_soft_shutdown_timeout": 30,
    "accept_content": ["json"],
    "task_serializer": "json",
    "result_serializer": "json",
    "worker_hijack_root_logger": False,
    "task_create_missing_queues": False,
}
"""With these jobs came through every fault; what each is for is said where it is set."""

MEASURED_TRANSPORT = {
    "visibility_timeout": 3600,
    "unacked_restore_interval": 10,
    "unacked_restore_throttle": 1,
    "socket_connect_timeout": 5,
    "socket_timeout": 30,
    "socket_keepalive": True,
}


@pytest.fixture
def conf():
    return make_app(Settings(redis_url="redis://localhost:1/0")).conf


@pytest.mark.parametrize("name", MEASURED)
def test_the_setting_has_the_value_that_was_measured(conf, name):
    assert conf[name] == MEASURED[name]


@pytest.mark.parametrize("name", MEASURED_TRANSPORT)
@pytest.mark.parametrize("options", ["broker_transport_options", "result_backend_transport_options"])
def test_the_transport_has_the_value_that_was_measured(conf, options, name):
    assert conf[options][name] == MEASURED_TRANSPORT[name]


def test_what_must_stay_unset_is_unset(conf):
    assert conf.worker_max_tasks_per_child is None
    assert conf.task_acks_on_failure_or_timeout is True
    assert conf.result_backend is None
    assert conf.broker_transport_options["visibility_timeout"] > conf.task_time_limit > conf.task_soft_time_limit


def test_work_has_three_queues_and_every_task_its_own_way(conf):
    assert {queue.name for queue in conf.task_queues} == {"train", "score", "control"}
    tasks = {name: value for name, value in vars(routes).items() if name.isupper() and not name.startswith("QUEUE")}
    assert {value: conf.task_routes[value]["queue"] for value in tasks.values()} == {
        "score.plan": "control",
        "score.chunk": "score",
        "score.finish": "control",
        "train.fit": "train",
        "train.candidate": "train",
        "notify": "control",
        "sweep": "control",
        "gc": "control",
        "canary": "control",
        "explain": "score",
    }


def test_a_sweep_is_due_every_few_seconds_and_does_not_pile_up():
    app = make_app(Settings(redis_url="redis://localhost:1/0", sweep_seconds=7))
    entry = app.conf.beat_schedule["sweep"]
    assert (entry["task"], entry["schedule"], entry["options"]) == ("sweep", 7, {"expires": 130})


def test_a_step_of_removal_is_due_every_few_minutes_and_does_not_pile_up():
    app = make_app(Settings(redis_url="redis://localhost:1/0", sweep_seconds=7))
    assert app.conf.beat_schedule.keys() == {"sweep", "gc"}
    entry = app.conf.beat_schedule["gc"]
    assert (entry["task"], entry["schedule"], entry["options"]) == ("gc", 300, {"expires": 300})


def test_making_an_application_opens_no_connection():
    began = time.monotonic()
    make_app(Settings(redis_url="redis://192.0.2.1:6379/0"))
    assert time.monotonic() - began < 2


@pytest.mark.server
def test_orders_arrive_in_their_order_as_json_and_with_a_readable_name(redis_url):
    app = make_app(Settings(redis_url=redis_url))
    count = 2 * BATCH_MESSAGES + 1
    send(app, routes.SCORE_CHUNK, [ChunkMessage(job_id="job-1", index=index, of=count) for index in range(count)])
    texts = redis.Redis.from_url(redis_url).lrange("score", 0, -1)[::-1]
    envelopes = [json.loads(text) for text in texts]
    assert {envelope["content-type"] for envelope in envelopes} == {"application/json"}
    bodies = [json.loads(base64.b64decode(envelope["body"])) for envelope in envelopes]
    assert [body[0] for body in bodies] == [[{"format": 1, "job_id": "job-1", "index": index, "of": count}] for index in range(count)]
    assert envelopes[4]["headers"]["argsrepr"] == f"chunk 5 of {count}, job-1"


@pytest.mark.server
def test_a_redis_that_does_not_answer_is_reported_quickly(no_redis_url):
    began = time.monotonic()
    with pytest.raises(BrokerError, match=r"Redis at redis://127.0.0.1:\d+/0 does not take messages: .*refused\. Start it .*scoring up"):
        send(make_app(Settings(redis_url=no_redis_url)), routes.SCORE_PLAN, [ORDER])
    assert time.monotonic() - began < 3


@pytest.mark.server
@pytest.mark.parametrize("limit", [{"maxmemory": "1"}, {"requirepass": "x"}])
def test_a_redis_that_refuses_is_reported(redis_url, limit):
    client = redis.Redis.from_url(redis_url)
    before = {name: client.config_get(name)[name] for name in limit}
    for name, value in limit.items():
        client.config_set(name, value)
    try:
        with pytest.raises(BrokerError, match="does not take messages: "):
            send(make_app(Settings(redis_url=redis_url)), routes.SCORE_PLAN, [ORDER])
    finally:
        for name, value in before.items():
            client.config_set(name, value)


def test_a_password_is_never_reported():
    with pytest.raises(BrokerError) as raised:
        send(make_app(Settings(redis_url="redis://user:very-secret@127.0.0.1:1/0")), routes.SCORE_PLAN, [ORDER])
    assert "very-secret" not in str(raised.value)


def test_a_worker_whose_clock_is_minutes_ahead_takes_the_canary_of_doctor(redis_url):
    """It expired after a minute, so that such a worker dropped it and doctor said that nobody took a message."""
    send_probe(make_app(Settings(redis_url=redis_url)), "score", Probe())
    [text] = redis.Redis.from_url(redis_url).lrange("score", 0, -1)
    expires = datetime.fromisoformat(json.loads(text)["headers"]["expires"])
    assert expires - datetime.now(UTC) > timedelta(minutes=50)
