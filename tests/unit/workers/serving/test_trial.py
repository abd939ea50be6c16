"""A release is opened in a process of its own first: one that kills or hangs its loader ends that process, and not the server."""

from datetime import timedelta

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

from model_store.v1.model import Model as Linear


class Model(Linear):
    def load(self, path):
        os.kill(os.getpid(), signal.SIGSEGV)
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


def test_a_release_that_is_not_open_in_time_hangs(service):
    with pytest.raises(ModelError, match=r"hangs when it is opened: it was stopped after 0.01 s\. Try its definition with: scoring models"):
        trial.try_release(service.settings, service.serving.release, 0.01)


def test_what_is_wrong_with_a_release_is_said_as_if_it_were_opened_here(service):
    with pytest.raises(ModelError, match=r"has no model/v1/v1@20200101T000000Z-abcdef/manifest\.json in the bucket"):
        trial.try_release(service.settings, "v1@20200101T000000Z-abcdef")
