"""A request that was made before is answered with what is true now, and ends with exit code 2 where its result is no longer in use."""

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from producers import local_definitions
from producers.channels.deciding import refuse
from producers.channels.moving import roll_back_channel, unpin
from producers.cli import root
from producers.display import follow
from producers.enqueue import repeated_requests, sending
from producers.enqueue.repeated_requests import changes_since
from producers.enqueue.score import enqueue_score
from producers.enqueue.train import enqueue_train
from producers.releases.retiring import retire
from shared.bucket.local import LocalBucket
from shared.catalog.aliases import point_alias, point_latest
from shared.catalog.channels import read_channel
from shared.catalog.paths import MANIFEST, release_folder
from shared.catalog.releases import read_release
from shared.guard.config import GUARD
from shared.jobs.files import JobFile
from shared.jobs.folder import JobFolder, Outcome, Promotion
from shared.settings import Settings
from tests.handmade import NOON, PLACE, TABLE, WEIGHTS, make_job, publish_handmade, row, run_job, write_table

pytestmark = pytest.mark.server

FOLDER = f"data/predict/output/v1/{PLACE}"


@pytest.fixture
def bucket(tmp_path) -> LocalBucket:
    bucket = LocalBucket(tmp_path / "bucket")
    write_table(bucket, [row(number) for number in range(5)])
    return bucket


@pytest.fixture
def settings(no_redis_url) -> Settings:
    return Settings(redis_url=no_redis_url)


@pytest.fixture
def old(bucket) -> str:
    return publish_handmade(bucket)


@pytest.fixture
def bad(bucket, old) -> str:
    """A newer release that gives other rates."""
    return publish_handmade(bucket, made=NOON + timedelta(hours=1), weights=[weight / 2 for weight in WEIGHTS])


def scored(settings: Settings, bucket: LocalBucket, model: str, **more: object) -> JobFolder:
    """The folder of a job that was asked for and run to its end."""
    folder = JobFolder(bucket, enqueue_score(settings, bucket, table=TABLE, model=model, **more).job_id)
    assert run_job(folder).state == "done"
    return folder


def trained(settings: Settings, bucket: LocalBucket, release: str, *, promotion: Promotion | None = None, **wish: object) -> str:
    """The id of a training that was asked for and ended with this release."""
    job_id = enqueue_train(settings, bucket, definition="v1", train=TABLE, **wish).job_id
    folder = JobFolder(bucket, job_id)
    folder.write_outcome(Outcome(state="done", at=datetime.now(UTC), release=release, promotion=promotion))
    bucket.write(folder.file(JobFile.PUBLISHED), b"{}")
    return job_id


def scoring(settings: Settings, bucket: LocalBucket, *arguments: str, code: int = 0, **more: str) -> Result:
    environment = {"BUCKET_URL": bucket.url, "REDIS_URL": settings.broker_url, "SCORING_STORE_KEY": ""} | more
    done = CliRunner().invoke(root.scoring, list(arguments), env=environment)
    if code == 0:
        assert done.exit_code == 0, done.output
    else:
        assert getattr(done.exception, "exit_code", None) == code, done.output
    return done


# --- results


def test_a_result_that_is_still_at_its_place_is_answered_as_done(settings, bucket, old):
    folder = scored(settings, bucket, old)
    assert changes_since(settings, bucket, folder.job_id) == []
    said = scoring(settings, bucket, "score", TABLE, "--model", old)
    assert FOLDER in said.stdout


def test_undoing_a_bad_result_by_the_same_request_says_that_the_bad_one_is_there(settings, bucket, old, bad):
    first, replacing = scored(settings, bucket, old), scored(settings, bucket, bad)
    [change] = changes_since(settings, bucket, first.job_id)
    assert (change.what, change.name, change.now) == ("result", FOLDER, replacing.job_id)
    assert change.since == replacing.outcome().at
    for wait in ("--wait", "--no-wait"):
        said = scoring(settings, bucket, "score", TABLE, "--model", old, wait, code=2)
        assert said.stdout == ("" if wait == "--wait" else f"{first.job_id}\n")
        error = said.exception
        assert f"job {first.job_id} is done, but since then {FOLDER} holds the result of job {replacing.job_id}" in error.message
        assert f"{change.since:%Y-%m-%d %H:%M:%S} UTC, scored with {bad}" in error.message
        assert error.next_step == f"Run it once more: scoring score {TABLE} --model {old} {wait} --again"
    again = scored(settings, bucket, old, again=True)
    assert changes_since(settings, bucket, again.job_id) == []
    assert scoring(settings, bucket, "score", TABLE, "--model", old).exit_code == 0


