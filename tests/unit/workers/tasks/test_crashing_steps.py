"""A step that kills its process, or never ends, is tried three times; then its job fails and says which step or release it was."""

import gzip
import os
import signal
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from shared.bucket.local import LocalBucket
from shared.errors import ModelError
from shared.jobs.files import JobFile
from shared.jobs.folder import JobFolder, open_jobs
from shared.jobs.messages import CandidateMessage, ChunkMessage, StepMessage
from shared.queue import broker, routes
from shared.queue.client import connect_to_redis
from shared.queue.state import leases
from shared.queue.state.crashing_releases import CrashingRelease, read_crashing_releases, record_crashing_release
from shared.settings import Settings
from tests.handmade import make_job, plan, publish_handmade, row, run_job, score_chunks, text_at, write_table
from tests.trainings import GUESSING, add_definition, make_training, train, write_training_tables
from workers.notices import delivery
from workers.recovery import attempts
from workers.recovery.attempts import MAX_CRASHES, counted
from workers.recovery.crash_detection import exit_code_in
from workers.recovery.shutdown import uncount_running_steps
from workers.recovery.sweep import Missing
from workers.scoring import plan as job_plan
from workers.scoring import planning, publishing
from workers.scoring.chunks import chunk, planned_chunks
from workers.tasks import context, notify, runner, score, sweeping
from workers.tasks import train as tasks_train
from workers.tasks.chunks import loading
from workers.training import releasing
from workers.training.search import steps

pytestmark = pytest.mark.server

SECONDS = 20
"""A child of a test that takes longer hangs."""


@pytest.fixture
def bucket(tmp_path):
    made = LocalBucket(tmp_path / "bucket")
    publish_handmade(made)
    write_table(made, [row(number) for number in range(40)])
    return made


@pytest.fixture
def client(redis_url):
    return connect_to_redis(redis_url)


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "definitions").mkdir()
    return Settings(home=tmp_path / "home", definitions=tmp_path / "definitions", chunk_seconds=1)


@pytest.fixture(autouse=True)
def worker(bucket, client, settings, monkeypatch):
    """Lets this process and those it forks be a worker's, whose messages go to nobody."""
    monkeypatch.setattr(context, "bucket", lambda: bucket)
    monkeypatch.setattr(context, "redis_client", lambda: client)
    monkeypatch.setattr(context, "settings", lambda: settings)
    monkeypatch.setattr(broker, "send", lambda *_: None)
    monkeypatch.setattr(type(score.score_finish.app.amqp.queues), "consume_from", {routes.QUEUE_CONTROL: None})
    monkeypatch.setattr(loading, "_loaded", set())
    planned_chunks.read_plan_once.cache_clear()


def run(task, message) -> int:
    """Runs a step in a process of its own, as the pool does; the signal that killed it, or 0."""
    child = os.fork()
    if child == 0:
        signal.alarm(SECONDS)
        try:
            task(message.encode())
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGALRM, "it hangs"
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def run_until_it_ends(task, message, folder, most=12) -> int:
    """Gives the step out again and again until the job has ended; how often that killed a process."""
    deaths = 0
    while folder.outcome() is None:
        deaths += run(task, message) != 0
        assert deaths <= most, "it is begun for ever"
    return deaths


def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def whole(folder):
    return StepMessage(job_id=folder.job_id)


def first_chunk(folder):
    return ChunkMessage(job_id=folder.job_id, index=0, of=len(job_plan.read_plan(folder).chunks))


def check_verdict(folder, *words, exit_code=5):
    outcome = folder.outcome()
    assert outcome.state == "failed"
    for word in words:
        assert word in outcome.reason
    assert outcome.exit_code == exit_code
    assert f"scoring jobs resume {folder.job_id}" in outcome.next_step


# --- whole steps -----------------------------------------------------------------------------------------------------------------


