"""A real server on a real stack: the digits of three definitions, hostile clients, jobs, metrics, and an end that loses nothing."""

import contextlib
import csv
import gzip
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.conftest import REPOSITORY, Place, free_port, wait_until

ROWS = 10_000
CHANNEL = ALIAS = "http"
RATES, JOBS = "r" * 20, "j" * 20


@dataclass(kw_only=True)
class Server:
    """A server process, and a client of it."""

    running: subprocess.Popen[bytes]
    port: int
    client: httpx.Client
    log: Path

    def rates(self, rows, source="auto"):
        answer = self.client.post("/v1/rates", params={"source": source}, json={"rows": rows})
        assert answer.status_code == 200, answer.text
        return json.loads(answer.text, parse_float=str, parse_int=str)["rates"]

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)


def start_server(place: Place, folder: Path, *options: str, **environment: str) -> Server:
    port, log = free_port(), folder / "serve.log"
    command = [sys.executable, "-m", "producers.cli", "serve", "--channel", CHANNEL, "--port", str(port), *options]
    with log.open("wb") as out:
        more = {"SCORING_HOME": str(folder / "home"), "PYTHONPATH": str(REPOSITORY)}
        running = subprocess.Popen(command, env=place.environment | more | environment, stderr=out, stdout=out, cwd=folder)
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {RATES}"}, timeout=30)

    def is_ready():
        if running.poll() is not None:
            return True
        try:
            return client.get("/ping").status_code == 200
        except httpx.TransportError:
            return False

    wait_until(is_ready, 60, "the start of the server")
    assert running.poll() is None, log.read_text()
    return Server(running=running, port=port, client=client, log=log)


@contextlib.contextmanager
def lone_server(place: Place, folder: Path, *options: str):
    """A server that answers published rates alone, which needs no library of a definition; it never outlives the block."""
    server = start_server(place, folder, "--model", "nobody", *options)
    try:
        yield server
    finally:
        if server.running.poll() is None:
            server.running.terminate()
            server.running.wait(20)


def stop_server(server: Server) -> float:
    began = time.monotonic()
    server.running.terminate()
    assert server.running.wait(20) == 0, server.log.read_text()
    return time.monotonic() - began


