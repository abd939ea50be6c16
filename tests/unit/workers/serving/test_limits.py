"""Every request gets an answer without details of this machine, and the next request is answered as before."""

import asyncio
import gzip
import json
import threading

import httpx
import numpy as np
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import SettingsError
from shared.settings import Settings, read_settings
from tests.guarded import make_guarded_bucket
from tests.serving import BOTH_TOKENS, JOBS, RATES, ask, make_service
from workers.serving.http.application import make_application
from workers.serving.http.tokens import Tokens
from workers.serving.rates import computing
from workers.serving.routes import predicting


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    made, _ = make_guarded_bucket(tmp_path_factory.mktemp("limits"))
    return made


@pytest.fixture(scope="module")
def service(bucket, tmp_path_factory):
    made = make_service(bucket, tmp_path_factory.mktemp("home"), serve_max_rows=50)
    made.swapper.look()
    return made


def is_well(service):
    answer = ask(service, "POST", "/v1/rates", json={"rows": [{"entity_id": 1001, "device": 1}]})
    return answer.status_code == 200 and answer.json()["rates"][0]["status"] == "PRESENT"


JSON = {"content-type": "application/json"}
BAD = {
    "no json": (b"rows=1", JSON, 400),
    "nothing": (b"", JSON, 400),
    "half a text": (b'{"rows": [{"entity_id": "', JSON, 400),
    "deep": (b"[" * 100_000, JSON, 400),
    "nan": (b'{"rows": [{"entity_id": NaN}]}', JSON, 400),
    "infinity": (b'{"rows": [{"entity_id": -Infinity}]}', JSON, 400),
    "not utf-8": (b'{"rows": [{"entity_id": "\xff"}]}', JSON, 400),
    "a list": (b"[]", JSON, 422),
    "no rows": (b"{}", JSON, 422),
    "rows are text": (b'{"rows": "x"}', JSON, 422),
    "a row is a number": (b'{"rows": [1]}', JSON, 422),
    "too many rows": (json.dumps({"rows": [{}] * 51}).encode(), JSON, 413),
    "10 MB": (b" " * (10 << 20), JSON, 413),
    "a form": (b"rows=1", {"content-type": "application/x-www-form-urlencoded"}, 415),
    "a gzip bomb": (gzip.compress(b" " * (20 << 20)), JSON | {"content-encoding": "gzip"}, 415),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_body_is_refused_in_one_sentence(service, name):
    body, headers, status = BAD[name]
    for path in ("/v1/rates", "/invocations", "/v2/models/v1/infer"):
        answer = ask(service, "POST", path, content=body, headers=headers)
        assert answer.status_code in ({status, 422} if path != "/v1/rates" else {status})
        assert 0 < len(answer.json()["error"]) < 300
    assert is_well(service)


def test_of_a_field_that_is_there_twice_the_last_one_counts(service):
    body = b'{"rows": [], "rows": [{"entity_id": 1, "entity_id": 1001, "device": 1}]}'
    answer = ask(service, "POST", "/v1/rates", content=body, headers=JSON)
    assert [rate["entity_id"] for rate in answer.json()["rates"]] == [1001]


def test_a_body_without_a_length_is_cut_off_at_the_limit(service):
    sent = []

    async def body():
        for _ in range(100):
            sent.append(1)
            yield b" " * (1 << 20)

    answer = ask(service, "POST", "/v1/rates", content=body(), headers=JSON)
    assert answer.status_code == 413
    assert ask(service, "POST", "/invocations", content=body(), headers=JSON).status_code == 413
    assert is_well(service)


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/nowhere", 404), ("DELETE", "/v1/rates", 405), ("GET", "/v1/rates?source=x", 405)]
)
def test_an_unknown_route_or_method_is_refused(service, method, path, status):
    answer = ask(service, method, path)
    assert (answer.status_code, bool(answer.json()["error"])) == (status, True)