@pytest.fixture(params=[routes.SCORE_PLAN, routes.SCORE_FINISH, routes.TRAIN_FIT])
def killing(request, bucket, monkeypatch):
    """A step that kills its process: the task, and a job that waits for it."""
    if request.param == routes.TRAIN_FIT:
        monkeypatch.setattr(releasing, "train_release", die)
        return tasks_train.train_fit, make_training(bucket)
    folder = make_job(bucket, chunk_rows=14)
    if request.param == routes.SCORE_PLAN:
        monkeypatch.setattr(planning, "plan_job", die)
        return score.score_plan, folder
    plan(folder)
    monkeypatch.setattr(publishing, "finish_job", die)
    return score.score_finish, folder


def test_a_step_that_kills_its_process_three_times_fails_its_job(killing):
    task, folder = killing
    assert run_until_it_ends(task, whole(folder), folder) == MAX_CRASHES
    check_verdict(folder, task.name, "killed its process 3 times in a row", "most likely memory", "GB, ")


def test_a_step_that_ends_its_process_by_itself_is_reported_with_its_exit_code(bucket, client, monkeypatch):
    folder = make_job(bucket)
    monkeypatch.setattr(planning, "plan_job", die)
    while folder.outcome() is None:
        if run(score.score_plan, whole(folder)):
            code = exit_code_in("Worker exited prematurely: exitcode 3 Job: 12.")
            attempts.record_crash(client, folder.job_id, code)  # as the worker's main process does
    check_verdict(folder, "ended its process with exit code 3, 3 times in a row")
    assert "memory" not in folder.outcome().reason + folder.outcome().next_step
    assert exit_code_in("Worker exited prematurely: signal 9 (SIGKILL) Job: 12.") is None


def test_an_emptied_redis_does_not_give_a_step_its_tries_back(killing, client):
    task, folder = killing
    deaths = 0
    while folder.outcome() is None:
        deaths += run(task, whole(folder)) != 0
        assert deaths < 6, "it is begun for ever"
        client.flushall()
        # its message was lost as well: the sweep sends it again
        sweeping.send_again(None, Missing(task=task.name, messages=[whole(folder)], sent=None))
    assert deaths <= MAX_CRASHES + 1  # the first one is forgotten with Redis
    check_verdict(folder, "killed its process 3 times in a row")


def test_a_job_that_is_resumed_gets_its_tries_back(killing):
    task, folder = killing
    run_until_it_ends(task, whole(folder), folder)
    folder.reopen()
    assert run_until_it_ends(task, whole(folder), folder) == MAX_CRASHES


def test_a_step_that_ends_in_between_is_not_failed_for_deaths_of_long_ago(bucket, monkeypatch):
    folder = make_job(bucket)
    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(planning, "plan_job", die)
            assert [run(score.score_plan, whole(folder)) for _ in range(2)] == [signal.SIGKILL] * 2
        assert run(score.score_plan, whole(folder)) == 0
    assert folder.outcome() is None
    assert folder.has("plan.json")
    assert not bucket.files(folder.file("deaths"))


def test_a_training_that_kills_its_process_says_what_it_was_at(bucket, settings):
    write_training_tables(bucket, rows=300)
    add_definition(
        settings.definitions, "deadly", GUESSING.replace("self.model = 0.04", "__import__('os').kill(__import__('os').getpid(), 9)")
    )
    folder = make_training(bucket, "deadly")
    assert run_until_it_ends(tasks_train.train_fit, whole(folder), folder) == MAX_CRASHES
    check_verdict(folder, "train.fit (fitting deadly on ", "most likely memory")


