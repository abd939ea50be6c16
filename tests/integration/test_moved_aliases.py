"""A release is promoted and rolled back on a running stack: people are notified, and the next job uses what the alias means."""

import pytest

from tests.conftest import wait_until

pytestmark = [pytest.mark.server, pytest.mark.slow]


def test_people_are_notified_of_both_and_jobs_follow(trained):
    newest = {release["definition"]: release["release"] for release in reversed(trained.scoring_json("models", "list"))}
    for release in (newest["v1"], newest["v2"]):
        trained.scoring("models", "promote", release, "--alias", "moved", "--reason", "a test of it")
    rolled = trained.scoring_json("models", "rollback", "--alias", "moved")
    assert rolled == {"alias": "moved", "release": newest["v1"], "was": newest["v2"]}

    def titles() -> list[str]:
        return [notice["text"] for notice in trained.webhook.posted if "moved points to" in notice["text"]]

    wait_until(lambda: len(titles()) >= 3, 30, "the notices")
    assert titles() == [f"promoted: moved points to {newest[name]}" for name in ("v1", "v2")] + [
        f"rolled back: moved points to {newest['v1']}"
    ]
    outcome = trained.scoring_json("score", trained.sample_table, "--model", "moved")
    shown = trained.scoring_json("results", "show", outcome["job_id"])
    assert shown["release"] == newest["v1"]
    assert list(shown["release_manifest"]["tables"]) == ["train", "eval"]
    assert all(len(file["sha256"]) == 64 for table in shown["release_manifest"]["tables"].values() for file in table["files"].values())
    judged = {
        release["release"]: release["needed"] for release in trained.scoring_json("models", "gc", "--keep", "0", "--dry-run")["releases"]
    }
    assert "moved points to it" in judged[newest["v1"]]
    assert "v2@latest points to it" in judged[newest["v2"]]
