"""The removal of what is old is killed again and again, at any operation: what is left in the end is what an undisturbed one leaves."""

import gzip
import os
import random
import shutil
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from shared.bucket.local import LocalBucket
from shared.errors import RequestError
from shared.jobs.folder import REQUESTS, JobFolder, inspect_job, list_jobs, open_jobs
from shared.jobs.messages import Notice
from shared.jobs.outbox import NoticeFolder, announce
from shared.retention import round as daily
from shared.retention.config import RETENTION, read_retention
from shared.retention.tombstones import REMOVING, TOMBSTONES, removing_mark
from tests.handmade import TABLE, make_job, plan, publish_handmade, row, run_job, score_chunks, text_at, tree, write_table
from workers.scoring import publishing
from workers.scoring.joining import join
from workers.scoring.plan import read_plan

RULES = b"jobs: {parts: 1d, done: 30d, failed: 90d}\nrevisions: {keep_last: 2}\nnotices: 90d\n"
DAYS = [1.5, 2.6, 31, 32.1, 95, 96.1, 97.2, 370, 371.1, 372.2, 373.3, 374.4, 376, 377.1]
"""When rounds are made: so that everything that may go has gone in the end."""
PLACE = "data/predict/output/v1/2026/11/23"
DEADLY = ("write", "create", "delete", "delete_many", "_drop_if_empty", "tree", "read", "exists")
"""Each call of these may be the one that never returns."""


def deliver_job_notice(folder: JobFolder) -> JobFolder:
    outcome = folder.outcome()
    folder.bucket.write(folder.file("notified.json"), b"{}")
    folder.remove_open_mark(outcome)
    folder.bucket.create(f"{REQUESTS}/score-{folder.job_id}.1", folder.job_id.encode())
    return folder


@pytest.fixture(scope="module")
def full(tmp_path_factory) -> Path:
    """A bucket with a thing of each kind."""
    bucket = LocalBucket(tmp_path_factory.mktemp("full") / "bucket")
    publish_handmade(bucket)
    lines = [row(number) for number in range(20)]
    lines[3] = "1003,1,x,0,1.5,Computer"
    write_table(bucket, lines)
    bucket.write(f"{TABLE}.gz", gzip.compress(bucket.read(TABLE)))
    bucket.write(RETENTION, RULES)
    more = {"chunk_rows": 6, "max_reject_share": 0.5}
    for minute in range(3):
        done = make_job(bucket, minute=minute, **more)
        run_job(done)
        deliver_job_notice(done)
    bucket.write("fixed.csv", b"reject_line,entity_id,att1,att2,att3,length,device\n5,1003,1,1,0,1.5,Computer\n")
    fix = make_job(bucket, minute=4, fixes=done.job_id, fixed_rows="fixed.csv", **more)
    run_job(fix)
    deliver_job_notice(fix)
    failed = make_job(bucket, minute=5, table=f"{TABLE}.gz", **more)
    plan(failed)
    score_chunks(failed, bucket.root)
    failed.fail(RequestError("too many rejects"))
    deliver_job_notice(failed)
    cancelled = make_job(bucket, minute=6, **more)
    plan(cancelled)
    score_chunks(cancelled, bucket.root)
    join(cancelled, cancelled.score_job(), read_plan(cancelled), awaits=False)
    cancelled.cancel()
    deliver_job_notice(cancelled)
    held = make_job(bucket, minute=7, **more)
    plan(held)
    score_chunks(held, bucket.root)
    bucket.write("jobs/20261123t130000000z-score-abcdef/input/table.csv", b"half")
    announce(bucket, "alias-champion-000001", Notice(good=True, title="x", facts={}))
    NoticeFolder(bucket, "alias-champion-000001").close()
    return bucket.root


def copied(full: Path, target: Path) -> LocalBucket:
    shutil.copytree(full, target, copy_function=shutil.copy2)
    return LocalBucket(target)


