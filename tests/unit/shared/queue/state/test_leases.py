"""A lease says that somebody works on a step: it lives as long as the work does and no longer than its process by much."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import redis

from shared.processes import process_token
from shared.queue.client import connect_to_redis
from shared.queue.state import leases
from shared.queue.state.leases import are_leased, leased
from tests.conftest import REPOSITORY, wait_until

pytestmark = pytest.mark.server


@pytest.fixture
def client(redis_url):
    return connect_to_redis(redis_url)


def is_leased(client, name):
    return are_leased(client, [name])[0]


def test_a_step_is_leased_while_it_runs_and_free_afterwards(client):
    with leased(client, "score.chunk:job-1:0"):
        wait_until(lambda: is_leased(client, "score.chunk:job-1:0"))
        assert are_leased(client, ["score.chunk:job-1:1", "score.chunk:job-1:0"]) == [False, True]
    assert not is_leased(client, "score.chunk:job-1:0")


def test_a_step_that_fails_is_free_as_well(client):
    with pytest.raises(ValueError, match="broken"), leased(client, "step"):
        wait_until(lambda: is_leased(client, "step"))
        raise ValueError("broken")
    assert not is_leased(client, "step")


def test_a_lease_is_renewed_while_the_work_takes_longer_than_it_lasts(client, monkeypatch):
    monkeypatch.setattr(leases, "LEASE_SECONDS", 1)
    with leased(client, "long"):
        wait_until(lambda: is_leased(client, "long"))
        for _ in range(3):
            wait_until(lambda: client.pttl("scoring:lease:long") < 700, what="the lease getting older")
            wait_until(lambda: client.pttl("scoring:lease:long") > 900, what="the lease being renewed")


def test_one_thread_renews_all_that_a_process_holds_also_in_a_process_that_was_forked_meanwhile(client, redis_url, monkeypatch):
    monkeypatch.setattr(leases, "LEASE_SECONDS", 1)
    with leased(client, "one"), leased(client, "two"):
        assert [thread.name for thread in threading.enumerate()].count("leases") == 1
        child = os.fork()
        if not child:
            with leased(connect_to_redis(redis_url), "three"):
                time.sleep(600)
        try:
            names = ["one", "two", "three"]
            wait_until(lambda: all(are_leased(client, names)))
            for name in names:
                wait_until(lambda name=name: client.pttl(f"scoring:lease:{name}") < 700, what="the lease getting older")
                wait_until(lambda name=name: client.pttl(f"scoring:lease:{name}") > 900, what="the lease being renewed")
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def test_what_another_process_took_meanwhile_is_left_to_it(client):
    with leased(client, "step"):
        client.set("scoring:lease:step", b"another-machine.1.abc", ex=60)
    assert client.get("scoring:lease:step") == b"another-machine.1.abc"


def test_a_lease_that_was_lost_with_the_data_of_redis_comes_back(client, monkeypatch):
    monkeypatch.setattr(leases, "LEASE_SECONDS", 1)
    with leased(client, "lost"):
        wait_until(lambda: is_leased(client, "lost"))
        client.flushall()
        wait_until(lambda: is_leased(client, "lost"), what="the lease coming back")


def test_the_lease_of_a_killed_process_counts_no_more(client, redis_url):
    program = """
import sys, time
from shared.queue.client import connect_to_redis
from shared.queue.state import leases
leases.LEASE_SECONDS = 2
with leases.leased(connect_to_redis(sys.argv[1]), "killed"):
    time.sleep(600)
"""
    working = subprocess.Popen([sys.executable, "-c", program, redis_url], cwd=REPOSITORY)
    wait_until(lambda: is_leased(client, "killed"), what="the lease of the process")
    working.kill()
    working.wait()
    assert not is_leased(client, "killed"), "on the same machine the end of the process is seen at once"
    client.set("scoring:lease:killed", b"another-machine.1.abc", ex=2)
    assert is_leased(client, "killed")
    wait_until(lambda: not is_leased(client, "killed"), 10, "the end of the lease")
    assert 0 < leases.LEASE_SECONDS <= 10


def test_only_the_first_holder_holds_until_it_is_gone(client):
    with leased(client, "both") as first, leased(client, "both") as second:
        assert (first, second) == (True, False)
    with leased(client, "both") as again:
        assert again
    client.set("scoring:lease:dead", f"{process_token().rsplit('.', 2)[0]}.{2**22 + 1}.abc", ex=60)
    with leased(client, "dead") as taken_over:
        assert taken_over


def test_without_redis_the_work_is_done_all_the_same(no_redis_url):
    client = connect_to_redis(no_redis_url)
    done = []
    with leased(client, "step"):
        done.append(True)
    assert done
    with pytest.raises(redis.RedisError):
        are_leased(client, ["step"])


def test_nothing_is_asked_when_there_is_nothing_to_ask(no_redis_url):
    assert are_leased(connect_to_redis(no_redis_url), []) == []
