"""A webhook that hangs delays no job, and a beat that is gone stops none: real workers, a real beat, and a webhook with moods."""

import http.server
import json
import select
import shutil
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime

import pandas as pd
import pytest

from shared.bucket.local import LocalBucket
from shared.jobs.folder import JobFolder, Outcome
from shared.jobs.messages import StepMessage, TrainJob
from shared.queue.broker import make_app, send
from shared.queue.client import connect_to_redis
from shared.queue.routes import NOTIFY, SCORE_PLAN
from shared.queue.state import heartbeat
from shared.settings import Settings
from tests.acceptance.faults.stage import SAMPLE, Stage
from tests.conftest import wait_until
from workers.notices.deadline_post import TIMEOUT_SECONDS
from workers.notices.resting import REST

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.server]

POOL_PROCESSES = 4
"""Of the two workers together: with so many hanging notices the old way held them all."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    title: str
    all: str
    at: float


class Moody(http.server.ThreadingHTTPServer):
    """Answers as Slack does, hangs, or asks for a rest."""

    def __init__(self):
        self.mood, self.at_once, self.most_at_once = "good", 0, 0
        self.asked, self.unanswered, self.refused, self.taken = [], [], [], []
        outer = self

        class Receiver(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                notice = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                asked = Asked(title=notice["text"], all=json.dumps(notice), at=time.monotonic())
                outer.asked.append(asked)
                outer.at_once += 1
                outer.most_at_once = max(outer.most_at_once, outer.at_once)
                gave_up = False
                while outer.mood == "hangs" and not gave_up:
                    gave_up = bool(select.select([self.connection], [], [], 0.05)[0])
                outer.at_once -= 1
                if gave_up:
                    outer.unanswered.append(asked)
                    return
                is_good = outer.mood == "good"
                (outer.taken if is_good else outer.refused).append(asked)
                body = b"ok" if is_good else b"rate_limited"
                self.send_response(200 if is_good else 429)
                self.send_header("Retry-After", "3")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        super().__init__(("127.0.0.1", 0), Receiver)
        self.url = f"http://127.0.0.1:{self.server_port}/services/T0/B0/secret"
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def handle_error(self, *_):
        pass  # the other side went away, as it should

    def titles_with(self, word):
        """The titles of the notices with this word that were taken."""
        return [asked.title for asked in about(word, self.taken)]


def about(word, notices):
    return [asked for asked in notices if word in asked.all]


@pytest.fixture(scope="module")
def webhook():
    server = Moody()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def stage(tmp_path_factory, webhook, trained):
    """Two workers, a release, a table, and a beat that counts as silent after 4 seconds."""
    playing = Stage(tmp_path_factory.mktemp("silences"), forked=True, WEBHOOK_URL=webhook.url, SCORING_BEAT_SILENT_SECONDS="4")
    shutil.copytree(trained.bucket / "model", playing.place.bucket / "model")
    playing.paths[SAMPLE] = str(playing.root / "table.csv")
    pd.read_csv(trained.sample_table).head(1000).to_csv(playing.paths[SAMPLE], index=False)
    playing.settings = Settings(redis_url=playing.place.environment["REDIS_URL"])
    try:
        playing.start()
        yield playing
    finally:
        playing.stop()


@pytest.fixture
def mood(stage, webhook):
    """Sets the webhook's mood; it is good again and may be asked afterwards."""

    def be(mood):
        webhook.mood = mood

    yield be
    webhook.mood = "good"
    stage.client.delete(REST)


def ended(stage, name) -> JobFolder:
    """A job that has ended, and of which nobody was notified."""
    folder = JobFolder(LocalBucket(stage.place.bucket), name)
    folder.create(TrainJob(job_id=name, created=datetime.now(UTC), definition="v1", train="data/train.csv"))
    folder.write_outcome(Outcome(state="failed", at=datetime.now(UTC), reason=f"only a test, {name}"))
    return folder


def deliver_job_notice(stage, folders) -> None:
    send(make_app(stage.settings), NOTIFY, [StepMessage(job_id=folder.job_id) for folder in folders])


def to_its_end(job) -> JobFolder:
    wait_until(lambda: job.outcome() is not None, 60, "the end of the job")
    assert job.outcome().state == "done"
    return job