def test_a_program_gets_what_replaced_a_result_as_json(settings, bucket, old, bad):
    first, replacing = scored(settings, bucket, old), scored(settings, bucket, bad)
    said = scoring(settings, bucket, "score", TABLE, "--model", old, "--json", code=2)
    data = json.loads(said.stdout)
    assert (data["job_id"], data["fresh"]) == (first.job_id, False)
    [change] = data["changed_since"]
    assert (change["what"], change["name"], change["now"]) == ("result", FOLDER, replacing.job_id)


def test_another_table_at_the_same_place_is_named(settings, bucket, old):
    first = scored(settings, bucket, old)
    other = write_table(bucket, [row(9)], path=f"data/predict/input/{PLACE}/x/prediction_input.csv")
    job = make_job(bucket, minute=60 * 24 * 365, table=other)
    assert run_job(job).state == "done"
    [change] = changes_since(settings, bucket, first.job_id)
    assert change.sentence.endswith(f", of the table {other}")


def test_the_same_rates_published_by_another_request_are_no_change(settings, bucket, old):
    first, other = scored(settings, bucket, old), scored(settings, bucket, old, chunk_rows=2)
    assert first.job_id != other.job_id
    assert changes_since(settings, bucket, first.job_id) == []


def test_a_channel_that_shows_another_result_since_is_named(settings, bucket, old, bad):
    request = ["score", TABLE, "--model", bad, "--channel", "live", "--guard", "off", "--reason", "a new shop"]
    before = scored(settings, bucket, old, channel="live")
    first = scored(settings, bucket, bad, channel="live", guard_off="a new shop")
    [_, moved] = changes_since(settings, bucket, before.job_id)
    assert (moved.what, moved.name, moved.now) == ("channel", "live", first.job_id)
    assert moved.sentence.startswith(f"live shows the result of job {first.job_id} since")
    assert changes_since(settings, bucket, first.job_id) == []
    roll_back_channel(bucket, "live", to=None, reason="tablets")
    pinned = read_channel(bucket, "live")
    [change] = changes_since(settings, bucket, first.job_id)
    assert (change.what, change.name, change.now, change.since) == ("channel", "live", before.job_id, pinned.at)
    said = scoring(settings, bucket, *request, code=2)
    assert f"but live is pinned to the result of job {before.job_id} by {pinned.by} (tablets), so the result is held" in said.stderr
    error = said.exception
    assert f"since then live is pinned to the result of job {before.job_id} since" in error.message
    assert error.message.endswith("UTC, rolled back by " + f"{pinned.by}: tablets")
    assert f"scoring results rollback live --to {first.job_id} --reason TEXT" in error.next_step
    assert "scoring results unpin live" in error.next_step
    shown = scoring(settings, bucket, "jobs", "show", first.job_id).stdout
    assert f"not on live: it is pinned to the result of job {before.job_id} since {pinned.at:%Y-%m-%d %H:%M:%S} UTC" in " ".join(
        shown.split()
    )
    assert "channels/live" in scoring(settings, bucket, "jobs", "show", before.job_id).stdout
    unpin(bucket, "live")
    [change] = changes_since(settings, bucket, first.job_id)
    assert change.since == pinned.at
    assert change.sentence.startswith(f"live shows the result of job {before.job_id} since")
    assert "unpin" not in change.next_step
    assert "the result is shown on live whatever the guard finds" in scoring(settings, bucket, *request, code=2).stderr


def test_a_channel_that_shows_the_same_rates_of_a_later_job_is_no_change_and_is_named(settings, bucket, old):
    first = scored(settings, bucket, old, channel="live")
    later = scored(settings, bucket, old, channel="live", again=True)
    assert read_channel(bucket, "live").job_id == later.job_id
    assert changes_since(settings, bucket, first.job_id) == []
    said = " ".join(scoring(settings, bucket, "score", TABLE, "--model", old, "--channel", "live").stdout.split())
    assert f"not on live: it shows the result of job {later.job_id} since" in said
    assert said.count("UTC, which has the same rates") == 2  # of the place, too


