"""``scoring results diff``: the result before is found by itself, and every bad request is refused with the next command to type."""

import csv
import json
import re
import subprocess
import sys

import pytest
from click.testing import CliRunner, Result

from producers.channels.moving import roll_back_channel
from producers.cli import root
from shared.bucket.local import LocalBucket
from shared.catalog.channels import read_channel
from shared.catalog.manifests import INDEX, PREDICTIONS
from shared.errors import ScoringError
from tests.guarded import ROWS, broken_lines, lines_with_clicks, make_guarded_bucket, manifest_of, score_on_channel, verdict_of
from tests.handmade import make_job, run_job


@pytest.fixture
def live(tmp_path) -> LocalBucket:
    return make_guarded_bucket(tmp_path / "bucket")[0]


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    """A held result, with the bucket that its channel is in."""
    bucket, base = make_guarded_bucket(tmp_path_factory.mktemp("diff") / "bucket")
    folder, outcome = score_on_channel(bucket, broken_lines(), 5)
    return bucket, base, folder, outcome


def diff(bucket: LocalBucket, *arguments: object) -> Result:
    return CliRunner().invoke(root.scoring, ["results", "diff", *map(str, arguments)], env={"BUCKET_URL": bucket.url})


def json_of(done: Result) -> dict:
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def refused(done: Result) -> str:
    """The message and next step of a refused request."""
    assert done.exit_code != 0
    error = done.exception
    return str(error) if isinstance(error, ScoringError) else done.output


def test_a_held_result_is_compared_with_what_its_channel_showed(held):
    bucket, base, folder, outcome = held
    found = json_of(diff(bucket, folder.job_id, "--json"))
    assert found["before"]["job_id"] == base.job_id
    assert found["before"]["relation"] == "that live showed when the guard judged"
    assert found["rows"]["lost"] == ROWS // 2
    assert found["rows"]["new"] == 1
    assert found["doubled"] == {"before": 0, "now": 1}
    assert found["rows"]["moved"] + found["rows"]["unchanged"] == ROWS // 2
    checks = {(check.check, check.group): check for check in verdict_of(folder, outcome).checks}
    assert f"({found['rows']['lost']:,} rows)" in checks["keys_lost", "all"].sentence
    for device in found["devices"]:
        numbers = re.search(r"\((\S+) instead of (\S+)\)", checks["mean_cr", device["device"]].sentence)
        assert numbers.groups() == (f"{device['mean_now']:.4g}", f"{device['mean_before']:.4g}")


def test_the_table_changed_when_the_features_of_moved_rows_did(held):
    bucket, _, folder, _ = held
    found = json_of(diff(bucket, folder.job_id, "--json"))
    assert found["knows_features"]
    assert found["rows"]["moved_alone"] == 0
    assert {row["features"] for row in found["top"]["moved"]} == {"changed"}
    assert all(row["file"] == "data/predict/input/2026/11/15/keywords.csv" for row in found["top"]["moved"])
    assert all(row["file"] == "data/predict/input/2026/11/10/keywords.csv" for row in found["top"]["lost"])


def test_people_read_the_counts_the_rates_and_the_rows(held):
    bucket, base, folder, _ = held
    said = diff(bucket, folder.job_id, "--top", 3).stdout
    assert re.search(rf"^lost +{ROWS // 2} ", said, flags=re.MULTILINE)
    assert re.search(r"^doubled +1", said, flags=re.MULTILINE)
    assert base.job_id in said
    assert said.count("Computer") >= 1
    assert "Lost rows, the worst first" in said
    assert "Rows with the key of an earlier row" in said


def test_the_csv_file_holds_every_lost_row(held, tmp_path):
    bucket, _, folder, _ = held
    out = tmp_path / "changed.csv"
    found = json_of(diff(bucket, folder.job_id, "--json", "--csv", out))
    assert found["csv"] == str(out)
    kinds = [row["what"] for row in csv.DictReader(out.open(newline=""))]
    assert {kind: kinds.count(kind) for kind in ("lost", "new", "moved")} == {
        kind: found["rows"][kind] for kind in ("lost", "new", "moved")
    }
    again = diff(bucket, folder.job_id, "--csv", out)
    assert "is there already" in refused(again)


