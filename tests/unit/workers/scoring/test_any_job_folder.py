"""Whatever is in a job's folder or in a message, no task dies of it: the job goes on and ends right, or fails with a sentence.

The tasks are the real ones with a real server for leases and messages; the test is their worker. For the long search:

    pytest --hypothesis-profile=long --timeout=0 tests/unit/workers/scoring/test_any_job_folder.py
"""

import base64
import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import redis
from hypothesis import example, given
from hypothesis import strategies as st

from model_store.library import ModelLibrary
from producers.cli.commands.jobs import _status_data
from producers.enqueue.deduplication import claim
from shared.bucket.local import LocalBucket
from shared.jobs.folder import JobFolder, inspect_job, list_jobs
from shared.queue import broker
from shared.queue.broker import make_app
from shared.queue.routes import GC, QUEUE_OF_TASK, QUEUES, SWEEP
from shared.settings import Settings
from tests.handmade import make_job, publish_handmade, row, run_job, text_at, write_table
from workers.recovery import sweep as recovery_sweep
from workers.scoring import planning, publishing
from workers.scoring.chunks import chunk, planned_chunks
from workers.tasks import context
from workers.tasks.policies.failure import JobFailedHereError

ROWS = 12


class Worker:
    """Takes messages off a real server and runs the real tasks, one after the other, until no job needs anything more."""

    def __init__(self, url: str, home: Path) -> None:
        self.settings = Settings(redis_url=url, home=home)
        self.client = redis.Redis.from_url(url)
        self.app = make_app(self.settings)
        self.app.set_current()
        for module in ("score", "train", "notify", "maintenance", "probe", "explain"):
            self.app.loader.import_task_module(f"workers.tasks.{module}")
        self.app.finalize()

    def run(self, task: str, *arguments: object, **keywords: object) -> None:
        """Runs one task as a worker process does; nothing may come out of it but a wish to be tried again."""
        with contextlib.suppress(JobFailedHereError):  # by which the dashboard sees that the job failed
            self.app.tasks[task].apply(args=arguments, kwargs=keywords, throw=True)

    def sweep(self, bucket: LocalBucket) -> int:
        """Sends what the sweep misses, and does all that is on the queues; returns how many messages there were."""
        idle = recovery_sweep.Traffic(waiting_since=lambda _: None, are_leased=lambda names: [False] * len(names))
        for missing in recovery_sweep.sweep(bucket, idle, recovery_sweep.Rules(grace=timedelta(0), deadline=timedelta(days=365_000))):
            broker.send(self.app, missing.task, missing.messages)
        return sum(1 for _ in self._messages())

    def _messages(self) -> Iterator[None]:
        while raw := next((raw for queue in QUEUES if (raw := self.client.rpop(queue))), None):
            message = json.loads(raw)
            arguments, _, _ = json.loads(base64.b64decode(message["body"]))
            self.run(message["headers"]["task"], *arguments)
            yield


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> LocalBucket:
    """A bucket with the hand-made release and a table."""
    bucket = LocalBucket(tmp_path_factory.mktemp("store"))
    publish_handmade(bucket)
    write_table(bucket, [row(number) for number in range(ROWS)])
    return bucket


@pytest.fixture(scope="module")
def worker(server, tmp_path_factory) -> Iterator[Worker]:
    worker = Worker(server, tmp_path_factory.mktemp("home"))
    worker.client.flushall()  # other tests left things on this server
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda _: None)  # nothing here is about a power failure
        patch.setattr(context, "settings", lambda: worker.settings)
        patch.setattr(context, "redis_client", lambda: worker.client)
        yield worker


@pytest.fixture(scope="module")
def expected(store) -> str:
    """The text of an undisturbed result."""
    return text_at(store, run_job(make_job(store, minute=59)).result)


# --- messages


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["job-1", "../x", 2**70, -1]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
messages = st.fixed_dictionaries(
    {"job_id": st.just("20261123t120000z-score-000000") | json_values},
    optional={
        "format": st.just(1) | json_values,
        "index": st.integers(0, 9) | json_values,
        "of": st.integers(1, 9) | json_values,
        "x": json_values,
    },
)


@given(
    st.sampled_from(sorted(set(QUEUE_OF_TASK) - {SWEEP, GC})),
    st.lists(json_values | messages, max_size=3),
    st.dictionaries(st.text(max_size=5), json_values, max_size=2),
)
def test_whatever_the_arguments_a_task_refuses_them_and_leaves_no_trace(worker, store, task, arguments, keywords):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(context, "bucket", lambda: store)
        before = sorted(path for path in store.root.rglob("*") if path.is_file())
        keywords.pop("message", None)
        worker.run(task, *arguments, **keywords)
        assert sorted(path for path in store.root.rglob("*") if path.is_file()) == before
        assert not any(worker.client.llen(queue) for queue in QUEUES)


# --- folders


FILES = (
    "job.json",
    "plan.json",
    "outcome.json",
    "stage.json",
    "manifest.json",
    "parts/0000001.json",
    "parts/0000001.csv.gz",
    "suspects/0000001.json",
)
odd_bytes = (
    st.binary(max_size=40) | json_values.map(lambda value: json.dumps(value).encode()) | st.sampled_from([b"", b"{}", b"[" * 30_000])
)


