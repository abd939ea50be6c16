"""What something needs is never removed, also when it comes to be needed at the last moment; what nothing needs goes whole."""

import json
import os
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner, Result

from model_store.store import load_release
from producers.cli import root
from producers.releases.promoting import promote, roll_back
from producers.releases.retention import AssessedRelease, assess_releases, remove_release, remove_releases
from shared.bucket.local import LocalBucket
from shared.bucket.opening import open_bucket
from shared.catalog.aliases import point_alias
from shared.catalog.paths import MANIFEST, release_folder
from shared.errors import ModelError
from shared.jobs.folder import JobFolder
from shared.jobs.messages import TrainJob
from tests.handmade import NOON, make_job, plan, publish_handmade, row, run_job, tree, write_table
from tests.object_store import STORE_BUCKET, object_store, talking_to
from workers.scoring import planning


@pytest.fixture
def bucket(tmp_path) -> LocalBucket:
    bucket = LocalBucket(tmp_path / "bucket")
    write_table(bucket, [row(number) for number in range(5)])
    return bucket


@pytest.fixture
def releases(bucket) -> list[str]:
    """Six, the oldest first; the newest is ``latest``."""
    return [publish_handmade(bucket, made=NOON + timedelta(hours=hour)) for hour in range(6)]


def needed(bucket, **more) -> dict[str, list[str]]:
    return {judged.release: judged.needed for judged in assess_releases(bucket, **{"keep": 0} | more)}


def judged(bucket, release) -> AssessedRelease:
    [found] = [judged for judged in assess_releases(bucket, keep=0) if judged.release == release]
    return found


def scoring(bucket: LocalBucket, *arguments: str, typed: str = "") -> Result:
    done = CliRunner().invoke(root.scoring, ["models", "gc", *arguments], env={"BUCKET_URL": bucket.url}, input=typed)
    assert done.exit_code == 0 or done.exception is not None, done.output
    return done


# --- what is needed


def test_the_newest_of_each_definition_stay(bucket, releases):
    found = needed(bucket, keep=3)
    assert [release for release in releases if not found[release]] == releases[:3]
    assert found[releases[3]] == ["one of the 3 newest of v1, until newer ones are trained"]


def test_what_an_alias_means_or_can_be_rolled_back_to_stays(bucket, releases):
    for release in releases[:3]:
        promote(bucket, release, "champion")
    roll_back(bucket, "champion")
    found = needed(bucket)
    assert found[releases[0]] == ["champion can be rolled back to it"]
    assert found[releases[1]] == ["champion points to it"]
    assert found[releases[2]] == []
    assert found[releases[5]] == ["v1@latest points to it"]


def test_what_a_result_or_an_older_revision_was_scored_with_stays(bucket, releases):
    for minute, model in enumerate(releases[:2]):
        folder = make_job(bucket, minute=minute, model=model)
        assert run_job(folder).state == "done"
        bucket.delete_folder(folder.path)
        bucket.delete(f"jobs/_open/{folder.job_id}")
    found = needed(bucket)
    assert found[releases[0]][0].startswith("the result v1/2026/11/23/revisions/")
    assert found[releases[1]] == ["the result v1/2026/11/23 and 1 more is of it"]
    assert found[releases[2]] == []


@pytest.mark.parametrize("is_planned", [True, False])
def test_what_an_open_job_names_or_has_pinned_stays(bucket, releases, is_planned):
    folder = make_job(bucket, model="champion" if is_planned else releases[1])
    if is_planned:
        point_alias(bucket, "champion", releases[1])
        plan(folder)
        bucket.delete_folder("model/aliases/history/champion")
        bucket.delete("model/aliases/champion.json")
    assert needed(bucket)[releases[1]] == [f"job {folder.job_id} is open"]


def test_what_a_fix_will_be_scored_with_stays(bucket, releases):
    fixed = make_job(bucket, model=releases[1])
    plan(fixed)
    fixed.cancel()
    bucket.delete(f"jobs/_open/{fixed.job_id}")
    [held] = needed(bucket)[releases[1]]
    assert held.startswith(f"job {fixed.job_id} failed or was cancelled, and may be resumed until ")
    fix = make_job(bucket, minute=1, model="v1", fixes=fixed.job_id, fixed_rows="corrected.csv")
    assert needed(bucket)[releases[1]] == [f"job {fix.job_id} is open", held]


