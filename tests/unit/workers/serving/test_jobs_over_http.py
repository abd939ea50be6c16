"""Jobs over HTTP without Redis: a request is written and runs later; no file of this machine is read; a decision is made once."""

import pytest

from shared.catalog.held import read_decision
from shared.jobs.folder import JobFolder
from tests.guarded import broken_lines, lines_with_clicks, make_guarded_bucket, score_on_channel, write_lines
from tests.serving import BOTH_TOKENS, JOBS, ask, make_service

AUTHORIZED = {"Authorization": f"Bearer {JOBS}"}


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    made, _ = make_guarded_bucket(tmp_path_factory.mktemp("jobs"))
    return made


@pytest.fixture(scope="module")
def service(bucket, tmp_path_factory):
    return make_service(bucket, tmp_path_factory.mktemp("home"), serve_tokens=BOTH_TOKENS)


def post(service, path, body=None):
    return ask(service, "POST", path, json=body, headers=AUTHORIZED)


def test_the_same_request_has_the_same_job_and_is_written_while_redis_is_away(service, bucket):
    body = {"kind": "score", "table": write_lines(bucket, lines_with_clicks(), 20), "model": "v1"}
    first = post(service, "/v1/jobs", body)
    assert (first.status_code, first.json()["fresh"], "Redis" in first.json()["problem"]) == (202, True, True)
    again = post(service, "/v1/jobs", body)
    assert (again.status_code, again.json()["fresh"]) == (200, False)
    job_id = first.json()["job_id"]
    assert again.json()["job_id"] == job_id
    shown = ask(service, "GET", first.headers["location"], headers=AUTHORIZED).json()
    assert (shown["state"], shown["job"]["table"]) == ("queued", body["table"])
    assert post(service, "/v1/jobs", body | {"again": True}).json()["job_id"] == job_id  # it has not ended yet
    assert post(service, f"/v1/jobs/{job_id}/cancel").json()["state"] == "cancelled"
    assert post(service, f"/v1/jobs/{job_id}/cancel").status_code == 200


@pytest.mark.parametrize(
    "more",
    [
        {"table": "/etc/passwd"},
        {"table": "../../etc/passwd"},
        {"table": "pyproject.toml"},
        {"table": "s3://other/table.csv"},
        {"table": "data/nothing.csv"},
        {"table": ""},
        {"table": 5},
        {"model": "nobody"},
        {"model": None},
        {"channel": "not/a/name"},
        {"chunk_rows": 0},
        {"chunk_rows": "5"},
        {"max_reject_share": 2},
        {"guard_off": "because"},
        {"kind": "explain"},
        {"kind": "train"},
    ],
)
def test_a_request_that_makes_no_sense_is_refused_and_no_file_of_this_machine_is_read(service, bucket, more):
    body = {"kind": "score", "table": write_lines(bucket, lines_with_clicks(), 21), "model": "v1"} | more
    before = bucket.folders("jobs")
    answer = post(service, "/v1/jobs", body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["error"]
    assert bucket.folders("jobs") == before


def test_a_training_takes_its_tables_and_its_search_from_the_bucket_only(service):
    body = {"kind": "train", "definition": "v1"}
    for more in ({"train": "/etc/passwd"}, {"eval": "data/train/x.csv"}, {"config": "pyproject.toml"}, {"promote": "perhaps"}):
        assert post(service, "/v1/jobs", body | more).status_code == 422


@pytest.mark.parametrize("job_id", ["nothing-here", "UPPER", "x" * 200, "%2e%2e", "%2e%2e%2f"])
def test_an_unknown_job_is_not_found(service, job_id):
    assert ask(service, "GET", f"/v1/jobs/{job_id}", headers=AUTHORIZED).status_code == 404
    assert post(service, f"/v1/jobs/{job_id}/cancel").status_code == 404


def test_a_held_result_is_listed_and_decided_once_by_who_has_a_token(service, bucket):
    held, refused = [score_on_channel(bucket, broken_lines(), minute)[0] for minute in (31, 32)]
    listed = ask(service, "GET", "/v1/held", headers=AUTHORIZED).json()["held"]
    assert [each["job_id"] for each in listed] == [held.job_id, refused.job_id]
    assert {each["channel"] for each in listed} == {"live"}
    assert post(service, f"/v1/jobs/{held.job_id}/approve", {"reason": " "}).status_code == 409
    assert post(service, f"/v1/jobs/{held.job_id}/approve", {}).status_code == 422
    approved = post(service, f"/v1/jobs/{held.job_id}/approve", {"reason": "a sale ended"})
    assert approved.status_code == 202
    decision = read_decision(JobFolder(bucket, held.job_id))
    assert (decision.verdict, decision.reason, decision.by.startswith("http token ")) == ("approved", "a sale ended", True)
    assert JOBS not in decision.by
    answer = post(service, f"/v1/jobs/{refused.job_id}/refuse", {"reason": "half of it is missing"})
    assert (answer.status_code, answer.json()["decision"]["verdict"]) == (200, "refused")
    late = post(service, f"/v1/jobs/{refused.job_id}/approve", {"reason": "but I want it"})
    assert late.status_code == 409
    assert "was refused by http token" in late.json()["error"]