def killed_after(bucket: LocalBucket, calls: int, work: Callable[[], Any]) -> bool:
    """Does the work in a process that is killed at such a call; False when it ended before."""
    child = os.fork()
    if child == 0:
        left = [calls]

        def deadly(method: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **more: Any) -> Any:
                left[0] -= 1
                if left[0] < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return method(*arguments, **more)

            return call

        for name in DEADLY:
            setattr(bucket, name, deadly(getattr(bucket, name)))
        try:
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def check_whole(bucket: LocalBucket, held: str) -> None:
    """Whatever was removed so far, what is left can be read, and the published result and the open job are whole."""
    assert text_at(bucket, PLACE).count("\n") == 21
    assert open_jobs(bucket) == [held]
    assert len(JobFolder(bucket, held).parts_done()) == 4
    for job_id in list_jobs(bucket):
        assert inspect_job(bucket, job_id).job.job_id == job_id
    for name in bucket.folders(f"{PLACE}/revisions"):
        if bucket.exists(f"{PLACE}/revisions/{name}/manifest.json"):
            text_at(bucket, f"{PLACE}/revisions/{name}")


def kept(bucket: LocalBucket) -> dict[str, bytes]:
    return {path: data for path, data in tree(bucket.root).items() if not path.startswith("gc/")}


def test_a_removal_killed_between_a_tombstone_and_its_mark_leaves_no_mark(full, tmp_path, monkeypatch):
    bucket, now = copied(full, tmp_path / "killed"), datetime.now(UTC)
    rules = read_retention(bucket)
    daily.make_round(bucket, rules, now + timedelta(days=DAYS[0]))
    tombstone = bucket.files(TOMBSTONES)[0]

    def delete(path: str) -> None:
        LocalBucket.delete(bucket, path)
        if path == tombstone.path:
            os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(bucket, "delete", delete)
        assert killed_after(bucket, 10**6, lambda: daily.make_round(bucket, rules, now + timedelta(days=DAYS[1])))
    assert not bucket.exists(tombstone.path)
    [mark] = bucket.files(REMOVING)
    assert mark.path == removing_mark(tombstone.path)
    daily.make_round(bucket, rules, now + timedelta(days=DAYS[1] + 1))
    assert bucket.files(REMOVING) == []


@pytest.mark.parametrize(
    ("kills", "seed"), [pytest.param(15, 3, id="15"), pytest.param(200, 5, id="200", marks=[pytest.mark.long, pytest.mark.timeout(1800)])]
)
def test_removal_that_is_killed_damages_nothing_and_leaves_no_remains(full, tmp_path, kills, seed):
    chance, now = random.Random(seed), datetime.now(UTC)
    rules = read_retention(LocalBucket(full))
    held = open_jobs(LocalBucket(full))[0]
    undisturbed = copied(full, tmp_path / "undisturbed")
    for days in [*DAYS, DAYS[-1] + 2]:
        daily.make_round(undisturbed, rules, now + timedelta(days=days))
    expected = kept(undisturbed)
    assert len(expected) < len(tree(full)) / 2
    done = 0
    while done < kills:
        bucket = copied(full, tmp_path / f"killed-{done}")
        for days in DAYS:
            moment = now + timedelta(days=days)
            for _ in range(chance.choice((0, 1, 3))):
                calls = int(chance.expovariate(1 / 60))
                done += killed_after(bucket, calls, lambda moment=moment, bucket=bucket: daily.make_round(bucket, rules, moment))
                check_whole(bucket, held)
            daily.make_round(bucket, rules, moment)
        bucket.drop_orphans()
        # folders that a kill left empty go with a round of a later day
        for path in bucket.root.rglob("*"):
            if path.is_dir():
                os.utime(path, (0, 0))
        daily.make_round(bucket, rules, now + timedelta(days=DAYS[-1] + 2))
        assert kept(bucket) == expected
        assert not [path for path in tree(bucket.root) if path.startswith("gc/") and path != daily.PROGRESS]
        for folder in ("jobs", "data/predict/output", "notices"):
            assert bucket.drop_empty_folders(folder, -1) == 0, "an empty folder was left"
        shutil.rmtree(bucket.root)
    # what was spared all along goes on
    assert publishing.finish_job(JobFolder(undisturbed, held)).state == "done"
