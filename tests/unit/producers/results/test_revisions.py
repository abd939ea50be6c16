"""Every result of a place is listed, with a command that puts an older one back."""

import json
import shlex

import pytest
from click.testing import CliRunner, Result

from producers.cli import root
from producers.enqueue.score import enqueue_score
from shared.bucket.local import LocalBucket
from shared.jobs.folder import JobFolder
from shared.settings import Settings
from tests.handmade import HEADER, PLACE, TABLE, WEIGHTS, make_job, publish_handmade, row, run_job, text_at, write_table

pytestmark = pytest.mark.server

FOLDER = f"data/predict/output/v1/{PLACE}"


@pytest.fixture
def bucket(tmp_path) -> LocalBucket:
    bucket = LocalBucket(tmp_path / "bucket")
    publish_handmade(bucket)
    write_table(bucket, [row(number) for number in range(5)])
    return bucket


def scoring(bucket: LocalBucket, *arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(root.scoring, list(arguments), env={"BUCKET_URL": bucket.url} | environment)


@pytest.mark.parametrize("brought", [False, True])
def test_the_command_that_is_printed_puts_an_older_result_back(bucket, no_redis_url, tmp_path, brought):
    (tmp_path / "good.csv").write_bytes(bucket.read(TABLE) or b"")
    settings = Settings(redis_url=no_redis_url)
    table = str(tmp_path / "good.csv") if brought else TABLE
    first, second = (
        JobFolder(bucket, enqueue_score(settings, bucket, table=table, model="v1", again=again).job_id) for again in (False, True)
    )
    assert run_job(first).state == "done"
    place = first.outcome().result.removeprefix("data/predict/output/")
    good = text_at(bucket, f"data/predict/output/{place}")
    bad = publish_handmade(bucket, made=first.job().created, weights=[weight / 2 for weight in WEIGHTS])
    second = JobFolder(bucket, enqueue_score(settings, bucket, table=table, model=bad).job_id)
    assert run_job(second).state == "done"
    said = scoring(bucket, "results", "revisions", place)
    assert said.stdout.index(second.job_id) < said.stdout.index(first.job_id)
    assert said.stdout.count("at the place") == 1
    program, *command = shlex.split(said.stdout.splitlines()[-1])
    assert program == "scoring"
    scoring(bucket, *command, "--no-wait", REDIS_URL=no_redis_url)
    third = JobFolder(bucket, sorted(name for name in bucket.folders("jobs") if not name.startswith("_"))[-1])
    assert third.job_id > second.job_id
    assert run_job(third).state == "done"
    assert text_at(bucket, f"data/predict/output/{place}") == good
    listed = json.loads(scoring(bucket, "results", "revisions", place, "--json").stdout)
    assert [(entry["job_id"], entry["at_the_place"]) for entry in listed] == [
        (third.job_id, True),
        (second.job_id, False),
        (first.job_id, False),
    ]


def test_a_damaged_revision_is_named_and_the_others_are_listed(bucket):
    jobs = [make_job(bucket, minute=minute) for minute in (1, 2)]
    for job in jobs:
        run_job(job)
    broken = f"{FOLDER}/revisions/{jobs[0].job_id}/manifest.json"
    bucket.write(broken, b"")
    said = scoring(bucket, "results", "revisions", f"v1/{PLACE}")
    assert said.exit_code == 0
    assert jobs[1].job_id in said.stdout
    assert said.stderr.startswith(f"Warning: {broken} cannot be read")


def test_a_place_without_results_is_refused(bucket):
    said = scoring(bucket, "results", "revisions", "v1/2020/01/01")
    assert said.exception.exit_code == 2
    assert said.exception.next_step == "List them with: scoring results list"


def test_the_name_of_a_job_leads_to_its_place(bucket):
    job = make_job(bucket)
    run_job(job)
    for name in ("last", job.job_id):
        said = scoring(bucket, "results", "revisions", name)
        assert said.exception.next_step == f"Type: scoring results revisions v1/{PLACE}"
    assert "there is no result at" in scoring(bucket, "results", "revisions", "v2/2020/01/01").exception.message


def put_back(bucket: LocalBucket, redis_url: str, command: str) -> JobFolder:
    """The job of a command that was printed, run to its end."""
    program, *words = shlex.split(command)
    assert program == "scoring"
    scoring(bucket, *words, "--no-wait", REDIS_URL=redis_url)
    job = JobFolder(bucket, sorted(name for name in bucket.folders("jobs") if not name.startswith("_"))[-1])
    run_job(job)
    return job


def listed(bucket: LocalBucket) -> dict[str, dict]:
    return {entry["job_id"]: entry for entry in json.loads(scoring(bucket, "results", "revisions", f"v1/{PLACE}", "--json").stdout)}


def spoil(bucket: LocalBucket) -> None:
    write_table(bucket, [row(0), "no-id" + row(1)[4:], *(row(number) for number in range(2, 5))])


@pytest.mark.parametrize("accepted", [False, True])
def test_the_command_for_a_fix_makes_the_fix_again(bucket, no_redis_url, accepted):
    good_job = make_job(bucket)
    run_job(good_job)
    good = text_at(bucket, FOLDER)
    spoil(bucket)
    broken = make_job(bucket, minute=1, max_reject_share=0.5)
    run_job(broken)
    right = row(1)
    bucket.write("fixed.csv", f"reject_file,reject_line,{HEADER}\n{TABLE},3,{right}\n".encode())
    fix = make_job(bucket, minute=2, fixes=broken.job_id, fixed_rows="fixed.csv", max_reject_share=0.25)
    if accepted:
        bucket.write(fix.file("rejects-accepted"), b"")
    run_job(fix)
    assert text_at(bucket, FOLDER) == good
    run_job(make_job(bucket, minute=3, max_reject_share=0.5))
    assert text_at(bucket, FOLDER) != good
    command = listed(bucket)[fix.job_id]["put_back"]
    share = "1" if accepted else "0.25"
    assert command == f"scoring score fixed.csv --fix {broken.job_id} --max-reject-share {share} --again"
    again = put_back(bucket, no_redis_url, command)
    assert again.job_id not in {broken.job_id, fix.job_id}
    assert text_at(bucket, FOLDER) == good
    bucket.delete("fixed.csv")
    run_job(make_job(bucket, minute=10**7, max_reject_share=0.5))
    assert "the corrected rows fixed.csv are gone" in listed(bucket)[fix.job_id]["put_back_not"]


def test_a_result_with_accepted_rejects_is_made_again_without_a_limit(bucket, no_redis_url):
    spoil(bucket)
    first = make_job(bucket)
    bucket.write(first.file("rejects-accepted"), b"")
    run_job(first)
    limited = make_job(bucket, minute=1, max_reject_share=0.3, max_rejects=1)
    run_job(limited)
    run_job(make_job(bucket, minute=2, max_reject_share=0.3, max_rejects=1))
    commands = {job_id: entry.get("put_back", "") for job_id, entry in listed(bucket).items()}
    assert commands[first.job_id].endswith(" --max-reject-share 1 --again")
    assert commands[limited.job_id].endswith(" --max-reject-share 0.3 --max-rejects 1 --again")
    assert put_back(bucket, no_redis_url, commands[first.job_id]).outcome().state == "done"
    assert [command for command in commands.values() if command] != []
    said = scoring(bucket, "results", "revisions", f"v1/{PLACE}").stdout
    assert commands[first.job_id] in said
    assert commands[limited.job_id] in said


def test_a_table_that_changed_or_is_gone_gives_a_sentence_instead_of_a_command(bucket):
    first, second = (make_job(bucket, minute=minute) for minute in (0, 1))
    run_job(first)
    run_job(second)
    table = bucket.read(TABLE)
    write_table(bucket, [row(number) for number in range(1, 6)])
    entry = listed(bucket)[first.job_id]
    own = f"{FOLDER}/revisions/{first.job_id}/prediction_output.csv.gz"
    assert "put_back" not in entry
    assert entry["put_back_not"] == (
        f"{TABLE} was changed since it was scored. Its rates remain in {own}, which can be copied by hand."
    )  # fmt: skip
    bucket.delete(TABLE)
    said = scoring(bucket, "results", "revisions", f"v1/{PLACE}").stdout
    assert f"The result of job {first.job_id} cannot be made once more: the table {TABLE} is gone." in said
    bucket.write(TABLE, table)  # the same content with another time
    assert "put_back" in listed(bucket)[first.job_id]
