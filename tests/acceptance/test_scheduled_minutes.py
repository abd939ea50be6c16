"""A schedule that fires every minute, kept by two beats, gives one job a minute and one notice for each."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.conftest import REPOSITORY, Place, make_place, stop, wait_until

pytestmark = [pytest.mark.server, pytest.mark.slow]

ENTRY = """
- name: minutely
  cron: "* * * * *"
  time_zone: Europe/Berlin
  score: {table}
  model: champion
"""


@pytest.fixture
def place(tmp_path) -> Iterator[Place]:
    """A running stack with a release, a table that is old enough, and a second beat."""
    place = make_place(tmp_path)
    running = place.start()
    command = [sys.executable, "-m", "celery", "-A", "producers.schedule.beat", "beat", "-s", str(tmp_path / "second-beat"), "--pidfile="]
    with place.log.open("ab") as log:
        second = subprocess.Popen(command, cwd=REPOSITORY, env=place.environment, stdout=log, stderr=log)
    place.scoring("sample", "--rows", "200", "--train-rows", "1000")
    place.scoring("train", "v1", "--alias", "champion")
    os.utime(place.sample_table, (0, 0))
    yield place
    second.send_signal(signal.SIGTERM)
    second.wait(30)
    assert stop(running) == 0
    place.webhook.close()


@pytest.mark.parametrize("minutes", [pytest.param(2, id="two minutes"), pytest.param(5, id="five minutes", marks=pytest.mark.long)])
@pytest.mark.timeout(600)
def test_two_beats_make_one_job_a_minute(place, minutes):
    schedule = place.bucket / "config/schedule.yaml"
    schedule.parent.mkdir()
    table = place.sample_table.relative_to(place.bucket)
    # put in place at once, as everybody who edits it should
    (schedule.parent / "new").write_text(ENTRY.format(table=table))
    (schedule.parent / "new").rename(schedule)

    def ended() -> list[str]:
        return sorted(file.parent.name for file in place.bucket.glob("jobs/*-minutely-*/notified.json"))

    wait_until(lambda: len(ended()) >= minutes, minutes * 60 + 60, f"{minutes} jobs", pause=0.5)
    schedule.unlink()
    jobs = ended()[:minutes]
    every = [folder.name for folder in place.bucket.glob("jobs/*-minutely-*")]
    moments = [int(job.rpartition("t")[2][2:]) for job in jobs]
    assert moments == [(moments[0] + number) % 60 for number in range(minutes)], "no minute is left out"
    assert len({job.partition("-minutely-")[2] for job in every}) == len(every), "no minute has two jobs"
    assert [len(place.webhook.sent_about(job)) for job in jobs] == [1] * minutes
    assert {place.scoring_json("jobs", "show", job)["state"] for job in jobs} == {"done"}
    requests = [file.name for file in place.bucket.glob("jobs/_requests/score-schedule-*")]
    assert sorted(requests) == sorted({f"score-schedule-{job.partition('-score-')[2]}.1" for job in every})
