"""Rows are named by the keys of a definition; a release and a result with other keys are never mixed."""

from pathlib import Path

import pytest

from producers.operations.checks.examined import Examined
from producers.operations.checks.serving import check_serving
from shared.jobs.folder import JobFolder
from shared.jobs.messages import TrainJob
from tests.definitions import OWN_KEYS, drop_in
from tests.guarded import make_guarded_bucket
from tests.handmade import NOON, make_job, run_job
from tests.serving import ask, make_service, published_lines
from tests.trainings import train

WORDS = [{"keyword": f"red shoes {number}", "match_type": "exact", "price": f"{number % 7}.5"} for number in range(60)]
KEY = {"entity_id": 1001, "device": 1}


@pytest.fixture(scope="module")
def definitions(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("definitions")
    drop_in(folder, "text", OWN_KEYS)
    return folder


@pytest.fixture(scope="module")
def bucket(tmp_path_factory, definitions):
    """A result named by id and device on the channel ``live``, one named by two texts on ``words``, and the release that made it."""
    made, _ = make_guarded_bucket(tmp_path_factory.mktemp("keys"))
    lines = [",".join(word.values()) for word in WORDS]
    rows = [f"{line},{number % 9 + 1},{int(number % 4 == 0)}" for number, line in enumerate(lines)]
    made.write("data/train/2026/11/23/train.csv", "\n".join(["keyword,match_type,price,Clicks,Conversions", *rows, ""]).encode())
    training = JobFolder(made, "20261123t120000z-train-1")
    training.create(TrainJob(job_id=training.job_id, created=NOON, definition="text", train="data/train/2026/11/23/train.csv"))
    assert train(training, definitions).state == "done"
    made.write("data/words.csv", "\n".join(["keyword,match_type,price", *lines, ""]).encode())
    folder = make_job(made, minute=1, model="text", table="data/words.csv", channel="words", guard_off="the first one")
    assert run_job(folder, definitions).state == "done"
    return made


def served(bucket, home, definitions, channel):
    service = make_service(bucket, home, serve_model="text", serve_channel=channel, definitions=definitions)
    service.swapper.look()
    assert service.is_ready, service.swapper.problems
    return service


def rates(service, rows, source="auto"):
    answer = ask(service, "POST", f"/v1/rates?source={source}", json={"rows": rows})
    assert answer.status_code == 200, answer.text
    return answer.json()["rates"]


def test_a_new_row_with_a_word_as_its_key_is_computed_by_a_definition_that_names_rows_so(bucket, tmp_path, definitions):
    service = served(bucket, tmp_path, definitions, "words")
    wanted = [float(cells[-1]) for cells in published_lines(bucket, "words")]
    for source in ("published", "computed"):
        assert [rate["cr"] for rate in rates(service, WORDS, source)] == wanted
    [known, new] = rates(service, [WORDS[3], WORDS[3] | {"keyword": "new-7"}])
    assert (known["status"], known["source"], known["keyword"]) == ("PRESENT", "published", "red shoes 3")
    assert (new["status"], new["source"], new["keyword"]) == ("PRESENT", "computed", "new-7")


def test_a_result_with_other_keys_than_the_release_is_answered_alone_and_everybody_is_told_why(bucket, tmp_path, definitions):
    service = served(bucket, tmp_path, definitions, "live")
    known, new = rates(service, [KEY, WORDS[3]])
    assert (known["status"], known["source"]) == ("PRESENT", "published")
    why = "the release in use names rows by keyword, match_type, and the result by entity_id, device"
    assert (new["status"], new["reason"]) == ("NOT_FOUND", f"not computed: {why}")
    [asked] = rates(service, [WORDS[3]], "computed")
    assert (asked["status"], asked["keyword"], asked["match_type"]) == ("PRESENT", "red shoes 3", "exact")
    assert [rate["status"] for rate in rates(service, [{"entity_id": 999999, "device": 1}, {"device": 1}])] == ["NOT_FOUND", "REJECTED"]
    assert ask(service, "GET", "/v2/health/ready").json()["problems"] == {"keys": why}


def test_doctor_names_a_channel_and_a_release_with_other_keys(bucket, tmp_path, definitions):
    settings = make_service(bucket, tmp_path, serve_model="text", serve_channel="live").settings
    [found] = check_serving(Examined(settings=settings, bucket=bucket))
    assert (found.subject, found.state) == ("HTTP", "warning")
    assert "names rows by entity_id, device, the release text@" in found.text
    for other in ({"serve_channel": "words"}, {"serve_model": "v1"}, {"serve_channel": "nowhere"}, {"serve_model": "nobody"}):
        assert list(check_serving(Examined(settings=settings.model_copy(update=other), bucket=bucket))) == []
