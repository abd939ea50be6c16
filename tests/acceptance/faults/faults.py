"""The kinds of fault: each is done to a stage while one job runs on it, and puts right what it broke on purpose."""

import random
import signal
import time
from collections.abc import Callable

import psutil
import redis

from tests.acceptance.faults.stage import Stage
from tests.conftest import wait_until

PAUSE_SECONDS = 3.0
"""How long an outage lasts."""

Fault = Callable[[Stage, str, random.Random], None]


def trap(place: str, action: str) -> Fault:
    """A process of a worker comes to a named place in a step and is killed there; armed before the job is sent."""

    def wait_for_it(stage: Stage, job_id: str, chance: random.Random) -> None:
        wait_until(lambda: stage.sprung, 60, f"the trap {place!r}")

    wait_for_it.place, wait_for_it.action = place, action  # type: ignore[attr-defined]
    return wait_for_it


def in_the_middle(stage: Stage, job_id: str, chance: random.Random) -> None:
    """Wait until a random share of the parts is there."""
    parts = stage.place.bucket / "jobs" / job_id / "parts"
    wanted = chance.randint(1, 20)
    ended = parts.parent / "outcome.json"
    wait_until(lambda: len(list(parts.glob("*.json"))) >= wanted or ended.exists(), 60, "the middle of the job")


def kill_worker(stage: Stage, job_id: str, chance: random.Random) -> None:
    in_the_middle(stage, job_id, chance)
    worker = chance.choice(list(stage.workers.values()))
    children = psutil.Process(worker.pid).children(recursive=True)
    worker.kill()
    for child in children:
        child.kill()


def terminate_worker(stage: Stage, job_id: str, chance: random.Random) -> None:
    in_the_middle(stage, job_id, chance)
    chance.choice(list(stage.workers.values())).terminate()


def restart_all_workers_in_turn(stage: Stage, job_id: str, chance: random.Random) -> None:
    in_the_middle(stage, job_id, chance)
    for name in list(stage.workers):
        before = stage.workers[name]
        before.terminate()
        wait_until(lambda name=name, before=before: stage.workers[name] is not before, 30, f"the restart of worker {name}")  # type: ignore[misc]


def freeze_worker(stage: Stage, job_id: str, chance: random.Random) -> None:
    in_the_middle(stage, job_id, chance)
    worker = psutil.Process(chance.choice(list(stage.workers.values())).pid)
    frozen = [worker, *worker.children(recursive=True)]
    for process in frozen:
        process.suspend()
    time.sleep(PAUSE_SECONDS)
    for process in frozen:
        process.resume()


def _kill_server(stage: Stage) -> None:
    assert stage.server is not None
    stage.server.kill()
    stage.server.wait(10)


def kill_server_keep_data(stage: Stage, job_id: str, chance: random.Random) -> None:
    in_the_middle(stage, job_id, chance)
    _kill_server(stage)
    stage.start_server()


def kill_server_lose_data(stage: Stage, job_id: str, chance: random.Random) -> None:
    in_the_middle(stage, job_id, chance)
    _kill_server(stage)
    stage.start_server(empty=True)


def empty_server(stage: Stage, job_id: str, chance: random.Random) -> None:
    in_the_middle(stage, job_id, chance)
    stage.client.flushall()


def freeze_server(stage: Stage, job_id: str, chance: random.Random) -> None:
    in_the_middle(stage, job_id, chance)
    assert stage.server is not None
    stage.server.send_signal(signal.SIGSTOP)
    time.sleep(PAUSE_SECONDS)
    stage.server.send_signal(signal.SIGCONT)


def fill_server(stage: Stage, job_id: str, chance: random.Random) -> None:
    in_the_middle(stage, job_id, chance)
    stage.client.config_set("maxmemory", "1mb")
    time.sleep(PAUSE_SECONDS)
    stage.client.config_set("maxmemory", "0")


def cut_network(stage: Stage, job_id: str, chance: random.Random) -> None:
    in_the_middle(stage, job_id, chance)
    stage.proxy.cut()
    time.sleep(PAUSE_SECONDS)
    stage.proxy.mend()


def two_beats(stage: Stage, job_id: str, chance: random.Random) -> None:
    stage.start_beat()
    wait_until(lambda: stage.end_of(job_id), 120, "the end under two beats")
    stage.beats.pop().terminate()


def send_everything_again(stage: Stage, job_id: str, chance: random.Random) -> None:
    """Copy every message that waits in a queue."""
    in_the_middle(stage, job_id, chance)
    for queue in ("control", "score", "train"):
        messages = stage.client.lrange(queue, 0, -1)
        if messages:
            stage.client.rpush(queue, *messages)


def _broken_disk(kind: str) -> Fault:
    def break_it(stage: Stage, job_id: str, chance: random.Random) -> None:
        in_the_middle(stage, job_id, chance)
        stage.trouble.write_text(kind)
        time.sleep(PAUSE_SECONDS)
        stage.trouble.unlink()

    return break_it


def lose_the_hint(stage: Stage, job_id: str, chance: random.Random) -> None:
    in_the_middle(stage, job_id, chance)
    stage.client.delete(f"scoring:parts:{job_id}")


def _traps() -> dict[str, Fault]:
    places = [
        "plan, before its file",
        "plan, after its file",
        "chunk, before its part",
        "chunk, half its part written",
        "chunk, between part and record",
        "chunk, after its record",
        "finish, half the result written",
        "finish, before the manifest",
        "finish, before the outcome",
        "finish, after the outcome",
        "finish, between predictions and manifest",
        "finish, before it is marked as published",
        "finish, after it is marked as published",
        "notify, before the webhook",
        "notify, after its mark",
    ]
    actions = ["kill the process", "kill the worker", "terminate, then kill the worker"]
    return {f"{place}: {action}": trap(place, action) for place in places for action in actions}


FAULTS: dict[str, Fault] = {
    **_traps(),
    "worker killed": kill_worker,
    "worker terminated": terminate_worker,
    "rolling restart": restart_all_workers_in_turn,
    "worker frozen": freeze_worker,
    "server killed, data kept": kill_server_keep_data,
    "server killed, data lost": kill_server_lose_data,
    "server emptied": empty_server,
    "server frozen": freeze_server,
    "server full": fill_server,
    "network cut": cut_network,
    "two beats": two_beats,
    "every waiting message twice": send_everything_again,
    "hint lost": lose_the_hint,
    "disk full": _broken_disk("ENOSPC"),
    "disk broken": _broken_disk("EIO"),
    "disk slow": _broken_disk("slow"),
}


def is_over(stage: Stage) -> bool:
    """True when the server answers and both workers consume again."""
    try:
        return stage.is_consuming()
    except redis.RedisError:
        return False
