"""A name means what its last change says, even if processes died or came late; one that means nothing is answered with the known ones."""

import random
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from shared.bucket.local import LocalBucket
from shared.catalog.advice import how_to_retrain
from shared.catalog.aliases import (
    NAMES_SHOWN,
    RELEASES_SHOWN,
    Alias,
    changes,
    damaged_aliases,
    list_aliases,
    point_alias,
    point_latest,
    resolve,
)
from shared.catalog.manifests import TableFingerprint
from shared.errors import ModelError
from tests.handmade import NOON, publish_handmade


@pytest.fixture
def bucket(tmp_path) -> LocalBucket:
    return LocalBucket(tmp_path / "bucket")


def refused(bucket: LocalBucket, ref: str) -> ModelError:
    with pytest.raises(ModelError) as raised:
        resolve(bucket, ref)
    return raised.value


def test_in_an_empty_bucket_the_first_step_is_to_train(bucket):
    error = refused(bucket, "v9")
    assert error.message == f"there is no release or alias 'v9' in the bucket {bucket.url}; nothing has been trained yet"
    assert error.next_step == "Train a definition first: scoring train v1"


def test_an_unknown_definition_is_not_to_be_trained(bucket):
    release = publish_handmade(bucket)
    aliases = [f"a{number:02}" for number in range(NAMES_SHOWN)]
    for alias in aliases:
        point_alias(bucket, alias, release)
    error = refused(bucket, "v9")
    assert error.message.endswith(f"; there are: {', '.join(aliases)}, ...")
    assert error.next_step == "Name one of those that there are: scoring models list"


def test_of_a_known_definition_the_newest_releases_are_offered(bucket):
    releases = [publish_handmade(bucket, made=NOON + timedelta(hours=hour)) for hour in range(RELEASES_SHOWN + 1)]
    error = refused(bucket, "v1@nope")
    assert error.message.endswith(f"; of v1 there are: {', '.join(reversed(releases[1:]))}, ...")
    assert error.next_step.endswith("or train one with: scoring train v1 --again")


RELEASES = [f"v1@20261123T{hour:02}0000Z-abcdef" for hour in range(8)]


def test_a_name_means_its_newest_change_even_when_that_was_not_written_into_its_file(bucket):
    point_alias(bucket, "champion", RELEASES[0])
    older = bucket.read("model/aliases/champion.json")
    point_alias(bucket, "champion", RELEASES[1])
    point_alias(bucket, "champion", RELEASES[2])
    bucket.write("model/aliases/champion.json", older)
    assert resolve(bucket, "champion") == RELEASES[2]
    bucket.delete("model/aliases/champion.json")
    assert resolve(bucket, "champion") == RELEASES[2]
    assert list_aliases(bucket) == {"champion": RELEASES[2]}


def test_an_alias_from_before_there_was_a_history_goes_on_in_it(bucket):
    bucket.write("model/aliases/champion.json", Alias(release=RELEASES[0], at=NOON).to_json())
    bucket.write("model/aliases/old.json", b'{"format": 1, "release": "%s", "at": "2026-11-23T12:00:00Z"}' % RELEASES[0].encode())
    assert resolve(bucket, "old") == RELEASES[0]
    point_alias(bucket, "champion", RELEASES[1])
    assert resolve(bucket, "champion") == RELEASES[1]
    assert [(change.was, change.release) for change in changes(bucket, "champion")] == [(RELEASES[0], RELEASES[1])]


def test_latest_never_goes_back_however_many_trainings_end_at_once(bucket):
    for seed in range(10):
        shuffled = random.Random(seed).sample(RELEASES, len(RELEASES))
        bucket.delete_folder("model/aliases")
        with ThreadPoolExecutor(len(shuffled)) as trainings:
            list(trainings.map(lambda release: point_latest(bucket, release), shuffled))
        assert resolve(bucket, "v1") == RELEASES[-1]
        means = [change.release for change in changes(bucket, "v1.latest")]
        assert means == sorted(means, reverse=True)


def test_a_repeated_training_names_the_tables_of_the_release_and_quotes_their_paths():
    tables = {
        name: TableFingerprint(path=path, files={}, rows=1, rejected=0)
        for name, path in (("eval", "data/week 31.csv"), ("train", "data/30.csv"))
    }
    again = how_to_retrain("v4@20261123T120000Z-abcdef", tables)
    assert again == "Train it again: scoring train v4 --train data/30.csv --eval 'data/week 31.csv' --again"


# --- damaged files

DAMAGE = [b"", b'{"format": 1, "release": "v1@2026', b'{"format": 2, "release": "v1@20261123T120000Z-abcdef"}', b"\xff\xfe", b"[" * 70_000]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_copy_is_no_harm_while_the_history_is_whole(bucket, damage):
    release = publish_handmade(bucket)
    point_alias(bucket, "champion", release)
    bucket.write("model/aliases/champion.json", damage)
    assert resolve(bucket, "champion") == release
    assert damaged_aliases(bucket) == {}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("path", ["model/aliases/challenger.json", "model/aliases/history/challenger/000001.json"])
def test_a_damaged_alias_is_left_out_and_named_and_can_be_moved(bucket, damage, path):
    release = publish_handmade(bucket)
    bucket.write(path, damage)
    assert list_aliases(bucket) == {"v1.latest": release}
    assert list(damaged_aliases(bucket)) == ["challenger"]
    error = refused(bucket, "challenger")
    assert error.message.startswith(f"the alias challenger cannot be read: {path}: ")
    assert error.next_step.endswith("scoring models promote RELEASE --alias challenger")
    assert point_alias(bucket, "challenger", release).release == release
    assert resolve(bucket, "challenger") == release
    assert damaged_aliases(bucket) == {}
    assert [change.release for change in changes(bucket, "challenger")] == [release]


def test_a_name_whose_newest_change_is_damaged_does_not_mean_what_it_meant_before(bucket):
    release = publish_handmade(bucket)
    point_alias(bucket, "champion", release)
    bucket.write("model/aliases/history/champion/000002.json", b"")
    assert "history/champion/000002.json" in refused(bucket, "champion").message
    assert [change.number for change in changes(bucket, "champion")] == [1]
    assert "champion" not in list_aliases(bucket)


def test_a_damaged_latest_is_repaired_by_the_next_training(bucket):
    publish_handmade(bucket)
    bucket.write("model/aliases/history/v1.latest/000002.json", b"")
    assert "the alias v1@latest cannot be read" in refused(bucket, "v1").message
    newer = publish_handmade(bucket, made=NOON + timedelta(hours=1))
    assert resolve(bucket, "v1") == newer
