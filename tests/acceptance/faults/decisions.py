"""The faults of held results: jobs that the guard holds, and people who approve, refuse, roll back and unpin while things are killed."""

import itertools
import random
from collections.abc import Iterable
from dataclasses import replace

from shared.catalog.held import held_jobs, read_decision
from tests.acceptance.faults import people
from tests.acceptance.faults.faults import (
    CHAOS_SIDES,
    CLOCK_FAULTS,
    DISK_FAULTS,
    FROZEN_PLACES,
    KILLS,
    LAST_PLACES,
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
    *LAST_PLACES,
]
"""Where a process is killed while it publishes what a person approved."""
PLACES_OF_CHANNEL = [place for place in PLACES_OF_PUBLICATION if place.startswith("channel, ")]
PLACES_OF_PINNED = [place for place in PLACES_OF_HELD if place.startswith(("finish, ", "held, "))]
"""Where a process is killed while it holds a result because of a pin."""
S3_PLACES_OF_HELD = ["finish, half the result written", "guard, before its verdict", "held, before its mark"]


def held(fault: Fault) -> Fault:
    """A fault of a job whose table has only half of the rows: its result must be held."""
    return replace(fault, table=HALVED)


def decided(*commands: people.Command, place: str = "", action: str = "") -> Fault:
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
        people.type_until_done(stage, chance, "results", "rollback", CHANNEL, "--to", base, "--reason", "tablets are too high")
        problems += _not_shown(stage, base) + ([] if stage.channel().pinned else ["the channel is not pinned"])
        if place:
            stage.arm(place, action)
        pinned = stage.enqueue_by_schedule(held=True)
        endings.append(stage.end_of(pinned))
        problems += stage.end_problems(pinned)
        if "is pinned to the result" not in stage.outcome(pinned).reason:
            problems.append(f"held, but not because of the pin: {stage.outcome(pinned).reason}")
        people.type_until_done(stage, chance, "results", "unpin", CHANNEL)
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
    "approved: killed at a write, then again": decided(people.approve),
    "approved: two at once": decided(people.approve_at_once),
    "approved: two at once, one of them killed": decided(people.approve_at_once_one_dies),
    "approved and refused at once": decided(people.approve_and_refuse_at_once),
    "refused: killed at a write, then again": decided(people.refuse),
    **{
        f"approved: {place}: {action}": decided(people.approve_undisturbed, place=place, action=action)
        for place, action in itertools.product(PLACES_OF_PUBLICATION, KILLS)
    },
    **{
        f"approved: killed at a write, then again, and {place}: {action}": decided(people.approve, place=place, action=action)
        for place, action in itertools.product(PLACES_OF_CHANNEL, KILLS)
    },
    "rolled back: killed at a write, then again": rolled_back(),
    **{f"rolled back: {place}: {action}": rolled_back(place, action) for place, action in itertools.product(PLACES_OF_PINNED, KILLS)},
}
"""People decide in these."""
ON_S3: dict[str, Fault] = {
    **{f"s3: held: {place}: kill the process": held(trap(place, "kill the process")) for place in S3_PLACES_OF_HELD},
    **{f"s3: held: {name}": held(STORE_FAULTS[name]) for name in ("store answers 503", "store does it and is not heard")},
    "s3: approved: killed at a write, then again": decided(people.approve),
    "s3: rolled back: killed at a write, then again": rolled_back(),
}
CHAOS: dict[str, Fault] = {
    "held: chaos": held(chaos(PLACES_OF_HELD, *CHAOS_SIDES)),
    "held: chaos, two jobs at once": held(chaos(PLACES_OF_HELD, *CHAOS_SIDES, jobs=2)),
}
