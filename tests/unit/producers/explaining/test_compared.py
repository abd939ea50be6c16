"""The results that ``scoring why`` compares when nobody names them, or when the names are wrong."""

import json
from datetime import timedelta

import pytest

from producers.channels.moving import roll_back_channel
from producers.explaining.compared import choose_results
from shared.bucket.local import LocalBucket
from shared.catalog.channels import change_channel, change_to
from shared.catalog.manifests import ResultManifest
from shared.errors import RequestError
from shared.jobs.folder import JobFolder
from tests.handmade import NOON, make_job, publish_handmade, row, run_job, write_table


@pytest.fixture
def bucket(tmp_path) -> LocalBucket:
    bucket = LocalBucket(tmp_path / "bucket")
    publish_handmade(bucket)
    write_table(bucket, [row(number) for number in range(10)])
    return bucket


def score(bucket: LocalBucket, minute: int, **more: object) -> JobFolder:
    folder = make_job(bucket, minute=minute, **more)
    run_job(folder)
    return folder


def show(bucket: LocalBucket, channel: str, folder: JobFolder) -> None:
    manifest = ResultManifest.model_validate_json(bucket.read(folder.file("manifest.json")))
    change_channel(bucket, channel, lambda now: change_to(manifest, now, "passed the guard"))


def test_a_channel_is_compared_with_what_it_showed_before(bucket):
    one, two, three = (score(bucket, minute) for minute in (1, 2, 3))
    for folder in (one, three, two, two):
        show(bucket, "live", folder)
    show(bucket, "other", one)
    assert (choose_results(bucket, None, None).job_id, choose_results(bucket, None, None).against) == (two.job_id, three.job_id)
    assert choose_results(bucket, "other", None).against is None
    assert choose_results(bucket, "live", one.job_id).against == one.job_id


def test_the_only_channel_needs_no_name(bucket):
    one = score(bucket, 1)
    show(bucket, "shop", one)
    assert choose_results(bucket, None, None).job_id == one.job_id


def test_without_the_channel_live_the_channels_are_listed(bucket):
    one = score(bucket, 1)
    for channel in ("shop", "market"):
        show(bucket, channel, one)
    with pytest.raises(RequestError, match=r"there is no channel live in the bucket .*; there are: market, shop") as error:
        choose_results(bucket, None, None)
    assert "--in CHANNEL" in error.value.next_step


def test_without_any_channel_the_error_says_how_to_name_a_job(bucket):
    with pytest.raises(RequestError, match="there is no channel live"):
        choose_results(bucket, None, None)


@pytest.mark.parametrize("named", ["nothing", "../../etc", "live/../..", "x" * 500])
def test_an_unknown_channel_or_job_is_refused_with_the_channels(bucket, named):
    show(bucket, "shop", score(bucket, 1))
    with pytest.raises(RequestError) as error:
        choose_results(bucket, named, None)
    assert "Channels: shop." in error.value.next_step


def test_a_job_is_compared_with_the_result_before_it_at_its_place(bucket):
    one, two, three = (score(bucket, minute) for minute in (1, 2, 3))
    assert choose_results(bucket, two.job_id, None).against == one.job_id
    assert choose_results(bucket, three.job_id[-6:], None).against == two.job_id
    assert choose_results(bucket, one.job_id, None).against is None


def test_a_job_of_a_channel_is_compared_with_what_the_channel_showed_before(bucket):
    one, two = score(bucket, 1), score(bucket, 2)
    publish_handmade(bucket, made=NOON + timedelta(hours=1))
    show(bucket, "live", one)
    three = score(bucket, 3, channel="live", guard_off="on purpose")
    assert choose_results(bucket, three.job_id, None).against == one.job_id
    assert choose_results(bucket, two.job_id, None).against == one.job_id


def test_a_channel_may_be_the_result_before_and_a_later_one_is_noted(bucket):
    one, two = score(bucket, 1), score(bucket, 2)
    show(bucket, "live", one)
    show(bucket, "live", two)
    found = choose_results(bucket, one.job_id, "live")
    assert (found.job_id, found.against) == (one.job_id, two.job_id)
    assert found.notes == [f"the result before, that of job {two.job_id}, is later than that of job {one.job_id}"]
    assert choose_results(bucket, "live", one.job_id).notes == []
    with pytest.raises(RequestError, match="there is no result, job or channel liev") as error:
        choose_results(bucket, "live", "liev")
    assert "Channels: live." in error.value.next_step


def test_a_job_that_its_channel_was_rolled_back_to_is_compared_with_what_was_shown_before_it(bucket):
    one, two, three = (score(bucket, minute, channel="live", guard_off="on purpose") for minute in (1, 2, 3))
    roll_back_channel(bucket, "live", to=two.job_id, reason="the third is too high")
    assert choose_results(bucket, two.job_id, None).against == one.job_id
    found = choose_results(bucket, "live", None)
    assert (found.job_id, found.against) == (two.job_id, three.job_id)
    assert "is later than that of job" in found.notes[0]


def test_a_held_result_is_compared_with_what_the_guard_compared_it_with(bucket):
    one = score(bucket, 1)
    show(bucket, "live", one)
    score(bucket, 2)
    write_table(bucket, [row(number) for number in range(3)])
    bucket.write("config/guard.yaml", b"live: {checks: {rows: {block: 1%, min_rows: 1}}}\n")
    held = score(bucket, 3, channel="live")
    assert json.loads(bucket.read(held.file("outcome.json")))["state"] == "held"
    assert choose_results(bucket, held.job_id, None).against == one.job_id
    assert held.job_id in choose_results(bucket, "live", None).notes[0]


def test_a_result_is_not_compared_with_itself(bucket):
    one = score(bucket, 1)
    with pytest.raises(RequestError, match="both results are that of job"):
        choose_results(bucket, one.job_id, one.job_id)