def test_an_unknown_source_is_refused(service):
    assert ask(service, "POST", "/v1/rates?source=guess", json={"rows": []}).status_code == 422


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
cell_names = st.sampled_from(["entity_id", "device", "att1", "att2", "att3", "length", "computer", "smartphone", "other"])
rows = st.lists(st.dictionaries(cell_names, anything, max_size=9) | anything, max_size=5)
bodies = st.one_of(
    anything,
    st.fixed_dictionaries({"rows": rows}),
    st.fixed_dictionaries({"instances": rows}),
    st.fixed_dictionaries(
        {"dataframe_split": st.fixed_dictionaries({"columns": st.lists(cell_names), "data": st.lists(st.lists(anything))})}
    ),
    st.fixed_dictionaries(
        {
            "inputs": st.lists(
                st.fixed_dictionaries(
                    {
                        "name": cell_names,
                        "shape": st.lists(st.integers(0, 3), max_size=2),
                        "datatype": st.just("INT64"),
                        "data": st.lists(anything),
                    }
                )
            )
        }
    ),
)
paths = st.sampled_from(["/v1/rates", "/v1/rates?source=computed", "/v1/rates?source=published", "/invocations", "/v2/models/v1/infer"])


@given(paths, bodies)
def test_whatever_is_sent_is_answered(service, path, body):
    text = json.dumps(body).encode(errors="surrogatepass")
    answer = ask(service, "POST", path, content=text, headers=JSON)
    assert answer.status_code in (200, 400, 422), answer.text
    found = answer.json()
    if "rates" in found:
        assert len(found["rates"]) == len(body["rows"])
        for rate in found["rates"]:
            assert rate["status"] != "PRESENT" or 0 <= rate["cr"] <= 1


@given(st.text(min_size=1, max_size=30), st.text(min_size=1, max_size=30))
def test_whatever_key_is_asked_for_is_answered(service, entity, device):
    url = httpx.URL("http://here/").copy_with(raw_path=b"/v1/rates/" + _quoted(entity) + b"/" + _quoted(device))
    assert ask(service, "GET", url).status_code in (200, 404, 405, 422)


def _quoted(text):
    return "".join(f"%{byte:02X}" for byte in text.encode(errors="replace")).encode()


def test_a_token_is_needed_once_one_is_set_and_each_kind_opens_its_own_routes(bucket, tmp_path):
    service = make_service(bucket, tmp_path, serve_tokens=BOTH_TOKENS + ",rates:" + "n" * 20)
    service.swapper.look()

    def status(path, token=None):
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return ask(service, "GET", path, headers=headers).status_code

    for token in (None, "x" * 20, RATES[:-1], JOBS):
        assert status("/v1/rates/1001/1", token) == 401
    # two at once, so that one can take the place of the other
    assert [status("/v1/rates/1001/1", token) for token in (RATES, "n" * 20)] == [200, 200]
    assert [status("/v1/held", token) for token in (RATES, JOBS)] == [401, 200]
    assert [status(path) for path in ("/ping", "/v2/health/live", "/v2/health/ready", "/docs", "/openapi.json")] == [200] * 5
    described = ask(service, "GET", "/openapi.json").json()
    assert described["security"] == [{"token": []}]
    # only a client that may read rates gets an example with a real id
    assert described["paths"]["/v1/rates"]["post"]["requestBody"]["content"]["application/json"]["example"]["rows"][0]["entity_id"] == 20458


def test_without_tokens_nobody_changes_jobs(service):
    assert ask(service, "GET", "/v1/held").status_code == 401
    assert ask(service, "POST", "/v1/jobs", json={"kind": "train", "definition": "v1"}).status_code == 401


@pytest.mark.parametrize("tokens", ["rates:short", "other:" + "x" * 20, "x" * 30, f"rates:{RATES} nothing"])
def test_a_token_that_is_none_is_refused_at_the_start_and_not_shown(monkeypatch, tokens):
    monkeypatch.setenv("SCORING_SERVE_TOKENS", tokens)
    with pytest.raises(SettingsError) as caught:
        read_settings()
    assert "SCORING_SERVE_TOKENS" in str(caught.value)
    assert "short" not in str(caught.value)
    assert RATES not in str(caught.value)


def test_tokens_are_compared_as_digests_and_never_as_they_are():
    tokens = Tokens.of(Settings(serve_tokens=BOTH_TOKENS).serve_tokens)
    assert RATES not in repr(tokens)
    assert tokens.accepts("rates", [(b"authorization", b"bearer " + RATES.encode())])
    assert not tokens.accepts("rates", [(b"authorization", b"Basic " + RATES.encode())])


def test_a_request_beyond_the_limit_of_requests_is_refused_for_now(service):
    service.in_hand = service.settings.serve_concurrency
    try:
        answer = ask(service, "GET", "/v1/rates/1001/1")
        # a busy process is healthy
        probes = [ask(service, "GET", path).status_code for path in ("/ping", "/v2/health/live", "/v2/health/ready")]
    finally:
        service.in_hand = 0
    assert probes == [200] * 3
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert is_well(service)