@pytest.mark.parametrize("days", [80, 100])
def test_what_a_job_that_waits_for_a_person_needs_stays_until_it_can_no_longer_be_resumed(bucket, releases, days):
    folder = make_job(bucket, model=releases[1])
    plan(folder)
    folder.fail(ModelError("too many rejects"))
    bucket.delete(f"jobs/_open/{folder.job_id}")
    ended = bucket.place(folder.file("outcome.json")).stat().st_mtime - days * 86400
    os.utime(bucket.place(folder.file("outcome.json")), (ended, ended))
    assert bool(needed(bucket)[releases[1]]) is (days < 90)
    bucket.write("config/retention.yaml", b"jobs: {failed: 120d}")
    assert needed(bucket)[releases[1]]


def test_a_job_that_was_done_a_moment_ago_keeps_nothing_but_by_its_result(bucket, releases):
    folder = make_job(bucket, model=releases[1])
    assert run_job(folder).state == "done"
    bucket.delete(f"jobs/_open/{folder.job_id}")
    assert needed(bucket)[releases[1]] == ["the result v1/2026/11/23 and 1 more is of it"]
    bucket.delete_folder("data/predict/output")
    assert needed(bucket)[releases[1]] == []
    assert remove_release(bucket, judged(bucket, releases[1])) == []


def test_every_job_folder_and_every_manifest_is_looked_at_once(bucket, releases, monkeypatch):
    for minute in range(4):
        folder = make_job(bucket, minute=minute, model=releases[minute % 2])
        run_job(folder)
        bucket.delete(f"jobs/_open/{folder.job_id}")
    read, listed = Counter(), Counter()
    for name, counts in (("read", read), ("tree", listed), ("folders", listed)):
        method = getattr(bucket, name)
        monkeypatch.setattr(bucket, name, lambda path, *more, method=method, counts=counts: (counts.update([path]), method(path, *more))[1])
    done = assess_releases(bucket, keep=0)
    assert max(count for path, count in read.items() if not path.startswith("model/aliases/")) == 1
    assert listed["jobs"] <= 2, "once for those that ended, once for those that have not"
    listed.clear()
    remove_releases(bucket, [one for one in done if not one.needed])
    assert listed["jobs"] == 2, "before and after the manifests go, however many releases there are"


def test_what_a_training_has_just_published_stays_until_it_has_ended(bucket, releases):
    folder = JobFolder(bucket, "20261123t120000z-train-handmade")
    folder.create(TrainJob(job_id=folder.job_id, created=NOON, definition="v1", train="data/train/train.csv"))
    assert needed(bucket)[releases[0]] == [f"job {folder.job_id} is open"]


def test_what_the_schedule_names_stays(bucket, releases):
    entry = "- {name: daily, cron: 0 6 * * *, time_zone: UTC, score: x, model: %s}"
    bucket.write("config/schedule.yaml", (entry % releases[1]).encode())
    assert needed(bucket)[releases[1]] == ["daily in the schedule names it"]


ENTRY = '- {name: daily, cron: "0 5 * * *", time_zone: UTC, score: data/predict/input, model: "%s"}\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "it is empty; [] says that there are no entries"),
        (b"# moved\n", "it is empty; [] says that there are no entries"),
        (ENTRY[:40].encode(), "the whole file: it is not YAML"),
        (ENTRY.replace("model", "modell").encode(), "daily: modell: there is no such field"),
        (ENTRY.replace("UTC", "UTZ").encode(), "daily: time_zone: there is no time zone 'UTZ'"),
        (bytes(200), "the whole file: it is not YAML"),
        (b"---\n", "it is empty; [] says that there are no entries"),
        (b"\xff\xfe", "it is empty; [] says that there are no entries"),
    ],
    ids=["empty", "a comment alone", "half-written", "a misspelt field", "a misspelt value", "zeros", "no document", "a mark alone"],
)
def test_while_the_schedule_cannot_be_read_whole_every_release_stays_with_the_reason(bucket, releases, text, says):
    removable = assess_releases(bucket, keep=0)
    bucket.write("config/schedule.yaml", text)
    for reasons in needed(bucket).values():
        assert f"config/schedule.yaml may name it, and cannot be read whole: {says}" in reasons[-1]
    kept = remove_releases(bucket, [release for release in removable if not release.needed])
    assert len(kept) == 5
    assert all(kept.values())
    said = scoring(bucket, "--keep", "0", "--yes")
    assert "0 of 6 to remove" in said.output
    assert "config/schedule.yaml" in said.output


