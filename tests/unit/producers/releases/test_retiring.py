"""A retired release is out of `latest` for good, whatever runs again; its full id still means it, and people are notified."""

import io
import json
from datetime import timedelta

import pytest
from click.testing import CliRunner
from rich.console import Console

from producers.cli import root
from producers.display import releases as display_releases
from producers.releases import finding
from producers.releases.promoting import promote, roll_back
from producers.releases.retention import assess_releases
from producers.releases.retiring import retire, unretire
from shared.bucket.local import LocalBucket
from shared.catalog.aliases import list_aliases, point_latest, resolve
from shared.catalog.retirements import RETIRED, retired_releases, why_retired
from shared.errors import ModelError, RequestError
from shared.jobs import outbox
from tests.handmade import NOON, make_job, publish_handmade, row, run_job, write_table


@pytest.fixture
def bucket(tmp_path) -> LocalBucket:
    return LocalBucket(tmp_path / "bucket")


def publish(bucket: LocalBucket, count: int) -> list[str]:
    return [publish_handmade(bucket, made=NOON + timedelta(hours=hour)) for hour in range(count)]


def scoring(bucket: LocalBucket, *arguments: str) -> str:
    return CliRunner().invoke(root.scoring, list(arguments), env={"BUCKET_URL": bucket.url}, catch_exceptions=False).stdout


def test_latest_means_the_newest_release_that_is_not_retired(bucket):
    first, second, third = publish(bucket, 3)
    assert retire(bucket, "v1", reason="trained on one row").release == third
    assert (resolve(bucket, "v1"), resolve(bucket, "v1@latest"), resolve(bucket, third)) == (second, second, third)
    retire(bucket, first, reason="too old")
    assert resolve(bucket, "v1") == second
    assert set(retired_releases(bucket)) == {first, third}
    assert why_retired(bucket, third).endswith(": trained on one row")
    assert retire(bucket, third, reason="again").changed is False


def test_a_training_that_is_run_once_more_does_not_bring_it_back_and_a_later_one_moves_on(bucket):
    first, second = publish(bucket, 2)
    retire(bucket, second, reason="junk")
    point_latest(bucket, second)
    assert resolve(bucket, "v1") == first
    assert publish_handmade(bucket, made=NOON + timedelta(hours=5)) == resolve(bucket, "v1")


def test_the_only_release_can_be_retired_and_then_the_definition_has_none(bucket):
    [only] = publish(bucket, 1)
    assert retire(bucket, only, reason="junk").latest is None
    for name in ("v1", "v1@latest"):
        with pytest.raises(ModelError, match=f"v1 has no release in use: {only} is retired since .*: junk") as refused:
            resolve(bucket, name)
        assert "scoring train v1 --again" in refused.value.next_step
    assert list_aliases(bucket) == {}
    newer = publish_handmade(bucket, made=NOON + timedelta(hours=1))
    assert resolve(bucket, "v1") == newer


def test_a_release_that_an_alias_means_is_not_retired_before_it_is_moved(bucket):
    first, second, third = publish(bucket, 3)
    promote(bucket, first, "challenger")
    with pytest.raises(RequestError, match=f"challenger still points to {first}") as refused:
        retire(bucket, first, reason="junk")
    assert f"Move it first: scoring models promote {third} --alias challenger" in refused.value.next_step
    promote(bucket, second, "champion")
    promote(bucket, third, "champion")
    with pytest.raises(RequestError) as refused:
        retire(bucket, third, reason="junk")
    assert "Move it first: scoring models rollback --alias champion" in refused.value.next_step
    roll_back(bucket, "champion")
    assert retire(bucket, third, reason="junk").changed
    assert not retired_releases(bucket).keys() & set(list_aliases(bucket).values())