def test_a_published_result_is_compared_with_the_one_before(live):
    lines = lines_with_clicks()
    folder, outcome = score_on_channel(live, [lines[0].replace(",0,", ",1,", 1), *lines[1:]], 5)
    assert outcome.state == "done"
    found = json_of(diff(live, folder.job_id, "--json"))
    assert (found["rows"]["moved"], found["rows"]["lost"]) == (1, 0)
    assert found["before"]["job_id"] != folder.job_id


def test_one_id_that_is_too_large_for_a_whole_key_holds_nothing_when_it_comes_and_when_it_goes(live):
    large = f"{1 << 61},{lines_with_clicks(1)[0].partition(',')[2]}"
    for minute, lines, kind in ((5, [*lines_with_clicks(), large], "new"), (6, lines_with_clicks(), "lost")):
        folder, outcome = score_on_channel(live, lines, minute)
        assert outcome.state == "done"
        assert "guard" not in outcome.facts
        rows = json_of(diff(live, folder.job_id, "--json"))["rows"]
        assert (rows["unchanged"], rows[kind], rows["moved"]) == (ROWS, 1, 0)


def test_the_first_result_of_a_channel_needs_another_one(live):
    message = refused(diff(live, "20261123t120000z-score-000000"))
    assert "live had no result before" in message
    assert "--against JOB" in message


def test_people_are_told_what_the_channel_shows_now(live):
    held, _ = score_on_channel(live, broken_lines(), 5)
    lines = lines_with_clicks()
    newer, outcome = score_on_channel(live, [*lines[:-1], lines[-1].replace("Tablet", "Computer")], 6)
    assert outcome.state == "done"
    said = diff(live, held.job_id).stdout
    assert f"scoring results diff {held.job_id} --against {newer.job_id}" in said
    found = json_of(diff(live, held.job_id, "--against", newer.job_id, "--json"))
    assert found["before"]["job_id"] == newer.job_id


def other_table(changed: int) -> list[str]:
    """A table in which the guard finds nothing, with other features in some of its rows."""
    lines = lines_with_clicks()
    return [*(line.replace(",0,", ",1,", 1) for line in lines[:changed]), *lines[changed:]]


def test_an_older_result_is_compared_with_what_its_channel_showed_before_it(live):
    first = "20261123t120000z-score-000000"
    second, third = (score_on_channel(live, other_table(count), minute)[0] for count, minute in ((3, 5), (6, 6)))
    for folder in (second, third):
        live.delete(f"{manifest_of(folder, folder.outcome()).revision}/guard.json")  # an earlier version did not keep it
    for folder, before in ((second, first), (third, second.job_id)):
        found = json_of(diff(live, folder.job_id, "--json"))
        assert (found["before"]["job_id"], found["before"]["is_later"]) == (before, False)
        assert found["before"]["relation"] == "that live showed before"
    roll_back_channel(live, "live", to=second.job_id, reason="the third is too high")
    assert json_of(diff(live, second.job_id, "--json"))["before"]["job_id"] == first
    message = refused(diff(live, first))
    assert f"live had no result before that of job {first}" in message


def test_a_result_that_its_channel_never_showed_says_that_the_one_before_is_later(live):
    newer, _ = score_on_channel(live, other_table(3), 9)
    late, outcome = score_on_channel(live, other_table(6), 5)
    assert outcome.state == "done"
    assert read_channel(live, "live").job_id == newer.job_id
    found = json_of(diff(live, late.job_id, "--json"))
    assert (found["before"]["job_id"], found["before"]["is_later"]) == (newer.job_id, True)
    said = diff(live, late.job_id).stdout
    assert f"Before is the result that live shows now, which is later than that of job {late.job_id}." in said


def test_another_result_that_is_later_is_said_to_be(live):
    newer, _ = score_on_channel(live, other_table(3), 5)
    sentence = "Before is the result that --against names, which is later than that of job 20261123t120000z-score-000000."
    assert sentence in diff(live, "000000", "--against", newer.job_id).stdout
    assert "which is later" not in diff(live, newer.job_id, "--against", "000000").stdout


def test_a_channel_is_the_result_that_it_shows_now(live):
    newer, _ = score_on_channel(live, other_table(3), 5)
    found = json_of(diff(live, "live", "--json"))
    assert (found["result"]["job_id"], found["rows"]["moved"]) == (newer.job_id, 3)
    back = json_of(diff(live, "000000", "--against", "live", "--json"))
    assert (back["before"]["job_id"], back["before"]["is_later"]) == (newer.job_id, True)
    assert "would be compared with itself" in refused(diff(live, "live", "--against", newer.job_id))
    for arguments in (["liev"], ["live", "--against", "liev"]):
        assert "there is no result, job or channel liev" in refused(diff(live, *arguments))