@pytest.mark.parametrize("text", [None, b"[]"], ids=["missing", "cut short at an entry's border"])
def test_while_an_entry_that_was_in_force_is_missing_from_the_schedule_every_release_stays(bucket, releases, text):
    bucket.write("schedule/daily/0123456789ab.json", b"{}")
    if text is not None:
        bucket.write("config/schedule.yaml", text)
    assert all("daily" in reasons[-1] and "was in force" in reasons[-1] for reasons in needed(bucket).values())
    bucket.delete_folder("schedule/daily")
    assert [release for release, reasons in needed(bucket).items() if not reasons] == releases[4::-1]


def test_what_is_younger_than_asked_for_stays(bucket):
    now = datetime.now(UTC)
    young, old = (publish_handmade(bucket, made=now - timedelta(days=days)) for days in (1, 40))
    found = needed(bucket, older_than=timedelta(days=30))
    assert found[young][-1] == f"trained 1 d ago, goes from {now + timedelta(days=29):%Y-%m-%d} on"
    assert not [need for need in found[old] if need.startswith("trained")]


def test_files_without_a_manifest_go_once_nobody_can_be_publishing_them(bucket, releases):
    bucket.delete(f"{release_folder(releases[0])}/{MANIFEST}")
    assert needed(bucket)[releases[0]] == ["perhaps it is just being published"]
    for file in bucket.place(release_folder(releases[0])).iterdir():
        os.utime(file, (0, 0))
    assert needed(bucket)[releases[0]] == []
    remove_release(bucket, judged(bucket, releases[0]))
    assert releases[0] not in bucket.folders("model/v1")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"format": 9}'])
def test_while_a_result_cannot_be_read_every_release_of_its_definition_stays(bucket, releases, content):
    bucket.write("data/predict/output/v1/2026/11/20/manifest.json", content)
    before = tree(bucket.root)
    assert scoring(bucket, "--yes").exit_code == 0
    assert tree(bucket.root) == before
    assert needed(bucket)[releases[0]] == ["data/predict/output/v1/2026/11/20/manifest.json cannot be read, and may be of it"]
    assert needed(bucket)[releases[5]][-1] == "v1@latest points to it"


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"format": 9}'])
def test_a_release_whose_manifest_cannot_be_read_stays_and_hides_no_other(bucket, releases, content):
    bucket.write(f"{release_folder(releases[0])}/{MANIFEST}", content)
    found = needed(bucket)
    assert found[releases[0]][0].startswith("its manifest cannot be read: ")
    assert found[releases[1]] == []


@pytest.mark.parametrize("content", [b"", b"{", b"\xff"])
def test_while_an_alias_cannot_be_read_every_release_stays(bucket, releases, content):
    bucket.write("model/aliases/champion.json", content)
    assert all("champion cannot be read, and may point to it" in reasons for reasons in needed(bucket).values())


# --- what goes


def test_what_nothing_needs_is_removed_whole_and_nothing_else_is(bucket, releases):
    before = tree(bucket.root)
    done = json.loads(scoring(bucket, "--keep", "2", "--yes", "--json").stdout)
    assert done["removed"] == releases[:4][::-1]
    gone = {path: data for path, data in before.items() if path not in tree(bucket.root)}
    assert {path.split("/")[2] for path in gone} == set(releases[:4])
    assert done["bytes"] == sum(map(len, gone.values()))
    assert bucket.folders("model/v1") == releases[4:]


