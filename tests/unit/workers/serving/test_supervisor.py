"""A process that dies is started again, each time after a longer rest; if none gets ready, the server gives up and says so."""

import os
import signal
import socket
import sys
import time

import pytest

from shared.settings import Settings
from workers.serving import supervisor
from workers.serving.supervisor import NoProcessError, Supervisor

DIES = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
REFUSES = "import sys; sys.exit(4)"
READY_THEN_DIES = "import os, sys; os.write(int(sys.argv[3]), b'.'); os._exit(1)"


@pytest.fixture
def supervising(monkeypatch, tmp_path):
    monkeypatch.setattr(supervisor, "POLL_SECONDS", 0.005)
    monkeypatch.setattr(supervisor, "FIRST_REST_SECONDS", 0.01)
    monkeypatch.setattr(supervisor, "set_up_logs", lambda _: None)
    monkeypatch.setattr(supervisor, "mark_dead", lambda _: None)
    monkeypatch.setattr(signal, "signal", lambda *_: None)

    def make(code, workers=2):
        monkeypatch.setattr(supervisor, "PROGRAM", (sys.executable, "-S", "-c", code))
        return Supervisor(Settings(home=tmp_path, serve_workers=workers), listening)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield make


@pytest.mark.parametrize(("code", "how", "exit_code"), [(DIES, "SIGSEGV", 1), (REFUSES, "exit code 4", 4)])
def test_a_server_of_which_no_process_gets_ready_gives_up(supervising, code, how, exit_code):
    with pytest.raises(NoProcessError, match=f"each of the last 5 died before, the last one with {how}") as caught:
        supervising(code).run()
    assert caught.value.exit_code == exit_code
    assert "scoring models promote ANOTHER --alias champion" in caught.value.next_step


def test_a_process_that_was_ready_is_started_again_for_ever_with_longer_rests(supervising, monkeypatch):
    watched = supervising(READY_THEN_DIES, workers=1)
    rests = []

    def note(place):
        rests.append(place.resting_until - time.monotonic())
        if len(rests) == supervisor.MOST_DEATHS + 3:
            watched._stop()

    real = supervisor._Place.note_death
    monkeypatch.setattr(supervisor._Place, "note_death", lambda place: (real(place), note(place)))
    monkeypatch.setattr(supervisor, "LONGEST_REST_SECONDS", 0.08)
    watched.run()
    assert [round(rest, 2) for rest in rests] == [0.01, 0.02, 0.04, 0.08, 0.08, 0.08, 0.08, 0.08]


def test_a_process_that_was_ready_for_long_rests_as_after_a_first_death(supervising):
    reading, writing = os.pipe()
    try:
        place = supervisor._Place(supervisor._Child(process=None, ready=reading), deaths=7)
        place.child.ready_since = time.monotonic() - supervisor.STEADY_SECONDS - 1
        place.note_death()
    finally:
        os.close(reading)
        os.close(writing)
    assert (place.deaths, place.deaths_unready) == (1, 0)