def test_a_result_that_cannot_be_put_in_its_place_fails_a_job_that_was_done_and_a_resume_publishes_it(bucket, monkeypatch):
    expected = text_at(bucket, run_job(make_job(bucket)).result)
    folder = make_job(bucket, minute=1)
    plan(folder)
    score_chunks(folder, bucket.root / "no-cache")
    with monkeypatch.context() as patch:
        patch.setattr(publishing, "publish_newest", die)
        deaths = 0
        while (outcome := folder.outcome()) is None or outcome.state == "done":
            deaths += run(score.score_finish, whole(folder)) != 0
            assert deaths <= MAX_CRASHES, "it is begun for ever"
    check_verdict(folder, "score.finish (joining the parts and publishing the result) killed its process 3 times in a row")
    folder.reopen()
    assert run(score.score_finish, whole(folder)) == 0
    assert folder.outcome().state == "done"
    assert text_at(bucket, folder.outcome().result) == expected


def test_a_finish_that_was_sent_again_and_dies_after_it_published_leaves_no_record(bucket, client, monkeypatch):
    folder = make_job(bucket)
    plan(folder)
    score_chunks(folder, bucket.root / "no-cache")
    attempts.note_sent_again(client, folder.job_id, [routes.SCORE_FINISH])
    with monkeypatch.context() as patch:
        patch.setattr(score.progress, "forget", die)
        assert run(score.score_finish, whole(folder)) == signal.SIGKILL
    assert folder.is_published
    assert [info.path for info in bucket.files(folder.file("deaths"))] == [folder.file("deaths/score.finish.json")]
    attempts.note_sent_again(client, folder.job_id, [routes.NOTIFY])
    assert run(notify.notify, whole(folder)) == 0
    assert bucket.files(folder.file("deaths")) == []


def test_a_notice_that_kills_its_process_is_given_up(bucket, monkeypatch):
    folder = make_job(bucket)
    folder.cancel()
    monkeypatch.setattr(delivery, "deliver_job_notice", die)
    assert [run(notify.notify, whole(folder)) for _ in range(MAX_CRASHES + 1)] == [signal.SIGKILL] * MAX_CRASHES + [0]
    assert delivery.is_delivered(folder, folder.outcome())
    assert not bucket.files("jobs/_open")


def test_the_search_of_a_training_that_dies_between_two_candidates_fails(bucket, monkeypatch):
    folder = make_training(bucket)
    monkeypatch.setattr(steps, "score_candidate", lambda *_: None)
    monkeypatch.setattr(steps, "missing_messages", lambda _: ([], None))
    monkeypatch.setattr(steps, "next_messages", die)
    message = CandidateMessage(job_id=folder.job_id, candidate=1, fold=1)
    assert run_until_it_ends(tasks_train.train_candidate, message, folder) == MAX_CRASHES
    check_verdict(folder, "train.candidate (choosing the next candidates of the search) killed its process 3 times in a row")


def test_a_step_that_is_refused_memory_says_how_much_there_is(bucket, monkeypatch):
    def fill(*_, **__):
        raise MemoryError

    monkeypatch.setattr(planning, "plan_job", fill)
    folder = make_job(bucket)
    assert run(score.score_plan, whole(folder)) == 0
    check_verdict(folder, "score.plan (cutting the table into chunks) ran out of memory: its process may use ", "GB, ")


# --- what a definition raises to end its process --------------------------------------------------------------------------------------


@pytest.mark.parametrize("raised", [SystemExit(3), SystemExit(), KeyboardInterrupt(), GeneratorExit()], ids=repr)
def test_what_would_end_the_process_from_within_fails_the_job_at_once_and_the_process_lives(bucket, monkeypatch, raised):
    def leave(*_):
        raise raised

    monkeypatch.setattr(releasing, "train_release", leave)
    folder = make_training(bucket)
    tasks_train.train_fit(whole(folder).encode())
    outcome = folder.outcome()
    assert (outcome.state, outcome.exit_code) == ("failed", 4)
    assert f"tried to end its process with {raised!r}" in outcome.reason


