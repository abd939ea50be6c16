"""Rates over HTTP: published or computed, they have the digits of the prediction file; a bad row has the reason of a score job."""

import csv
import io
import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from shared.bucket.local import LocalBucket
from shared.guard.explanation import Answer as WhyAnswer
from tests.guarded import lines_with_clicks, make_guarded_bucket, score_on_channel
from tests.handmade import HEADER, make_job, publish_handmade, row, run_job, write_table
from tests.serving import ask, make_service, published_lines
from workers.serving.rates.answering import Question, Source, answer_rows
from workers.serving.rates.digits import rate_text
from workers.serving.routes import why
from workers.serving.routes.rates import _key_value
from workers.tables.output import decompress, read_rejects


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    made, _ = make_guarded_bucket(tmp_path_factory.mktemp("serving"))
    return made


@pytest.fixture(scope="module")
def service(bucket, tmp_path_factory):
    made = make_service(bucket, tmp_path_factory.mktemp("home"))
    made.swapper.look()
    return made


def rates_of(service, rows, source="auto"):
    answer = ask(service, "POST", f"/v1/rates?source={source}", json={"rows": rows})
    assert answer.status_code == 200, answer.text
    # as texts, because the digits are what is promised
    return json.loads(answer.text, parse_float=str, parse_int=str)["rates"]


def as_rows(lines):
    return list(csv.DictReader(io.StringIO("\n".join([HEADER, *lines]))))


def test_every_published_rate_has_the_digits_of_the_file(service, bucket):
    lines = list(published_lines(bucket, "live"))
    keys = [{"entity_id": int(entity), "device": int(device)} for entity, device, _ in lines]
    for first in range(0, len(keys), 1000):
        found = rates_of(service, keys[first : first + 1000])
        assert [rate["cr"] for rate in found] == [rate for _, _, rate in lines[first : first + 1000]]
        assert {(rate["status"], rate["source"]) for rate in found} == {("PRESENT", "published")}


@pytest.mark.parametrize("as_number", [False, True])
def test_every_computed_rate_has_the_digits_of_the_file_alone_and_among_others(service, bucket, as_number):
    rows = as_rows([row(number) for number in range(300)])
    if as_number:
        rows = [{name: value if name == "device" else json.loads(value) for name, value in cells.items()} for cells in rows]
    wanted = [rate for _, _, rate in published_lines(bucket, "live")][:300]
    assert [rate["cr"] for rate in rates_of(service, rows, "computed")] == wanted
    assert [rates_of(service, [cells], "computed")[0]["cr"] for cells in rows[:20]] == wanted[:20]


def test_a_row_that_a_score_job_rejects_has_its_reason_and_the_others_have_their_rates(service, tmp_path):
    bad = [
        "x7,1,0,1,2,Computer",
        "1e5,1,0,1,2,Computer",
        f"{10**30},1,0,1,2,Tablet",
        "8,1,0,1,2,desktop",
        "9,1,0,1,2,4",
        "10,7,0,1,2,Tablet",
        "11,1,,1,2,Tablet",
        "12,1,0,1,inf,Tablet",
        "13,1,0,1,wide,Tablet",
        ",1,0,1,2,Tablet",
    ]
    lines = [row(1), *bad, row(2)]

    bucket = LocalBucket(tmp_path / "bucket")
    publish_handmade(bucket)
    write_table(bucket, lines)
    folder = make_job(bucket, max_reject_share=1.0)
    outcome = run_job(folder)
    text = decompress(bucket.read(f"{outcome.result}/rejects.csv.gz") or b"").split(b"\n", 1)[1]
    wanted = [(reject.column, reject.value, reject.reason) for reject in read_rejects(text)]
    found = rates_of(service, as_rows(lines), "computed")
    assert [(rate["column"], rate["value"], rate["reason"]) for rate in found[1:-1]] == wanted
    assert {rate["status"] for rate in found[1:-1]} == {"REJECTED"}
    assert [rate["status"] for rate in (found[0], found[-1])] == ["PRESENT", "PRESENT"]


def test_a_key_that_is_published_is_not_computed_and_another_one_is_if_it_brings_its_columns(service):
    cells = as_rows([row(1)])[0]
    changed = cells | {"att1": "0", "att2": "1"}
    found = rates_of(service, [changed, changed | {"entity_id": "999999"}, {"entity_id": 999999, "device": 1}])
    assert [rate.get("source") for rate in found] == ["published", "computed", None]
    assert found[2]["status"] == "NOT_FOUND"
    assert rates_of(service, [changed], "computed")[0]["cr"] != found[0]["cr"]
    assert rates_of(service, [changed | {"entity_id": "999999"}], "published")[0]["status"] == "NOT_FOUND"


