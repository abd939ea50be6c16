"""A name that means no release is answered with those that there are."""

from datetime import timedelta

import pytest

from shared.aliases import NAMES_SHOWN, RELEASES_SHOWN, point_alias, resolve
from shared.bucket import LocalBucket
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