def test_a_process_that_is_asked_to_stop_stops_and_its_step_keeps_its_tries(bucket, client, monkeypatch):
    def stop(*_, **__):
        raise SystemExit(0)

    folder = make_job(bucket)
    monkeypatch.setattr(planning, "plan_job", stop)
    for module in (runner, attempts):
        monkeypatch.setattr(module, "terminate_handler_fired", lambda: True)
    for _ in range(MAX_CRASHES + 2):
        with pytest.raises(SystemExit):
            score.score_plan(whole(folder).encode())
    assert folder.outcome() is None
    assert client.hget(attempts.attempts_key(folder.job_id), routes.SCORE_PLAN) == b"0"


# --- a worker that is asked to stop ---------------------------------------------------------------------------------------------------


def test_a_deploy_that_kills_work_in_hand_again_and_again_fails_no_job(bucket, client, monkeypatch):
    folder = make_job(bucket)
    monkeypatch.setattr(planning, "plan_job", die)
    message = whole(folder)
    for _ in range(MAX_CRASHES + 2):
        assert run(score.score_plan, message) == signal.SIGKILL
        # what its worker said when it was asked to stop, before the process was killed
        uncount_running_steps(client, [SimpleNamespace(name=routes.SCORE_PLAN, args=[message.encode()])])
    assert folder.outcome() is None


def test_each_kind_of_running_step_is_uncounted_and_what_is_none_is_passed_over(bucket, client):
    folder = make_job(bucket)
    key = attempts.attempts_key(folder.job_id)
    messages = {
        routes.SCORE_CHUNK: ChunkMessage(job_id=folder.job_id, index=7, of=9),
        routes.TRAIN_CANDIDATE: CandidateMessage(job_id=folder.job_id, candidate=3, fold=2),
        routes.SCORE_FINISH: whole(folder),
    }
    client.hset(key, mapping={"7": 2, "3.2": 1, routes.SCORE_FINISH: 0})
    requests = [SimpleNamespace(name=name, args=[message.encode()]) for name, message in messages.items()]
    uncount_running_steps(client, [SimpleNamespace(name=routes.SWEEP, args=[]), *requests])
    assert client.hgetall(key) == {b"7": b"1", b"3.2": b"0", routes.SCORE_FINISH.encode(): b"0"}


# --- chunks -----------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def deadly_release(bucket, settings, tmp_path):
    """Makes a release that does something harmful when it is loaded or asked, and a planned job that needs it."""

    def make(load: str = "pass", predict: str = "pass", **more: object) -> JobFolder:
        write_training_tables(bucket, rows=300)
        harmful = tmp_path / "harmful"  # not yet while it is trained
        code = GUESSING.replace(
            "self.model = float(", f"if os.path.exists({str(harmful)!r}):\n            {load}\n        self.model = float("
        )
        guess = "return np.full(len(X), self.model)"
        code = code.replace(guess, f"if os.path.exists({str(harmful)!r}):\n            {predict}\n        {guess}")
        add_definition(settings.definitions, "deadly", "import os, time\n" + code)
        trained = train(make_training(bucket, "deadly", eval=None), settings.definitions)
        harmful.touch()
        bucket.write("data/few.csv", b"entity_id," + b",".join(b"att%d" % number for number in range(1, 161)) + b",device\n" + rows())
        folder = make_job(bucket, table="data/few.csv", model=trained.release, **more)
        plan(folder)
        return folder

    def rows() -> bytes:
        return b"".join(b"%d,%s,1\n" % (entity, b",".join([b"1" if entity == 105 else b"0"] * 160)) for entity in range(100, 108))

    return make


def test_a_release_that_kills_its_loader_fails_the_job_and_is_remembered_for_the_doctor(deadly_release, client):
    folder = deadly_release("os.kill(os.getpid(), 9)")
    release = job_plan.read_plan(folder).release
    assert run_until_it_ends(score.score_chunk, first_chunk(folder), folder) == MAX_CRASHES
    check_verdict(folder, f"the release {release} kills or hangs the process that loads it", "most likely memory", exit_code=4)
    assert "scoring models check deadly" in folder.outcome().next_step
    [killer] = read_crashing_releases(client)
    assert (killer.release, killer.job_id) == (release, folder.job_id)


