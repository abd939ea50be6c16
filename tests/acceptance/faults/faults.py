"""The kinds of fault: each is done to a stage while one job runs on it, and puts right what it broke on purpose."""

import contextlib
import dataclasses
import itertools
import random
import signal
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import psutil
import pytest
from kombu.exceptions import OperationalError

from shared.queue.routes import GC
from tests.acceptance.faults.stage import PROCESSES, SAMPLE, Ending, Stage
from tests.conftest import wait_until

PAUSE_SECONDS = 3.0
"""How long an outage lasts."""

HANG_SECONDS = 13.0
"""Longer than an answer of the object store is waited for."""

DEATHS, ALWAYS = 3, 100
"""How often a step may kill its process before its job fails; and more often than that."""

ENDLESS_SECONDS = 120

CLOCK_STEPS = {"a minute ahead": 60, "a minute behind": -60, "two hours ahead": 7200, "two hours behind": -7200, "a day ahead": 86_400}
"""Beyond an hour a message counts as lost for the worker whose clock it is, which then gives it out again."""

KILLS = ["kill the process", "kill the worker", "terminate, then kill the worker"]

FIT_PLACES = ["fit, before the model", "fit, with the model", "fit, before its outcome", "fit, before it is marked as published"]
LOAD_PLACES = ["load, before the model", "load, with the model"]

Deed = Callable[[Stage, str, random.Random], None]
Scene = Callable[[Stage, random.Random, list[str]], list[Ending]]
"""Plays several jobs and what people do between them; adds what was wrong to the list, and returns how the jobs ended."""


def nothing(stage: Stage, chance: random.Random) -> None:
    """What most faults need before the job is sent."""


def no_deed(stage: Stage, job_id: str, chance: random.Random) -> None:
    """All of it was said before."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One way in which things go wrong."""

    side: str
    """What it is done to: two at once must be done to different sides."""
    deed: Deed = no_deed
    """Done after the job was sent."""
    before: Callable[[Stage, random.Random], None] = nothing
    """Done before it is sent."""
    every_message_twice: bool = False
    jobs: int = 1
    """How many run at once."""
    is_training: bool = False
    """True when the job is one that trains."""
    verdict: str = ""
    """An expression that the reason of the job must match, which has to fail; empty when it has to be done."""
    table: str = SAMPLE
    """What is scored; the result of any other one must be held."""
    scene: Scene | None = None
    """What is played in place of one job with a deed."""


def trap(place: str, action: str) -> Fault:
    """A process of a worker comes to a named place in a step and is killed there; armed before the job is sent."""
    return Fault(
        side="workers",
        before=lambda stage, chance: stage.arm(place, action),
        deed=lambda stage, job_id, chance: wait_for_trap(stage, place),
    )


def training_trap(place: str, action: str) -> Fault:
    """The same while a definition is trained."""
    return dataclasses.replace(trap(place, action), is_training=True)


def again_and_again(place: str, action: str, verdict: str, *, is_training: bool = False) -> Fault:
    """Every process that comes to a place is killed there: the job must fail once three of them were, and say why."""

    def deed(stage: Stage, job_id: str, chance: random.Random) -> None:
        wait_until(lambda: has_failed(stage, job_id), ENDLESS_SECONDS, "the end of a step that kills its process", stage.pause)
        # of a release that kills, each process of the workers may find out for itself, and its successor before the loss is known
        most = DEATHS + 2 * PROCESSES * len(stage.workers) if place in LOAD_PLACES else DEATHS
        if not DEATHS <= stage.times_sprung <= most:
            pytest.fail(f"{stage.times_sprung} processes died at the place {place!r}")

    return Fault(
        side="workers",
        before=lambda stage, chance: stage.arm(place, action, ALWAYS),
        deed=deed,
        is_training=is_training,
        verdict=verdict,
    )


def has_failed(stage: Stage, job_id: str) -> bool:
    outcome = stage.folder(job_id).outcome()
    return outcome is not None and outcome.state == "failed"


def deploys_that_kill(place: str, *, is_training: bool = False) -> Fault:
    """More deploys in a row than a step may kill its process, each of which kills it in the middle: the job must be done."""

    def deed(stage: Stage, job_id: str, chance: random.Random) -> None:
        wait_until(lambda: stage.times_sprung > DEATHS, ENDLESS_SECONDS, f"{DEATHS + 1} deploys", stage.pause)

    return Fault(
        side="workers",
        before=lambda stage, chance: stage.arm(place, "terminate, then kill the worker", DEATHS + 1),
        deed=deed,
        is_training=is_training,
    )