def test_a_dry_run_and_a_no_remove_nothing_and_show_everything(bucket, releases):
    before = tree(bucket.root)
    shown = scoring(bucket, "--dry-run").stdout
    assert "3 of 6 to remove, " in shown
    assert [line.split()[0] for line in shown.splitlines() if line.rstrip().endswith("  to remove")] == releases[:3][::-1]
    assert "kept: v1@latest points to it; one of the 3 newest of v1, until newer ones are trained" in shown
    assert "Remove them for ever? [y/N]" in scoring(bucket, typed="n\n").stdout
    assert tree(bucket.root) == before
    assert "Removed 3 releases, " in scoring(bucket, typed="y\n").stdout
    assert bucket.folders("model/v1") == releases[3:]


def test_json_does_not_ask(bucket, releases):
    assert str(scoring(bucket, "--json").exception) == "--json does not ask. Add --yes or --dry-run."


def test_on_an_object_store_nothing_of_it_is_left(bucket, releases):
    with object_store() as address, talking_to(address):
        remote = open_bucket(f"s3://{STORE_BUCKET}/clearing")
        for release in releases[:2]:
            remote.put_folder(bucket.place(release_folder(release)), release_folder(release), last=MANIFEST)
        assert remove_release(remote, judged(remote, releases[0])) == []
        assert remote.folders("model/v1") == releases[1:2]


# --- what comes in between


def test_what_came_to_be_needed_after_the_look_stays(bucket, releases, monkeypatch):
    looked_at = [judged(bucket, release) for release in releases[:3]]
    promote(bucket, releases[0], "champion")
    job = make_job(bucket, model=releases[1])
    done = make_job(bucket, minute=1, model=releases[2])
    moved = JobFolder(bucket, f"{datetime.now(UTC):%Y%m%dt%H%M%S}000z-score-abcdef")
    moved.create(done.job().model_copy(update={"job_id": moved.job_id}))
    assert run_job(moved).state == "done"
    for folder in (done, moved):
        bucket.delete(f"jobs/_open/{folder.job_id}")
    bucket.delete_folder(done.path)
    monkeypatch.setattr(bucket, "delete", lambda path: pytest.fail(f"{path} was removed, if only for a moment"))
    assert remove_release(bucket, looked_at[0]) == ["champion points to it"]
    assert remove_release(bucket, looked_at[1]) == [f"job {job.job_id} is open"]
    assert remove_release(bucket, looked_at[2]) == [f"job {moved.job_id} has not ended, or ended while releases were looked at"]
    assert bucket.folders("model/v1") == releases


def test_who_pins_a_release_while_it_is_removed_gets_it_back(bucket, releases, monkeypatch):
    looked_at = judged(bucket, releases[0])
    before = tree(bucket.root / "model")
    delete = bucket.delete
    made = []

    def pinned_at_the_last_moment(path):
        monkeypatch.undo()
        made.append(make_job(bucket, model=releases[0]))
        plan(made[0])
        delete(path)

    monkeypatch.setattr(bucket, "delete", pinned_at_the_last_moment)
    needed_by = remove_release(bucket, looked_at)
    [folder] = made
    assert needed_by == [f"job {folder.job_id} is open"]
    assert tree(bucket.root / "model") == before
    assert run_job(folder).state == "done"


def test_a_removal_that_is_killed_leaves_nothing_that_can_be_loaded(bucket, releases, tmp_path, monkeypatch):
    looked_at = judged(bucket, releases[0])

    def killed(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(bucket, "delete_folder", killed)
    with pytest.raises(KeyboardInterrupt):
        remove_release(bucket, looked_at)
    monkeypatch.undo()
    with pytest.raises(ModelError, match="has no model/"):
        load_release(bucket, releases[0], tmp_path)
    with pytest.raises(ModelError, match="there is no release"):
        planning.plan_job(make_job(bucket, model=releases[0]))


def test_what_a_damaged_alias_may_mean_is_kept(bucket, releases):
    assert needed(bucket)[releases[0]] == []
    bucket.write("model/aliases/champion.json", b"")
    [oldest] = [judged for judged in assess_releases(bucket, keep=0) if judged.release == releases[0]]
    assert oldest.needed == ["champion cannot be read, and may point to it"]
    assert remove_release(bucket, oldest) == oldest.needed
