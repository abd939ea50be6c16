"""Beat leaves a sign that it lives only while its looks at the schedule end well."""

import json

import pytest

from producers.schedule import beat
from producers.schedule.schedule_file import SCHEDULE
from shared.bucket.local import LocalBucket
from shared.errors import BucketError
from shared.queue.client import connect_to_redis
from shared.queue.state import heartbeat
from shared.settings import Settings

pytestmark = pytest.mark.server


@pytest.fixture
def bucket(tmp_path) -> LocalBucket:
    bucket = LocalBucket(tmp_path)
    fields = {"name": "daily", "cron": "0 6 * * *", "time_zone": "UTC", "score": "in/{date:%d}.csv", "model": "v1"}
    bucket.write(SCHEDULE, json.dumps([fields, fields | {"name": "nightly"}]).encode())
    return bucket


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """What the clock of beat shows, in seconds."""
    shown = [0.0]
    monkeypatch.setattr(beat.time, "monotonic", lambda: shown[0])
    return shown


@pytest.fixture
def keeper(redis_url, bucket, clock, monkeypatch) -> beat.Keeper:
    monkeypatch.setattr(beat, "read_settings", lambda: Settings(redis_url=redis_url))
    monkeypatch.setattr(beat, "open_bucket", lambda *_: bucket)
    keeper = beat.Keeper()
    monkeypatch.setattr(beat, "_keeper", lambda: keeper)
    return keeper


@pytest.fixture
def signs(redis_url, monkeypatch):
    """Whether a sweep that is sent now leaves a sign."""
    with connect_to_redis(redis_url) as client:
        monkeypatch.setattr(beat, "_client", lambda: client)

        def leaves_one() -> bool:
            client.flushdb()
            beat._leave_sign()
            return heartbeat.last_heartbeat(client, heartbeat.BEAT) is not None

        yield leaves_one


def broken(monkeypatch, bucket: LocalBucket, call: str, error: Exception, where: str = "") -> None:
    right = getattr(bucket, call)

    def fails(path, *rest):
        if path.startswith(where):
            raise error
        return right(path, *rest)

    monkeypatch.setattr(bucket, call, fails)


@pytest.mark.parametrize(
    "fault",
    [("read", BucketError("away")), ("read", ValueError("a defect")), ("files", BucketError("away"), "schedule/")],
    ids=["the file cannot be read", "a defect", "no entry can be looked at"],
)
def test_beat_leaves_no_sign_once_no_look_has_ended_well_for_long(keeper, bucket, signs, clock, monkeypatch, fault):
    keeper.tick()
    assert signs()
    with monkeypatch.context() as patch:
        broken(patch, bucket, *fault)
        clock[0] = beat.STANDS_STILL_SECONDS
        keeper.tick()
        assert signs()
        clock[0] += 1
        keeper.tick()
        assert not signs()
    keeper.tick()
    assert signs()


def test_a_beat_that_was_started_while_the_bucket_is_away_leaves_no_sign(keeper, bucket, signs, monkeypatch):
    broken(monkeypatch, bucket, "read", BucketError("away"))
    keeper.tick()
    assert not signs()


def test_one_entry_that_cannot_be_looked_at_does_not_silence_beat(keeper, bucket, signs, monkeypatch):
    broken(monkeypatch, bucket, "files", BucketError("damaged"), "schedule/daily")
    keeper.tick()
    assert signs()
