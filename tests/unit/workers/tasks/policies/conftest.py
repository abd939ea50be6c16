"""Runs of made-up steps of a real job, with a real bucket and a real Redis; messages are kept instead of sent."""

from types import SimpleNamespace

import celery.exceptions
import pytest

from shared.bucket.local import LocalBucket
from shared.jobs.messages import StepMessage
from shared.queue import broker
from shared.queue.client import connect_to_redis
from shared.settings import Settings
from tests.handmade import make_job
from workers.tasks import context
from workers.tasks.policies.time_limit import FailAtTimeLimit
from workers.tasks.step import Step, StepRun

ORDINARY = {
    "activity": "making up things",
    "writes_stage": False,
    "handles_crashes": lambda *_: False,
    "repeat_while": lambda _: False,
    "time_limit": FailAtTimeLimit(),
    "notifies": True,
}


class Task:
    """A task as Celery hands it to a step."""

    name = "made.up"
    max_retries = 7
    app = SimpleNamespace(conf=SimpleNamespace(task_soft_time_limit=840))

    def __init__(self) -> None:
        self.request = SimpleNamespace(retries=0, called_directly=True)
        self.pauses: list[float] = []

    def retry(self, *, countdown: float, exc: Exception) -> celery.exceptions.Retry:
        self.pauses.append(countdown)
        return celery.exceptions.Retry(exc=exc)


@pytest.fixture
def client(redis_url):
    return connect_to_redis(redis_url)


@pytest.fixture
def sent(monkeypatch) -> list[str]:
    """The names of the tasks that messages are sent to."""
    found: list[str] = []
    monkeypatch.setattr(broker, "send", lambda _app, task, messages: found.extend(task for _ in messages))
    return found


@pytest.fixture
def make_run(tmp_path, client, sent, monkeypatch):
    """Makes a run of a step that does this work and has these options."""
    bucket = LocalBucket(tmp_path / "bucket")
    monkeypatch.setattr(context, "bucket", lambda: bucket)
    monkeypatch.setattr(context, "redis_client", lambda: client)
    monkeypatch.setattr(context, "settings", lambda: Settings(home=tmp_path / "home"))
    folder = make_job(bucket)
    client.delete(f"scoring:attempts:{folder.job_id}")

    def make(work=lambda *_: None, **options) -> StepRun:
        step = Step(work=work, **(ORDINARY | options))
        return StepRun(step=step, task=Task(), message=StepMessage(job_id=folder.job_id), folder=folder)

    return make
