"""A release is opened in a process of its own first: one that kills or hangs its loader ends that process, and not the server."""

import signal
import subprocess
import sys
from datetime import timedelta
from types import SimpleNamespace

import pytest

from model_store.definitions import load_definition
from shared.catalog.aliases import point_alias
from shared.errors import ModelError
from tests.definitions import drop_in
from tests.guarded import make_guarded_bucket
from tests.handmade import NOON, WEIGHTS, publish_handmade
from tests.serving import ask, make_service
from workers.serving.releases import swapping, trial

KILLER = """
import os
import signal
from pathlib import Path

from model_store.v1.model import Model as Linear


class Model(Linear):
    def load(self, path):
        Path(__file__).with_name("priority").write_text(str(os.getpriority(os.PRIO_PROCESS, 0)))
        os.kill(os.getpid(), signal.SIGSEGV)
"""
DIE_OPENING = """
import os
import signal
import sys
from pathlib import Path

from workers.serving.releases.attempts import Attempts

with Attempts(Path(sys.argv[1])).opening(sys.argv[2]):
    os.kill(os.getpid(), signal.SIGKILL)
"""
CELLS = {"entity_id": 9, "device": 1, "att1": 1, "att2": 0, "att3": 0, "length": 0.25}


@pytest.fixture
def service(tmp_path, monkeypatch):
    """A server on an alias, which tries a release first; its settings are also those of the environment."""
    bucket, _ = make_guarded_bucket(tmp_path / "bucket")
    drop_in(tmp_path / "definitions", "killer", KILLER)
    point_alias(bucket, "tested", publish_handmade(bucket))
    for name, value in (
        ("BUCKET_URL", tmp_path / "bucket"),
        ("SCORING_HOME", tmp_path / "home"),
        ("SCORING_DEFINITIONS", tmp_path / "definitions"),
    ):
        monkeypatch.setenv(name, str(value))
    made = make_service(bucket, tmp_path / "home", serve_model="tested", definitions=tmp_path / "definitions")
    made.swapper.look()
    made.swapper.trial = lambda release: trial.try_release(made.settings, release)
    return made


def test_a_release_that_kills_its_loader_is_not_served_and_a_good_one_is(service, monkeypatch):
    before, bucket = service.serving.release, service.swapper.watched.bucket
    killer = publish_handmade(bucket, definition=load_definition("killer", service.settings.definitions))
    point_alias(bucket, "tested", killer)
    service.swapper.look()
    assert service.swapper.problems["release"].startswith(f"the release {killer} kills its process when it is opened (SIGSEGV)")
    # the server comes first where both want the same processor
    assert (service.settings.definitions / "killer" / "priority").read_text() == "10"
    assert service.metrics.registry.get_sample_value("scoring_serve_swap_failures_total", {"kind": "release"}) == 1
    answer = ask(service, "POST", "/v1/rates?source=computed", json={"rows": [CELLS]})
    assert (answer.status_code, answer.headers["x-scoring-release"]) == (200, before)
    # a good one is opened there and then here
    opened = []
    real = swapping.open_release
    monkeypatch.setattr(swapping, "open_release", lambda *asked: (opened.append(asked[2]), real(*asked))[1])
    good = publish_handmade(bucket, made=NOON + timedelta(minutes=1), weights=[weight / 2 for weight in WEIGHTS])
    point_alias(bucket, "tested", good)
    service.swapper.look()
    assert (opened, service.serving.release, service.swapper.problems) == ([good], good, {})


def test_a_server_that_a_release_has_killed_starts_without_it_and_answers_published_rates(service):
    bucket, home = service.swapper.watched.bucket, service.settings.home
    killer = publish_handmade(bucket, definition=load_definition("killer", service.settings.definitions))
    point_alias(bucket, "tested", killer)
    died = subprocess.run([sys.executable, "-c", DIE_OPENING, str(home / "serving" / "opening"), killer], check=False)
    assert died.returncode == -signal.SIGKILL
    started = make_service(bucket, home, serve_model="tested", definitions=service.settings.definitions)
    started.swapper.trial = lambda release: trial.try_release(started.settings, release)
    started.swapper.look()
    assert started.swapper.problems["release"].startswith(f"the release {killer} kills its process when it is opened (SIGSEGV)")
    ready = ask(started, "GET", "/v2/health/ready")
    assert (ready.status_code, ready.json()["release"]) == (200, None)
    assert ready.json()["problems"] == {"release": "the newest one is not served; see the server's log"}
    published = ask(started, "POST", "/v1/rates", json={"rows": [{"entity_id": 1001, "device": 1}]}).json()["rates"]
    assert [rate["source"] for rate in published] == ["published"]


def test_a_release_whose_opening_was_cut_off_is_served_after_a_trial_and_its_mark_is_gone(service):
    bucket, home, tried = service.swapper.watched.bucket, service.settings.home, []
    marks = home / "serving" / "opening"
    subprocess.run([sys.executable, "-c", DIE_OPENING, str(marks), service.serving.release], check=False)
    started = make_service(bucket, home, serve_model="tested", definitions=service.settings.definitions)
    started.swapper.trial = tried.append
    started.swapper.look()
    assert (tried, started.serving.release) == ([service.serving.release], service.serving.release)
    assert list(marks.iterdir()) == []


def test_a_release_that_was_open_before_and_one_without_a_manifest_need_no_trial(service):
    bucket, tried, first = service.swapper.watched.bucket, [], service.serving.release
    service.swapper.trial = tried.append
    good = publish_handmade(bucket, made=NOON + timedelta(minutes=1), weights=[weight / 2 for weight in WEIGHTS])
    for release, served in ((good, good), (first, first), (good, good), ("v1@20200101T000000Z-abcdef", good), (first, first)):
        point_alias(bucket, "tested", release)
        service.swapper.look()
        assert service.serving.release == served
    assert tried == [good]


@pytest.mark.parametrize(("cpu_seconds", "turns"), [([5, 5, 5, 5, 5], 4), ([30] * 9, 4), ([2, 4, 6, 8, 8, 8], 5), (range(1, 30), 17)])
def test_a_trial_that_gets_no_time_of_the_processor_is_given_longer_and_one_that_hangs_is_not(cpu_seconds, turns, monkeypatch):
    used, waited = iter(cpu_seconds), []

    class Running:
        pid = 1

        def wait(self, seconds):
            waited.append(seconds)
            raise subprocess.TimeoutExpired("trial", seconds)

    monkeypatch.setattr(trial.psutil, "Process", lambda _: SimpleNamespace(cpu_times=lambda: (next(used), 0.0, 0.0, 0.0)))
    with pytest.raises(subprocess.TimeoutExpired):
        trial._wait(Running(), 100.0)
    assert waited == [25.0] * turns


def test_a_release_that_is_not_open_in_time_hangs(service):
    with pytest.raises(ModelError, match=r"hangs when it is opened: it was stopped after 0.01 s\. Try its definition with: scoring models"):
        trial.try_release(service.settings, service.serving.release, 0.01)


def test_what_is_wrong_with_a_release_is_said_as_if_it_were_opened_here(service):
    with pytest.raises(ModelError, match=r"has no model/v1/v1@20200101T000000Z-abcdef/manifest\.json in the bucket"):
        trial.try_release(service.settings, "v1@20200101T000000Z-abcdef")
