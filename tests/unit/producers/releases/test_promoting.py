"""An alias is moved by people on and back, each step is kept and reported, and no two people undo the same step twice."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from click.testing import CliRunner, Result

from producers.cli import root
from producers.releases import promoting
from producers.releases.promoting import changes_of, promote, roll_back
from producers.releases.signing import sign_release
from shared.bucket.interface import Bucket
from shared.bucket.local import LocalBucket
from shared.bucket.opening import open_bucket
from shared.catalog.aliases import ROLLBACKS, add_change, point_latest, read_alias, resolve
from shared.catalog.paths import MANIFEST, release_folder
from shared.errors import ModelError, RequestError
from shared.jobs import outbox
from shared.signatures import Signer
from tests.handmade import NOON, PLACE, TABLE, make_job, publish_handmade, row, run_job, write_table
from tests.object_store import STORE_BUCKET, object_store, talking_to


@pytest.fixture
def bucket(tmp_path) -> LocalBucket:
    return LocalBucket(tmp_path / "bucket")


def publish(bucket: LocalBucket, count: int) -> list[str]:
    return [publish_handmade(bucket, made=NOON + timedelta(hours=hour)) for hour in range(count)]


def announced(bucket: Bucket) -> list[dict[str, str]]:
    return [folder.notice().facts for folder in outbox.undelivered(bucket)]


def scoring(bucket: LocalBucket, *arguments: str, code: int = 0) -> Result:
    done = CliRunner().invoke(root.scoring, list(arguments), env={"BUCKET_URL": bucket.url}, catch_exceptions=code == 0)
    assert done.exit_code == code or isinstance(done.exception, ModelError | RequestError), done.output
    return done


def test_each_rollback_goes_one_step_further_back_and_a_promotion_goes_on_from_there(bucket):
    first, second, third = publish(bucket, 3)
    for release in (first, second, third):
        promote(bucket, release, "champion")
    assert roll_back(bucket, "champion").release == second
    assert roll_back(bucket, "champion").release == first
    with pytest.raises(ModelError, match=f"champion points to {first}, and no earlier release of it is known"):
        roll_back(bucket, "champion")
    promote(bucket, third, "champion")
    assert resolve(bucket, "champion") == third
    assert roll_back(bucket, "champion").release == first


def test_what_was_rolled_back_from_is_not_gone_back_to(bucket):
    first, second, third = publish(bucket, 3)
    for release in (first, second):
        promote(bucket, release, "champion")
    roll_back(bucket, "champion")
    promote(bucket, third, "champion")
    assert roll_back(bucket, "champion").release == first


def test_an_alias_remembers_a_few_steps(bucket):
    releases = publish(bucket, ROLLBACKS + 2)
    for release in releases:
        promote(bucket, release, "champion")
    assert [roll_back(bucket, "champion").release for _ in range(ROLLBACKS)] == releases[1:-1][::-1]
    with pytest.raises(ModelError) as refused:
        roll_back(bucket, "champion")
    assert refused.value.next_step.endswith("scoring models promote RELEASE --alias champion")


def test_the_history_says_who_moved_it_from_where_to_where_and_why(bucket):
    first, second = publish(bucket, 2)
    promote(bucket, first, "champion")
    promote(bucket, "v1", "champion", reason="better on week 31")
    roll_back(bucket, "champion", reason="absurd on tablets")
    assert [(change.how, change.was, change.release, change.reason) for change in changes_of(bucket, "champion")] == [
        ("rolled back", second, first, "absurd on tablets"),
        ("promoted", first, second, "better on week 31"),
        ("promoted", None, first, ""),
    ]
    assert {change.by for change in changes_of(bucket, "champion")} == {promoting.who()}
    assert "@" in promoting.who()
    listed = json.loads(scoring(bucket, "models", "history", "--json").stdout)
    assert [change["number"] for change in listed] == [3, 2, 1]
    shown = scoring(bucket, "models", "history", "champion").stdout
    assert "absurd on tablets" in shown.splitlines()[1]


def test_people_are_notified_of_each_move_once(bucket):
    first, second = publish(bucket, 2)
    promote(bucket, first, "champion")
    promote(bucket, second, "champion", reason="better")
    promote(bucket, second, "champion", reason="better")
    roll_back(bucket, "champion")
    by = promoting.who()
    assert announced(bucket) == [
        {"alias": "champion", "from": "nothing", "to": first, "by": by},
        {"alias": "champion", "from": first, "to": second, "by": by, "reason": "better"},
        {"alias": "champion", "from": second, "to": first, "by": by},
    ]


def test_promoting_what_it_means_already_changes_nothing(bucket):
    [release] = publish(bucket, 1)
    promote(bucket, release, "champion")
    assert promote(bucket, "champion", "champion") is None
    assert len(changes_of(bucket, "champion")) == 1
    assert scoring(bucket, "models", "promote", release).stdout == f"champion already points to {release}\n"


@pytest.mark.parametrize("unknown", ["v9", "v1@20200101T000000Z-abcdef", "challenger"])
def test_an_unknown_release_is_refused(bucket, unknown):
    publish(bucket, 1)
    with pytest.raises(ModelError, match=f"there is no release or alias '{unknown}'"):
        promote(bucket, unknown, "champion")
    assert read_alias(bucket, "champion") is None


def test_a_release_that_workers_would_refuse_is_not_promoted(bucket):
    foreign, other = publish(bucket, 2)
    bucket.write(f"{release_folder(foreign)}/{MANIFEST}", bucket.read(f"{release_folder(other)}/{MANIFEST}"))
    with pytest.raises(ModelError, match=f"belongs to the release {other}"):
        promote(bucket, foreign, "champion")
    bucket.signer = Signer((b"a key of ours, long",))
    with pytest.raises(ModelError, match=f"workers would refuse the release {other}: signed: no"):
        promote(bucket, other, "champion")
    sign_release(bucket, other)
    assert promote(bucket, other, "champion").release == other


def test_a_rollback_to_a_release_that_is_gone_is_refused_and_the_alias_stays(bucket):
    first, second = publish(bucket, 2)
    promote(bucket, first, "champion")
    promote(bucket, second, "champion")
    bucket.delete_folder(release_folder(first))
    with pytest.raises(ModelError, match=f"there is no release {first}"):
        roll_back(bucket, "champion")
    assert resolve(bucket, "champion") == second


@pytest.mark.parametrize("alias", ["latest", "v3", "v1@x", "a b", "", "-x", "../x", "v1.latest", "é"])
def test_a_name_that_cannot_be_an_alias_is_refused(bucket, alias):
    [release] = publish(bucket, 1)
    bucket.write("model/v3/v3@20261123T120000Z-abcdef/manifest.json", b"{}")
    with pytest.raises(RequestError, match="cannot be an alias"):
        promote(bucket, release, alias)
    with pytest.raises(ModelError, match="there is no alias"):
        roll_back(bucket, alias)


@pytest.mark.parametrize("named", ["v1", "v1@latest"])
def test_the_name_of_a_definition_is_rolled_back_again_and_again_and_moved_forward(bucket, named):
    first, second, third = publish(bucket, 3)
    assert roll_back(bucket, named, reason="absurd").release == second
    assert (resolve(bucket, "v1"), resolve(bucket, "v1@latest")) == (second, second)
    assert roll_back(bucket, named).release == first
    with pytest.raises(ModelError, match=f"v1@latest points to {first}, and no earlier release of it is known") as refused:
        roll_back(bucket, named)
    assert f"scoring models promote {second} --alias v1. " in refused.value.next_step
    assert promote(bucket, third, named).release == third
    assert [change.how for change in changes_of(bucket, named)] == ["promoted", "rolled back", "rolled back", *["promoted"] * 3]
    assert publish_handmade(bucket, made=NOON + timedelta(hours=9)) == resolve(bucket, "v1"), "the next training moves it on"


def test_a_training_that_is_run_once_more_does_not_undo_a_rollback(bucket):
    first, second = publish(bucket, 2)
    roll_back(bucket, "v1")
    point_latest(bucket, second)
    assert resolve(bucket, "v1") == first


def test_the_notice_of_a_rollback_names_the_way_back_as_the_command_does(bucket):
    first, second, third = publish(bucket, 3)
    for release in (first, second, third):
        promote(bucket, release, "champion")
    said = scoring(bucket, "models", "rollback").stdout
    notices = [folder.notice() for folder in outbox.undelivered(bucket)]
    assert notices[-1].next_step == f"Undo this with: scoring models promote {third} --alias champion" == said.splitlines()[-1]
    assert notices[0].next_step == ""
    assert notices[1].next_step == "Take it back with: scoring models rollback --alias champion"


def test_a_reason_that_is_too_long_is_refused_before_anything_is_changed(bucket):
    [release] = publish(bucket, 1)
    with pytest.raises(RequestError, match="the reason has 501 characters"):
        promote(bucket, release, "champion", reason="x" * 501)
    assert read_alias(bucket, "champion") is None


def test_of_two_people_who_roll_back_at_once_one_is_refused(bucket, monkeypatch):
    releases = publish(bucket, 3)
    for release in releases:
        promote(bucket, release, "champion")

    def overtaken(bucket_, alias, change):
        monkeypatch.setattr(promoting, "add_change", add_change)
        roll_back(bucket, "champion")
        return add_change(bucket_, alias, change)

    monkeypatch.setattr(promoting, "add_change", overtaken)
    with pytest.raises(RequestError, match="another process changed champion at this moment"):
        roll_back(bucket, "champion")
    assert resolve(bucket, "champion") == releases[1]
    assert len(changes_of(bucket, "champion")) == 4


def promote_all_at_once(bucket: Bucket, releases: list[str]) -> None:
    with ThreadPoolExecutor(len(releases)) as people:
        list(people.map(lambda release: promote(bucket, release, "champion"), releases))
    history = changes_of(bucket, "champion")
    assert sorted(change.release for change in history) == sorted(releases)
    assert [change.number for change in history] == list(range(len(releases), 0, -1))
    assert [change.was for change in history] == [*(change.release for change in history[1:]), None]
    assert resolve(bucket, "champion") == history[0].release
    assert len(announced(bucket)) == len(releases)


def test_many_people_at_once_make_one_change_after_the_other(bucket):
    promote_all_at_once(bucket, publish(bucket, 8))


def test_so_they_do_on_an_object_store(bucket, tmp_path):
    releases = publish(bucket, 4)
    with object_store() as address, talking_to(address):
        remote = open_bucket(f"s3://{STORE_BUCKET}/promoting")
        for release in releases:
            remote.put_folder(bucket.place(release_folder(release)), release_folder(release), last=MANIFEST)
        promote_all_at_once(remote, releases)
        before = resolve(remote, "champion")
        assert roll_back(remote, "champion").was == before


def test_the_commands_say_from_what_to_what_and_how_to_undo_it(bucket):
    first, second = publish(bucket, 2)
    scoring(bucket, "models", "promote", first)
    lines = scoring(bucket, "models", "promote", "v1", "--reason", "better").stdout.splitlines()
    assert lines == [
        f"champion points to {second} now; before, it pointed to {first}",
        "Take it back with: scoring models rollback --alias champion",
    ]
    lines = scoring(bucket, "models", "rollback").stdout.splitlines()
    assert lines[0] == f"champion points to {first} again; before, it pointed to {second}"
    assert json.loads(scoring(bucket, "models", "promote", "v1", "--json").stdout) == {
        "alias": "champion",
        "release": second,
        "was": first,
    }


def test_a_release_that_was_trained_with_force_is_never_used_without_a_word(bucket, no_redis_url):
    plain = publish_handmade(bucket)
    write_table(bucket, [row(number) for number in range(5)])
    run_job(make_job(bucket))
    places = [("models", "promote", "v1"), ("results", "show", f"v1/{PLACE}"), ("score", TABLE, "--model", "v1", "--no-wait")]
    for words in places:
        said = CliRunner().invoke(root.scoring, words, env={"BUCKET_URL": bucket.url, "REDIS_URL": no_redis_url})
        assert "--force" not in said.output, words
    manifest = f"{release_folder(plain)}/{MANIFEST}"
    bucket.write(manifest, json.dumps(json.loads(bucket.read(manifest)) | {"forced": ["it has 3 clicks"]}).encode())
    for words in [*places, ("models", "promote", plain, "--alias", "challenger")]:
        said = CliRunner().invoke(root.scoring, words, env={"BUCKET_URL": bucket.url, "REDIS_URL": no_redis_url})
        assert f"Warning: the release {plain} was trained with --force, although it has 3 clicks\n" in said.stderr, words


def test_latest_is_said_to_be_no_alias_that_moves(bucket):
    publish_handmade(bucket)
    with pytest.raises(ModelError, match=r"^there is no alias 'latest' that moves: each definition has its own") as refused:
        changes_of(bucket, "latest")
    assert refused.value.next_step == "Name the definition, as in: scoring models history v2"
