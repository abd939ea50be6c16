"""Anybody who reaches the Redis may put anything on a queue: it is refused with a line in the log, and the workers go on working."""

import base64
import json
import os
import pickle
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import psutil
import pytest
import redis

from tests.conftest import Place, wait_until
from tests.integration.test_main_job import result_text

QUEUES = ("control", "score", "train")
REFUSED = "message refused"
WORKERS = 2
"""One for scores and trainings, one for control."""


class Queue:
    """The real queues of the running stack, and what the workers log about what is put on them."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.client = redis.Redis(port=int(place.environment["SCORING_REDIS_PORT"]))

    def push(self, data: bytes, queue: str = "control", logged: str = REFUSED) -> str:
        """Puts raw bytes on a queue and waits for the line in the log; returns what was logged from then on."""
        start = self.place.log.stat().st_size

        def news() -> str:
            with self.place.log.open("rb") as log:
                log.seek(start)
                return log.read().decode(errors="replace")

        self.client.lpush(queue, data)
        wait_until(lambda: logged in news(), 20, f"{logged!r} in the log after {data[:200]!r}")
        return news()

    def send(self, task: object, *arguments: object, queue: str = "control", logged: str = REFUSED, **changed: object) -> str:
        """Puts a well-formed message for a task on its queue."""
        return self.push(envelope(task, json.dumps([arguments, {}, {}]).encode(), queue, **changed), queue, logged)

    def publish(self, data: bytes, logged: str = REFUSED) -> str:
        """Says something to the remote control and waits until every worker refused it; returns what was logged from then on."""
        start = self.place.log.stat().st_size
        self.client.publish("/0.celery.pidbox", data)

        def refused() -> str:
            with self.place.log.open("rb") as log:
                log.seek(start)
                news = log.read().decode(errors="replace")
            return news if news.count(logged) >= WORKERS else ""

        said: str = wait_until(refused, 20, f"the refusal of {data[:200]!r}")
        return said

    def drain(self) -> None:
        """Waits until nothing waits any more."""
        wait_until(lambda: not any(self.client.llen(queue) for queue in QUEUES), what="the end of the queues")


def envelope(task: object, body: bytes, queue: str = "control", **changed: object) -> bytes:
    """A message as Celery writes it; ``changed`` replaces headers and, below ``properties`` and so on, everything else."""
    name = str(uuid.uuid4())
    message = {
        "body": base64.b64encode(body).decode(),
        "content-encoding": changed.pop("content_encoding", "utf-8"),
        "content-type": changed.pop("content_type", "application/json"),
        "headers": {"lang": "py", "task": task, "id": name, "root_id": name, "retries": 0, "timelimit": [None, None]},
        "properties": {
            "correlation_id": name,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": str(uuid.uuid4()),
        }
        | changed.pop("properties", {}),
    }
    message["headers"].update(changed)
    return json.dumps(message).encode()


def command(body: object, headers: object = None) -> bytes:
    """What somebody says to the remote control."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    message = json.loads(envelope("", data)) | {"headers": {"clock": 1, "expires": 0} if headers is None else headers}
    return json.dumps(message).encode()


@pytest.fixture(scope="module")
def queue(trained: Place) -> Queue:
    return Queue(trained)