@st.composite
def damages(draw: Callable) -> tuple[str, Callable[[bytes | None], bytes]]:
    """A file and what is done to it: replaced, cut off, or one of its values changed for another."""
    name = draw(st.sampled_from(FILES))
    junk, cut, value, which = draw(odd_bytes), draw(st.floats(0, 1)), draw(json_values), draw(st.integers(0, 99))

    def replace(_: bytes | None) -> bytes:
        return junk

    def shorten(data: bytes | None) -> bytes:
        return (data or b"")[: int(len(data or b"") * cut)]

    def change(data: bytes | None) -> bytes:
        try:
            record = json.loads(data or b"{}")
        except ValueError:
            return junk
        at = record
        while isinstance(at, dict | list) and at:
            places = sorted(at) if isinstance(at, dict) else range(len(at))
            place = places[which % len(places)]
            if not isinstance(at[place], dict | list) or not at[place] or which % 3 == 0:
                at[place] = value
                break
            at = at[place]
        return json.dumps(record).encode()

    return name, draw(st.sampled_from([replace, shorten, change, change]))


@given(st.integers(0, 3), st.lists(damages(), min_size=1, max_size=2))
@example(1, [("plan.json", lambda data: data.replace(b'"job_id":"2026', b'"job_id":"2025'))])
@example(1, [("plan.json", lambda data: data.replace(b'"chunks":[[0,', b'"chunks":[[7,'))])
@example(2, [("parts/0000001.json", lambda data: data.replace(b'"rows_scored":5', b'"rows_scored":9'))])
@example(2, [("outcome.json", lambda _: b"half of it")])
@example(3, [("outcome.json", lambda _: b"")])
@example(0, [("stage.json", lambda _: b"\xff")])
@example(1, [("suspects/0000001.json", lambda _: b"{}")])
@example(1, [("suspects/0000001.json", lambda _: b'{"pending": [], "cleared": [[0, 2]]}')])
@example(1, [("suspects/0000001.json", lambda _: b'{"pending": [[0, 9]], "trying": [[-1, 2], [2, 3]]}')])
def test_a_damaged_folder_is_made_good_or_its_job_fails_with_a_sentence(worker, store, expected, stage, damaged):
    """``stage``: the job is 0 asked for, 1 planned, 2 scored but for one chunk, 3 finished, when its files are damaged."""
    with tempfile.TemporaryDirectory(dir=store.root.parent) as root, pytest.MonkeyPatch.context() as patch:
        bucket = LocalBucket(Path(root))
        for name in ("model", "data"):
            (bucket.root / name).mkdir()
        for file in store.files("data/predict/input/2026/11/23"):
            bucket.write(file.path, store.read(file.path) or b"")
        for look in ("place", "_reached"):
            own, of_store = getattr(bucket, look), getattr(store, look)
            patch.setattr(bucket, look, lambda path, own=own, of_store=of_store: (of_store if path.startswith("model/") else own)(path))
        patch.setattr(context, "bucket", lambda: bucket)
        planned_chunks.read_plan_once.cache_clear()
        worker.client.flushall()
        folder, other = make_job(bucket, chunk_rows=5), make_job(bucket, minute=1, chunk_rows=5)
        bring_to(folder, stage)
        for name, change in damaged:
            bucket.write(folder.file(name), change(bucket.read(folder.file(name))))
            if name.startswith("suspects/"):
                worker.client.hset(f"scoring:attempts:{folder.job_id}", "1", "5")

        rounds = 0
        while worker.sweep(bucket) and rounds < 12:
            rounds += 1
            assert {_status_data(inspect_job(bucket, job_id))["state"] for job_id in list_jobs(bucket)}
        assert rounds < 12, "the sweep sends the same for ever"

        assert other.status().state == "done", "the other job is not touched by it"
        assert text_at(bucket, f"{other.outcome().result}/revisions/{other.job_id}") == expected
        outcome = folder.outcome()
        assert outcome.state in ("done", "failed")
        if outcome.state == "failed":
            assert "\n" not in outcome.reason
            assert outcome.next_step
        elif stage < 3:
            assert text_at(bucket, f"{outcome.result}/revisions/{folder.job_id}") == expected
        assert folder.has("notified.json")


def bring_to(folder: JobFolder, stage: int) -> None:
    if stage >= 1:
        plan = planning.plan_job(folder)
        for index in range(len(plan.chunks) - (stage == 2)) if stage >= 2 else ():
            chunk.score_chunk(folder, plan.chunk(index), ModelLibrary(folder.bucket, folder.bucket.root))
    if stage >= 3:
        publishing.finish_job(folder)


@given(st.binary(max_size=30) | st.text(max_size=10).map(str.encode))
def test_a_damaged_note_of_a_request_gives_it_a_job_of_its_own(tmp_path_factory, damaged):
    bucket = LocalBucket(tmp_path_factory.mktemp("bucket"))
    first = claim(bucket, "score-abc", {}, again=False)
    assert claim(bucket, "score-abc", {}, again=False) == first
    bucket.write("jobs/_requests/score-abc.1", damaged)
    second = claim(bucket, "score-abc", {}, again=False)
    assert JobFolder(bucket, second).job_id == second
    assert claim(bucket, "score-abc", {}, again=False) == second