def test_a_row_that_brings_some_of_its_columns_is_rejected_for_the_first_missing_one(service):
    [found] = rates_of(service, [{"entity_id": 999999, "device": 1, "att1": 1}])
    assert (found["status"], found["column"], found["reason"]) == ("REJECTED", "att2", "missing")


@pytest.mark.parametrize("device", [1, "1", "1.0", "Smartphone", "smartphone", " SMARTPHONE "])
def test_a_device_is_written_in_any_form_of_a_table(service, device):
    wanted = rates_of(service, [{"entity_id": 1001, "device": 1}])
    assert rates_of(service, [{"entity_id": 1001, "device": device}]) == wanted


def test_a_row_may_have_the_flags_of_a_prepared_table_instead_of_a_device(service):
    cells = as_rows([row(1)])[0]
    del cells["device"]
    [found] = rates_of(service, [cells | {"computer": 0, "smartphone": 1}], "computed")
    [wanted] = rates_of(service, [as_rows([row(1)])[0]], "computed")
    assert found == wanted


@pytest.mark.parametrize("as_text", [False, True])
def test_a_key_with_flags_is_found_if_it_is_published_and_is_not_found_otherwise(service, as_text):
    flags = {"computer": 0, "smartphone": 1}
    if as_text:
        flags = {name: str(value) for name, value in flags.items()}
    for source in ("auto", "published"):
        found = rates_of(service, [flags | {"entity_id": 1001}, flags | {"entity_id": 999999}, {"entity_id": 1001, "device": 1}], source)
        assert [rate["status"] for rate in found] == ["PRESENT", "NOT_FOUND", "PRESENT"]
        assert found[0] == found[2]
    both = flags | {"entity_id": 1001, "computer": flags["smartphone"]}
    assert rates_of(service, [both], "published")[0]["status"] == "REJECTED"


def test_only_the_id_and_the_device_of_an_address_are_numbers():
    assert [_key_value(name, "007") for name in ("entity_id", "device", "match_type")] == [7, 7, "007"]


def test_a_key_that_is_no_single_value_is_rejected_and_not_sent_back(service):
    deep: list = []
    for _ in range(300):
        deep = [deep]
    [found] = rates_of(service, [{"entity_id": deep, "device": 1}])
    assert (found["status"], found["entity_id"]) == ("REJECTED", None)


def test_an_id_keeps_all_its_digits_as_a_number_and_as_text_and_none_are_made_up(service):
    cells = as_rows([row(1)])[0]
    for entity in (2**53 + 1, str(2**53 + 1), 2**61 - 1, -5):
        [found] = rates_of(service, [cells | {"entity_id": entity}], "computed")
        assert (found["entity_id"], found["status"]) == (str(entity), "PRESENT")
    for entity in (float(2**53), 1.5, True, [1], {"a": 1}, None, 2**63, "x"):
        [found] = rates_of(service, [cells | {"entity_id": entity}], "computed")
        assert (found["status"], found["column"]) == ("REJECTED", "entity_id")


def test_a_result_that_is_too_old_is_answered_with_its_status(service):
    serving = service.serving
    later = serving.published.manifest.finished + timedelta(hours=2)
    question = Question(max_age=timedelta(hours=1))
    found = answer_rows(serving, [{"entity_id": 1001, "device": 1}], question, later)
    [answer] = found.answers
    assert (answer.status, found.age_seconds) == ("OUTSIDE_MAX_AGE", 7200)
    assert answer.cr is not None


def test_the_digits_of_a_rate_are_those_of_arrow_whatever_the_rate():
    rng = np.random.default_rng(5)
    rates = np.concatenate([rng.random(3000), 10 ** -(rng.random(3000) * 12), [0.0, 1.0, 1e-4, 1e-5, 1e-6, 1e-7, 9.9999e-5, 5e-324]])
    assert [rate_text(rate) for rate in rates.tolist()] == pa.array(rates).cast(pa.string()).to_pylist()


