"""Maintenance that kills or hangs its process is tried three times; then it goes on without that piece, and people are notified."""

import os
import signal
import time
from datetime import UTC, datetime, timedelta

import pytest
from celery.exceptions import SoftTimeLimitExceeded

from shared.bucket.local import LocalBucket
from shared.jobs.messages import Notice
from shared.jobs.outbox import NoticeFolder
from shared.queue import broker, routes
from shared.queue.client import connect_to_redis
from shared.queue.state import heartbeat, maintenance_crashes
from shared.queue.state.maintenance_crashes import read_left_out
from shared.queue.state.stacks import OwnStack
from shared.retention import removal, survey
from shared.retention.round import read_progress
from shared.settings import Settings
from tests.handmade import make_job, publish_handmade, row, run_job, write_table
from workers.recovery import retention, sweep
from workers.recovery.maintenance import pause_after
from workers.tasks import context, maintenance, sweeping

pytestmark = pytest.mark.server


@pytest.fixture
def bucket(tmp_path):
    made = LocalBucket(tmp_path / "bucket")
    publish_handmade(made)
    write_table(made, [row(number) for number in range(5)])
    return made


@pytest.fixture
def client(redis_url):
    return connect_to_redis(redis_url)


@pytest.fixture(autouse=True)
def sent(bucket, client, monkeypatch, tmp_path):
    """Lets this process and those it forks be a worker's; the file in which the jobs are that it sends something of."""
    settings, messages = Settings(home=tmp_path / "home", stall_seconds=1), tmp_path / "sent"
    messages.write_text("")

    def send(app, task, sent):
        with messages.open("a") as file:
            file.writelines(f"{message.job_id}\n" for message in sent)

    monkeypatch.setattr(context, "bucket", lambda: bucket)
    monkeypatch.setattr(context, "redis_client", lambda: client)
    monkeypatch.setattr(context, "stack", lambda: OwnStack(bucket, client, ""))
    monkeypatch.setattr(context, "settings", lambda: settings)
    monkeypatch.setattr(broker, "send", send)
    return messages


def deaths(task, times: int) -> int:
    """Makes a step so many times, each in a process of its own; how many of these were killed."""
    killed = 0
    for _ in range(times):
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            try:
                task()
            finally:
                os._exit(0)
        killed += os.WIFSIGNALED(os.waitpid(child, 0)[1])
    return killed


def dying_on(name, do):
    """``do``, unless one of its arguments ends with this name: then the process is killed."""

    def may_die(*arguments):
        if any(str(getattr(argument, "job_id", argument)).endswith(name) for argument in arguments):
            os.kill(os.getpid(), signal.SIGKILL)
        return do(*arguments)

    return may_die


def announced(bucket) -> list[Notice]:
    """What people are notified of, or were by a sweep."""
    return [NoticeFolder(bucket, name).notice() for name in bucket.folders("notices") if name != "_open"]


def make_old(bucket) -> None:
    for file in bucket.root.rglob("*"):
        os.utime(file, (time.time() - 86400 * 2,) * 2)


@pytest.fixture
def ended(bucket):
    """A job that ended two days ago, and its result."""
    folder = make_job(bucket)
    run_job(folder)
    bucket.write(folder.file("notified.json"), b"{}")
    folder.remove_open_mark(folder.outcome())
    make_old(bucket)
    return folder


# --- the daily removal


def test_a_group_that_kills_the_removal_is_left_out_and_the_round_goes_on(bucket, client, ended, monkeypatch):
    monkeypatch.setattr(survey, "_assess_results", dying_on("2026/11/23", survey._assess_results))
    assert deaths(maintenance.gc, 6) == 3
    progress = read_progress(bucket)
    assert (progress.phase, progress.marked) == ("", 1), "the jobs were looked at, and the round is over"
    [left_out] = read_left_out(client, routes.GC)
    assert left_out.piece == "results to data/predict/output/v1/2026/11/23"
    [notice] = announced(bucket)
    assert notice.facts["left out"] == left_out.piece
    assert notice.facts["deaths"] == "3 in a row"
    assert "memory, of which the process had" in notice.facts["most likely"]


def test_jobs_that_are_older_than_a_group_that_is_left_out_stay_for_its_fixes(bucket, ended, monkeypatch):
    monkeypatch.setattr(survey, "GROUP", 1)
    newer = make_job(bucket, minute=30)
    monkeypatch.setattr(survey, "files_of_jobs", dying_on(f"'{newer.job_id}']", survey.files_of_jobs))
    assert deaths(maintenance.gc, 5) == 3
    assert (read_progress(bucket).phase, read_progress(bucket).marked) == ("", 0)