def test_a_held_result_whose_table_was_scored_again_does_not_answer_a_repeated_request(settings, bucket, old):
    scored(settings, bucket, old, channel="live")
    other = write_table(bucket, [row(number) for number in range(6)], path="data/predict/input/2026/11/24/prediction_input.csv")

    def ask(**more: object) -> JobFolder:
        return JobFolder(bucket, enqueue_score(settings, bucket, table=other, model=old, channel="live", **more).job_id)

    bucket.write(GUARD, b"]")
    held = ask()
    assert run_job(held).state == "held"
    assert ask().job_id == held.job_id
    refuse(bucket, held.job_id, reason="a broken join")
    assert ask().job_id == held.job_id
    bucket.delete(GUARD)
    later = ask(again=True)
    assert run_job(later).state == "done"
    assert ask().job_id == later.job_id


@pytest.mark.parametrize(("content", "words"), [(None, "holds no result any more"), (b"\xff", "cannot be read")])
def test_a_place_that_holds_no_readable_result_is_said(settings, bucket, old, content, words):
    first = scored(settings, bucket, old)
    bucket.delete(f"{FOLDER}/{MANIFEST}")
    if content is not None:
        bucket.write(f"{FOLDER}/{MANIFEST}", content)
    [change] = changes_since(settings, bucket, first.job_id)
    assert words in change.sentence


def test_a_job_that_has_not_ended_is_followed_as_before(settings, bucket, old):
    waiting = enqueue_score(settings, bucket, table=TABLE, model=old)
    assert changes_since(settings, bucket, waiting.job_id) == []
    said = scoring(settings, bucket, "score", TABLE, "--model", old, "--no-wait")
    assert said.stdout.strip() == waiting.job_id


# --- trainings


@pytest.mark.parametrize(
    ("wish", "name", "command"),
    [
        ({"alias": "champion"}, "champion", "scoring models promote {release}"),
        ({"alias": "challenger"}, "challenger", "scoring models promote {release} --alias challenger"),
        ({"promote": "always"}, "champion", "scoring models promote {release}"),
    ],
)
def test_an_alias_that_means_another_release_by_now_is_named(settings, bucket, old, wish, name, command):
    promotion = Promotion(champion_since=None) if "promote" in wish else None
    job_id = trained(settings, bucket, old, promotion=promotion, **wish)
    point_alias(bucket, name, old)
    assert changes_since(settings, bucket, job_id) == []
    later = "v1@20261124T120000Z-abcdef"
    moved = point_alias(bucket, name, later)
    [change] = changes_since(settings, bucket, job_id)
    assert (change.what, change.name, change.now, change.since) == ("alias", name, later, moved.at)
    assert change.sentence == f"{name} points to {later} since {moved.at:%Y-%m-%d %H:%M:%S} UTC"
    assert change.next_step == f"Move it with: {command.format(release=old)}"


def test_a_definition_whose_newest_release_is_another_by_now_is_named(settings, bucket, old):
    trained(settings, bucket, old)
    assert scoring(settings, bucket, "train", "v1", "--train", TABLE).exit_code == 0
    later = publish_handmade(bucket, made=NOON + timedelta(hours=1))
    error = scoring(settings, bucket, "train", "v1", "--train", TABLE, code=2).exception
    assert f"v1 points to {later} since " in error.message
    assert error.next_step.splitlines() == [
        f"Run it once more: scoring train v1 --train {TABLE} --again",
        f"Use this release by its id: --model {old}",
    ]


def test_a_training_that_the_gate_did_not_promote_says_nothing_of_the_champion(settings, bucket, old):
    job_id = trained(settings, bucket, old, eval_table=TABLE, promote="auto")
    point_alias(bucket, "champion", "v1@20261124T120000Z-abcdef")
    assert changes_since(settings, bucket, job_id) == []


def test_a_release_that_is_gone_is_said(settings, bucket, old):
    job_id = trained(settings, bucket, old)
    bucket.delete_folder(release_folder(old))
    [change] = changes_since(settings, bucket, job_id)
    assert change.sentence == f"the release {old} is no longer in the store"


def test_a_release_that_was_retired_is_said(settings, bucket, old):
    job_id = trained(settings, bucket, old)
    retire(bucket, old, reason="trained on one row", by="tester")
    change = changes_since(settings, bucket, job_id)[0]
    assert change.sentence.startswith(f"the release {old} was retired ")
    assert "trained on one row" in change.sentence
    assert change.next_step == f"Take it back into use with: scoring models unretire {old}"