def test_a_result_without_a_channel_needs_another_one(live):
    folder = make_job(live, minute=9, table="data/predict/input/2026/11/10/keywords.csv")
    run_job(folder)
    message = refused(diff(live, folder.job_id))
    assert "was scored for no channel" in message
    assert json_of(diff(live, folder.job_id, "--against", "000000", "--json"))["rows"]["unchanged"] == ROWS


def test_an_unknown_job_is_refused(live):
    assert "there is no result, job or channel 20261123t120000z-score-nobody" in refused(diff(live, "20261123t120000z-score-nobody"))
    assert "there is no result, job or channel nobody" in refused(diff(live, "000000", "--against", "nobody"))


def test_a_job_without_a_result_is_refused(live):
    folder = make_job(live, minute=9)
    assert "has no result" in refused(diff(live, folder.job_id))


def test_a_result_is_not_compared_with_itself(live):
    assert "would be compared with itself" in refused(diff(live, "000000", "--against", "000000"))


def test_a_base_that_is_gone_is_named(held, live):
    folder, outcome = score_on_channel(live, broken_lines(), 5)
    base = verdict_of(folder, outcome).base
    live.delete(f"{base.revision}/manifest.json")
    message = refused(diff(live, folder.job_id))
    assert base.revision in message
    assert "is gone or cannot be read" in message


def test_results_of_an_earlier_version_get_their_indexes_from_their_predictions_once(live):
    base, first = score_on_channel(live, lines_with_clicks(), 5)
    folder, outcome = score_on_channel(live, broken_lines(), 6)
    known = json_of(diff(live, folder.job_id, "--against", base.job_id, "--json"))
    paths = [f"{manifest_of(*job).revision}/{INDEX}" for job in ((base, first), (folder, outcome))]
    for path in paths:
        live.delete(path)
    found = json_of(diff(live, folder.job_id, "--against", base.job_id, "--json"))
    assert {kind: found["rows"][kind] for kind in ("lost", "new", "moved")} == {
        kind: known["rows"][kind] for kind in ("lost", "new", "moved")
    }
    assert (known["knows_features"], found["knows_features"], found["clicks"]) == (True, False, None)
    built = [live.read(path) for path in paths]
    assert "It is unknown which rows have the same features" in diff(live, folder.job_id, "--against", base.job_id).stdout
    assert [live.read(path) for path in paths] == built


def test_a_result_of_an_earlier_version_whose_predictions_are_damaged_says_what_to_do(live):
    folder, outcome = score_on_channel(live, broken_lines(), 5)
    revision = manifest_of(folder, outcome).revision
    live.delete(f"{revision}/{INDEX}")
    live.write(f"{revision}/{PREDICTIONS}", (live.read(f"{revision}/{PREDICTIONS}") or b"")[:-20])
    message = refused(diff(live, folder.job_id))
    assert PREDICTIONS in message
    assert "--again" in message
    assert not live.exists(f"{revision}/{INDEX}")


@pytest.mark.parametrize("damage", [lambda data: data[:-100], lambda data: b"", lambda data: data[:2000] + b"\xff" + data[2001:]])
def test_a_damaged_index_is_named(live, damage):
    folder, outcome = score_on_channel(live, broken_lines(), 5)
    path = f"{manifest_of(folder, outcome).revision}/{INDEX}"
    live.write(path, damage(live.read(path)))
    assert path in refused(diff(live, folder.job_id))


def test_results_with_different_key_columns_are_refused(live):
    folder, outcome = score_on_channel(live, broken_lines(), 5)
    path = f"{manifest_of(folder, outcome).revision}/manifest.json"
    manifest = json.loads(live.read(path))
    live.write(path, json.dumps(manifest | {"keys": ["keyword", "device"]}).encode())
    message = refused(diff(live, folder.job_id))
    assert "different key columns: keyword, device and entity_id, device" in message


def test_the_help_of_the_command_loads_no_numpy():
    code = "import sys; from producers.cli.root import scoring; scoring(['results', 'diff', '--help'], standalone_mode=False); "
    loaded = "print({'numpy', 'pyarrow'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code + loaded], capture_output=True, text=True, check=True)
    assert "--against" in done.stdout
    assert done.stdout.splitlines()[-1] == "set()"
