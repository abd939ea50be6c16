"""The faults of held results: jobs that the guard holds, and people who approve, refuse, roll back and unpin while things are killed."""

import itertools
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from shared.catalog.held import held_jobs, read_decision
from tests.acceptance.faults.faults import (
    CHAOS_SIDES,
    CLOCK_FAULTS,
    DISK_FAULTS,
    FROZEN_PLACES,
    KILLS,
    NETWORK_FAULTS,
    SERVER_FAULTS,
    STORE_FAULTS,
    UPKEEP_FAULTS,
    WORKER_FAULTS,
    Fault,
    chaos,
    is_whole,
    no_deed,
    redelivered,
    redelivered_while_it_runs,
    trap,
)
from tests.acceptance.faults.stage import CHANNEL, HALVED, LATER, Ending, Stage
from tests.conftest import wait_until

MOST_WRITES = 16
"""No command of a person writes more into the bucket."""

PLACES_OF_HELD = [
    "plan, before its file",
    "chunk, between part and record",
    "finish, half the result written",
    "finish, before the manifest",
    "guard, before its verdict",
    "guard, after its verdict",
    "finish, before the outcome",
    "finish, after the outcome",
    "held, half its picture written",
    "held, between verdict and manifest",
    "held, before its mark",
    "held, after its mark",
    "held, before it is noted",
    "held, after it is noted",
    "notify, before the webhook",
    "notify, after its mark",
]
"""Where a process is killed on the way to a held result."""
PLACES_OF_PUBLICATION = [
    "finish, before the outcome",
    "finish, after the outcome",
    "held, between verdict and manifest",
    "finish, between predictions and manifest",
    "channel, before its change",
    "channel, after its change",
    "channel, after its predictions",
    "channel, after its manifest",
    "finish, before it is marked as published",
    "finish, after it is marked as published",
    "notify, before the webhook",
    "notify, after its mark",
]
"""Where a process is killed while it publishes what a person approved."""
S3_PLACES_OF_HELD = ["finish, half the result written", "guard, before its verdict", "held, before its mark"]

Commands = Callable[[Stage, str, random.Random], None]


def held(fault: Fault) -> Fault:
    """A fault of a job whose table has only half of the rows: its result must be held."""
    return replace(fault, table=HALVED)


def decided(*commands: Commands, place: str = "", action: str = "") -> Fault:
    """A result is held; people decide about it, and meanwhile a process of a worker is killed at a place."""

    def scene(stage: Stage, chance: random.Random, problems: list[str]) -> list[Ending]:
        base = stage.last_of_sample
        job_id = stage.enqueue(HALVED, held=True)
        endings = [stage.end_of(job_id)]
        problems += stage.end_problems(job_id)
        if place:
            stage.arm(place, action)
        for command in commands:
            command(stage, job_id, chance)
        if _is_approved(stage, job_id):
            del stage.must_be_held[job_id]
            endings.append(stage.end_of(job_id))
            problems += _not_shown(stage, job_id)
        else:
            wait_until(lambda: job_id not in held_jobs(stage.bucket), 30, "the end of the mark of a refused result")
            problems += _not_shown(stage, base)
        problems += _settled(stage, [job_id] if _is_approved(stage, job_id) else [])
        stage.clear_channel(base)
        return endings

    return Fault(side="people", scene=scene)


def rolled_back(place: str = "", action: str = "") -> Fault:
    """A channel is rolled back and later unpinned, each by a command that is killed and typed again; meanwhile the schedule goes on."""

    def scene(stage: Stage, chance: random.Random, problems: list[str]) -> list[Ending]:
        base = stage.last_of_sample
        endings = [stage.end_of(stage.enqueue(LATER))]
        problems += stage.end_problems(endings[0].job_id)
        type_until_done(stage, chance, "results", "rollback", CHANNEL, "--to", base, "--reason", "tablets are too high")
        problems += _not_shown(stage, base) + ([] if stage.channel().pinned else ["the channel is not pinned"])
        if place:
            stage.arm(place, action)
        pinned = stage.enqueue_by_schedule(held=True)
        endings.append(stage.end_of(pinned))
        problems += stage.end_problems(pinned)
        if "is pinned to the result" not in stage.outcome(pinned).reason:
            problems.append(f"held, but not because of the pin: {stage.outcome(pinned).reason}")
        type_until_done(stage, chance, "results", "unpin", CHANNEL)
        problems += _not_shown(stage, base) + (["the channel is pinned"] if stage.channel().pinned else [])
        after = stage.enqueue_by_schedule()
        endings.append(stage.end_of(after))
        problems += _not_shown(stage, after)
        problems += _settled(stage, [endings[0].job_id, after])
        stage.clear_channel(after)
        return endings

    return Fault(side="people", scene=scene)


def _settled(stage: Stage, jobs: list[str]) -> list[str]:
    stage.disarm()
    wait_until(lambda: is_whole(stage), 90, "both workers consuming again")
    return stage.problems(jobs)


def _is_approved(stage: Stage, job_id: str) -> bool:
    decision = read_decision(stage.folder(job_id))
    return decision is not None and decision.verdict == "approved"


def _not_shown(stage: Stage, job_id: str) -> list[str]:
    """What is wrong with a channel that must show the result of a job, whole."""
    shown = stage.channel().job_id
    return ([] if shown == job_id else [f"the channel shows the result of job {shown}, not that of {job_id}"]) + stage.channel_problems()


