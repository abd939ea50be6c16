"""A process takes requests once it can answer, ends on a signal, keeps its tokens, and leaves another server's files alone."""

import signal
import socket
import sys
import time

import pytest

from shared.errors import RequestError
from shared.settings import Settings
from tests.guarded import make_guarded_bucket
from tests.serving import BOTH_TOKENS, RATES, make_service
from workers.serving import __main__ as program
from workers.serving import process
from workers.serving.http.application import make_application
from workers.serving.http.server import Server


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    made, _ = make_guarded_bucket(tmp_path_factory.mktemp("process"))
    return made


def test_a_process_takes_requests_only_after_its_first_look(bucket, tmp_path, monkeypatch):
    service = make_service(bucket, tmp_path)
    seen = []

    class Recorded:
        def __init__(self, *_):
            pass

        def run(self, sockets):
            seen.append((service.serving.has_looked, service.is_ready))

    monkeypatch.setattr(process, "make_service", lambda _: service)
    monkeypatch.setattr(process, "Server", Recorded)
    monkeypatch.setattr(process, "set_up_logs", lambda _: None)
    monkeypatch.setattr(sys, "setswitchinterval", lambda _: None)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    process.run_process(service.settings, socket.socket())
    assert seen == [(True, True)]


def test_a_second_signal_within_the_drain_does_not_cut_requests_off(bucket, tmp_path):
    service = make_service(bucket, tmp_path)
    server = Server(make_application(service), service)
    server.handle_exit(signal.SIGINT, None)
    server.handle_exit(signal.SIGTERM, None)
    assert (service.is_draining, server.should_exit, server.force_exit) == (True, False, False)
    server._drained = time.monotonic() - 1
    server.handle_exit(signal.SIGTERM, None)
    assert server.force_exit


def test_a_file_without_a_token_leaves_the_old_tokens_in_use(bucket, tmp_path, monkeypatch):
    service = make_service(bucket, tmp_path, serve_tokens=BOTH_TOKENS)
    before = service.tokens
    file = tmp_path / "tokens"
    monkeypatch.setenv("SCORING_SERVE_TOKENS_FILE", str(file))
    for text in (",", " , ", "\n", "rates:short"):
        file.write_text(text)
        process._read_tokens(service)
        assert service.tokens is before
    file.unlink()
    process._read_tokens(service)
    assert service.tokens is before
    assert "tokens" in service.swapper.problems
    file.write_text("rates:" + "n" * 20)
    process._read_tokens(service)
    assert service.tokens.accepts("rates", [(b"authorization", b"Bearer " + b"n" * 20)])
    assert not service.tokens.accepts("rates", [(b"authorization", b"Bearer " + RATES.encode())])
    assert service.swapper.problems == {}


def test_a_server_that_does_not_get_its_port_leaves_the_metrics_of_the_other_one(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        kept = tmp_path / "serving" / f"metrics-{port}" / "counter_1.db"
        kept.parent.mkdir(parents=True)
        kept.write_bytes(b"x")
        with pytest.raises(RequestError, match="cannot be used"):
            program.serve(Settings(home=tmp_path, serve_port=port))
    assert kept.exists()


def test_the_program_itself_refuses_an_address_of_others_without_a_token(tmp_path):
    with pytest.raises(RequestError, match="no token is set"):
        program.serve(Settings(home=tmp_path, serve_host="0.0.0.0"))