def test_a_removal_that_kills_its_process_before_any_group_rests_for_a_day(bucket, client, monkeypatch):
    monkeypatch.setattr(retention, "make_step", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    assert deaths(maintenance.gc, 6) == 3
    [notice] = announced(bucket)
    assert "left out" not in notice.facts
    later = datetime.now(UTC) + maintenance_crashes.LEFT_OUT_FOR
    assert not maintenance_crashes.begin(client, routes.GC, later, "").is_paused


def test_a_tombstone_that_hangs_the_removal_is_left_for_another_round(bucket, client, ended, monkeypatch):
    maintenance.gc()
    [tombstone] = bucket.files("gc/tombstones")

    def hang(*_):
        raise SoftTimeLimitExceeded

    monkeypatch.setattr(removal, "_remove", hang)
    monkeypatch.setattr(removal, "GRACE", type(removal.GRACE)(0))
    bucket.delete("gc/progress.json")
    for _ in range(4):
        maintenance.gc()
    assert read_progress(bucket).phase == ""
    [left_out] = read_left_out(client, routes.GC)
    assert left_out.piece == tombstone.path


# --- the sweep


@pytest.fixture
def open_jobs(bucket):
    return [make_job(bucket, minute=minute).job_id for minute in (1, 2, 3)]


def test_a_job_that_kills_the_sweep_is_left_out_and_the_others_go_on(bucket, client, open_jobs, sent, monkeypatch):
    monkeypatch.setattr(sweep, "_missing_step", dying_on(open_jobs[1], sweep._missing_step))
    assert deaths(maintenance.sweep, 6) == 3
    assert {*sent.read_text().split()} == {open_jobs[0], open_jobs[2]}
    assert [left_out.piece for left_out in read_left_out(client, routes.SWEEP)] == [open_jobs[1]]
    [notice] = announced(bucket)
    assert notice.facts["left out"] == open_jobs[1]
    assert notice.next_step.endswith(f"scoring jobs show {open_jobs[1]}")


def test_a_job_that_the_sweep_left_out_is_tried_again_after_a_minute_and_then_ever_later(client, open_jobs, sent, monkeypatch):
    """The job may be a bystander of workers that something else kills: left out for a day, its lost messages stayed lost."""
    now = heartbeat.time_of(client)
    with monkeypatch.context() as patch:
        patch.setattr(sweep, "_missing_step", dying_on(open_jobs[1], sweep._missing_step))
        assert deaths(maintenance.sweep, 6) == 3
        for minutes in (1, 5):  # a minute after the third death, four minutes after the fourth
            monkeypatch.setattr(heartbeat, "time_of", lambda _, minutes=minutes: now + timedelta(minutes=minutes, seconds=20))
            assert deaths(maintenance.sweep, 3) == 1
    sent.write_text("")
    assert deaths(maintenance.sweep, 1) == 0
    assert open_jobs[1] not in sent.read_text()
    monkeypatch.setattr(heartbeat, "time_of", lambda _: now + timedelta(minutes=5 + 16, seconds=20))
    assert deaths(maintenance.sweep, 1) == 0
    assert open_jobs[1] in sent.read_text()
    assert client.keys("scoring:upkeep:*") == []


def test_what_is_left_out_rests_longer_with_each_death_up_to_a_day():
    def minutes(count: int, piece: str = "a-job", step: str = routes.SWEEP) -> float:
        at = datetime(2026, 11, 23, tzinfo=UTC)
        return pause_after(maintenance_crashes.Crashes(step=step, piece=piece, count=count, at=at)).total_seconds() / 60

    assert [minutes(count) for count in (3, 4, 5, 6, 7, 8, 9, 10, 10**9)] == [1, 4, 16, 64, 256, 1024, 1440, 1440, 1440]
    assert minutes(3, maintenance_crashes.OUTSIDE_PIECES) == 10
    assert minutes(3, step=routes.GC) == 1440


def test_a_sweep_that_was_killed_by_chance_forgets_it_once_it_ends(client, open_jobs, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(sweep, "_missing_step", dying_on(open_jobs[1], sweep._missing_step))
        assert deaths(maintenance.sweep, 2) == 2
    assert deaths(maintenance.sweep, 1) == 0
    assert client.keys("scoring:upkeep:*") == []


def test_a_sweep_that_kills_its_process_before_any_job_rests_for_minutes(bucket, client, monkeypatch):
    monkeypatch.setattr(LocalBucket, "drop_orphans", lambda _: None)
    monkeypatch.setattr(sweep, "sweep", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    monkeypatch.setattr(sweeping, "drop_abandoned", lambda _: None)
    assert deaths(maintenance.sweep, 6) == 3
    assert len(announced(bucket)) == 1