def wait_for_trap(stage: Stage, place: str) -> int:
    return int(wait_until(lambda: stage.sprung, 60, f"the trap {place!r}"))


def redelivered(place: str) -> Fault:
    """A process stops in the middle of a step for so long that Redis gives its message to another, and then goes on."""

    def deed(stage: Stage, job_id: str, chance: random.Random) -> None:
        frozen = psutil.Process(wait_for_trap(stage, place))
        try:
            wait_until(lambda: frozen.status() == psutil.STATUS_STOPPED, 10, "the stop")
            _deliver_again(stage)
        finally:
            frozen.resume()

    return Fault(side="workers", before=lambda stage, chance: stage.arm(place, "freeze the process"), deed=deed)


def redelivered_while_it_runs(place: str) -> Fault:
    """Like ``redelivered``, but the process lives and says so by its lease."""

    def deed(stage: Stage, job_id: str, chance: random.Random) -> None:
        wait_for_trap(stage, place)
        try:
            _deliver_again(stage)
        finally:
            stage.disarm()

    return Fault(side="workers", before=lambda stage, chance: stage.arm(place, "hold the process"), deed=deed)


def _deliver_again(stage: Stage) -> None:
    """Lets every message that was taken and not acknowledged be as old as the visibility timeout, and waits until it is given out again."""
    client = stage.client
    taken = client.zrange("unacked_index", 0, -1)
    for tag in taken:
        client.zadd("unacked_index", {tag: 0}, xx=True)
    # a process that takes a message again gives it a new time; the workers look for lost ones every ten seconds
    wait_until(lambda: all(client.zscore("unacked_index", tag) != 0 for tag in taken), 40, "the redelivery", 0.1)
    time.sleep(1)