@pytest.fixture(scope="module")
def good(trained: Place, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """A small table and the outcome of its job."""
    table = tmp_path_factory.mktemp("good") / "good.csv"
    pd.read_csv(trained.sample_table).head(100).to_csv(table, index=False)
    return table, trained.scoring_json("score", table, "--model", "v1", "--chunk-rows", "30")


def worker_pids(place: Place) -> set[int]:
    up = psutil.Process(json.loads((place.root / "ready.json").read_text())["pid"])
    return {process.pid for process in up.children(recursive=True) if "workers.app" in " ".join(process.cmdline())}


@pytest.fixture(autouse=True)
def workers_go_on(trained: Place, good: tuple[Path, dict], queue: Queue) -> Iterator[None]:
    """After each test the same processes are there, nothing waits or is stuck in a hand, and the next good job succeeds."""
    pids = worker_pids(trained)
    assert len(pids) >= 5
    yield
    table, outcome = good
    again = trained.scoring_json("score", table, "--model", "v1", "--chunk-rows", "30", "--again")
    assert result_text(trained, again) == result_text(trained, outcome)
    assert worker_pids(trained) == pids
    queue.drain()
    wait_until(lambda: not queue.client.hlen("unacked"), what="every message being acknowledged")


def hostile_job(place: Place, job_id: str, text: bytes) -> Path:
    """A job folder that nobody has checked."""
    folder = place.bucket / "jobs" / job_id
    folder.mkdir(parents=True)
    (folder / "job.json").write_bytes(text)
    return folder


# --- what is no message at all


@pytest.mark.parametrize("name", QUEUES)
def test_bytes_that_are_no_message_are_dropped_on_every_queue(queue: Queue, name: str) -> None:
    deep = b'{"properties": ' + b"[" * 50_000 + b"]" * 50_000 + b"}"
    for data in (b"{not json", b"", b"\x80\x04\x95\xff\x00", b"GET / HTTP/1.1\r\n\r\n", deep):
        assert "not JSON" in queue.push(data, name)
    for data in (b"[]", b"5", b"null", b'"text"', b"{}", b'{"body": "e30="}', b'{"properties": 3}', b'{"properties": {}}'):
        assert "not one of ours" in queue.push(data, name)


@pytest.mark.parametrize("name", QUEUES)
def test_a_message_with_fields_of_wrong_types_is_dropped_and_blocks_no_process(queue: Queue, name: str) -> None:
    message = json.dumps([[{"job_id": "nobody"}], {}, {}]).encode()
    for changed in (
        {"task": ["score.plan"]},
        {"task": {"score": "plan"}},
        {"timelimit": 5},
        {"timelimit": ["soon", None]},
        {"retries": "many"},
        {"retries": -5},
        {"retries": 10**300},
        {"timelimit": [-1, 0.001]},
        {"eta": 5},
        {"eta": "tomorrow"},
        {"expires": {}},
        {"expires": "never"},
        {"expires": 5},
        {"compression": "zlib"},
        {"shadow": ["sweep"]},
        {"argsrepr": {}},
        {"stamps": {"a": 1}},
        {"id": None},
        {"properties": {"delivery_info": 7}},
        {"properties": {"delivery_info": {}}},
        {"properties": {"delivery_tag": ["a"]}},
        {"properties": {"body_encoding": "rot13"}},
        {"properties": {"priority": "high"}},
    ):
        assert "not one of ours" in queue.push(envelope(**({"task": "score.plan", "body": message, "queue": name} | changed)), name)


def test_a_body_that_cannot_be_read_is_refused(queue: Queue) -> None:
    for body in (b"{not json", b"", b"\xff\xfe", b"[" * 50_000, b"{}", b"[]", b"[1]", b"5", b'"abc"', b'{"a": 1, "b": 2, "c": 3}'):
        assert "body: " in queue.push(envelope("score.plan", body))
    for body in (b"[[], [], {}]", b"[{}, {}, {}]", b"[5, {}, {}]", b"[[], {}, 5]", b"[[], {}, null]"):
        assert "must hold a list and two objects" in queue.push(envelope("score.plan", body))


def test_a_pickle_is_never_opened(queue: Queue, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'exploded'}",)

    bomb = pickle.dumps([[Bomb()], {}, {}])
    for content_type in ("application/x-python-serialize", "pickle", "application/x-yaml", "text/x-python", "application/data"):
        queue.push(envelope("score.plan", bomb, content_type=content_type, content_encoding="binary"))
    for encoding in ("utf-8", "binary"):
        queue.push(envelope("score.plan", bomb, content_encoding=encoding))
    assert not (tmp_path / "exploded").exists()


def test_a_foreign_task_is_dropped(queue: Queue) -> None:
    for task in ("os.system", "score.everything", "", "workers.tasks.context.bucket", "x" * 10_000, "celery.chord_unlock", "celery.map"):
        assert "must be one of our tasks" in queue.send(task, "touch /tmp/x")


def test_a_message_that_names_further_tasks_is_refused(queue: Queue) -> None:
    further = {"task": "sweep", "args": [], "kwargs": {}, "options": {}, "subtask_type": None}
    for options in ({"callbacks": [further]}, {"errbacks": [further]}, {"chain": [further]}, {"chord": further}, {"chord": 5}):
        body = json.dumps([[{"job_id": "nobody"}], {}, options]).encode()
        assert "must not name further tasks" in queue.push(envelope("score.finish", body))


def test_garbage_for_the_remote_control_is_refused(queue: Queue) -> None:
    """Each of them ended the workers or broke their connection once."""
    deep = b"[" * 100_000
    queue.publish(b"garbage", logged="Cannot process event")
    for data in (b"{}", b"[]", b"5", b"null", deep, b'{"properties": {}}', b'{"body": "e30=", "properties": {"delivery_tag": "x"}}'):
        queue.publish(data)
    for headers in ("text", [], {"clock": "late"}, {"compression": "zlib"}):
        queue.publish(command({"method": "ping"}, headers=headers))
    for body in (b"[]", b'"ping"', b"\xff{", deep):
        queue.publish(command(body))


def test_no_message_stops_a_worker_or_takes_its_queues(queue: Queue) -> None:
    for method, arguments in {
        "shutdown": {},
        "pool_shrink": {"n": 9},
        "pool_restart": {},
        "cancel_consumer": {"queue": "control"},
        "add_consumer": {"queue": "other"},
        "rate_limit": {"task_name": "score.chunk", "rate_limit": "1/h"},
        "time_limit": {"task_name": "score.chunk", "hard": 0.001},
        "revoke": {"task_id": "x", "terminate": True},
        "os.system": {"command": "touch /tmp/x"},
    }.items():
        assert "body." in queue.publish(command({"method": method, "arguments": arguments}))
    for wrong in ({"destination": 5}, {"pattern": "(a*)*b", "matcher": "pcre"}, {"reply_to": {}}, {"arguments": "xx"}, {"more": 1}):
        assert "body." in queue.publish(command({"method": "ping"} | wrong))


def test_a_message_for_another_century_is_not_kept(queue: Queue) -> None:
    for eta in ("2150-01-01T00:00:00+00:00", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "2026-01-01T00:00:00"):
        queue.send("score.finish", {"job_id": "nobody"}, eta=eta)


# --- messages that say nonsense


def test_an_order_that_does_not_decode_is_refused_by_every_task(queue: Queue) -> None:
    tasks = {"score.plan": "control", "score.chunk": "score", "score.finish": "control", "train.fit": "train", "notify": "control"}
    for task, name in tasks.items():
        assert "wrong" in queue.send(task, queue=name)  # no arguments
        assert "reads format 1" in queue.send(task, {"format": 2, "job_id": "job-1", "index": 0, "of": 1}, queue=name)
    for message, said in (
        ("text", "a StepMessage has a wrong text"),
        (None, "a StepMessage has a wrong text"),
        ([1, 2], "a StepMessage has a wrong text"),
        ({}, "a StepMessage has a wrong job_id"),
        ({"job_id": 7}, "wrong job_id"),
        ({"job_id": ["job-1"]}, "wrong job_id"),
        ({"job_id": "job-1", "table": "/etc/passwd"}, "wrong table: Extra inputs"),
        ({"job_id": "job-1", "format": "1"}, "has format '1'"),
        ({"job_id": "x" * 70_000}, "bytes long"),
    ):
        assert said in queue.send("score.plan", message)
    for wrong in ({"candidate": 0}, {"candidate": "1"}, {"fold": 1.5}, {"fold": 10**9}, {"params": {}}):
        message = {"job_id": "job-1", "candidate": 1, "fold": 1} | wrong
        assert f"a CandidateMessage has a wrong {next(iter(wrong))}" in queue.send("train.candidate", message, queue="train")
    for wrong in ({"index": -1}, {"index": "0"}, {"index": 1.5}, {"index": 10**9}, {"of": 0}, {"of": None}):
        message = {"job_id": "job-1", "index": 0, "of": 1} | wrong
        assert f"a ChunkMessage has a wrong {next(iter(wrong))}" in queue.send("score.chunk", message, queue="score")


def test_a_job_id_that_is_a_path_is_refused(queue: Queue) -> None:
    for job_id in ("../../etc", "/etc/passwd", "..", "a/b", "a\\b", "job-1/../job-2", "job\n1", "job\0", "_open", ""):
        assert "a StepMessage has a wrong job_id" in queue.send("notify", {"job_id": job_id})


def test_a_job_that_does_not_exist_is_refused_and_not_made(trained: Place, queue: Queue) -> None:
    for task, name in (("score.plan", "control"), ("score.finish", "control"), ("train.fit", "train")):
        queue.send(task, {"job_id": "no-such-job"}, queue=name)
    queue.send("score.chunk", {"job_id": "no-such-job", "index": 0, "of": 1}, queue="score")
    queue.send("train.candidate", {"job_id": "no-such-job", "candidate": 1, "fold": 1}, queue="train")
    assert not (trained.bucket / "jobs" / "no-such-job").exists()


def test_an_order_that_does_not_fit_its_job_leaves_the_job_alone(trained: Place, queue: Queue, good: tuple[Path, dict]) -> None:
    _, outcome = good
    job_id = outcome["job_id"]
    manifest = trained.bucket / "jobs" / job_id / "manifest.json"
    before = manifest.read_bytes()
    assert "there is no chunk 4" in queue.send("score.chunk", {"job_id": job_id, "index": 4, "of": 4}, queue="score")
    assert "there is no chunk 9999999" in queue.send("score.chunk", {"job_id": job_id, "index": 9_999_999, "of": 10**7}, queue="score")
    trained_by = trained.scoring_json("models", "show", "v1")["job_id"]
    assert "no plan" in queue.send("score.chunk", {"job_id": trained_by, "index": 0, "of": 1}, queue="score")
    # what is done is done, whatever is asked for
    for task in ("score.plan", "score.finish", "notify"):
        queue.client.lpush("control", envelope(task, json.dumps([[{"job_id": job_id}], {}, {}]).encode()))
    queue.client.lpush("score", envelope("score.chunk", json.dumps([[{"job_id": job_id, "index": 0, "of": 4}], {}, {}]).encode(), "score"))
    queue.client.lpush("train", envelope("train.fit", json.dumps([[{"job_id": job_id}], {}, {}]).encode(), "train"))
    candidate = {"job_id": job_id, "candidate": 1, "fold": 1}
    queue.client.lpush("train", envelope("train.candidate", json.dumps([[candidate], {}, {}]).encode(), "train"))
    queue.drain()
    assert trained.scoring_json("jobs", "show", job_id)["state"] == "done"
    assert manifest.read_bytes() == before
    assert len(trained.webhook.sent_about(job_id)) == 1


def test_a_stray_order_does_not_end_a_running_job(trained: Place, queue: Queue, tmp_path: Path) -> None:
    table = tmp_path / "running.csv"
    pd.read_csv(trained.sample_table).head(4000).to_csv(table, index=False)
    job_id = trained.scoring_json("score", table, "--model", "v1", "--chunk-rows", "40", "--no-wait")["job_id"]
    wait_until((trained.bucket / "jobs" / job_id / "plan.json").exists, what="the plan")
    assert "there is no chunk 5000" in queue.send("score.chunk", {"job_id": job_id, "index": 5000, "of": 6000}, queue="score")
    queue.client.lpush("train", envelope("train.fit", json.dumps([[{"job_id": job_id}], {}, {}]).encode(), "train"))
    assert trained.scoring_json("jobs", "show", job_id, "--follow")["facts"]["scored"] == "4,000"


# --- job files that nobody checked


def score_job(job_id: str, **changed: object) -> bytes:
    job = {"kind": "score", "job_id": job_id, "created": "2099-01-01T00:00:00Z", "model": "v1", "table": "t.csv", "place": "hostile"}
    return json.dumps(job | changed).encode()


def train_job(job_id: str, **changed: object) -> bytes:
    job = {"kind": "train", "job_id": job_id, "created": "2099-01-01T00:00:00Z", "definition": "v1", "train": "t.csv"}
    return json.dumps(job | changed).encode()


HOSTILE = {
    "an absolute table": (lambda name: score_job(name, table="/etc/passwd"), "a ScoreJob has a wrong table"),
    "a table outside": (lambda name: score_job(name, table="../../../../etc/passwd.csv"), "a ScoreJob has a wrong table"),
    "a table at an address": (lambda name: score_job(name, table="https://host/t.csv"), "a ScoreJob has a wrong table"),
    "a link to a table outside": (lambda name: score_job(name, table="hostile_link.csv"), "leads outside the bucket"),
    "a link to a folder outside": (lambda name: score_job(name, table="hostile_folder"), "leads outside the bucket"),
    "a table behind a link": (lambda name: score_job(name, table="hostile_folder/secret.csv"), "leads outside the bucket"),
    "a place outside": (lambda name: score_job(name, place="../../../model/v1"), "a ScoreJob has a wrong place"),
    "an absolute place": (lambda name: score_job(name, place="/tmp"), "a ScoreJob has a wrong place"),
    "a model outside": (lambda name: score_job(name, model="../../x"), "a ScoreJob has a wrong model"),
    "another format": (lambda name: score_job(name, format=2), "has format 2 but this version reads format 1"),
    "another job's id": (lambda name: score_job("some-other-job"), "says that it is job some-other-job"),
    "a megabyte": (lambda name: score_job(name, table="t" * 1_000_000), "bytes long, more than the 65,536 allowed"),
    "a field too many": (lambda name: score_job(name, command="rm -rf"), "a ScoreJob has a wrong command"),
    "no JSON": (lambda name: b"\x00\x01", "a ScoreJob has a wrong text"),
    "deep JSON": (lambda name: b"[" * 60_000, "a ScoreJob has a wrong text"),
    "nothing": (lambda name: b"", "a ScoreJob has a wrong text"),
    "a training table outside": (lambda name: train_job(name, train="/etc/passwd"), "a TrainJob has a wrong train"),
    "a training link": (lambda name: train_job(name, train="hostile_link.csv"), "leads outside the bucket"),
    "an alias outside": (lambda name: train_job(name, alias="../../x"), "a TrainJob has a wrong alias"),
    "a definition outside": (lambda name: train_job(name, definition="../../x"), "a TrainJob has a wrong definition"),
}


@pytest.fixture
def outside(trained: Place, tmp_path: Path) -> Iterator[None]:
    """Links in the bucket that lead out of it, to a table that would otherwise be scored."""
    (tmp_path / "secret.csv").write_bytes(pd.read_csv(trained.sample_table).head(10).to_csv(index=False).encode())
    links = {trained.bucket / "hostile_link.csv": tmp_path / "secret.csv", trained.bucket / "hostile_folder": tmp_path}
    for link, target in links.items():
        link.symlink_to(target)
    yield
    for link in links:
        link.unlink()


def test_a_job_file_that_names_what_it_must_not_fails_its_job_with_a_sentence(trained: Place, queue: Queue, outside: None) -> None:
    folders = {}
    for number, (case, (text, _)) in enumerate(HOSTILE.items()):
        job_id = f"hostile-{number}"
        folders[case] = hostile_job(trained, job_id, text(job_id))
        task, name = ("train.fit", "train") if b'"train"' in text(job_id)[:20] else ("score.plan", "control")
        queue.client.lpush(name, envelope(task, json.dumps([[{"job_id": job_id}], {}, {}]).encode(), name))
    for case, folder in folders.items():
        said = HOSTILE[case][1]
        outcome = json.loads(wait_until(lambda folder=folder: _read(folder / "outcome.json"), what=f"the end of the job with {case}"))
        assert (outcome["state"], outcome["exit_code"]) == ("failed", 2), case
        assert said in outcome["reason"], case
        assert outcome["next_step"], case
        wait_until(lambda folder=folder: (folder / "notified.json").exists(), what=f"the notice of {case}")
        assert len(trained.webhook.sent_about(folder.name)) == 1, case
    assert not list((trained.bucket / "data/predict/output").rglob("hostile*"))
    for folder in folders.values():
        shutil.rmtree(folder)


def test_a_job_file_that_is_a_link_out_of_the_bucket_is_not_followed(trained: Place, queue: Queue, tmp_path: Path) -> None:
    (tmp_path / "job.json").write_bytes(score_job("hostile-link"))
    folder = trained.bucket / "jobs" / "hostile-link"
    folder.mkdir()
    (folder / "job.json").symlink_to(tmp_path / "job.json")
    said = queue.send("score.plan", {"job_id": "hostile-link"}, logged="leads outside the bucket")
    assert "Traceback" not in said
    (folder / "job.json").unlink()
    shutil.rmtree(folder)


def test_a_hostile_job_among_the_open_ones_does_not_keep_the_sweep_from_the_others(trained: Place, tmp_path: Path) -> None:
    """The job that is after it in every list lost its message, and still ends."""
    marks = trained.bucket / "jobs" / "_open"
    hostile = hostile_job(trained, "00000000-hostile", b"{}")
    for name in ("00000000-hostile", "00000000-NO-ID", "0"):
        (marks / name).write_bytes(b"")
    table = tmp_path / "after.csv"
    pd.read_csv(trained.sample_table).head(20).to_csv(table, index=False)
    place = Place(root=trained.root, environment=trained.environment | {"REDIS_URL": "redis://127.0.0.1:1/0"}, webhook=trained.webhook)
    job_id = place.scoring("score", table, "--model", "v1", "--no-wait", code=6).stderr.split()[1]
    assert trained.scoring_json("jobs", "show", job_id, "--follow")["facts"]["scored"] == "20"
    assert json.loads((hostile / "outcome.json").read_text())["state"] == "failed"
    for name in ("00000000-NO-ID", "0"):
        (marks / name).unlink()
    wait_until(lambda: not (marks / "00000000-hostile").exists(), what="the end of the hostile job")
    shutil.rmtree(hostile)


def _read(file: Path) -> bytes | None:
    return file.read_bytes() if file.exists() else None