def test_a_release_whose_loading_hangs_fails_the_job_after_three_time_limits(deadly_release):
    # what the pool raises in a process whose time is over
    folder = deadly_release("raise __import__('billiard.exceptions').exceptions.SoftTimeLimitExceeded")
    runs = 0
    while folder.outcome() is None:
        assert run(score.score_chunk, first_chunk(folder)) == 0
        runs += 1
        assert runs <= MAX_CRASHES + 1, "it is begun for ever"
    release = job_plan.read_plan(folder).release
    check_verdict(folder, f"the release {release} kills or hangs the process that loads it", "did not end within its time", exit_code=4)


def test_a_release_that_ends_the_process_that_loads_it_with_a_code_is_counted_too(deadly_release):
    folder = deadly_release("os._exit(0)")
    runs = 0
    while folder.outcome() is None:
        run(score.score_chunk, first_chunk(folder))
        runs += 1
        assert runs <= MAX_CRASHES + 1, "it is begun for ever"
    check_verdict(folder, "kills or hangs the process that loads it", exit_code=4)


def test_of_a_release_that_kills_its_loader_not_every_chunk_of_a_large_job_is_begun(deadly_release, client):
    """A chunk whose process died goes to the end of its queue: once, each of the others killed a process first."""
    folder = deadly_release("os.kill(os.getpid(), 9)", chunk_rows=1)
    chunks = len(job_plan.read_plan(folder).chunks)
    assert chunks == 8
    messages = [ChunkMessage(job_id=folder.job_id, index=index, of=chunks) for index in range(chunks)]
    deaths = 0
    while folder.outcome() is None:
        message = messages.pop(0)
        if run(score.score_chunk, message):
            deaths += 1
            messages.append(message)
            attempts.record_crash(client, folder.job_id)  # as the worker's main process does
    assert deaths == 1 + MAX_CRASHES
    check_verdict(folder, "kills or hangs the process that loads it", exit_code=4)


def test_a_release_that_kills_whole_workers_fails_the_job_although_nobody_reports_a_loss(deadly_release, client):
    """A container that is killed takes the main process with it: once, every chunk of the job killed a worker, and none was counted."""
    folder = deadly_release("os.kill(os.getpid(), 9)", chunk_rows=1)
    messages = [ChunkMessage(job_id=folder.job_id, index=index, of=8) for index in range(8)]
    deaths = 0
    while folder.outcome() is None:
        # what a worker held that was killed comes back after minutes: the next worker takes the next chunk
        deaths += run(score.score_chunk, messages.pop(0)) != 0
    assert deaths == 1 + MAX_CRASHES
    check_verdict(folder, "kills or hangs the process that loads it", exit_code=4)


@pytest.mark.parametrize("elsewhere", [False, True], ids=["this machine", "another machine"])
def test_a_loader_counts_as_dead_when_it_is_gone_or_its_lease_is_over(deadly_release, client, monkeypatch, elsewhere):
    folder = deadly_release("os.kill(os.getpid(), 9)", chunk_rows=1)
    key = attempts.attempts_key(folder.job_id)
    assert run(score.score_chunk, ChunkMessage(job_id=folder.job_id, index=0, of=8))
    [mark] = [field for field in client.hkeys(key) if field.startswith(b"loading:")]
    attempt = attempts.Attempt(client=client, folder=folder, step="1")
    if elsewhere:
        monkeypatch.setattr(leases, "has_ended", lambda _: False)
        assert not loading.has_crashed_loader(attempt), "its lease may be that of a living process"
        client.delete(f"scoring:lease:{mark.decode()}")  # as after ten seconds
    assert loading.has_crashed_loader(attempt)
    assert client.hget(key, attempts.CRASHED)
    assert not loading.has_crashed_loader(attempt), "the mark is removed"


