"""The watcher of the fault harness notices what a channel must never show."""

import pytest

from shared.bucket.local import LocalBucket
from shared.catalog.channels import channel_changes, channel_folder
from shared.catalog.manifests import PREDICTIONS
from shared.catalog.paths import MANIFEST, revision_folder
from tests.acceptance.faults.watcher import ChannelWatcher
from tests.guarded import broken_lines, lines_with_clicks, make_guarded_bucket, score_on_channel

LIVE = channel_folder("live")


@pytest.fixture
def bucket(tmp_path) -> LocalBucket:
    bucket, _ = make_guarded_bucket(tmp_path)
    return bucket


@pytest.fixture
def watcher(bucket) -> ChannelWatcher:
    watcher = ChannelWatcher(bucket, "live", pause=0.0)
    watcher.look()
    assert watcher.problems == []
    return watcher


def held_revision(bucket: LocalBucket) -> str:
    folder, outcome = score_on_channel(bucket, broken_lines(), 1)
    assert outcome.state == "held"
    return revision_folder(outcome.result, folder.job_id)


def test_a_held_result_on_the_channel_is_noticed(bucket, watcher):
    bucket.copy(f"{held_revision(bucket)}/{PREDICTIONS}", f"{LIVE}/{PREDICTIONS}")
    watcher.look()
    assert watcher.problems == ["the predictions are of no result that was published on the channel"]


def test_a_change_that_nobody_approved_is_noticed(bucket, watcher):
    revision, [now] = held_revision(bucket), channel_changes(bucket, "live")
    change = now.model_copy(update={"number": 2, "revision": revision, "job_id": revision.rpartition("/")[2], "how": "approved"})
    bucket.write("data/predict/output/channels/_history/live/000002.json", change.to_json())
    watcher.look()
    assert [problem.rpartition(": ")[2] for problem in watcher.problems] == ["nobody approved it"]


def test_half_a_file_and_no_file_are_noticed(bucket, watcher):
    whole = bucket.read(f"{LIVE}/{PREDICTIONS}")
    bucket.write(f"{LIVE}/{PREDICTIONS}", whole[: len(whole) // 2])
    watcher.look()
    bucket.delete(f"{LIVE}/{PREDICTIONS}")
    watcher.look()
    assert watcher.problems == ["the predictions are of no result that was published on the channel", "the channel shows nothing"]


def test_an_older_result_that_stays_is_noticed_and_a_manifest_that_follows_at_once_is_not(bucket, watcher, monkeypatch):
    older = bucket.read(f"{LIVE}/{PREDICTIONS}")
    _, outcome = score_on_channel(bucket, lines_with_clicks()[:-3], 1)
    assert outcome.state == "done"
    manifest = bucket.read(f"{LIVE}/{MANIFEST}")
    watcher.look()
    bucket.write(f"{LIVE}/{PREDICTIONS}", older)
    watcher.look()
    assert watcher.problems == []
    assert bucket.read(f"{LIVE}/{MANIFEST}") == manifest
    monkeypatch.setattr("tests.acceptance.faults.watcher.RETURN_SECONDS", -1.0)
    watcher.look()
    assert watcher.problems == ["the predictions of an older result came back, for more than -1 s"]