def once_more(stage, job, name) -> JobFolder:
    """The same job under another name, written and sent at once."""
    folder = JobFolder(job.bucket, name)
    folder.create(job.job().model_copy(update={"job_id": name, "created": datetime.now(UTC)}))
    send(make_app(stage.settings), SCORE_PLAN, [StepMessage(job_id=name)])
    return folder


def seconds_of(job) -> float:
    return (job.outcome().at - job.job().created).total_seconds()


def test_many_notices_for_a_webhook_that_hangs_delay_no_plan_no_chunk_and_no_finish(stage, webhook, mood):
    first = to_its_end(JobFolder(LocalBucket(stage.place.bucket), stage.enqueue()))  # it imports the libraries
    undisturbed = to_its_end(once_more(stage, first, "undisturbed"))
    # a notice of theirs that hangs would let the webhook rest before those of this test are tried
    wait_until(lambda: first.has("notified.json") and undisturbed.has("notified.json"), what="the notices of both")
    mood("hangs")
    folders = [ended(stage, f"hanging-{number:02}") for number in range(4 * POOL_PROCESSES)]
    deliver_job_notice(stage, folders)
    wait_until(lambda: about("hanging", webhook.asked), what="the first try")
    job = to_its_end(once_more(stage, first, "disturbed"))
    assert not [folder for folder in folders if folder.has("notified.json")], "the webhook hangs all the while"
    assert webhook.most_at_once == 1, "a second process at the webhook would be one less for the jobs"
    # 16 notices of 5 s in 4 processes would have kept the plan from its turn for 20 s
    assert seconds_of(job) < 2 * seconds_of(undisturbed) + TIMEOUT_SECONDS

    mood("good")
    stage.client.delete(REST)
    wait_until(lambda: all(folder.has("notified.json") for folder in [*folders, job]), 60, "the notices")
    for folder in folders:
        [title] = webhook.titles_with(folder.job_id)
        was_broken_off = bool(about(folder.job_id, webhook.unanswered))
        assert title.endswith("(may be a repetition)") == was_broken_off, "somebody may have read what got no answer"


def test_a_webhook_that_asks_for_a_rest_is_asked_by_nobody_until_it_is_over(stage, webhook, mood):
    mood("busy")
    folders = [ended(stage, "resting-01"), ended(stage, "resting-02")]
    deliver_job_notice(stage, folders)
    [refused] = wait_until(lambda: about("resting", webhook.refused), what="the first try")
    mood("good")
    deliver_job_notice(stage, folders)
    wait_until(lambda: all(folder.has("notified.json") for folder in folders), what="the notices")
    taken = about("resting", webhook.taken)
    assert len(taken) == 2
    assert min(asked.at for asked in taken) - refused.at >= 3


def test_the_silence_of_beat_is_reported_once_and_its_sweep_is_sent_until_it_is_back(stage, webhook):
    client = connect_to_redis(stage.settings.broker_url)
    wait_until(lambda: (heartbeat.seconds_since(client, heartbeat.BEAT) or 99) < 2, what="a sign of beat")
    assert webhook.titles_with("beat") == []
    [beat] = stage.beats
    beat.terminate()
    beat.wait(15)
    wait_until(lambda: webhook.titles_with("beat"), 20, "the alarm")
    assert webhook.titles_with("beat") == ["beat has been silent for 4 s"]
    lost = ended(stage, "lost-01")
    wait_until(lambda: lost.has("notified.json"), 15, "the job that only a sweep can end")
    assert heartbeat.seconds_since(client, heartbeat.BEAT) > 4
    assert heartbeat.seconds_since(client, heartbeat.SWEEP) < 4

    stage.start_beat()
    wait_until(lambda: len(webhook.titles_with("beat")) > 1, 20, "the word that beat is back")
    wait_until(lambda: heartbeat.seconds_since(client, heartbeat.BEAT) < 1, what="a sign of beat")
    assert webhook.titles_with("beat")[1:] == ["beat is back"]
    assert [key for key in client.scan_iter("scoring:*") if client.ttl(key) == -1] == [], "every key of ours has an expiry"