def in_the_middle(stage: Stage, job_id: str, chance: random.Random) -> None:
    """Waits until a random share of the parts is there."""
    folder = stage.folder(job_id)
    wanted = chance.randint(1, stage.chunks * 4 // 5)
    wait_until(lambda: len(folder.parts_done()) >= wanted or folder.outcome(), 90, "the middle of the job", stage.pause)


def kill_worker(stage: Stage, job_id: str, chance: random.Random) -> None:
    in_the_middle(stage, job_id, chance)
    name = chance.choice(list(stage.workers))
    children = stage.pool(name)
    stage.workers[name].kill()
    _each(children, psutil.Process.kill)


def kill_processes(stage: Stage, job_id: str, chance: random.Random) -> None:
    in_the_middle(stage, job_id, chance)
    # another fault may have killed both workers
    pools = wait_until(lambda: [process for name in stage.workers for process in stage.pool(name)], 60, "a process of a worker")
    _each(chance.sample(pools, chance.randint(1, len(pools))), psutil.Process.kill)


def terminate_worker(stage: Stage, job_id: str, chance: random.Random) -> None:
    in_the_middle(stage, job_id, chance)
    stage.restart_worker(chance.choice(list(stage.workers)))


def restart_all_workers_in_turn(stage: Stage, job_id: str, chance: random.Random) -> None:
    in_the_middle(stage, job_id, chance)
    for name in list(stage.workers):
        stage.restart_worker(name)


def freeze_worker(stage: Stage, job_id: str, chance: random.Random) -> None:
    in_the_middle(stage, job_id, chance)
    name = chance.choice(list(stage.workers))
    frozen = stage.tree(name)
    _each(frozen, psutil.Process.suspend)
    time.sleep(PAUSE_SECONDS)
    _each(frozen, psutil.Process.resume)


def _each(processes: list[psutil.Process], do: Callable[[psutil.Process], None]) -> None:
    """Does it to all that are still there: another fault may be at work as well."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            do(process)


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


def make_server_read_only(stage: Stage, job_id: str, chance: random.Random) -> None:
    """As after a failover: the server follows a master that is away, answers reads and refuses writes."""
    in_the_middle(stage, job_id, chance)
    stage.client.replicaof("127.0.0.1", 1)
    time.sleep(PAUSE_SECONDS)
    stage.client.replicaof("NO", "ONE")


def collect_garbage(stage: Stage, job_id: str, chance: random.Random) -> None:
    """The step of gc that beat sends, several times while the job runs."""
    for _ in range(chance.randint(2, 5)):
        in_the_middle(stage, job_id, chance)
        with contextlib.suppress(OperationalError):  # another fault has just filled or stopped the server: beat sends it once more, too
            stage.app.send_task(GC, retry=False)


def lose_the_hint(stage: Stage, job_id: str, chance: random.Random) -> None:
    in_the_middle(stage, job_id, chance)
    stage.client.delete(f"scoring:parts:{job_id}")


def cut_network(stage: Stage, job_id: str, chance: random.Random) -> None:
    in_the_middle(stage, job_id, chance)
    stage.proxy.cut()
    time.sleep(PAUSE_SECONDS)
    stage.proxy.repair()


def two_beats(stage: Stage, job_id: str, chance: random.Random) -> None:
    stage.start_beat()
    wait_until(lambda: stage.folder(job_id).outcome(), 120, "the end under two beats", stage.pause)
    stage.stop_beat()


def neighbour_works(stage: Stage, job_id: str, chance: random.Random) -> None:
    """The second stack scores the same table at the same time; its job is its own as ours is ours."""
    theirs = stage.enqueue_at_neighbour()
    in_the_middle(stage, job_id, chance)
    ending = stage.end_at_neighbour(theirs)
    assert (ending.state, ending.notices) == ("done", 1)
    assert not stage.place.webhook.about(theirs)


def neighbour_killed(stage: Stage, job_id: str, chance: random.Random) -> None:
    """The worker of the second stack is killed in the middle of a job, and comes back."""
    neighbour = stage.neighbour
    assert neighbour is not None
    theirs = stage.enqueue_at_neighbour()
    kill_worker(neighbour, theirs, chance)
    ending = stage.end_at_neighbour(theirs)
    assert (ending.state, ending.notices) == ("done", 1)


def beside(fault: Fault, *, empties: bool = False) -> Fault:
    """A fault of one stack while the second one works on a job of its own; with ``empties`` it forgets what it had in Redis, too."""

    def deed(stage: Stage, job_id: str, chance: random.Random) -> None:
        assert stage.neighbour is not None
        theirs = stage.enqueue_at_neighbour()
        fault.deed(stage, job_id, chance)
        if empties:
            stage.neighbour.client.flushall()
        ending = stage.end_at_neighbour(theirs)
        assert (ending.state, ending.notices) == ("done", 1)

    return dataclasses.replace(fault, deed=deed)


def clock_step(seconds: float) -> Fault:
    """The clock of one worker steps in the middle of a job and keeps wrong until the job has ended."""

    def deed(stage: Stage, job_id: str, chance: random.Random) -> None:
        in_the_middle(stage, job_id, chance)
        worker = chance.choice(list(stage.workers))
        stage.set_clock(worker, seconds)
        wait_until(lambda: stage.folder(job_id).has("notified.json"), 120, "the end of a job under a wrong clock", stage.pause)
        stage.set_clock(worker, 0)

    return Fault(side="clocks", deed=deed)


def clock_steps(stage: Stage, job_id: str, chance: random.Random) -> None:
    """The clocks of all workers step ahead and back, several times, each by its own."""
    for _ in range(chance.randint(2, 5)):
        in_the_middle(stage, job_id, chance)
        for worker in list(stage.workers):
            stage.set_clock(worker, chance.choice([-1, 1]) * chance.choice([1, 30, 60, 3600, 90_000]))
    for worker in list(stage.workers):
        stage.set_clock(worker, 0)


def copy_waiting_messages(stage: Stage, job_id: str, chance: random.Random) -> None:
    in_the_middle(stage, job_id, chance)
    for queue in ("control", "score", "train"):
        messages = stage.client.lrange(queue, 0, -1)
        if messages:
            stage.client.rpush(queue, *messages)


def broken_disk(kind: str) -> Fault:
    def deed(stage: Stage, job_id: str, chance: random.Random) -> None:
        in_the_middle(stage, job_id, chance)
        with stage.saying("trouble", kind):
            time.sleep(PAUSE_SECONDS)

    return Fault(side="bucket", deed=deed)


def ill_store(trouble: str) -> Fault:
    def deed(stage: Stage, job_id: str, chance: random.Random) -> None:
        in_the_middle(stage, job_id, chance)
        assert stage.relay is not None
        stage.relay.trouble = trouble
        time.sleep(HANG_SECONDS if trouble == "hang" else PAUSE_SECONDS)
        stage.relay.trouble = ""

    return Fault(side="bucket", deed=deed)


WORKER_FAULTS = {
    "worker killed": Fault(side="workers", deed=kill_worker),
    "processes killed": Fault(side="workers", deed=kill_processes),
    "worker terminated": Fault(side="workers", deed=terminate_worker),
    "rolling restart": Fault(side="workers", deed=restart_all_workers_in_turn),
    "worker frozen": Fault(side="workers", deed=freeze_worker),
}
SERVER_FAULTS = {
    "server killed, data kept": Fault(side="server", deed=kill_server_keep_data),
    "server killed, data lost": Fault(side="server", deed=kill_server_lose_data),
    "server emptied": Fault(side="server", deed=empty_server),
    "server frozen": Fault(side="server", deed=freeze_server),
    "server full": Fault(side="server", deed=fill_server),
    "server read-only": Fault(side="server", deed=make_server_read_only),
    "hint lost": Fault(side="server", deed=lose_the_hint),
}
UPKEEP_FAULTS = {"gc at random moments": Fault(side="upkeep", deed=collect_garbage)}
CLOCK_FAULTS = {
    **{f"clock {word}": clock_step(seconds) for word, seconds in CLOCK_STEPS.items()},
    "clocks step ahead and back": Fault(side="clocks", deed=clock_steps),
}
NETWORK_FAULTS = {"network cut": Fault(side="network", deed=cut_network)}
DISK_FAULTS = {f"disk {word}": broken_disk(kind) for word, kind in {"full": "ENOSPC", "broken": "EIO", "slow": "slow"}.items()}
STORE_FAULTS = {
    f"store {word}": ill_store(trouble)
    for word, trouble in {
        "answers 503": "503",
        "answers 500": "500",
        "hangs": "hang",
        "breaks connections off": "reset",
        "does it and is not heard": "deaf",
        "is slow": "slow",
    }.items()
}


def chaos(traps: Iterable[str], *kinds: dict[str, Fault], jobs: int = 1) -> Fault:
    """A trap, and meanwhile several faults one after the other, some of them two at once."""
    places = list(itertools.product(traps, KILLS))
    possible = [fault for kind in kinds for fault in kind.values()]

    def deed(stage: Stage, job_id: str, chance: random.Random) -> None:
        for _ in range(chance.randint(2, 4)):
            first, second = chance.sample(possible, 2)
            at_once = [first, second] if first.side != second.side and chance.random() < 0.5 else [first]
            with ThreadPoolExecutor() as threads:
                doing = [threads.submit(fault.deed, stage, job_id, random.Random(chance.random())) for fault in at_once]
            for done in doing:
                done.result()

    return Fault(side="all", before=lambda stage, chance: stage.arm(*chance.choice(places)), deed=deed, jobs=jobs)


LAST_PLACES = [
    "channel, before its change",
    "channel, after its change",
    "channel, after its predictions",
    "channel, after its manifest",
    "finish, before it is marked as published",
    "finish, after it is marked as published",
    "notify, before the webhook",
    "notify, after its mark",
]
"""The last of the points below: from the change of the channel on."""
TRAP_PLACES = [
    "plan, half a slice written",
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
    "guard, before its verdict",
    "guard, after its verdict",
    *LAST_PLACES,
]
"""Not among them: a process killed between the webhook's answer and its mark tells people twice, which the documents say."""

FROZEN_PLACES = ["plan, before its file", "chunk, half its part written", "finish, before the manifest", "finish, after the outcome"]
HELD_PLACES = ["chunk, between part and record", "notify, before the webhook", "notify, after the webhook"]
S3_TRAP_PLACES = [
    "plan, half a slice written",
    "chunk, half its part written",
    "chunk, between part and record",
    "finish, half the result written",
    "finish, between predictions and manifest",
]

KILLED = "killed its process 3 times in a row"
DEADLY_STEPS = {
    "plan, half a slice written": rf"^score\.plan \(cutting the table into chunks\) {KILLED}",
    "finish, half the result written": rf"^score\.finish \(joining the parts and publishing the result\) {KILLED}",
    "finish, between predictions and manifest": rf"^score\.finish \(joining the parts and publishing the result\) {KILLED}",
    # processes that load it at once find out each for itself: see ``again_and_again``
    "load, before the model": rf"^the release v1@\S+ kills or hangs the process that loads it: it {KILLED.replace('3', '[3-9]')}",
    "fit, before the model": rf"^train\.fit \(fitting v1 on [\d,]+ rows\) {KILLED}",
}
"""Places where every process dies, and what the job then has to say."""
DEPLOYED_PLACES = ["plan, before its file", "finish, half the result written", "fit, before the model"]


def deadly(action: str) -> dict[str, Fault]:
    """Each of the deadly steps, where this is done again and again."""
    return {
        place: again_and_again(place, action, f"{verdict}; most likely memory", is_training=place in FIT_PLACES)
        for place, verdict in DEADLY_STEPS.items()
    }


ON_DISK: dict[str, Fault] = {
    **{f"{place}: {action}": trap(place, action) for place, action in itertools.product(LOAD_PLACES, KILLS)},
    **{f"{place}: {action}": training_trap(place, action) for place, action in itertools.product(FIT_PLACES, KILLS)},
    **{f"{place}: kill the process, again and again": fault for place, fault in deadly("kill the process").items()},
    **{f"{place}: kill the worker, again and again": fault for place, fault in deadly("kill the worker").items()},
    **{f"{place}: deploys that kill": deploys_that_kill(place, is_training=place in FIT_PLACES) for place in DEPLOYED_PLACES},
    **{f"{place}: {action}": trap(place, action) for place, action in itertools.product(TRAP_PLACES, KILLS)},
    **{f"{place}: frozen, redelivered, goes on": redelivered(place) for place in FROZEN_PLACES},
    **{f"{place}: redelivered while it runs": redelivered_while_it_runs(place) for place in HELD_PLACES},
    **WORKER_FAULTS,
    **SERVER_FAULTS,
    **NETWORK_FAULTS,
    **UPKEEP_FAULTS,
    **CLOCK_FAULTS,
    **DISK_FAULTS,
    "two beats": Fault(side="messages", deed=two_beats),
    "every message twice": Fault(side="messages", deed=no_deed, every_message_twice=True),
    "every waiting message twice": Fault(side="messages", deed=copy_waiting_messages),
}
ON_S3: dict[str, Fault] = {
    **{f"s3: {place}: kill the process": trap(place, "kill the process") for place in S3_TRAP_PLACES},
    "s3: chunk, half its part written: frozen, redelivered, goes on": redelivered("chunk, half its part written"),
    **{f"s3: {name}": fault for name, fault in STORE_FAULTS.items()},
    "s3: worker killed": WORKER_FAULTS["worker killed"],
    "s3: server killed, data lost": SERVER_FAULTS["server killed, data lost"],
    "s3: every message twice": Fault(side="messages", deed=no_deed, every_message_twice=True),
}
IN_LITTLE_MEMORY: dict[str, Fault] = {
    **{f"memory: {place}: eats it, again and again": fault for place, fault in deadly("eat memory").items()},
    **{f"memory: {place}: eats it once": trap(place, "eat memory") for place in DEADLY_STEPS if place not in FIT_PLACES},
    **{f"memory: {place}: eats it once": training_trap(place, "eat memory") for place in FIT_PLACES},
}
"""Played where a worker may use little memory; the kernel kills a process that takes more."""
BESIDE_ANOTHER_STACK: dict[str, Fault] = {
    "stacks: both work at once": Fault(side="upkeep", deed=neighbour_works),
    "stacks: the other's worker killed": Fault(side="upkeep", deed=neighbour_killed),
    "stacks: both servers emptied": beside(SERVER_FAULTS["server emptied"], empties=True),
    **{
        f"stacks: {name}": beside(fault)
        for name, fault in (WORKER_FAULTS | SERVER_FAULTS | UPKEEP_FAULTS).items()
        if name in ("worker killed", "rolling restart", "server killed, data lost", "server emptied", "hint lost", "gc at random moments")
    },
}
"""Played where a second stack works on the same bucket."""
CHAOS_SIDES = (WORKER_FAULTS, SERVER_FAULTS, NETWORK_FAULTS, DISK_FAULTS, UPKEEP_FAULTS, CLOCK_FAULTS)
CHAOS: dict[str, Fault] = {
    "chaos": chaos(TRAP_PLACES, *CHAOS_SIDES),
    "chaos, two jobs at once": chaos(TRAP_PLACES, WORKER_FAULTS, SERVER_FAULTS, NETWORK_FAULTS, DISK_FAULTS, CLOCK_FAULTS, jobs=2),
    "s3: chaos": chaos(S3_TRAP_PLACES, WORKER_FAULTS, SERVER_FAULTS, NETWORK_FAULTS, STORE_FAULTS),
}
FAULTS = ON_DISK | ON_S3 | BESIDE_ANOTHER_STACK | IN_LITTLE_MEMORY | CHAOS


def is_whole(stage: Stage) -> bool:
    """True when both workers consume, with all their processes."""
    return stage.is_consuming() and all(len(stage.pool(name)) == PROCESSES for name in stage.workers)