class Published:
    """The shared stack, with a channel that shows the result of one definition after another."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.table = str(place.sample_table.relative_to(place.bucket))
        with gzip.open(place.sample_table, "rt") as lines:
            self.rows = [dict(cells) for _, cells in zip(range(ROWS), csv.DictReader(lines), strict=False)]
        self.release = self.job_id = ""

    def publish(self, definition: str) -> list[str]:
        """Scores the table with a definition and promotes its release; returns the rates of its rows as texts."""
        self.release = json.loads(self.place.scoring("models", "show", definition, "--json").stdout)["release"]
        options = ("--model", self.release, "--channel", CHANNEL, "--guard", "off", "--reason", "another definition")
        self.job_id = json.loads(self.place.scoring("score", self.table, *options, "--json").stdout)["job_id"]
        self.place.scoring("models", "promote", self.release, "--alias", ALIAS, "--reason", "its turn")
        file = self.place.bucket / f"data/predict/output/channels/{CHANNEL}/prediction_output.csv.gz"
        return [line.rpartition(",")[2] for line in gzip.decompress(file.read_bytes()).decode().splitlines()[1 : ROWS + 1]]


@pytest.fixture(scope="module")
def published(trained: Place) -> Published:
    made = Published(trained)
    made.publish("v1")
    return made


@pytest.fixture(scope="module")
def server(published, tmp_path_factory):
    folder = tmp_path_factory.mktemp("serving")
    tokens = folder / "tokens"
    tokens.write_text(f"rates:{RATES}\njobs:{JOBS}\n")
    started = start_server(published.place, folder, "--model", ALIAS, SCORING_SERVE_TOKENS_FILE=str(tokens))
    try:
        yield started
        assert stop_server(started) < 10
    finally:
        if started.running.poll() is None:
            started.running.kill()


def test_10_000_rows_have_the_very_digits_of_the_batch_published_and_computed_for_each_definition(server, published):
    published.place.scoring("train", "v3")
    for definition in ("v1", "v2", "v3"):
        wanted = published.publish(definition)

        def is_served(job_id=published.job_id, release=published.release):
            state = server.client.get("/v2/health/ready").json()
            return (state["job_id"], state["release"]) == (job_id, release)

        wait_until(is_served, 60, f"the exchange to {definition}")
        for first in range(0, ROWS, 1000):
            rows = published.rows[first : first + 1000]
            for source in ("published", "computed"):
                found = server.rates(rows, source)
                assert [rate["cr"] for rate in found] == wanted[first : first + 1000], (definition, source)


def test_a_change_of_a_rate_is_explained_without_redis(server, published):
    row = published.rows[0]
    found = server.client.get(f"/v1/rates/{row['entity_id']}/{row['device']}/why", timeout=60)
    assert found.status_code == 200, found.text
    wanted = published.place.scoring_json("why", row["entity_id"], row["device"], "--in", CHANNEL)
    assert {name: found.json()[name] for name in ("keys", "now", "before", "change", "split")} == {
        name: wanted[name] for name in ("keys", "now", "before", "change", "split")
    }
    assert server.client.get("/v1/rates/987654321987/1/why", timeout=60).status_code in (200, 422)


def test_a_job_is_enqueued_once_and_followed_to_its_end(server, published):
    headers = {"Authorization": f"Bearer {JOBS}"}
    body = {"kind": "score", "table": published.table, "model": "v1", "chunk_rows": 12_345}
    made = server.client.post("/v1/jobs", json=body, headers=headers)
    assert (made.status_code, made.json()["fresh"]) == (201, True)
    assert server.client.post("/v1/jobs", json=body, headers=headers).json()["job_id"] == made.json()["job_id"]
    path = made.headers["location"]
    done = wait_until(lambda: (found := server.client.get(path, headers=headers).json())["state"] == "done" and found, 60, "the job")
    assert done["outcome"]["facts"]["scored"] == "20,000"
    assert server.client.post(f"{path}/cancel", headers=headers).status_code == 409
    assert server.client.post(f"{path}/approve", json={"reason": "x"}, headers=headers).status_code == 409
    assert server.client.get(path).status_code == 401


PAGE = REPOSITORY / "docs/how-to/rates-over-http.md"


def test_the_examples_of_the_page_for_clients_work_as_they_are(server, published):
    fences = re.findall(r"```(bash|python)\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    assert [kind for kind, _ in fences] == ["bash", "bash", "python", "bash"]
    key = next(row["entity_id"] for row in published.rows if row["device"] in ("Smartphone", "1"))
    for kind, fence in fences:
        text = fence.replace("localhost:8080", f"127.0.0.1:{server.port}").replace("20458", key)
        program = ["bash", "-euo", "pipefail", "-c"] if kind == "bash" else [sys.executable, "-c"]
        done = subprocess.run([*program, text], env=os.environ | {"TOKEN": RATES}, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        if kind == "python":
            assert re.fullmatch(r"bid with 0\.\d+ from published\nno rate: NOT_FOUND \n", done.stdout)
        else:
            found = json.loads(done.stdout)
            assert "now" in found or (found.get("rates") or [found])[0]["status"] == "PRESENT"


def is_well(server):
    return server.client.get("/v2/health/live").json() == {"live": True}


def test_a_connection_that_sends_its_head_too_slowly_is_closed(server, published):
    with server.connect() as slow:
        slow.sendall(b"POST /v1/rates HTTP/1.1\r\nHost: here\r\n")
        # meanwhile others are answered
        assert is_well(server)
        assert slow.recv(1000) == b""
    assert is_well(server)


def request_for(row, more=""):
    head = f"GET /v1/rates/{row['entity_id']}/{row['device']} HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer {RATES}\r\n{more}\r\n"
    return head.encode()


def read_to_end(connection):
    found = b""
    while block := connection.recv(65536):
        found += block
    return found


def test_pipelined_requests_are_answered_in_order(server, published):
    rows = published.rows[:5]
    with server.connect() as connection:
        connection.sendall(b"".join(request_for(row, "Connection: close\r\n" if row is rows[-1] else "") for row in rows))
        text = read_to_end(connection).decode()
    assert text.count("HTTP/1.1 200 OK") == 5
    places = [
        text.index(f'"entity_id":{row["entity_id"]},"device":{ {"Computer": 0, "Smartphone": 1, "Tablet": 2}[row["device"]] }')
        for row in rows
    ]
    assert places == sorted(places)


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/rates HTTP/1.1\r\nHost: here\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/rates HTTP/1.1\r\nHost: here\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"\0" * 1000,
    ],
)
def test_what_is_no_request_ends_its_own_connection_only(server, sent):
    with server.connect() as connection:
        try:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            connection.recv(65536)
        except (ConnectionResetError, BrokenPipeError):
            pass
    assert is_well(server)


@pytest.mark.parametrize(
    "head",
    [
        b"X-Long: " + b"a" * (1 << 20) + b"\r\n",
        b"".join(b"X-%d: a\r\n" % number for number in range(100_000)),
        b"X-Long: " + b"a" * (70 << 10) + b"\r\n",
    ],
    ids=["1 MB in one header", "1 MB in many", "little more than the limit, in one piece"],
)
def test_a_head_that_is_too_long_is_refused(server, head):
    with server.connect() as connection:
        try:
            connection.sendall(b"GET /ping HTTP/1.1\r\nHost: here\r\n" + head + b"\r\n")
            answered = connection.recv(65536)
        except (ConnectionResetError, BrokenPipeError):
            answered = b""  # it went on sending after the answer
    assert not answered or answered.startswith(b"HTTP/1.1 431 "), answered[:200]
    assert is_well(server)
    # a head of a usual length has no trouble, whatever came before on its connection
    with server.connect() as connection:
        request = b"GET /ping HTTP/1.1\r\nHost: here\r\nX-Long: " + b"a" * (60 << 10) + b"\r\n"
        connection.sendall((request + b"\r\n") * 3 + request + b"Connection: close\r\n\r\n")
        assert read_to_end(connection).count(b"HTTP/1.1 200 OK") == 4


def test_a_client_that_closes_its_half_or_leaves_gets_what_it_asked_for_or_nothing(server, published):
    with server.connect() as connection:
        connection.sendall(request_for(published.rows[0], "Connection: close\r\n"))
        connection.shutdown(socket.SHUT_WR)
        assert read_to_end(connection).startswith(b"HTTP/1.1 200 OK")
    with server.connect() as connection:
        connection.sendall(b"POST /v1/rates HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
    assert is_well(server)


def test_the_metrics_of_the_process_are_there_for_prometheus(server, published):
    server.rates([{"entity_id": published.rows[0]["entity_id"], "device": published.rows[0]["device"]}])
    text = wait_until(
        lambda: "scoring_serve_release_info" in (found := server.client.get("/metrics").text) and found, 10, "the gauges of the process"
    )
    for wanted in (
        'scoring_serve_requests_total{code="200",route="/v1/rates"}',
        'scoring_serve_request_seconds_bucket{le="0.0001"',
        'scoring_serve_rows_total{source="published",status="PRESENT"}',
        "scoring_serve_result_age_seconds",
        f'job_id="{published.job_id}"',
        "scoring_serve_ready_processes 1.0",
        'scoring_serve_swaps_total{kind="release"}',
    ):
        assert wanted in text


def problem_with(operation, token):
    """What schemathesis finds wrong with the answers of one route, or None."""
    from hypothesis import HealthCheck, given, settings
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi import checks

    of_answers = [checks.status_code_conformance, checks.content_type_conformance, checks.response_schema_conformance]

    headers = {"Authorization": f"Bearer {token}"}

    @settings(max_examples=8, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy())
    def check(case):
        answer = case.call(headers=headers)
        case.validate_response(answer, checks=[not_a_server_error])
        # a key that is empty or has a slash leads to another route
        if answer.status_code not in (404, 405):
            case.validate_response(answer, checks=of_answers, headers=headers)

    try:
        check()
    except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - all routes are tried, whatever is wrong with one
        return f"{operation.label}: {error}"
    return None


def test_schemathesis_finds_nothing_in_what_openapi_promises(server):
    import schemathesis

    described = server.client.get("/openapi.json").json()
    # each explanation starts a process
    del described["paths"]["/v1/rates/{entity_id}/{device}/why"]
    schema = schemathesis.openapi.from_dict(described)
    schema.config.update(base_url=f"http://127.0.0.1:{server.port}")
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 15
    tokens = [JOBS if operation.path.startswith(("/v1/jobs", "/v1/held")) else RATES for operation in operations]
    problems = [problem_with(operation, token) for operation, token in zip(operations, tokens, strict=True)]
    assert [problem for problem in problems if problem] == []


def asking(server: Server, row, seconds: float, found: list, is_over: threading.Event):
    """Asks without a pause, each time on a connection that the server has not asked to close."""
    with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=10) as client:
        limit = time.monotonic() + seconds
        while time.monotonic() < limit and not is_over.is_set():
            try:
                found.append(client.get(f"/v1/rates/{row['entity_id']}/{row['device']}").status_code)
            except httpx.TransportError as error:
                found.append(repr(error))
                if server.running.poll() is not None:
                    return


def test_at_sigterm_the_server_is_not_ready_at_once_and_ends_in_time_without_losing_a_request(published, tmp_path):
    found: list = []
    is_over = threading.Event()
    with lone_server(published.place, tmp_path) as server:
        thread = threading.Thread(target=asking, args=(server, published.rows[0], 60, found, is_over))
        thread.start()
        wait_until(lambda: len(found) > 20)
        began = time.monotonic()
        server.running.send_signal(signal.SIGTERM)
        wait_until(lambda: server.client.get("/ping").status_code == 503, 3, "the end of its readiness", pause=0.01)
        assert time.monotonic() - began < 2
        is_over.set()  # the clients have noticed
        thread.join()
        assert server.running.wait(20) == 0
    assert time.monotonic() - began < 10
    assert set(found) == {200}


@pytest.mark.long
def test_replacing_all_processes_under_load_loses_no_request(published, tmp_path):
    found: list = []
    is_over = threading.Event()
    with lone_server(published.place, tmp_path, "--workers", "2") as server:
        threads = [threading.Thread(target=asking, args=(server, row, 300, found, is_over)) for row in published.rows[:4]]
        for thread in threads:
            thread.start()
        os.kill(server.running.pid, signal.SIGHUP)
        try:
            wait_until(lambda: "all processes replaced" in server.log.read_text(), 200, "the replacement")
        finally:
            is_over.set()
            for thread in threads:
                thread.join()
        assert set(found) == {200}
        assert len(found) > 100
        assert stop_server(server) < 11


def test_a_server_that_others_reach_without_a_token_does_not_start(trained):
    done = trained.scoring("serve", "--host", "0.0.0.0", code=2)
    assert "SCORING_SERVE_TOKENS_FILE" in done.stderr


def test_a_server_is_healthy_while_it_answers(server, trained):
    environment = trained.environment | {"SCORING_SERVE_PORT": str(server.port)}
    from tests.conftest import READY_CLI

    assert READY_CLI.run(["health", "serve"], environment, 60).returncode == 0
    assert READY_CLI.run(["health", "serve"], environment | {"SCORING_SERVE_PORT": str(free_port())}, 60).returncode == 1