def test_one_rate_has_a_tag_and_is_not_sent_again_to_who_knows_it(service):
    first = ask(service, "GET", "/v1/rates/1001/Smartphone")
    assert (first.status_code, first.json()["cr"]) == (200, float(rates_of(service, [{"entity_id": 1001, "device": 1}])[0]["cr"]))
    again = ask(service, "GET", "/v1/rates/1001/1", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert "max-age" in first.headers["cache-control"]
    assert ask(service, "GET", "/v1/rates/999999/1").status_code == 404
    assert ask(service, "GET", "/v1/rates/1001/desktop").status_code == 422


def test_each_answer_names_its_request_its_release_and_its_revision(service):
    answer = ask(service, "GET", "/v1/rates/1001/1", headers={"X-Request-Id": "mine-1"})
    assert answer.headers["x-request-id"] == "mine-1"
    assert answer.headers["x-scoring-release"] == service.serving.release
    assert answer.headers["x-scoring-revision"] == service.serving.revision
    other = ask(service, "GET", "/v1/rates/1001/1", headers={"X-Request-Id": "a b\tc"})
    assert other.headers["x-request-id"] not in ("a b\tc", "")


def test_the_other_protocols_give_the_same_digits(service):
    rows = as_rows([row(number) for number in range(40)])
    wanted = [rate["cr"] for rate in rates_of(service, rows, "computed")]
    columns = list(rows[0])
    split = {"columns": columns, "data": [[cells[name] for name in columns] for cells in rows]}
    for body in ({"dataframe_split": split}, {"dataframe_records": rows}, {"instances": rows}):
        answer = ask(service, "POST", "/invocations", json=body)
        assert json.loads(answer.text, parse_float=str, parse_int=str)["predictions"] == wanted
    for shape, wrap in (([40], lambda value: value), ([40, 1], lambda value: [value])):
        inputs = [{"name": name, "shape": shape, "datatype": "BYTES", "data": [wrap(cells[name]) for cells in rows]} for name in columns]
        for path in ("/v2/models/v1/infer", f"/v2/models/v1/versions/{service.serving.release}/infer"):
            answer = ask(service, "POST", path, json={"id": "7", "inputs": inputs})
            found = json.loads(answer.text, parse_float=str, parse_int=str)
            assert (found["id"], found["model_version"], found["outputs"][0]["data"]) == ("7", service.serving.release, wanted)


def test_these_protocols_refuse_a_request_with_a_row_that_has_no_rate(service):
    rows = as_rows([row(0), "5,7,0,1,2,Tablet"])
    answer = ask(service, "POST", "/invocations", json={"instances": rows})
    assert answer.status_code == 422
    assert "row 1: column att1: '7' is not 0 or 1" in answer.json()["error"]


def test_the_release_in_use_is_described_and_no_other_one(service):
    found = ask(service, "GET", "/v2/models/v1").json()
    assert (found["versions"], found["outputs"][0]["name"]) == ([service.serving.release], "cr")
    assert {column["name"] for column in found["inputs"]} == {"entity_id", "device", "att1", "att2", "att3", "length"}
    assert ask(service, "GET", "/v2/models/v1/ready").json()["ready"] is True
    for path in ("/v2/models/v9", "/v2/models/v9/ready", "/v2/models/v1/versions/v1@20200101T000000Z-000000"):
        assert ask(service, "GET", path).status_code == 404
    assert ask(service, "POST", "/v2/models/v9/infer", json={"inputs": []}).status_code == 404


def test_without_a_release_published_rates_are_answered_and_computing_is_refused_for_now(bucket, tmp_path):
    lone = make_service(bucket, tmp_path, serve_model="nobody")
    lone.swapper.look()
    assert rates_of(lone, [{"entity_id": 1001, "device": 1}])[0]["source"] == "published"
    answer = ask(lone, "POST", "/v1/rates?source=computed", json={"rows": as_rows([row(1)])})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


def test_without_a_result_rates_are_computed(bucket, tmp_path):
    lone = make_service(bucket, tmp_path, serve_channel="nowhere")
    lone.swapper.look()
    assert rates_of(lone, as_rows([row(1)]))[0]["source"] == "computed"
    assert ask(lone, "GET", "/v1/rates/1001/1").status_code == 404


def test_the_source_of_a_computed_answer_is_asked_of_a_release_alone(service):
    found = answer_rows(service.serving, [{"entity_id": 1001, "device": 1}], Question(source=Source.COMPUTED), datetime.now(UTC))
    assert [answer.status for answer in found.answers] == ["REJECTED"]
    assert found.answers[0].reject.reason == "missing"


def test_an_explanation_is_that_of_the_result_that_its_header_names(bucket, tmp_path):
    """The channel may move after the last look."""
    served = make_service(bucket, tmp_path)
    served.swapper.look()
    before = served.serving.published.manifest
    folder, outcome = score_on_channel(bucket, lines_with_clicks()[:-1], 1, guard_off="a shop less")
    assert outcome.state == "done"
    asked = []

    def answer_isolated(_settings, question, _seconds):
        asked.append((question.job_id, question.against))
        return WhyAnswer(error="not now", exit_code=2), ""

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(why, "answer_isolated", answer_isolated)
        answer = ask(served, "GET", "/v1/rates/1001/1/why")
        assert answer.headers["x-scoring-revision"] == before.revision
        served.swapper.look()
        ask(served, "GET", "/v1/rates/1001/1/why")
    assert asked == [(before.job_id, None), (folder.job_id, before.job_id)]
