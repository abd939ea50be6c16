"""The one door onto the queue: a request is checked before anything is written, written before it is sent, and is one job."""

import base64
import errno
import json
import os
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime

import pytest
import redis

from producers.enqueue import fix as enqueue_fix
from producers.enqueue import sending, sources
from producers.enqueue.deduplication import MOST_DAMAGED, ScheduledRun
from producers.enqueue.score import enqueue_score
from producers.enqueue.train import enqueue_train
from shared.bucket.local import LocalBucket
from shared.errors import BucketError, ModelError, RequestError, ScoringError, TableError
from shared.jobs.folder import REQUESTS, JobFolder, Outcome, list_jobs, open_jobs
from shared.jobs.messages import ScoreJob, TrainJob
from shared.settings import Settings
from tests.handmade import PLACE, TABLE, make_job, plan, publish_handmade, replace_in_place, row, run_job, tree, write_table

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A bucket with a release and a table, to be copied."""
    bucket = LocalBucket(tmp_path_factory.mktemp("published"))
    publish_handmade(bucket)
    write_table(bucket, [row(number) for number in range(3)])
    return bucket


@pytest.fixture
def bucket(published, tmp_path) -> LocalBucket:
    bucket = LocalBucket(tmp_path / "bucket")
    for path, data in tree(published.root).items():
        bucket.write(path, data)
    return bucket


@pytest.fixture
def settings(redis_url) -> Settings:
    return Settings(redis_url=redis_url)


@pytest.fixture
def nobody(no_redis_url) -> Settings:
    """Settings with a Redis that does not answer."""
    return Settings(redis_url=no_redis_url)


def score(settings, bucket, table=TABLE, model="v1", **more):
    return enqueue_score(settings, bucket, table=str(table), model=model, **more)


def messages(settings, queue="control") -> list[tuple[str, dict]]:
    """Task and order of every message that waits, the oldest first."""
    found = []
    for text in reversed(redis.Redis.from_url(settings.broker_url).lrange(queue, 0, -1)):
        envelope = json.loads(text)
        [order], _, _ = json.loads(base64.b64decode(envelope["body"]))
        found.append((envelope["headers"]["task"], order))
    return found


def end(bucket, job_id, state):
    assert JobFolder(bucket, job_id).write_outcome(Outcome(state=state, at=datetime.now(UTC)))


# --- what a request becomes


def test_a_request_is_written_and_its_first_step_is_sent(settings, bucket):
    before = datetime.now(UTC)
    done = score(settings, bucket, chunk_rows=100, max_reject_share=0.5)
    job = JobFolder(bucket, done.job_id).job()
    assert job == ScoreJob(
        job_id=done.job_id, created=job.created, model="v1", table=TABLE, place=PLACE, chunk_rows=100, max_reject_share=0.5
    )
    assert before <= job.created <= datetime.now(UTC)
    assert (done.fresh, done.problem) == (True, None)
    assert open_jobs(bucket) == [done.job_id]
    assert messages(settings) == [("score.plan", {"format": 1, "job_id": done.job_id})]


def test_a_training_goes_to_its_own_queue(settings, bucket):
    done = enqueue_train(settings, bucket, definition="v2", train=TABLE, alias="champion")
    job = JobFolder(bucket, done.job_id).job()
    assert job == TrainJob(job_id=done.job_id, created=job.created, definition="v2", train=TABLE, alias="champion")
    assert messages(settings, "train") == [("train.fit", {"format": 1, "job_id": done.job_id})]


PARAMS = "parameters:\n  num_leaves: [15, 31]\n"


def train(settings, bucket, config, **more):
    return enqueue_train(settings, bucket, definition="v2", train=TABLE, config=str(config), **more)


def test_the_config_of_a_search_is_kept_in_the_job_wherever_it_lies(nobody, bucket, tmp_path):
    bucket.write("config/v2/params.yaml", PARAMS.encode())
    inside = train(nobody, bucket, "config/v2/params.yaml")
    here = tmp_path / "other.yaml"
    here.write_text(PARAMS.replace("31", "63"))
    outside = train(nobody, bucket, here)
    for done, text in ((inside, PARAMS), (outside, here.read_text())):
        folder = JobFolder(bucket, done.job_id)
        assert folder.job().config == folder.file("params.yaml")
        assert bucket.read(folder.file("params.yaml")).decode() == text
    # the same text is the same request, and what is written later is another one
    bucket.write("config/v3/params.yaml", PARAMS.encode())
    assert train(nobody, bucket, "config/v3/params.yaml").job_id == inside.job_id
    bucket.write("config/v2/params.yaml", b"parameters:\n  num_leaves: [7]\n")
    assert train(nobody, bucket, "config/v2/params.yaml").job_id not in (inside.job_id, outside.job_id)
    assert enqueue_train(nobody, bucket, definition="v2", train=TABLE).job_id != inside.job_id


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ("config/none.yaml", "there is no config config/none.yaml, neither in the bucket .* nor on this machine"),
        ("../none.yaml", "there is no config ../none.yaml"),
        ("/", "the config '/' cannot be read"),
        ("", "the config '' cannot be read|there is no config"),
        ("a\0b", "cannot be read|there is no config"),
        ("config/bad.yaml", "the config config/bad.yaml cannot be used: it has the unknown entry 'fold'"),
        ("config/empty.yaml", "cannot be used: it has no parameters: name below parameters what to try"),
        ("config/large.yaml", "config/large.yaml asks for 1,000 candidates, more than the 500 that SCORING_MAX_CANDIDATES allows"),
    ],
)
def test_a_config_that_cannot_be_used_is_refused_before_anything_is_written(nobody, bucket, config, sentence):
    bucket.write("config/bad.yaml", b"fold: 3\nparameters:\n  a: [1]\n")
    bucket.write("config/empty.yaml", b"folds: 3\n")
    bucket.write("config/large.yaml", f"parameters:\n  a: {list(range(1000))}\n".encode())
    with pytest.raises(RequestError, match=sentence):
        train(nobody, bucket, config)
    assert not list(list_jobs(bucket))
    assert open_jobs(bucket) == []


def test_job_ids_sort_by_the_time_of_the_request(settings, bucket):
    ids = [score(settings, bucket, chunk_rows=rows).job_id for rows in range(1, 20)]
    assert ids == sorted(ids)
    assert list(list_jobs(bucket)) == ids[::-1]
    assert all(re.fullmatch(r"\d{8}t\d{9}z-score-[0-9a-f]{6}", job_id) for job_id in ids)


def test_without_redis_the_job_is_written_and_the_problem_shown_with_what_to_do(nobody, bucket):
    done = score(nobody, bucket)
    assert done.fresh
    assert re.match(r"Redis at redis://127.0.0.1:\d+/0 does not take messages: .*refused", done.problem.message)
    assert "scoring up" in done.problem.next_step
    assert JobFolder(bucket, done.job_id).job().job_id == done.job_id
    assert open_jobs(bucket) == [done.job_id]


def test_a_password_of_redis_is_not_reported(bucket):
    done = score(Settings(redis_url="redis://:very-secret@127.0.0.1:1/0"), bucket)
    assert "very-secret" not in str(done.problem)


# --- the same request


def test_the_same_request_is_the_same_job_and_is_sent_once(settings, bucket):
    first, second = score(settings, bucket), score(settings, bucket)
    assert first.job_id == second.job_id
    assert (first.fresh, second.fresh) == (True, False)
    end(bucket, first.job_id, "done")
    assert score(settings, bucket).job_id == first.job_id
    assert score(settings, bucket, model="v1@latest").job_id != first.job_id
    assert [order["job_id"] for _, order in messages(settings)].count(first.job_id) == 1


@pytest.mark.parametrize("more", [{"chunk_rows": 7}, {"max_reject_share": 0.2}, {"table": f"{TABLE}.csv"}, {"model": "v1@latest"}])
def test_another_request_is_another_job(nobody, bucket, more):
    bucket.write(f"{TABLE}.csv", bucket.read(TABLE))
    assert score(nobody, bucket).job_id != score(nobody, bucket, **more).job_id


def test_a_changed_table_or_a_newer_release_makes_another_job(nobody, bucket):
    first = score(nobody, bucket)
    write_table(bucket, [row(number) for number in range(4)])
    second = score(nobody, bucket)
    publish_handmade(bucket, made=datetime(2026, 11, 24, tzinfo=UTC))
    third = score(nobody, bucket)
    assert len({first.job_id, second.job_id, third.job_id}) == 3


@pytest.mark.parametrize("way", ["cp", "rsync"])
def test_a_table_that_is_replaced_by_one_of_the_same_size_and_time_is_another_request(nobody, bucket, way):
    first = score(nobody, bucket)
    assert run_job(JobFolder(bucket, first.job_id)).state == "done"
    assert score(nobody, bucket).job_id == first.job_id
    replace_in_place(bucket, TABLE, b"1002", b"1999", way=way)
    second = score(nobody, bucket)
    assert (second.fresh, second.job_id != first.job_id) == (True, True)
    assert run_job(JobFolder(bucket, second.job_id)).state == "done"
    again = score(nobody, bucket)
    assert (again.job_id, again.fresh) == (second.job_id, False)


def test_a_training_table_or_fixed_rows_that_are_replaced_by_a_file_of_the_same_size_and_time_make_another_job(nobody, bucket, earlier):
    rows = write_table(bucket, [row(1)], path="data/corrected.csv")
    for ask in (lambda: enqueue_train(nobody, bucket, definition="v1", train=rows), lambda: fix(nobody, bucket, earlier, rows)):
        first = ask()
        end(bucket, first.job_id, "done")
        assert ask().job_id == first.job_id
        replace_in_place(bucket, rows, b"1001", b"1999", way="cp")
        second = ask()
        assert (second.fresh, ask().job_id) == (True, second.job_id)
        replace_in_place(bucket, rows, b"1999", b"1001", way="cp")


def test_a_job_that_does_not_know_which_version_of_its_table_it_found_is_the_same_request(nobody, bucket):
    first = score(nobody, bucket)
    assert run_job(JobFolder(bucket, first.job_id)).state == "done"
    replace_in_place(bucket, TABLE, b"1002", b"1999", way="cp")
    for text in (b"", b"[]", b"{"):
        bucket.write(f"jobs/{first.job_id}/versions.json", text)
        assert score(nobody, bucket).job_id == first.job_id
    bucket.delete(f"jobs/{first.job_id}/versions.json")
    assert score(nobody, bucket).job_id == first.job_id


def test_a_run_of_the_schedule_is_the_same_whatever_its_table_is_by_now(nobody, bucket):
    run = ScheduledRun(kind="score", key="daily-20261123t0430")
    first = score(nobody, bucket, run=run)
    assert run_job(JobFolder(bucket, first.job_id)).state == "done"
    replace_in_place(bucket, TABLE, b"1002", b"1999", way="cp")
    assert score(nobody, bucket, run=run).job_id == first.job_id


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_a_request_that_ended_badly_is_a_new_job_when_it_is_made_again(nobody, bucket, state):
    jobs = []
    for _ in range(3):
        done = score(nobody, bucket)
        assert done.fresh
        assert score(nobody, bucket).job_id == done.job_id
        end(bucket, done.job_id, state)
        jobs.append(done.job_id)
    assert len(set(jobs)) == 3


def test_again_runs_once_more_what_is_done_and_not_what_runs(nobody, bucket):
    first = score(nobody, bucket)
    assert score(nobody, bucket, again=True).job_id == first.job_id
    end(bucket, first.job_id, "done")
    second = score(nobody, bucket, again=True)
    assert second.fresh
    assert second.job_id != first.job_id
    assert score(nobody, bucket).job_id == first.job_id


def test_the_newest_of_many_runs_is_found_without_a_look_at_each(settings, bucket, monkeypatch):
    runs = []
    for _ in range(40):
        runs.append(score(settings, bucket, again=True).job_id)
        end(bucket, runs[-1], "done")
    assert len(set(runs)) == 40
    looked = []
    for name in ("exists", "create"):
        method = getattr(bucket, name)
        monkeypatch.setattr(bucket, name, lambda path, *rest, method=method: looked.append(path) or method(path, *rest))
    newest = score(settings, bucket, again=True)
    assert newest.fresh
    assert sum("_requests" in path for path in looked) < 20
    assert score(settings, bucket, again=True).job_id == newest.job_id


def test_a_run_whose_name_makes_no_job_id_is_refused_and_nothing_is_written(nobody, bucket):
    with pytest.raises(RequestError, match="is not the id of a job"):
        score(nobody, bucket, run=ScheduledRun(kind="score", key="daily -20261123t0430"))
    assert not bucket.folders("jobs")


def test_a_damaged_request_is_passed_over_and_very_many_are_refused(nobody, bucket):
    first = score(nobody, bucket).job_id
    [request] = bucket.files(REQUESTS)
    digest = request.path.removesuffix(".1")
    bucket.write(request.path, b"")
    second = score(nobody, bucket)
    assert second.fresh
    assert second.job_id != first
    for number in range(1, MOST_DAMAGED + 2):
        bucket.write(f"{digest}.{number}", b"no id")
    with pytest.raises(RequestError, match=rf"{MOST_DAMAGED + 1} files like .*\.{MOST_DAMAGED + 1} in the bucket name no job"):
        score(nobody, bucket)
    assert len(bucket.files(REQUESTS)) == MOST_DAMAGED + 1


def test_many_at_the_same_moment_are_one_job_and_one_message(settings, bucket, tmp_path):
    local = tmp_path / "local.csv"
    local.write_bytes(bucket.read(TABLE))
    gate = threading.Barrier(8)

    def ask(_):
        gate.wait()
        return score(settings, bucket, table=local)

    with ThreadPoolExecutor(8) as threads:
        done = list(threads.map(ask, range(8)))
    assert len({one.job_id for one in done}) == 1
    assert [one.fresh for one in done].count(True) == 1
    assert messages(settings) == [("score.plan", {"format": 1, "job_id": done[0].job_id})]


def test_an_enqueue_that_died_before_the_job_was_written_is_completed_by_the_next(nobody, bucket, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(JobFolder, "create", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            score(nobody, bucket)
    assert not list(list_jobs(bucket))
    done = score(nobody, bucket)
    assert done.fresh
    assert list(list_jobs(bucket)) == [done.job_id]


# --- where the result belongs


@pytest.mark.parametrize(
    ("table", "place"),
    [
        ("data/predict/input/2026/11/23", "2026/11/23"),
        ("data/predict/input/2026/11/23/", "2026/11/23"),
        ("data/predict/input/2026/11/23/prediction_input.csv", "2026/11/23"),
        ("data/predict/input/shop/2026/11/23/prediction_input.csv", "shop/2026/11/23"),
        ("data/predict/input/loose.csv", "2026/12/24/loose"),
        ("data/train/2026/11/23/train.csv", "2026/12/24/train"),
        ("data/train/2026/11/23", "2026/12/24/23"),
        ("elsewhere/keywords.csv", "2026/12/24/keywords"),
        ("reports/May.XLSX", "2026/12/24/May"),
    ],
)
def test_a_dated_input_keeps_its_place_and_any_other_table_gets_day_and_name(nobody, bucket, table, place):
    path = table if table.lower().endswith((".csv", ".xlsx")) else f"{table.rstrip('/')}/prediction_input.csv"
    bucket.write(path, bucket.read(TABLE))
    done = score(nobody, bucket, table=table, day=date(2026, 12, 24))
    assert JobFolder(bucket, done.job_id).job().place == place


def test_the_day_is_today_unless_it_is_named(nobody, bucket):
    bucket.write("keywords.csv", bucket.read(TABLE))
    days = {f"{datetime.now(UTC):%Y/%m/%d}/keywords"}
    place = JobFolder(bucket, score(nobody, bucket, table="keywords.csv").job_id).job().place
    assert place in days | {f"{datetime.now(UTC):%Y/%m/%d}/keywords"}


# --- tables of this machine


def test_a_table_of_this_machine_is_brought_along(nobody, bucket, tmp_path):
    local = tmp_path / "my keywords (ü).CSV"
    local.write_bytes(bucket.read(TABLE))
    done = score(nobody, bucket, table=local, day=date(2026, 12, 24))
    job = JobFolder(bucket, done.job_id).job()
    assert job.table == f"jobs/{done.job_id}/input/my_keywords__ü_.CSV"
    assert bucket.read(job.table) == local.read_bytes()
    assert job.place == "2026/12/24/my_keywords__ü_"


def test_a_folder_of_this_machine_is_brought_along_without_what_is_no_table(nobody, bucket, tmp_path):
    folder = tmp_path / "week 31"
    folder.mkdir()
    for name in ("b.csv", "a.parquet", "notes.txt"):
        (folder / name).write_text(name)
    done = score(nobody, bucket, table=folder)
    job = JobFolder(bucket, done.job_id).job()
    assert job.table == f"jobs/{done.job_id}/input/week_31"
    assert [info.path.rpartition("/")[2] for info in bucket.files(job.table)] == ["a.parquet", "b.csv"]


def test_a_folder_whose_names_would_become_one_is_refused_and_not_shortened(nobody, bucket, tmp_path):
    folder = tmp_path / "twins"
    folder.mkdir()
    for name in ("a b.csv", "a_b.csv"):
        (folder / name).write_text(name)
    with pytest.raises(TableError, match=r"holds files whose names differ only in special characters. Rename them"):
        score(nobody, bucket, table=folder)
    assert not list(list_jobs(bucket))


def test_a_file_of_this_machine_that_may_hold_rows_and_a_pipe_are_refused_beside_a_table(nobody, bucket, tmp_path):
    folder = tmp_path / "week 31"
    (folder / "more").mkdir(parents=True)
    (folder / "a.csv").write_text("entity_id,device\n1,Computer\n")
    for name in ("b.txt", "more/b.xlsx", "c.log"):
        other = folder / name
        os.mkfifo(other) if name == "c.log" else other.write_text("entity_id,device\n2,Computer\n")
        with pytest.raises(TableError, match=f"holds the file {name}, which is not read as a table"):
            score(nobody, bucket, table=folder)
        other.unlink()
    assert score(nobody, bucket, table=folder).fresh


def test_a_folder_below_that_may_not_be_read_is_named(nobody, bucket, tmp_path, monkeypatch):
    folder = tmp_path / "week 31"
    (folder / "more").mkdir(parents=True)
    (folder / "a.csv").write_text("entity_id,device\n1,Computer\n")
    look = sources._local_names

    def locked(path):
        if path.name == "more":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return look(path)

    monkeypatch.setattr(sources, "_local_names", locked)
    with pytest.raises(TableError, match=r"more cannot be read: Permission denied"):
        score(nobody, bucket, table=folder)


def test_two_tables_of_the_same_name_stay_two(nobody, bucket, tmp_path):
    for week in ("week30", "week31"):
        (tmp_path / week).mkdir()
        (tmp_path / week / "table.csv").write_text(week)
    train, judged = (str(tmp_path / week / "table.csv") for week in ("week30", "week31"))
    done = enqueue_train(nobody, bucket, definition="v1", train=train, eval_table=judged)
    job = JobFolder(bucket, done.job_id).job()
    assert (bucket.read(job.train), bucket.read(job.eval)) == (b"week30", b"week31")


def test_a_training_that_promotes_is_another_request_and_says_so(nobody, bucket):
    plain, promoting = (enqueue_train(nobody, bucket, definition="v1", train=TABLE, promote=promote) for promote in ("never", "always"))
    assert plain.job_id != promoting.job_id
    assert enqueue_train(nobody, bucket, definition="v1", train=TABLE).job_id == plain.job_id
    assert JobFolder(bucket, promoting.job_id).job().promote == "always"


def test_a_training_that_is_forced_is_another_request_and_says_so(nobody, bucket):
    plain, forced = (enqueue_train(nobody, bucket, definition="v1", train=TABLE, force=force) for force in (False, True))
    assert plain.job_id != forced.job_id
    assert JobFolder(bucket, forced.job_id).job().force
    assert b"force" not in (bucket.read(f"jobs/{plain.job_id}/job.json") or b""), "workers of an earlier version know no such field"


def test_the_gate_is_not_asked_where_there_is_no_later_table(nobody, bucket):
    bucket.write("data/train/2026/11/23/train.csv", b"train")
    for tables in ({"train": TABLE}, {}):
        with pytest.raises(RequestError, match="cannot be promoted for figures on"):
            enqueue_train(nobody, bucket, definition="v1", promote="auto", **tables)
    assert bucket.folders("jobs") == []
    bucket.write("data/train/2026/11/23/eval.csv", b"eval")
    assert JobFolder(bucket, enqueue_train(nobody, bucket, definition="v1", promote="auto").job_id).job().promote == "auto"


def test_the_bucket_comes_before_this_machine(nobody, bucket, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/predict/input/2026/11/23").mkdir(parents=True)
    (tmp_path / TABLE).write_text("another")
    done = score(nobody, bucket, table=TABLE)
    assert JobFolder(bucket, done.job_id).job().table == TABLE


def test_without_a_table_the_newest_training_tables_are_taken(nobody, bucket):
    for day in ("2025/12/31", "2026/11/09", "2026/11/10", "2026/9/30/x", "old/11/30"):
        bucket.write(f"data/train/{day}/train.csv.gz", b"x")
    bucket.write("data/train/2026/11/10/eval.parquet", b"x")
    bucket.write("data/train/2026/11/30/notes.txt", b"x")
    done = enqueue_train(nobody, bucket, definition="v1")
    job = JobFolder(bucket, done.job_id).job()
    assert (job.train, job.eval) == ("data/train/2026/11/10/train.csv.gz", "data/train/2026/11/10/eval.parquet")


# --- what is refused leaves no trace


@pytest.mark.parametrize(
    ("wish", "kind", "sentence"),
    [
        ({"chunk_rows": 0}, RequestError, "^--chunk-rows must be a whole number from 1 to 1,000,000,000, not 0"),
        ({"chunk_rows": -5}, RequestError, "--chunk-rows"),
        ({"chunk_rows": 10**12}, RequestError, "--chunk-rows"),
        ({"max_reject_share": 2.0}, RequestError, "^--max-reject-share must be a number from 0 to 1, not 2.0"),
        ({"max_rejects": -1}, RequestError, "^--max-rejects must be a whole number from 0 to 1,000,000,000,000, not -1"),
        ({"max_reject_share": -0.1}, RequestError, "--max-reject-share"),
        ({"max_reject_share": float("nan")}, RequestError, "--max-reject-share"),
        ({"model": "v9"}, ModelError, "no release or alias 'v9' in the bucket .*; there are: v1. Name one .*: scoring models list$"),
        ({"model": "v1@20200101T000000Z-abcdef"}, ModelError, "no release or alias .*; of v1 there are: v1@20261123T120000Z-"),
        (
            {"model": "v1@older"},
            ModelError,
            "; of v1 there are: v1@20261123T120000Z-.*scoring models list, or .* scoring train v1 --again$",
        ),
        ({"model": "aliases"}, ModelError, "; there are: v1. Name one .*: scoring models list$"),
        ({"model": ""}, RequestError, "^--model must be the name of a definition, a release or an alias, like v1, .*, not ''"),
        ({"model": "../v1"}, ScoringError, "."),
        ({"model": "v1\n"}, ScoringError, "."),
        ({"model": "x" * 300}, ScoringError, "."),
        ({"table": "nowhere.csv"}, TableError, "no table nowhere.csv, neither in the bucket .* nor on this machine"),
        ({"table": ""}, RequestError, "'' is not the name of a table. Name a file or folder"),
        ({"table": "s3://b/data/x.csv"}, RequestError, "s3://b/data/x.csv is an address, .* the bucket /.*BUCKET_URL"),
        ({"table": "gs://b/data"}, RequestError, "gs://b/data is an address"),
        ({"table": " \t"}, RequestError, "is not the name of a table"),
        ({"table": "/"}, RequestError, "'/' is not the name of a table"),
        ({"table": "../../etc"}, ScoringError, "."),
        ({"table": "model"}, TableError, "no table model, neither"),
        ({"table": "/etc/passwd"}, TableError, "/etc/passwd is not a table. Give a file that ends in .csv, .csv.gz"),
        ({"table": "/etc/ssl"}, TableError, "the folder /etc/ssl holds no table"),
        ({"table": "x" * 5000}, TableError, "cannot be read: File name too long|no table x"),
        ({"table": "a\nb.csv"}, TableError, "no table"),
        ({"table": "nul\0.csv"}, ScoringError, "."),
    ],
)
def test_a_request_with_a_wrong_field_is_refused_in_a_sentence_and_leaves_no_trace(nobody, bucket, wish, kind, sentence):
    before = tree(bucket.root)
    with pytest.raises(kind, match=sentence) as raised:
        score(nobody, bucket, **wish)
    assert raised.value.next_step
    assert raised.value.exit_code in (2, 3, 4)
    assert tree(bucket.root) == before
    assert not bucket.folders("jobs")


def test_a_definition_that_was_never_trained_is_distinguished_from_one_that_is_not_there(bucket, tmp_path):
    settings = Settings(definitions=tmp_path / "definitions")
    (tmp_path / "definitions" / "old1").mkdir(parents=True)
    (tmp_path / "definitions" / "old1" / "model.py").touch()
    for name in ("old1", "v2"):
        with pytest.raises(ModelError, match=rf"^the definition {name} has no release yet\. Train it first: scoring train {name}$"):
            score(settings, bucket, model=name)
    for name in ("old2", "old1@latest"):
        with pytest.raises(ModelError, match=r"^there is no release or alias"):
            score(settings, bucket, model=name)
    assert not list(list_jobs(bucket))


@pytest.mark.parametrize("wish", [{"definition": "../v1"}, {"definition": ""}, {"alias": "bad alias"}, {"alias": "../x"}, {"alias": ""}])
def test_a_training_with_a_wrong_field_leaves_no_trace(nobody, bucket, wish):
    with pytest.raises(RequestError, match=f"^(the |--){next(iter(wish))} must be a name of up to 64 letters, digits, - and _, "):
        enqueue_train(nobody, bucket, **({"definition": "v1", "train": TABLE} | wish))
    assert not bucket.folders("jobs")


def test_a_training_that_contradicts_itself_is_refused_in_a_plain_sentence(nobody, bucket):
    with pytest.raises(RequestError) as raised:
        enqueue_train(nobody, bucket, definition="v1", train=TABLE, eval_table=TABLE, alias="champion", promote="auto")
    sentence = "champion is set either in any case (alias) or by the gate (promote), not by both"
    assert raised.value.message == f"invalid request: {sentence}"


def test_a_training_in_an_empty_bucket_shows_how_to_get_a_table(nobody, tmp_path):
    with pytest.raises(TableError, match=r"no table data/train/YYYY/MM/DD/train\.csv\.gz in the bucket .*scoring sample"):
        enqueue_train(nobody, LocalBucket(tmp_path / "nothing"), definition="v1")
    assert not (tmp_path / "nothing").exists()


def test_a_link_that_leads_out_of_the_bucket_is_no_table(nobody, bucket, tmp_path):
    (tmp_path / "outside.csv").write_bytes(bucket.read(TABLE))
    (bucket.root / "link.csv").symlink_to(tmp_path / "outside.csv")
    (bucket.root / "folder").symlink_to(tmp_path)
    for table in ("link.csv", "folder"):
        with pytest.raises(TableError, match=f"there is no table {table}"):
            score(nobody, bucket, table=table)
    assert not bucket.folders("jobs")


def test_a_folder_named_like_a_table_is_refused(nobody, bucket, tmp_path):
    (tmp_path / "outer" / "inner.csv").mkdir(parents=True)
    with pytest.raises(TableError, match=r"inner.csv cannot be read: Is a directory"):
        score(nobody, bucket, table=tmp_path / "outer")


def test_a_bucket_that_cannot_be_written_leaves_no_job(nobody, bucket, tmp_path):
    local = tmp_path / "t.csv"
    local.write_bytes(bucket.read(TABLE))
    below_a_file = LocalBucket(local / "bucket")
    with pytest.raises(BucketError, match=r"jobs/_requests/train-\S+ in the bucket could not be written"):
        enqueue_train(nobody, below_a_file, definition="v1", train=str(local))


# --- cancel and resume


def test_cancel_and_resume_send_what_comes_next(settings, bucket):
    job_id = score(settings, bucket).job_id
    assert sending.cancel(settings, bucket, job_id) == "cancelled"
    assert sending.cancel(settings, bucket, job_id) == "cancelled"
    again = sending.resume(settings, bucket, job_id)
    assert (again.job_id, again.problem) == (job_id, None)
    assert [task for task, _ in messages(settings)] == ["score.plan", "notify", "notify", "score.plan"]
    assert JobFolder(bucket, job_id).outcome() is None
    assert open_jobs(bucket) == [job_id]


def test_cancel_works_without_redis(nobody, bucket):
    job_id = score(nobody, bucket).job_id
    assert sending.cancel(nobody, bucket, job_id) == "cancelled"


@pytest.mark.parametrize("order", [sending.cancel, sending.resume])
@pytest.mark.parametrize("job_id", ["no-such-job", "../../etc", "_open", "", "a/b", "UPPER", "x" * 200, "a\nb"])
def test_an_unknown_job_is_refused_and_nothing_is_written(nobody, bucket, order, job_id):
    before = tree(bucket.root)
    with pytest.raises(RequestError) as raised:
        order(nobody, bucket, job_id)
    assert "scoring jobs list" in raised.value.next_step
    assert tree(bucket.root) == before


# --- fixes


@pytest.fixture
def earlier(bucket) -> JobFolder:
    """A job that failed after its table was cut."""
    folder = make_job(bucket)
    plan(folder)
    folder.fail(TableError("too many rejects"))
    return folder


def fix(settings, bucket, folder, rows, **more):
    return enqueue_fix.enqueue_fix(settings, bucket, job_id=folder.job_id, rows=str(rows), **more)


def test_a_fix_takes_table_model_and_place_of_the_job_and_brings_its_rows_along(settings, bucket, earlier, tmp_path):
    corrected = tmp_path / "corrected.csv"
    corrected.write_text("line,entity_id\n2,1\n")
    done = fix(settings, bucket, earlier, corrected, max_rejects=3)
    job = JobFolder(bucket, done.job_id).job()
    assert (job.table, job.model, job.place) == (TABLE, "v1", PLACE)
    assert (job.fixes, job.max_rejects) == (earlier.job_id, 3)
    assert bucket.read(job.fixed_rows) == corrected.read_bytes()
    assert messages(settings)[-1] == ("score.plan", {"format": 1, "job_id": done.job_id})


def test_a_fix_may_have_the_rejects_that_its_job_might_have(settings, bucket, tmp_path):
    def limits(folder, **more):
        job = JobFolder(bucket, fix(settings, bucket, folder, corrected, **more).job_id).job()
        return job.max_reject_share, job.max_rejects

    corrected = tmp_path / "corrected.csv"
    corrected.write_text("reject_line,entity_id\n2,1\n")
    strict, lenient, accepted = (
        make_job(bucket),
        make_job(bucket, minute=1, max_reject_share=0.5, max_rejects=7),
        make_job(bucket, minute=2),
    )
    for folder in (strict, lenient, accepted):
        plan(folder)
        folder.fail(TableError("too many rejects"))
    accepted.reopen(accept_rejects=True)
    accepted.fail(TableError("something else"))
    assert [limits(folder) for folder in (strict, lenient, accepted)] == [(0.01, None), (0.5, 7), (1.0, None)]
    assert limits(lenient, max_rejects=3) == (0.5, 3)
    assert limits(accepted, max_reject_share=0.0) == (0.0, None)


def test_the_same_fix_is_one_job_and_other_rows_are_another(settings, bucket, earlier, tmp_path):
    corrected = tmp_path / "corrected.csv"
    corrected.write_text("line,entity_id\n2,1\n")
    first, second = fix(settings, bucket, earlier, corrected), fix(settings, bucket, earlier, corrected)
    assert (first.job_id, first.fresh, second.fresh) == (second.job_id, True, False)
    corrected.write_text("line,entity_id\n2,7\n")
    assert fix(settings, bucket, earlier, corrected).job_id != first.job_id


def test_a_fix_of_what_cannot_be_fixed_is_refused_and_leaves_no_job(settings, bucket, tmp_path):
    corrected = tmp_path / "corrected.csv"
    corrected.write_text("line,entity_id\n2,1\n")
    running, cancelled = make_job(bucket), make_job(bucket, minute=1)
    cancelled.cancel()
    before = sorted(list_jobs(bucket))
    for folder, sentence in ((running, "has not ended"), (cancelled, "nothing of job .* was scored")):
        with pytest.raises(RequestError, match=sentence) as refused:
            fix(settings, bucket, folder, corrected)
        assert refused.value.next_step
    train = JobFolder(bucket, "20261123t120000z-train-abc")
    train.create(TrainJob(job_id=train.job_id, created=datetime.now(UTC), definition="v1", train="data/train.csv"))
    before.append(train.job_id)
    with pytest.raises(RequestError, match="is a train job") as refused:
        fix(settings, bucket, train, corrected)
    assert refused.value.next_step == "List results with: scoring results list"
    with pytest.raises(RequestError, match="there is no job 20200101t000000z-score-x"):
        enqueue_fix.enqueue_fix(settings, bucket, job_id="20200101t000000z-score-x", rows=str(corrected))
    assert sorted(list_jobs(bucket)) == sorted(before)


def test_fixed_rows_that_are_not_there_or_no_csv_are_refused(settings, bucket, earlier, tmp_path):
    with pytest.raises(TableError, match="there is no table"):
        fix(settings, bucket, earlier, tmp_path / "nothing.csv")
    (tmp_path / "rows.parquet").write_bytes(b"x")
    with pytest.raises(RequestError, match="is not a file of fixed rows"):
        fix(settings, bucket, earlier, tmp_path / "rows.parquet")


def test_a_limit_by_number_makes_another_request(settings, bucket):
    plain, limited = score(settings, bucket), score(settings, bucket, max_rejects=5)
    assert plain.job_id != limited.job_id
    assert JobFolder(bucket, limited.job_id).job().max_rejects == 5


def test_rejects_are_accepted_for_a_score_job_alone(settings, bucket, earlier):
    sending.resume(settings, bucket, earlier.job_id, accept_rejects=True)
    assert earlier.has("rejects-accepted")
    assert earlier.outcome() is None
    train = TrainJob(job_id="20261123t120000z-train-abc", created=datetime.now(UTC), definition="v1", train="data/train.csv")
    folder = JobFolder(bucket, train.job_id)
    folder.create(train)
    folder.cancel()
    with pytest.raises(RequestError, match="trains and has no rejects to accept"):
        sending.resume(settings, bucket, train.job_id, accept_rejects=True)
    assert folder.outcome().state == "cancelled"


def test_a_fix_of_an_older_job_does_not_take_the_place_of_a_newer_result(settings, bucket, tmp_path):
    older, newer = (make_job(bucket, minute=minute, max_reject_share=0.5) for minute in (0, 1))
    write_table(bucket, [row(0), row(1), "x"])
    for folder in (older, newer):
        run_job(folder)
    corrected = tmp_path / "my rows.csv"
    corrected.write_text("reject_line,entity_id\n2,1\n")
    newest = f"holds a newer result than that of job {older.job_id}: that of job {newer.job_id}"
    with pytest.raises(RequestError, match=newest) as refused:
        fix(settings, bucket, older, corrected)
    assert refused.value.next_step.startswith(f"Fix that one instead: scoring score '{corrected}' --fix {newer.job_id}; ")
    assert refused.value.next_step.endswith(f"rows of its own: scoring results rejects {newer.job_id} --rows FILE")
    assert fix(settings, bucket, newer, corrected).fresh


def test_a_fix_of_an_older_job_is_reported_when_the_newer_result_has_no_rejects(settings, bucket):
    older, newer = make_job(bucket), make_job(bucket, minute=1)
    for folder in (older, newer):
        run_job(folder)
    with pytest.raises(RequestError, match="in which nothing is left to fix") as refused:
        fix(settings, bucket, older, "corrected.csv")
    assert refused.value.next_step == f"See it with: scoring results show {newer.job_id}"


# --- intervals


def test_an_interval_is_refused_where_the_release_gives_none_and_nothing_is_written(settings, bucket):
    before = tree(bucket.root)
    with pytest.raises(ModelError, match="gives no interval: its definition has no predict_interval") as raised:
        score(settings, bucket, interval=True)
    assert raised.value.next_step.startswith("Leave out --interval")
    assert tree(bucket.root) == before


def test_a_request_for_intervals_is_another_one_than_that_without(settings, bucket):
    [release] = bucket.folders("model/v1")
    path = f"model/v1/{release}/manifest.json"
    bucket.write(path, json.dumps(json.loads(bucket.read(path)) | {"interval": True}).encode())
    plain, bounded, again = (score(settings, bucket, interval=interval) for interval in (False, True, True))
    assert plain.job_id != bounded.job_id == again.job_id
    assert [JobFolder(bucket, one.job_id).score_job().interval for one in (plain, bounded)] == [False, True]
    assert b"interval" not in bucket.read(JobFolder(bucket, plain.job_id).file("job.json"))


@pytest.mark.parametrize("name", ["revisions", "manifest.json"])
def test_a_table_in_a_folder_that_is_named_like_what_lies_at_a_place_is_refused(settings, bucket, name):
    table = f"data/predict/input/{PLACE}/{name}/zzzz/prediction_input.csv"
    write_table(bucket, [row(0)], table)
    with pytest.raises(RequestError, match=f"holds {name}, a name that is reserved at the place of a result") as caught:
        score(settings, bucket, table=table)
    assert "Rename that folder" in caught.value.next_step
    assert list(list_jobs(bucket)) == []
