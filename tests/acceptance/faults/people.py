"""What people type about a held result and about a channel, one after the other or at once, with commands that die in the middle."""

import random
from collections.abc import Callable, Sequence

from tests.acceptance.faults.stage import Stage

Command = Callable[[Stage, str, random.Random], None]
"""Types commands about the result of a job."""

MOST_WRITES = 16
"""No command of a person writes more into the bucket."""
REFUSED = 2
"""The exit code of a command that came second, or whose work is done."""


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


def approve_undisturbed(stage: Stage, job_id: str, chance: random.Random) -> None:
    """The command to approve, which nobody disturbs."""
    assert stage.person(*_approval(job_id)).wait(60) == 0


def refuse(stage: Stage, job_id: str, chance: random.Random) -> None:
    """The command to refuse, killed at some write, and typed again."""
    type_until_done(stage, chance, *_refusal(job_id))


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