def test_processes_that_load_a_release_at_the_same_time_are_not_taken_for_dead(bucket, client):
    folder = make_job(bucket)
    attempt = attempts.Attempt(client=client, folder=folder, step="0")
    with loading.marked_load("v1@20261123T101500Z-9bfad3", attempt) as end, loading.marked_load("v1@20261123T101500Z-9bfad3", attempt):
        assert not loading.has_crashed_loader(attempt)
        end(chunk.ChunkStage.LOADING)
        assert len(client.hkeys(attempt.key)) == 2
        end(chunk.ChunkStage.READING)
        assert len(client.hkeys(attempt.key)) == 1
    assert client.keys("scoring:*") == []


def test_a_release_that_could_be_loaded_after_all_is_named_by_the_doctor_no_more(deadly_release, client, tmp_path):
    corrected = tmp_path / "corrected"
    folder = deadly_release(f"os.path.exists({str(corrected)!r}) or os.kill(os.getpid(), 9)")
    assert run_until_it_ends(score.score_chunk, first_chunk(folder), folder) == MAX_CRASHES
    other = CrashingRelease(release="v9@20261123T101500Z-9bfad3", at=datetime.now(UTC), job_id="a-job", what="it kills")
    record_crashing_release(client, other)
    assert len(read_crashing_releases(client)) == 2
    corrected.touch()
    later = make_job(folder.bucket, minute=9, table="data/few.csv", model=job_plan.read_plan(folder).release)
    plan(later)
    assert run(score.score_chunk, first_chunk(later)) == 0
    run(score.score_finish, whole(later))
    assert later.outcome().state == "done"
    assert read_crashing_releases(client) == [other]


def test_a_release_that_killed_its_loader_once_gives_the_same_rates(deadly_release, tmp_path):
    once = tmp_path / "once"
    folder = deadly_release(f"if not os.path.exists({str(once)!r}): open({str(once)!r}, 'w').close(); os.kill(os.getpid(), 9)")
    assert run(score.score_chunk, first_chunk(folder)) == signal.SIGKILL
    assert run(score.score_chunk, first_chunk(folder)) == 0
    assert not folder.bucket.files(folder.file("deaths"))
    lines = gzip.decompress(folder.bucket.read(folder.part_file(0, "csv.gz"))).decode().splitlines()
    assert lines == [f"{entity},1,0.04" for entity in range(100, 108)]


def test_a_row_that_kills_the_process_that_scores_it_is_still_a_reject(deadly_release):
    folder = deadly_release(predict="if X['att1'].any(): os.kill(os.getpid(), 9)")
    deaths = 0
    while not folder.parts_done():
        deaths += run(score.score_chunk, first_chunk(folder)) != 0
        assert folder.outcome() is None
        assert deaths < 12, "it is begun for ever"
    lines = gzip.decompress(folder.bucket.read(folder.part_file(0, "csv.gz"))).decode().splitlines()
    assert [line.split(",")[0] for line in lines] == [str(entity) for entity in range(100, 108) if entity != 105]


@pytest.mark.parametrize(
    ("name", "doing"), [("open_chunk", "opening its part of the table"), ("write_files", "writing its part")], ids=["read", "write"]
)
def test_a_chunk_that_kills_where_no_row_is_at_fault_fails_the_job(bucket, monkeypatch, name, doing):
    folder = make_job(bucket, chunk_rows=14)
    plan(folder)
    monkeypatch.setattr(chunk, name, die)
    assert run_until_it_ends(score.score_chunk, first_chunk(folder), folder) == MAX_CRASHES
    check_verdict(folder, f"chunk 0 killed its process 3 times in a row, the last time while {doing}; most likely memory")


def job_with_crashed_chunk(bucket, monkeypatch) -> JobFolder:
    """A job whose first chunk crashed so often while it was scored that it is tried in pieces."""
    folder = make_job(bucket, chunk_rows=14)
    plan(folder)
    with monkeypatch.context() as patch:
        patch.setattr(chunk, "predict", die)
        for _ in range(MAX_CRASHES):
            assert run(score.score_chunk, first_chunk(folder))
    return folder


