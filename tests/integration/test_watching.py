"""On a stack that is well the doctor finds nothing ill, and the metrics tell of a job that was done."""

import subprocess
import sys
import urllib.request

import pytest

from tests.conftest import REPOSITORY, Place, free_port, wait_until

pytestmark = pytest.mark.server


def test_the_doctor_finds_a_good_stack_well_and_asks_through_every_queue(trained: Place):
    before = len(trained.webhook.posted)
    found = {finding["subject"]: finding for finding in trained.scoring_json("doctor", "--send")}
    assert [finding for finding in found.values() if finding["state"] == "ill"] == []
    for queue in ("control", "score", "train"):
        assert "took a message after" in found[f"queue {queue}"]["text"]
    assert found["Redis persistence"]["state"] == "well"
    assert any(subject.startswith("model ") for subject in found)
    assert found["webhook"]["state"] == "well"
    assert any("scoring doctor" in notice["text"] for notice in trained.webhook.posted[before:])


def test_the_metrics_tell_of_rows_that_were_scored(trained: Place):
    trained.scoring("score", trained.sample_table, "--model", "v1", "--again")
    port = free_port()
    command = [sys.executable, "-m", "producers.cli", "metrics", "--port", str(port)]
    serving = subprocess.Popen(command, env=trained.environment, cwd=REPOSITORY)
    try:

        def text() -> str:
            try:
                return urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
            except OSError:
                return ""

        page = wait_until(text, 30, "the metrics")
    finally:
        serving.terminate()
        serving.wait(20)
    samples = dict(line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))
    assert float(samples["scoring_rows_total"]) > 0
    assert float(samples['scoring_chunk_seconds_count{stage="predict"}']) > 0
    assert float(samples['scoring_jobs_ended_total{kind="score",state="done"}']) > 0
    assert float(samples["scoring_cache_hits_total"]) > 0