def test_it_is_taken_back_into_use(bucket):
    first, second = publish(bucket, 2)
    retire(bucket, second, reason="junk")
    assert unretire(bucket, second, reason="it was good").latest == second
    assert resolve(bucket, "v1") == second
    assert unretire(bucket, second).changed is False
    retire(bucket, first, reason="old")
    assert unretire(bucket, first).latest == second, "an older one does not become the newest"
    retire(bucket, second, reason="junk after all")
    assert resolve(bucket, "v1") == first


def test_a_retired_release_is_neither_promoted_nor_rolled_back_to(bucket):
    first, second, third = publish(bucket, 3)
    for release in (first, second, third):
        promote(bucket, release, "champion")
    retire(bucket, second, reason="junk")
    with pytest.raises(ModelError, match=f"the release {second} is retired") as refused:
        promote(bucket, second, "challenger")
    assert refused.value.next_step.endswith(f"scoring models unretire {second}")
    assert roll_back(bucket, "champion").release == first
    assert roll_back(bucket, "v1").release == first


def test_a_job_with_its_full_id_works_and_warns(bucket):
    first, second = publish(bucket, 2)
    write_table(bucket, [row(number) for number in range(20)])
    retire(bucket, second, reason="trained on one row")
    warned = run_job(make_job(bucket, model=second))
    assert (warned.state, warned.release) == ("done", second)
    assert warned.facts["warning"].startswith(f"{second} is retired since ")
    assert warned.facts["warning"].endswith(": trained on one row")
    plain = run_job(make_job(bucket, minute=1))
    assert plain.release == first
    assert "warning" not in plain.facts


def test_people_are_notified_once_and_lists_show_it(bucket):
    first, second = publish(bucket, 2)
    said = scoring(bucket, "models", "retire", second, "--reason", "trained on one row", "--by", "ann")
    assert said.splitlines() == [
        f"{second} is retired",
        f"v1 points to {first} now",
        f"Take it back into use with: scoring models unretire {second}",
    ]
    assert scoring(bucket, "models", "retire", second, "--reason", "x").splitlines()[0] == f"{second} is retired already"
    [notice] = [folder.notice() for folder in outbox.undelivered(bucket)]
    assert notice.title == f"retired: {second}"
    assert notice.facts == {"release": second, "v1@latest points to": first, "by": "ann", "reason": "trained on one row"}
    assert notice.next_step == f"Take this back with: scoring models unretire {second}"
    listed = {release["release"]: release["retired"] for release in json.loads(scoring(bucket, "models", "list", "--json"))}
    assert listed[first] == ""
    assert listed[second].endswith("by ann: trained on one row")
    assert "retired" in scoring(bucket, "models", "list")
    console = Console(file=io.StringIO(), width=200)
    display_releases.print_release(console, finding.find_release(bucket, second))
    assert "by ann: trained on one row" in console.file.getvalue()
    assert scoring(bucket, "models", "unretire", second).splitlines() == [f"{second} is in use again", f"v1 points to {second} now"]


def test_gc_counts_no_retired_release_among_the_newest(bucket):
    releases = publish(bucket, 4)
    for release in releases[2:]:
        retire(bucket, release, reason="junk")
    needed = {judged.release: judged.needed for judged in assess_releases(bucket, keep=2)}
    assert [bool(needed[release]) for release in releases] == [True, True, False, False]


def test_a_damaged_record_counts_as_a_retirement(bucket):
    first, second = publish(bucket, 2)
    bucket.write(f"{RETIRED}/{second}/000001.json", b"")
    assert why_retired(bucket, second).endswith("000001.json cannot be read")
    retire(bucket, second, reason="junk")
    assert resolve(bucket, "v1") == first
    unretire(bucket, second)
    assert resolve(bucket, "v1") == second


def test_it_repairs_a_damaged_latest(bucket):
    first, second = publish(bucket, 2)
    bucket.write("model/aliases/history/v1.latest/000003.json", b"")
    assert retire(bucket, second, reason="junk").latest == first
    assert resolve(bucket, "v1") == first