def test_a_chunk_in_pieces_that_kills_while_its_records_are_counted_fails_the_job(bucket, monkeypatch):
    """Once a chunk is tried in pieces, deaths before the first piece said nothing of any row, and were begun for ever."""
    folder = job_with_crashed_chunk(bucket, monkeypatch)
    monkeypatch.setattr("workers.tables.csv.pieces.record_ends", die)
    assert run_until_it_ends(score.score_chunk, first_chunk(folder), folder) <= MAX_CRASHES
    check_verdict(folder, "the last time while opening its part of the table")


def test_pieces_that_kill_only_when_they_are_put_together_fail_the_job(bucket, monkeypatch):
    folder = job_with_crashed_chunk(bucket, monkeypatch)
    monkeypatch.setattr(chunk, "_merged", die)
    assert run_until_it_ends(score.score_chunk, first_chunk(folder), folder) <= MAX_CRASHES + 1
    check_verdict(folder, "the last time while putting its pieces together")


def test_a_chunk_that_nothing_happened_to_asks_redis_as_often_as_ever_and_the_bucket_nothing(bucket, client, monkeypatch):
    before = make_job(bucket, minute=1, chunk_rows=14)
    plan(before)
    score.score_chunk(first_chunk(before).encode())  # a server takes each script once, which costs two trips more
    loading._loaded.clear()
    folder = make_job(bucket, chunk_rows=14)
    plan(folder)
    trips = []
    real = type(client.connection_pool).get_connection
    monkeypatch.setattr(type(client.connection_pool), "get_connection", lambda self, *a, **k: trips.append(1) or real(self, *a, **k))
    monkeypatch.setattr(attempts, "read_crash_record", lambda *_: pytest.fail("it has no reason to look"))
    monkeypatch.setattr(attempts, "write_crash_record", lambda *_: pytest.fail("it has nothing to say"))
    score.score_chunk(first_chunk(folder).encode())
    assert len(trips) == 4 + 5  # the first load of a release in a process: marks of others, lease, mark, mark, lease
    trips.clear()
    score.score_chunk(ChunkMessage(job_id=folder.job_id, index=1, of=len(job_plan.read_plan(folder).chunks)).encode())
    assert len(trips) == 4  # lease, count, mark, lease


def test_a_count_that_redis_does_not_take_is_kept_in_the_folder(bucket, no_redis_url):
    folder = make_job(bucket)
    away = connect_to_redis(no_redis_url)
    without_an_end = [counted(away, folder, "train.fit") for _ in range(MAX_CRASHES)]
    assert [begun.__enter__().crashes for begun in without_an_end] == [*range(MAX_CRASHES)]
    with pytest.raises(ModelError), counted(away, folder, "train.fit") as attempt:
        assert attempt.crashes == MAX_CRASHES
        raise ModelError("the verdict")
    with counted(away, folder, "train.fit") as attempt:
        assert attempt.crashes == 0


def test_a_job_is_not_announced_and_closed_before_its_result_is_published(bucket, tmp_path, monkeypatch):
    folder = make_job(bucket)
    plan(folder)
    score_chunks(folder, tmp_path / "cache")
    with monkeypatch.context() as patch:
        patch.setattr(publishing, "_settle", lambda *_: (_ for _ in ()).throw(OSError))
        with pytest.raises(OSError):
            publishing.finish_job(folder)
    notify.notify(whole(folder).encode())  # as a redelivered plan asks for it
    assert not folder.has(JobFile.NOTIFIED)
    assert folder.job_id in open_jobs(bucket)
    score.score_finish(whole(folder).encode())
    notify.notify(whole(folder).encode())
    assert folder.has(JobFile.NOTIFIED)
    assert folder.job_id not in open_jobs(bucket)