def test_a_request_that_arrives_too_slowly_is_ended(bucket, tmp_path):
    service = make_service(bucket, tmp_path, serve_timeout_seconds=0.05)
    service.swapper.look()

    async def call():
        never = asyncio.Event()

        sent = []

        async def receive():
            if sent:
                await never.wait()
            sent.append(1)
            return {"type": "http.request", "body": b"{", "more_body": True}

        answers = []

        async def send(message):
            answers.append(message)

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/rates",
            "query_string": b"",
            "headers": [(b"content-type", b"application/json"), (b"content-length", b"9")],
        }
        await make_application(service)(scope, receive, send)
        return answers

    assert asyncio.run(call())[0]["status"] == 408


def test_a_prediction_that_takes_too_long_is_given_up_and_one_that_hangs_makes_the_process_unhealthy(bucket, tmp_path, monkeypatch):
    service = make_service(bucket, tmp_path, serve_timeout_seconds=0.2)
    service.swapper.look()
    may_end = threading.Event()
    real = computing.predict_valid

    def slow(*arguments, **more):
        may_end.wait(20)
        return real(*arguments, **more)

    monkeypatch.setattr(computing, "predict_valid", slow)
    cells = {"entity_id": 9, "device": 1, "att1": 0, "att2": 0, "att3": 0, "length": 1}

    async def call():
        transport = httpx.ASGITransport(make_application(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            answer = await client.post("/v1/rates?source=computed", json={"rows": [cells] * 100})
            early = await client.get("/v2/health/live")
            service.now = lambda: service.computing_since + 61
            late = await client.get("/v2/health/live")
            may_end.set()
            return answer.status_code, early.status_code, late.status_code

    assert asyncio.run(call()) == (504, 200, 503)


def test_a_request_that_is_given_up_before_its_turn_is_not_computed_and_hides_no_prediction_that_hangs(bucket, tmp_path, monkeypatch):
    service = make_service(bucket, tmp_path, serve_timeout_seconds=0.2)
    service.swapper.look()
    may_end, computed = threading.Event(), []
    real = computing.predict_valid

    def slow(*arguments, **more):
        computed.append(1)
        may_end.wait(20)
        return real(*arguments, **more)

    monkeypatch.setattr(computing, "predict_valid", slow)
    cells = {"entity_id": 9, "device": 1, "att1": 0, "att2": 0, "att3": 0, "length": 1}
    clock = iter(range(100))
    service.now = lambda: next(clock)

    async def call():
        transport = httpx.ASGITransport(make_application(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            posts = [client.post("/v1/rates?source=computed", json={"rows": [cells] * 100}) for _ in range(3)]
            answers = await asyncio.gather(*posts)
            since = service.computing_since
            # what is published needs no turn
            published = await client.post("/v1/rates", json={"rows": [{"entity_id": 1001, "device": 1}] * 100})
            may_end.set()
            return [answer.status_code for answer in answers], since, published.status_code

    assert asyncio.run(call()) == ([504] * 3, 0, 200)
    service.executor.submit(int).result(20)
    assert computed == [1]


def test_a_queue_of_predictions_that_is_too_long_is_refused_for_now_and_published_rates_are_not(service):
    service.computing = predicting.LONGEST_QUEUE + 1
    try:
        refused = ask(service, "POST", "/v1/rates?source=computed", json={"rows": [{"entity_id": 1}]})
        found = ask(service, "POST", "/v1/rates", json={"rows": [{"entity_id": 1001, "device": 1}] * 50})
    finally:
        service.computing = 0
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert found.status_code == 200


@pytest.mark.parametrize("path", ["/v1/rates", "/invocations"])
def test_a_client_that_goes_away_within_its_body_is_no_defect_of_the_server(service, path):
    messages = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]
    sent = []

    async def receive():
        return messages.pop(0)

    async def send(message):
        sent.append(message)

    headers = [(b"content-type", b"application/json"), (b"content-length", b"9")]
    scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"", "headers": headers}
    count = service.metrics.registry.get_sample_value
    with structlog.testing.capture_logs() as logged:
        asyncio.run(make_application(service)(scope, receive, send))
    assert sent == []
    assert count("scoring_serve_requests_total", {"route": path, "code": "499"}) == 1
    assert not [line for line in logged if line["log_level"] == "error"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/invocations", {"dataframe_split": {"columns": ["a"], "data": [1] * 51}}),
        ("/v2/models/v1/infer", {"inputs": [{"name": "a", "shape": [51], "datatype": "NONE", "data": [1] * 51}]}),
    ],
)
def test_rows_are_counted_before_they_are_built(service, path, body):
    assert ask(service, "POST", path, json=body).status_code == 413


def test_a_defect_is_logged_and_its_answer_says_nothing_of_it(service, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError("a secret")

    monkeypatch.setattr(service.swapper.serving.published.__class__, "_find", fail)
    with structlog.testing.capture_logs() as logged:
        answers = [ask(service, "POST", "/v1/rates", json={"rows": [{"entity_id": 1, "device": 1}]}), ask(service, "GET", "/v1/rates/1/1")]
    for answer in answers:
        assert (answer.status_code, "secret" in answer.text, "Traceback" in answer.text) == (500, False, False)
        assert answer.json()["error"].startswith("the server failed")
        assert [line for line in logged if line.get("request_id") == answer.headers["x-request-id"]]


def test_a_definition_that_fails_on_a_row_costs_the_others_nothing(service, monkeypatch):
    model = service.serving.loaded.release.model
    real = type(model).predict

    def fail_on_four(self, X):
        if (X["length"] == 4).any():
            raise ValueError("not four")
        return real(self, X)

    monkeypatch.setattr(type(model), "predict", fail_on_four)
    rows = [{"entity_id": 9, "device": 1, "att1": 0, "att2": 0, "att3": 0, "length": length} for length in (3, 4, 5)]
    found = ask(service, "POST", "/v1/rates?source=computed", json={"rows": rows}).json()["rates"]
    assert [rate["status"] for rate in found] == ["PRESENT", "REJECTED", "PRESENT"]
    assert found[1]["reason"] == computing.FAILED


def test_a_bad_row_among_1_000_costs_some_dozens_of_predictions(service, monkeypatch):
    model = service.serving.loaded.release.model
    real, asked = computing.predict_valid, []

    def predict(self, X):
        if (X["length"] == 4).any():
            raise ValueError("not four")
        return np.full(len(X), 0.5)

    monkeypatch.setattr(type(model), "predict", predict)
    monkeypatch.setattr(computing, "predict_valid", lambda *known, **more: (asked.append(1), real(*known, **more))[1])
    cells = {"entity_id": 9, "device": 1, "att1": 0, "att2": 0, "att3": 0}
    rows = [cells | {"length": 4 if place == 613 else 1} for place in range(1000)]
    found = computing.compute(service.serving.loaded, rows)
    assert [place for place, computed in enumerate(found) if computed.reject is not None] == [613]
    assert len(asked) < 25


def test_a_process_that_is_told_to_end_is_not_ready_and_closes_its_connections(service):
    service.is_draining = True
    try:
        assert ask(service, "GET", "/ping").status_code == 503
        answer = ask(service, "GET", "/v1/rates/1001/1")
    finally:
        service.is_draining = False
    assert (answer.status_code, answer.headers["connection"]) == (200, "close")
    assert ask(service, "GET", "/ping").status_code == 200


def test_requests_and_rows_are_counted(service):
    before = service.metrics.registry.get_sample_value("scoring_serve_rows_total", {"source": "published", "status": "PRESENT"}) or 0
    assert is_well(service)
    count = service.metrics.registry.get_sample_value
    assert count("scoring_serve_rows_total", {"source": "published", "status": "PRESENT"}) == before + 1
    assert count("scoring_serve_requests_total", {"route": "/v1/rates", "code": "200"}) >= 1
    ask(service, "GET", "/v1/rates/1001/1")
    ask(service, "GET", "/x" * 40)
    assert count("scoring_serve_requests_total", {"route": "/v1/rates/{entity_id}/{device}", "code": "200"}) >= 1
    # whatever paths come, the number of series is bounded
    assert count("scoring_serve_requests_total", {"route": "unknown", "code": "404"}) >= 1


def test_the_page_of_routes_has_examples_with_ids_that_are_there_and_loads_nothing_from_elsewhere(service):
    page = ask(service, "GET", "/docs")
    assert '"entity_id":1000' in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "://" not in page.text
    example = ask(service, "GET", "/openapi.json").json()["paths"]["/v1/rates"]["post"]["requestBody"]["content"]["application/json"][
        "example"
    ]
    found = ask(service, "POST", "/v1/rates", json=example).json()["rates"]
    assert {rate["status"] for rate in found} == {"PRESENT"}