def test_changed_code_of_a_definition_is_said_of_a_training_and_of_a_result(settings, bucket, old, tmp_path, monkeypatch):
    job_id, result = trained(settings, bucket, old), scored(settings, bucket, old)
    package = tmp_path / "package"
    shutil.copytree(repeated_requests.PACKAGE / "v1", package / "v1", ignore=shutil.ignore_patterns("__pycache__"))
    for module in (local_definitions, repeated_requests):
        monkeypatch.setattr(module, "PACKAGE", package)
    assert changes_since(settings, bucket, job_id) == []
    assert changes_since(settings, bucket, result.job_id) == []
    with (package / "v1/model.py").open("a") as code:
        code.write("\n# another way\n")
    [of_training] = changes_since(settings, bucket, job_id)
    [of_result] = changes_since(settings, bucket, result.job_id)
    for change in (of_training, of_result):
        assert change.what == "code"
        assert change.sentence == f"the code of v1 in {package / 'v1'} is not the code that {old} was trained with"
    assert of_result.next_step == "Train it with the code of now: scoring train v1 --again"
    publish_handmade(bucket, made=NOON + timedelta(hours=1))
    assert [(change.what, change.next_step) for change in changes_since(settings, bucket, job_id)] == [("alias", ""), ("code", "")]


@pytest.mark.parametrize("form", ["text", "json"])
def test_code_that_changes_while_a_training_is_joined_is_said_at_its_end_instead_of_the_old_figures(
    settings, bucket, old, tmp_path, monkeypatch, form
):
    package = tmp_path / "package"
    shutil.copytree(repeated_requests.PACKAGE / "v1", package / "v1", ignore=shutil.ignore_patterns("__pycache__"))
    for module in (local_definitions, repeated_requests):
        monkeypatch.setattr(module, "PACKAGE", package)
    running = JobFolder(bucket, enqueue_train(settings, bucket, definition="v1", train=TABLE).job_id)
    with (package / "v1/model.py").open("a") as code:
        code.write("\n# another way\n")

    def end(*_: object) -> Outcome:
        running.write_outcome(Outcome(state="done", at=datetime.now(UTC), release=old))
        bucket.write(running.file(JobFile.PUBLISHED), b"{}")
        return running.outcome()

    monkeypatch.setattr(follow, "follow", end)
    said = scoring(settings, bucket, "train", "v1", "--train", TABLE, *(["--json"] if form == "json" else []), code=2)
    command = f"scoring train v1 --train {TABLE}{' --json' if form == 'json' else ''} --again"
    assert f"job {running.job_id} is done, but since then the code of v1 in {package / 'v1'} is not the code" in said.exception.message
    assert said.exception.next_step == f"Run it once more: {command}"
    if form == "json":
        assert [change["what"] for change in json.loads(said.stdout)["changed_since"]] == ["code"]
    else:
        assert said.stdout == ""


def test_a_training_that_was_not_joined_prints_its_figures_whatever_has_changed(settings, bucket, old, monkeypatch):
    def end(_: object, job_id: str, *more: object) -> Outcome:
        running = JobFolder(bucket, job_id)
        running.write_outcome(Outcome(state="done", at=datetime.now(UTC), release=old))
        bucket.write(running.file(JobFile.PUBLISHED), b"{}")
        point_latest(bucket, publish_handmade(bucket, made=NOON + timedelta(hours=1)))
        return running.outcome()

    monkeypatch.setattr(follow, "follow", end)
    monkeypatch.setattr(sending, "_send", lambda *_: None)
    assert old in scoring(settings, bucket, "train", "v1", "--train", TABLE).stdout


def test_code_that_is_not_on_this_machine_is_not_judged(settings, bucket, old, tmp_path, monkeypatch):
    job_id = trained(settings, bucket, old)
    for module in (local_definitions, repeated_requests):
        monkeypatch.setattr(module, "PACKAGE", tmp_path)
    assert changes_since(settings, bucket, job_id) == []


def test_the_digest_of_code_is_the_one_that_releases_are_bound_to(settings, bucket, old):
    folder = local_definitions.definition_folder(settings, "v1")
    assert isinstance(folder, Path)
    assert repeated_requests.digest_source(folder, repeated_requests.PACKAGE) == read_release(bucket, old).manifest.definition_sha256


def test_latest_that_is_put_back_is_no_change(settings, bucket, old):
    job_id = trained(settings, bucket, old)
    point_latest(bucket, old)
    assert changes_since(settings, bucket, job_id) == []