# --- what people type


def approve(stage: Stage, job_id: str, chance: random.Random) -> None:
    """The command to approve, killed at some write, and typed again."""
    type_until_done(stage, chance, *_approval(job_id))


def approve_at_once(stage: Stage, job_id: str, chance: random.Random) -> None:
    """Two people approve at the same moment."""
    _type_at_once(stage, [_approval(job_id)] * 2)


def approve_at_once_one_dies(stage: Stage, job_id: str, chance: random.Random) -> None:
    """Two people approve at the same moment, and the command of one of them is killed."""
    commands = [stage.person(*_approval(job_id), writes=writes) for writes in (chance.randrange(MOST_WRITES), None)]
    codes = [command.wait(60) for command in commands]
    assert codes[1] in (0, REFUSED), f"exit codes {codes}"


def approve_and_refuse_at_once(stage: Stage, job_id: str, chance: random.Random) -> None:
    """One person approves while another one refuses: one of them is first."""
    commands = [_approval(job_id), _refusal(job_id)]
    chance.shuffle(commands)
    _type_at_once(stage, commands)


def approve_nothing_new(stage: Stage, job_id: str, chance: random.Random) -> None:
    """The command to approve, which nobody disturbs."""
    assert stage.person(*_approval(job_id)).wait(60) == 0


def refuse(stage: Stage, job_id: str, chance: random.Random) -> None:
    """The command to refuse, killed at some write, and typed again."""
    type_until_done(stage, chance, *_refusal(job_id))


REFUSED = 2
"""The exit code of a command that came second, or whose work is done."""


def _approval(job_id: str) -> list[str]:
    return ["results", "approve", job_id, "--reason", "the shop closed", "--no-wait"]


def _refusal(job_id: str) -> list[str]:
    return ["results", "refuse", job_id, "--reason", "the join was broken"]


def type_until_done(stage: Stage, chance: random.Random, *command: str) -> None:
    """Types a command that is killed at a random write, and types it again."""
    killed = stage.person(*command, writes=chance.randrange(MOST_WRITES)).wait(60)
    assert killed in (-9, 0), f"exit code {killed}"
    code = stage.person(*command).wait(60)
    assert code in (0, REFUSED), f"exit code {code}"


def _type_at_once(stage: Stage, commands: Sequence[Sequence[str]]) -> None:
    codes = [typed.wait(60) for typed in [stage.person(*command) for command in commands]]
    assert set(codes) <= {0, REFUSED}, f"exit codes {codes}"
    assert 0 in codes, f"exit codes {codes}"


# --- the kinds


def _with_all(faults: dict[str, Fault], names: Iterable[str] = ()) -> dict[str, Fault]:
    return {f"held: {name}": held(fault) for name, fault in faults.items() if not names or name in names}


HELD: dict[str, Fault] = {
    **{f"held: {place}: {action}": held(trap(place, action)) for place, action in itertools.product(PLACES_OF_HELD, KILLS)},
    **{f"held: {place}: frozen, redelivered, goes on": held(redelivered(place)) for place in FROZEN_PLACES},
    "held: held, before its mark: redelivered while it runs": held(redelivered_while_it_runs("held, before its mark")),
    **_with_all(WORKER_FAULTS | SERVER_FAULTS | NETWORK_FAULTS | UPKEEP_FAULTS | CLOCK_FAULTS | DISK_FAULTS),
    "held: every message twice": held(Fault(side="messages", deed=no_deed, every_message_twice=True)),
}
"""Every job of these is held."""
DECIDED: dict[str, Fault] = {
    "approved: killed at a write, then again": decided(approve),
    "approved: two at once": decided(approve_at_once),
    "approved: two at once, one of them killed": decided(approve_at_once_one_dies),
    "approved and refused at once": decided(approve_and_refuse_at_once),
    "refused: killed at a write, then again": decided(refuse),
    **{
        f"approved: {place}: {action}": decided(approve_nothing_new, place=place, action=action)
        for place, action in itertools.product(PLACES_OF_PUBLICATION, KILLS)
    },
    **{
        f"approved: killed at a write, then again, and {place}: {action}": decided(approve, place=place, action=action)
        for place, action in itertools.product(PLACES_OF_PUBLICATION[4:8], KILLS)
    },
    "rolled back: killed at a write, then again": rolled_back(),
    **{f"rolled back: {place}: {action}": rolled_back(place, action) for place, action in itertools.product(PLACES_OF_HELD[6:14], KILLS)},
}
"""People decide in these."""
ON_S3: dict[str, Fault] = {
    **{f"s3: held: {place}: kill the process": held(trap(place, "kill the process")) for place in S3_PLACES_OF_HELD},
    **{f"s3: held: {name}": held(STORE_FAULTS[name]) for name in ("store answers 503", "store does it and is not heard")},
    "s3: approved: killed at a write, then again": decided(approve),
    "s3: rolled back: killed at a write, then again": rolled_back(),
}
CHAOS: dict[str, Fault] = {
    "held: chaos": held(chaos(PLACES_OF_HELD, *CHAOS_SIDES)),
    "held: chaos, two jobs at once": held(chaos(PLACES_OF_HELD, *CHAOS_SIDES, jobs=2)),
}
