"""Whichever process looks at the schedule, and however often: each run is requested once, and one that is not gets one notice."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner, Result

from producers.cli import root
from producers.schedule import run_states, scheduler
from producers.schedule.run_states import find_entry
from producers.schedule.runs import Run
from producers.schedule.schedule_file import SCHEDULE
from producers.schedule.scheduler import Schedule, ask_for
from shared.bucket.local import LocalBucket
from shared.catalog.aliases import point_alias
from shared.errors import BucketError, JobFailedError, RequestError, ScoringError
from shared.jobs import outbox
from shared.jobs.folder import JobFolder, Outcome, list_jobs, open_jobs
from shared.settings import Settings
from tests.handmade import make_job, publish_handmade, row, run_job, write_table

pytestmark = pytest.mark.server

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
SIX = NOON.replace(hour=6)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def bucket(tmp_path) -> LocalBucket:
    bucket = LocalBucket(tmp_path / "bucket")
    point_alias(bucket, "champion", publish_handmade(bucket))
    return bucket


@pytest.fixture
def settings(redis_url) -> Settings:
    return Settings(redis_url=redis_url)


def keep(bucket: LocalBucket, **fields: object) -> None:
    """Writes a schedule of one entry that scores at six, with these fields."""
    whole = {"name": "daily", "cron": "0 6 * * *", "time_zone": "UTC", "score": "data/predict/input/{date:%Y/%m/%d}", "model": "champion"}
    bucket.write(SCHEDULE, json.dumps([whole | fields]).encode())  # JSON is YAML


def put_table(bucket: LocalBucket, *days: datetime, name: str = "prediction_input.csv") -> None:
    for day in days:
        path = write_table(bucket, [row(number) for number in range(3)], f"data/predict/input/{day:%Y/%m/%d}/{name}")
        os.utime(bucket.place(path), (0, 0))


def jobs(bucket: LocalBucket) -> list[str]:
    """What each job scores, the first that was asked for first."""
    return [JobFolder(bucket, job_id).job().table.removeprefix("data/predict/input/") for job_id in reversed(list(list_jobs(bucket)))]


def notices(bucket: LocalBucket) -> list[str]:
    return [folder.notice().title for folder in outbox.undelivered(bucket)]


def scoring(bucket: LocalBucket, *arguments: str, error: type[ScoringError] | None = None, url: str = "") -> Result:
    done = CliRunner().invoke(root.scoring, ["schedule", *arguments], env={"BUCKET_URL": bucket.url, "REDIS_URL": url})
    assert error is None or isinstance(done.exception, error), done.output
    assert (done.exit_code == 0) == (error is None), done.output
    return done


@pytest.fixture
def schedule(settings, bucket) -> Schedule:
    """The schedule of a beat that was started an hour before six."""
    keep(bucket)
    schedule = Schedule(settings, bucket)
    schedule.tick(SIX - HOUR)
    return schedule


# --- each run once


def test_a_run_becomes_one_job_at_its_moment_however_many_look_at_it(settings, bucket, schedule):
    put_table(bucket, SIX)
    schedule.tick(SIX - timedelta(seconds=1))
    assert jobs(bucket) == []
    for seconds in (0, 15, 30):
        schedule.tick(SIX + timedelta(seconds=seconds))
        Schedule(settings, bucket).tick(SIX + timedelta(seconds=seconds))
    # another table and another release make it no other run
    write_table(bucket, [row(7)], "data/predict/input/2026/11/23/prediction_input.csv")
    os.utime(bucket.place("data/predict/input/2026/11/23/prediction_input.csv"), (0, 0))
    point_alias(bucket, "champion", publish_handmade(bucket, made=NOON + HOUR))
    Schedule(settings, bucket).tick(SIX + timedelta(seconds=45))
    run = Run(entry=find_entry(bucket, "daily"), at=SIX)
    assert not ask_for(settings, bucket, run).fresh
    assert jobs(bucket) == ["2026/11/23"]
    [job_id] = list_jobs(bucket)
    job = JobFolder(bucket, job_id).job()
    assert job_id.endswith("-score-daily-20261123t0600")
    assert (job.model, job.place) == ("champion", "2026/11/23")
    assert open_jobs(bucket) == [job_id]


def test_two_beats_that_look_at_the_same_moment_ask_once(settings, bucket, schedule):
    days = [SIX + number * DAY for number in range(6)]
    put_table(bucket, *days)
    for day in days:
        with ThreadPoolExecutor(4) as beats:
            list(beats.map(lambda beat, day=day: beat.tick(day), [Schedule(settings, bucket) for _ in range(4)]))
    assert jobs(bucket) == [f"{day:%Y/%m/%d}" for day in days]


def test_a_job_that_failed_is_not_asked_for_again_by_the_clock(settings, bucket, schedule):
    put_table(bucket, SIX)
    schedule.tick(SIX)
    [job_id] = list_jobs(bucket)
    JobFolder(bucket, job_id).write_outcome(Outcome(state="failed", at=SIX))
    Schedule(settings, bucket).tick(SIX + timedelta(minutes=1))
    # a beat that looked before there was a job, and asks after that has failed
    assert ask_for(settings, bucket, Run(entry=find_entry(bucket, "daily"), at=SIX), once=True).job_id == job_id
    assert list(list_jobs(bucket)) == [job_id]


def test_a_process_that_died_before_the_job_was_written_is_replaced_by_the_next_look(settings, bucket, schedule, monkeypatch):
    put_table(bucket, SIX)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(JobFolder, "create", killed)
        with pytest.raises(KeyboardInterrupt):
            schedule.tick(SIX)
    assert jobs(bucket) == []
    Schedule(settings, bucket).tick(SIX + timedelta(seconds=15))
    assert jobs(bucket) == ["2026/11/23"]


def test_without_redis_the_job_is_written_and_the_sweep_will_send_it(no_redis_url, bucket, schedule):
    put_table(bucket, SIX)
    Schedule(Settings(redis_url=no_redis_url), bucket).tick(SIX)
    assert open_jobs(bucket) == list(list_jobs(bucket))
    assert jobs(bucket) == ["2026/11/23"]


def test_a_training_is_asked_for_with_its_tables_and_alias(settings, bucket, schedule):
    tables = {"table": "data/train/{date:%Y}/train.csv", "eval": "data/train/{date:%Y}/eval.csv"}
    entry = {
        "name": "weekly",
        "cron": "0 6 * * mon",
        "time_zone": "UTC",
        "train": "v2",
        "alias": "challenger",
        "promote": "auto",
        "force": True,
    }
    bucket.write(SCHEDULE, json.dumps([entry | tables]).encode())
    for name in ("train", "eval"):
        bucket.write(f"data/train/2026/{name}.csv", b"a")
        os.utime(bucket.place(f"data/train/2026/{name}.csv"), (0, 0))
    schedule.tick(SIX - HOUR)
    schedule.tick(SIX)
    [job_id] = list_jobs(bucket)
    job = JobFolder(bucket, job_id).job()
    assert (job.definition, job.train, job.eval) == ("v2", "data/train/2026/train.csv", "data/train/2026/eval.csv")
    assert (job.alias, job.promote, job.force) == ("challenger", "auto", True)


# --- what was missed


@pytest.mark.parametrize(("rule", "days"), [("none", []), ("last", [3]), ("all", [1, 2, 3])])
def test_what_a_beat_that_was_down_missed_is_caught_up_by_the_rule(settings, bucket, rule, days):
    put_table(bucket, *(SIX + number * DAY for number in range(5)))
    keep(bucket, catch_up=rule)
    Schedule(settings, bucket).tick(SIX)
    back = Schedule(settings, bucket)
    for seconds in (0, 15):
        back.tick(SIX + 3 * DAY + 2 * HOUR + timedelta(seconds=seconds))
    assert jobs(bucket) == [f"{SIX + number * DAY:%Y/%m/%d}" for number in days]
    back.tick(SIX + 4 * DAY)
    assert jobs(bucket)[len(days) :] == ["2026/11/27"]


def test_a_change_of_the_file_is_kept_from_the_next_look_on(bucket, schedule):
    put_table(bucket, SIX, SIX + DAY)
    keep(bucket, cron="0 7 * * *")
    schedule.tick(SIX)
    assert jobs(bucket) == []
    schedule.tick(SIX + HOUR)
    assert jobs(bucket) == ["2026/11/23"]
    keep(bucket, cron="0 7 * * *", model="v1")
    schedule.tick(SIX + HOUR + DAY)
    assert [JobFolder(bucket, job_id).job().model for job_id in list_jobs(bucket)] == ["v1", "champion"]


@pytest.mark.parametrize("away", ["switched off", "taken out"])
def test_what_an_entry_missed_while_it_was_away_is_not_caught_up(bucket, schedule, away):
    put_table(bucket, SIX, SIX + DAY)
    if away == "switched off":
        keep(bucket, enabled=False)
    else:
        bucket.write(SCHEDULE, b"[]")
        schedule.tick(SIX - scheduler.FORGOTTEN_AFTER)
    schedule.tick(SIX)
    keep(bucket, catch_up="all")
    schedule.tick(SIX + HOUR)
    assert jobs(bucket) == []
    schedule.tick(SIX + DAY)
    assert jobs(bucket) == ["2026/11/24"]


@pytest.mark.parametrize(
    "text",
    [None, b"", b" \n", b"# nothing yet\n", b"---\n", b"~"],
    ids=["missing", "empty", "blank", "a comment alone", "no document", "null"],
)
def test_while_the_file_is_missing_or_empty_nothing_is_forgotten_and_people_are_notified(bucket, schedule, text):
    """A run of half past five waited for its table when the file was empty for a moment: neither a job nor a notice came in 30 hours."""
    schedule.tick(SIX)  # its table is not there: the run waits
    if text is None:
        bucket.delete(SCHEDULE)
    else:
        bucket.write(SCHEDULE, text)
    for minutes in (1, 20, 40):
        schedule.tick(SIX + timedelta(minutes=minutes))
    assert notices(bucket) == [f"{SCHEDULE} has 1 problem; entries without one are kept"]
    keep(bucket)
    put_table(bucket, SIX)
    Schedule(schedule._settings, bucket).tick(SIX + HOUR)
    assert jobs(bucket) == ["2026/11/23"]


def test_an_entry_that_is_missing_for_a_moment_keeps_its_waiting_runs(bucket, schedule):
    schedule.tick(SIX)
    bucket.write(SCHEDULE, b"[]")  # written in place, and cut short at an entry's border
    schedule.tick(SIX + timedelta(minutes=1))
    keep(bucket)
    put_table(bucket, SIX)
    schedule.tick(SIX + timedelta(minutes=2))
    assert jobs(bucket) == ["2026/11/23"]
    assert notices(bucket) == []


def test_people_are_notified_of_a_waiting_run_whose_entry_was_taken_out(bucket, schedule):
    schedule.tick(SIX)
    bucket.write(SCHEDULE, b"[]")
    for minutes in (1, 11):
        schedule.tick(SIX + timedelta(minutes=minutes))
    assert notices(bucket) == ["dropped: 1 waiting runs of daily"]
    assert bucket.folders("schedule") == []


def test_a_schedule_that_was_never_written_is_no_problem(settings, bucket):
    Schedule(settings, bucket).tick(SIX)
    assert notices(bucket) == []


def test_a_file_of_aliases_is_refused_at_once_and_shown_short(settings, bucket):
    levels = [b"a0: &a0 [x, x, x, x, x, x, x, x, x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]".encode() for n in range(1, 12)]
    bucket.write(SCHEDULE, b"\n".join(levels))
    Schedule(settings, bucket).tick(SIX)
    [folder] = outbox.undelivered(bucket)
    assert "alias" in folder.notice().facts["the whole file"]


def test_a_long_value_is_shown_short_so_that_the_notice_can_be_sent(settings, bucket):
    keep(bucket, name="x" * 100_000, cron="y" * 100_000, **{"z" * 100_000: "w" * 100_000})
    Schedule(settings, bucket).tick(SIX)
    [folder] = outbox.undelivered(bucket)
    assert len(folder.notice().to_json()) < 4_000


def test_while_the_file_is_broken_nothing_is_forgotten_and_people_are_notified_once(bucket, schedule):
    put_table(bucket, SIX)
    bucket.write(SCHEDULE, b"- name: daily\n  cron: 5")
    for minute in range(3):
        schedule.tick(SIX + timedelta(minutes=minute))
    assert notices(bucket) == [f"{SCHEDULE} has 3 problems; entries without one are kept"]
    keep(bucket)
    schedule.tick(SIX + HOUR)
    assert jobs(bucket) == ["2026/11/23"]


def test_a_new_entry_catches_nothing_up(settings, bucket):
    put_table(bucket, SIX)
    keep(bucket, catch_up="all")
    Schedule(settings, bucket).tick(NOON)
    assert jobs(bucket) == []


def test_a_damaged_memory_of_an_entry_begins_again(bucket, schedule):
    put_table(bucket, SIX, SIX + DAY)
    [file] = bucket.files("schedule/daily")
    bucket.write(file.path, b"{")
    schedule.tick(SIX)
    schedule.tick(SIX + DAY)
    assert jobs(bucket) == ["2026/11/24"]


# --- a run that must wait


def test_a_run_waits_for_its_table_also_across_a_restart_and_then_starts(settings, bucket, schedule):
    for minute in range(0, 119, 7):
        schedule.tick(SIX + timedelta(minutes=minute))
    put_table(bucket, SIX)
    Schedule(settings, bucket).tick(SIX + timedelta(minutes=119))
    assert jobs(bucket) == ["2026/11/23"]
    assert notices(bucket) == []
    assert bucket.files("schedule/daily/waiting") == []


def test_a_run_whose_table_does_not_come_is_given_up_and_reported_once(settings, bucket, schedule):
    for minutes in (0, 60, 119, 120, 121, 180):
        schedule.tick(SIX + timedelta(minutes=minutes))
    Schedule(settings, bucket).tick(SIX + timedelta(minutes=181))
    assert notices(bucket) == ["did not start: daily of 2026-11-23 06:00"]
    [notice] = [folder.notice() for folder in outbox.undelivered(bucket)]
    assert notice.facts["reason"].startswith("there is no table data/predict/input/2026/11/23 in the bucket")
    assert notice.next_step.endswith("scoring schedule run daily --date 2026-11-23T06:00")
    put_table(bucket, SIX)
    schedule.tick(SIX + timedelta(minutes=182))
    assert jobs(bucket) == []


def test_each_run_waits_for_its_own_table(settings, bucket):
    keep(bucket, cron="0 * * * *", score="in/{date:%H}.csv", wait_for="3h")
    schedule = Schedule(settings, bucket)
    schedule.tick(SIX - HOUR)
    for hour in range(3):
        schedule.tick(SIX + hour * HOUR)
    for hour in (8, 6):
        write_table(bucket, [row(1)], f"in/{hour:02}.csv")
        os.utime(bucket.place(f"in/{hour:02}.csv"), (0, 0))
    schedule.tick(SIX + 2 * HOUR + timedelta(minutes=30))
    assert jobs(bucket) == ["in/06.csv", "in/08.csv"]
    schedule.tick(SIX + 4 * HOUR)
    assert "did not start: daily of 2026-11-23 07:00" in notices(bucket)


def test_a_table_that_is_being_written_is_waited_for(bucket, schedule):
    put_table(bucket, SIX)
    path = bucket.place("data/predict/input/2026/11/23/more.csv")
    path.write_text("half")
    schedule.tick(SIX)
    assert jobs(bucket) == []
    os.utime(path, (0, 0))
    schedule.tick(SIX + timedelta(seconds=15))
    assert jobs(bucket) == ["2026/11/23"]


def test_a_model_that_is_not_there_is_waited_for_as_well(bucket, schedule):
    put_table(bucket, SIX)
    keep(bucket, model="challenger")
    schedule.tick(SIX)
    point_alias(bucket, "challenger", "v1@20261123T120000Z-de27fa")
    schedule.tick(SIX + HOUR)
    assert jobs(bucket) == ["2026/11/23"]


def test_a_bucket_that_does_not_answer_is_only_logged(bucket, schedule, monkeypatch):
    put_table(bucket, SIX)

    def away(_):
        raise BucketError("away")

    with monkeypatch.context() as patch:
        patch.setattr(bucket, "read", away)
        scheduler.run_once(schedule)
    schedule.tick(SIX)
    assert jobs(bucket) == ["2026/11/23"]


@pytest.mark.parametrize(("call", "error"), [("files", BucketError("broken")), ("read", RequestError("the path leads outside the bucket"))])
def test_an_entry_that_raises_whatever_of_ours_holds_up_no_other(bucket, schedule, monkeypatch, call, error):
    put_table(bucket, SIX)
    [daily] = json.loads(bucket.read(SCHEDULE))
    bucket.write(SCHEDULE, json.dumps([daily | {"name": "first"}, daily]).encode())
    right = getattr(bucket, call)

    def refuse(path):
        if path.startswith("schedule/first"):
            raise error
        return right(path)

    monkeypatch.setattr(bucket, call, refuse)
    assert schedule.tick(SIX)
    assert jobs(bucket) == ["2026/11/23"]
    assert [job_id.rpartition("-score-")[2] for job_id in list_jobs(bucket)] == ["daily-20261123t0600"]


def unreadable(monkeypatch, bucket: LocalBucket, folder: str) -> None:
    """Nobody may list this folder any more, nor look at a file in it; permissions would not stop root."""
    for name in ("stat", "files", "folders"):
        right = getattr(bucket, name)

        def refuse(path, right=right):
            if path.startswith(folder):
                raise BucketError(f"{path} in the bucket could not be listed: Permission denied")
            return right(path)

        monkeypatch.setattr(bucket, name, refuse)


def test_a_table_that_beat_may_not_read_is_given_up_and_reported_once(settings, bucket, schedule, monkeypatch):
    put_table(bucket, SIX)
    with monkeypatch.context() as patch:
        unreadable(patch, bucket, "data/predict/input/2026/11/23")
        for minutes in (0, 60, 119):
            schedule.tick(SIX + timedelta(minutes=minutes))
        assert notices(bucket) == []
        for minutes in (120, 121):
            schedule.tick(SIX + timedelta(minutes=minutes))
        assert notices(bucket) == ["did not start: daily of 2026-11-23 06:00"]
        [notice] = [folder.notice() for folder in outbox.undelivered(bucket)]
        assert notice.facts["reason"].endswith("Permission denied")
    Schedule(settings, bucket).tick(SIX + 3 * HOUR)
    assert jobs(bucket) == []


def test_a_table_that_can_be_read_again_in_time_is_scored(bucket, schedule, monkeypatch):
    put_table(bucket, SIX)
    with monkeypatch.context() as patch:
        unreadable(patch, bucket, "data/predict/input/2026/11/23")
        schedule.tick(SIX)
    schedule.tick(SIX + HOUR)
    assert jobs(bucket) == ["2026/11/23"]
    assert bucket.files("schedule/daily/waiting") == []


@pytest.mark.parametrize("wait_for", ["2h", "0s"])
def test_a_run_that_is_caught_up_hours_later_is_not_given_up_for_one_call_that_failed(settings, bucket, schedule, monkeypatch, wait_for):
    put_table(bucket, SIX)
    keep(bucket, wait_for=wait_for)
    back = Schedule(settings, bucket)
    with monkeypatch.context() as patch:
        unreadable(patch, bucket, "data/predict/input/2026/11/23")
        back.tick(SIX + 5 * HOUR)
    back.tick(SIX + 5 * HOUR + timedelta(seconds=15))
    assert jobs(bucket) == ["2026/11/23"]
    assert notices(bucket) == []


@pytest.mark.parametrize("folder", ["data/predict/input/2026/11/24", "jobs/_requests/score-schedule-daily-20261124"])
def test_a_run_whose_files_cannot_be_read_holds_up_no_later_one(settings, bucket, monkeypatch, folder):
    put_table(bucket, *(SIX + number * DAY for number in range(4)))
    keep(bucket, catch_up="all")
    Schedule(settings, bucket).tick(SIX)
    unreadable(monkeypatch, bucket, folder)
    back = Schedule(settings, bucket)
    assert back.tick(SIX + 3 * DAY) is ("jobs" not in folder)
    assert jobs(bucket) == ["2026/11/25", "2026/11/26"]
    back.tick(SIX + 3 * DAY + 7 * HOUR)
    assert "late: daily of 2026-11-26 06:00 has not ended" in notices(bucket)


@pytest.mark.parametrize("name", ["train", "eval"])
def test_the_newest_training_tables_are_waited_for_while_they_are_being_written(settings, bucket, schedule, name):
    entry = {"name": "weekly", "cron": "0 6 * * mon", "time_zone": "UTC", "train": "v2"}
    bucket.write(SCHEDULE, json.dumps([entry]).encode())
    for table in ("train", "eval"):
        bucket.write(f"data/train/2026/11/22/{table}.csv", b"a")
        if table != name:
            os.utime(bucket.place(f"data/train/2026/11/22/{table}.csv"), (0, 0))
    schedule.tick(SIX - HOUR)
    schedule.tick(SIX)
    assert list(list_jobs(bucket)) == []
    os.utime(bucket.place(f"data/train/2026/11/22/{name}.csv"), (0, 0))
    schedule.tick(SIX + timedelta(seconds=15))
    [job_id] = list_jobs(bucket)
    job = JobFolder(bucket, job_id).job()
    assert (job.train, job.eval) == ("data/train/2026/11/22/train.csv", "data/train/2026/11/22/eval.csv")


# --- a run that is late


def test_a_run_that_waits_is_reported_as_late_also_when_a_later_one_is_due(settings, bucket):
    keep(bucket, cron="0 * * * *", score="in/{date:%d%H}.csv", wait_for="12h", late_after="90min")
    schedule = Schedule(settings, bucket)
    for minutes in (-60, 0, 60, 89):
        schedule.tick(SIX + timedelta(minutes=minutes))
    assert notices(bucket) == []
    for minutes in (90, 91):
        schedule.tick(SIX + timedelta(minutes=minutes))
    assert notices(bucket) == ["late: daily of 2026-11-23 06:00 has not ended"]


def test_a_run_that_has_not_ended_in_time_is_reported_once(settings, bucket, schedule):
    put_table(bucket, SIX)
    keep(bucket, late_after="4h")
    schedule.tick(SIX)
    schedule.tick(SIX + 4 * HOUR - timedelta(seconds=1))
    assert notices(bucket) == []
    for minutes in (0, 1, 300):
        schedule.tick(SIX + 4 * HOUR + timedelta(minutes=minutes))
        Schedule(settings, bucket).tick(SIX + 4 * HOUR + timedelta(minutes=minutes))
    assert notices(bucket) == ["late: daily of 2026-11-23 06:00 has not ended"]
    [notice] = [folder.notice() for folder in outbox.undelivered(bucket)]
    assert notice.facts["state"] == "queued"
    assert notice.facts["job"] == next(list_jobs(bucket))


@pytest.mark.parametrize("state", ["done", "failed", "cancelled"])
def test_a_run_that_has_ended_is_not_late_however_it_ended(bucket, schedule, state):
    put_table(bucket, SIX)
    schedule.tick(SIX)
    JobFolder(bucket, next(list_jobs(bucket))).write_outcome(Outcome(state=state, at=SIX))
    schedule.tick(SIX + 7 * HOUR)
    assert notices(bucket) == []


def test_a_run_that_was_missed_and_forgotten_is_late(settings, bucket, schedule):
    put_table(bucket, SIX)
    keep(bucket, catch_up="none")
    back = Schedule(settings, bucket)
    back.tick(SIX + HOUR)
    back.tick(SIX + 6 * HOUR)
    back.tick(SIX + 7 * HOUR)
    assert jobs(bucket) == []
    assert notices(bucket) == ["late: daily of 2026-11-23 06:00 has not ended"]


def test_of_many_that_were_missed_and_forgotten_the_last_alone_is_reported(settings, bucket):
    keep(bucket, cron="*/10 * * * *", catch_up="none", late_after="5min", score="missing/{date:%H}.csv")
    Schedule(settings, bucket).tick(SIX)
    Schedule(settings, bucket).tick(SIX + 3 * HOUR + timedelta(minutes=6))
    assert notices(bucket) == ["late: daily of 2026-11-23 09:00 has not ended"]


# --- by hand


def test_the_list_shows_what_ran_last_and_what_comes_next(settings, bucket):
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)

    def listed() -> dict:
        [line] = json.loads(scoring(bucket, "list", "--json").stdout)
        return line

    keep(bucket, cron="0 0 * * *")
    assert listed()["last"] is None, "it is not in force yet"
    schedule = Schedule(settings, bucket)
    schedule.tick(midnight - HOUR)
    assert listed()["last"]["state"] == "not started"
    schedule.tick(midnight)
    waiting = listed()["last"]
    assert waiting["state"] == "waits for its table or model"
    assert waiting["reason"].startswith(f"there is no table data/predict/input/{midnight:%Y/%m/%d} in the bucket")
    assert waiting["reason"] in scoring(bucket, "list").stdout
    put_table(bucket, midnight)
    schedule.tick(midnight + HOUR)
    line = listed()
    assert (datetime.fromisoformat(line["last"]["at"]), line["last"]["state"]) == (midnight, "queued")
    assert line["last"]["job_id"] == next(list_jobs(bucket))
    assert datetime.fromisoformat(line["next"]) == midnight + DAY
    shown = scoring(bucket, "list").stdout.splitlines()[1]
    assert shown.split()[0] == "daily"
    assert f"{midnight + DAY:%Y-%m-%d} 00:00" in shown
    keep(bucket, cron="0 0 * * *", enabled=False)
    assert "switched off" in scoring(bucket, "list").stdout


def test_the_list_says_whether_some_entries_run_or_none(bucket):
    keep(bucket, cron="")
    assert scoring(bucket, "list").stderr == "1 problem keeps all entries from running. See it with: scoring schedule check\n"


def test_check_names_each_problem_and_a_model_that_is_not_there(bucket):
    assert "there is no config/schedule.yaml" in str(scoring(bucket, "check", error=RequestError).exception)
    keep(bucket)
    assert scoring(bucket, "check").stdout == "config/schedule.yaml is right; its entries: daily\n"
    keep(bucket, model="nobody")
    shown = scoring(bucket, "check", error=RequestError)
    assert "there is no release or alias 'nobody'" in shown.stdout
    assert shown.exception.message == "config/schedule.yaml has 1 problem"
    keep(bucket, cron="5", late_after="soon")
    found = json.loads(scoring(bucket, "check", "--json", error=RequestError).stdout)
    assert [(problem["entry"], problem["field"]) for problem in found] == [("daily", "cron"), ("daily", "late_after")]
    assert all(problem["write"] for problem in found)


def test_check_names_a_definition_that_is_nowhere(bucket, tmp_path, monkeypatch):
    def check(name: str, error: type[ScoringError] | None = None) -> str:
        bucket.write(SCHEDULE, json.dumps([{"name": "weekly", "cron": "0 6 * * mon", "time_zone": "UTC", "train": name}]).encode())
        return scoring(bucket, "check", "--json", error=error).stdout

    [problem] = json.loads(check("v9", RequestError))
    assert (problem["entry"], problem["field"]) == ("weekly", "train")
    assert problem["wrong"] == "there is no definition 'v9' on this machine, and nothing was trained with one"
    assert problem["write"].startswith("one of v1, v2, v3, ")
    assert json.loads(check("v2")) == []
    bucket.write("model/v9/v9@20261123T101500Z-9bfad3/manifest.json", b"{}")
    assert json.loads(check("v9")) == [], "a worker has it"
    with monkeypatch.context() as patch:
        patch.setattr("producers.local_definitions.PACKAGE", tmp_path)
        assert json.loads(check("v8")) == [], "the definitions are not on this machine"
    (tmp_path / "definitions" / "v8").mkdir(parents=True)
    (tmp_path / "definitions" / "v8" / "model.py").touch()
    monkeypatch.setenv("SCORING_DEFINITIONS", str(tmp_path / "definitions"))
    assert json.loads(check("v8")) == []


def test_a_run_by_hand_is_the_run_of_the_clock_and_one_that_failed_runs_again(settings, bucket, schedule):
    put_table(bucket, SIX)
    command = ("run", "daily", "--date", "2026-11-23", "--no-wait")
    first = scoring(bucket, *command, url=settings.broker_url).stdout.strip()
    schedule.tick(SIX)
    assert list(list_jobs(bucket)) == [first]
    assert scoring(bucket, *command, url=settings.broker_url).stdout.split()[-1] == first
    JobFolder(bucket, first).write_outcome(Outcome(state="failed", at=SIX))
    second = scoring(bucket, *command, url=settings.broker_url).stdout.strip()
    JobFolder(bucket, second).write_outcome(Outcome(state="done", at=SIX))
    assert scoring(bucket, *command, url=settings.broker_url).stdout.split()[-1] == second
    third = scoring(bucket, *command, "--again", url=settings.broker_url).stdout.strip()
    assert len({first, second, third}) == 3
    assert sorted([first, second, third]) == [first, second, third]


def test_an_entry_that_is_not_there_or_broken_is_refused(bucket):
    keep(bucket)
    refused = scoring(bucket, "run", "nightly", "--date", "2026-11-23", error=RequestError).exception
    assert refused.message.endswith("; there are: daily")
    keep(bucket, cron="5")
    refused = scoring(bucket, "run", "daily", "--date", "2026-11-23", error=RequestError).exception
    assert refused.message == "config/schedule.yaml, daily: cron: it has 1 field and not 5"


# --- backfill


@pytest.fixture
def worker(monkeypatch, bucket):
    """Ends, at each pause of the driver, the oldest open job of those that it may; notes which jobs were open meanwhile."""
    seen: list[list[str]] = []

    def pause(_seconds: float) -> None:
        open_now = [job_id for job_id in open_jobs(bucket) if JobFolder(bucket, job_id).outcome() is None]
        seen.append(open_now)
        if open_now:
            state = "failed" if "20261102" in open_now[0].rpartition("-")[2] else "done"
            JobFolder(bucket, open_now[0]).write_outcome(Outcome(state=state, at=NOON))

    monkeypatch.setattr("producers.schedule.backfill.time.sleep", pause)
    return seen


def test_a_backfill_says_where_what_was_done_before_was_replaced_and_beat_does_not_mind(settings, bucket, schedule):
    put_table(bucket, SIX)
    schedule.tick(SIX)
    [job_id] = list_jobs(bucket)
    assert run_job(JobFolder(bucket, job_id)).state == "done"
    command = ("backfill", "daily", "--from", "2026-11-23", "--to", "2026-11-23")
    assert scoring(bucket, *command, url=settings.broker_url).stderr == ""
    write_table(bucket, [row(7)], "data/other.csv")
    newer = make_job(bucket, table="data/other.csv", minute=60 * 24 * 365)
    assert run_job(newer).state == "done"
    said = scoring(bucket, *command, url=settings.broker_url)
    assert "done before" in said.stdout
    assert (
        f"Warning: job {job_id} was done before, but data/predict/output/v1/2026/11/23 holds the result of job {newer.job_id}"
        in said.stderr
    )
    again = Schedule(settings, bucket)
    assert again.tick(SIX + HOUR)
    assert notices(bucket) == []
    assert len(list(list_jobs(bucket))) == 2


@pytest.mark.parametrize("at_once", [1, 2])
def test_a_backfill_keeps_so_many_jobs_open_and_leaves_alone_what_is_done(settings, bucket, worker, at_once):
    keep(bucket)
    put_table(bucket, *(NOON.replace(day=day) for day in (1, 2, 3, 5)))
    command = ("backfill", "daily", "--from", "2026-11-01", "--to", "2026-11-05", "--at-once", str(at_once))
    shown = scoring(bucket, *command, error=JobFailedError, url=settings.broker_url)
    assert jobs(bucket) == ["2026/11/01", "2026/11/02", "2026/11/03", "2026/11/05"]
    assert max(map(len, worker)) == at_once
    lines = sorted(line.split()[0] + " " + line.split("  ")[1] for line in shown.stdout.splitlines() if "06:00" in line)
    assert lines == ["2026-11-01 done", "2026-11-02 failed", "2026-11-03 done", "2026-11-04 not started", "2026-11-05 done"]
    assert shown.exception.message == "2 of 5 runs of daily are not done"
    put_table(bucket, NOON.replace(day=4))
    again = json.loads(scoring(bucket, *command, "--json", error=JobFailedError, url=settings.broker_url).stdout)
    assert [line["state"] for line in again if line["date"].startswith("2026-11-01")] == ["done before"]
    assert len(jobs(bucket)) == 6


def test_a_backfill_stands_back_while_todays_job_is_open(settings, bucket, worker, schedule):
    put_table(bucket, SIX, *(NOON.replace(day=day) for day in (3, 4)))
    schedule.tick(SIX)
    [today] = list_jobs(bucket)
    shown = scoring(bucket, "backfill", "daily", "--from", "2026-11-03", "--to", "2026-11-04", url=settings.broker_url)
    assert f"waits for job {today}" in shown.output
    assert worker[0] == [today]
    assert all(len(open_now) <= 1 for open_now in worker)


def test_a_backfill_asks_for_nothing_that_is_still_to_come(settings, bucket, worker):
    now = datetime.now(UTC)
    keep(bucket, cron="0 0 * * *")
    put_table(bucket, now, now + DAY)
    scoring(bucket, "backfill", "daily", "--from", f"{now:%Y-%m-%d}", "--to", f"{now + DAY:%Y-%m-%d}", url=settings.broker_url)
    assert jobs(bucket) == [f"{now:%Y/%m/%d}"]


def test_a_backfill_of_days_without_a_run_is_refused(bucket):
    keep(bucket, cron="0 6 * * mon")
    refused = scoring(bucket, "backfill", "daily", "--from", "2026-11-24", "--to", "2026-11-25", error=RequestError).exception
    assert refused.message == "daily has had no run from 2026-11-24 to 2026-11-25"


def test_the_last_success_is_the_end_of_the_newest_run_that_is_done(bucket, settings):
    keep(bucket)
    entry = find_entry(bucket, "daily")
    assert run_states.last_success(bucket, entry, NOON) is None
    put_table(bucket, SIX - DAY, SIX)
    ends = [NOON - DAY, NOON]
    for moment, state, at in zip((SIX - DAY, SIX), ("done", "failed"), ends, strict=True):
        asked = ask_for(settings, bucket, Run(entry=entry, at=moment))
        assert JobFolder(bucket, asked.job_id).write_outcome(
            Outcome(state=state, at=at, definition="v1", release="", result="", next_step="")
        )
    assert run_states.last_success(bucket, entry, NOON) == NOON - DAY
