"""The processes of the stack, each by itself: how it is started, and ``scoring run``, which becomes one of them in a container.

Imports nothing that is slow: the health check of a container takes it too, every half minute.
"""

import os
import secrets
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from shared.errors import RequestError
from shared.processes import private_place
from shared.queue.routes import QUEUE_CONTROL, QUEUE_SCORE, QUEUE_TRAIN
from shared.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
"""The folder above the packages: where ``workers.app`` can be imported."""

WORKER, CONTROL, BEAT, FLOWER = "worker", "control", "beat", "flower"
NAMES = {WORKER: "score", CONTROL: "control"}
"""What the workers are called on the queue, in Flower too."""

STOP_SECONDS = 30
"""After SIGTERM a worker lets its work in hand go on for this long, unless ``SCORING_STOP_SECONDS`` says otherwise."""

CONTROL_PROCESSES = 2
"""With one, a webhook that hangs would hold up every plan and finish behind it."""


def run(service: str, settings: Settings) -> NoReturn:
    """Become this process; it then has our process id, so signals reach it.

    Raises:
        RequestError: a setting cannot be used.
    """
    environment = dict(os.environ)  # passed on, not read
    if service == BEAT:
        command = beat_command(settings.home.absolute())
    elif service == FLOWER:
        command = flower_command()
        environment |= _flower_alone(settings)
    else:
        command = next(lone_worker_command(*worker) for worker in workers_of(settings) if worker[0] == NAMES[service])
        environment.pop("REMAP_SIGTERM", None)
        environment.setdefault("SCORING_STOP_SECONDS", str(STOP_SECONDS))
    os.chdir(ROOT)
    # a SIGTERM between two programs is kept until the second one listens
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        os.execve(command[0], command, environment)  # noqa: S606 - our own program
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def _flower_alone(settings: Settings) -> dict[str, str]:
    password = settings.flower_password.get_secret_value()
    if not password:
        raise RequestError("SCORING_FLOWER_PASSWORD is not set, and Flower could be reached by others", next_step="Set it.")
    check_credentials(settings)
    return flower_environment(settings, settings.home.absolute(), settings.flower_host, password)


def workers_of(settings: Settings) -> tuple[tuple[str, list[str], int], ...]:
    """The workers that serve all queues: the name of each, its queues and its processes."""
    return ("score", [QUEUE_SCORE, QUEUE_TRAIN], settings.processes), ("control", [QUEUE_CONTROL], CONTROL_PROCESSES)


def lone_worker_command(name: str, queues: Sequence[str], processes: int) -> list[str]:
    """Starts a worker."""
    # gossip and mingle only cost: our workers need to know nothing of each other
    without = "--without-gossip", "--without-mingle"
    return celery_command("workers.app", "worker", "-n", f"{name}@%h", "-Q", ",".join(queues), "-c", str(processes), *without)


def beat_command(home: Path) -> list[str]:
    """Starts beat; it keeps in ``home`` what it has sent."""
    # and so does beat
    return celery_command("producers.schedule.beat", "beat", "-s", str(private_place(home / "beat") / "schedule"), "--pidfile=")


def flower_command() -> list[str]:
    """Starts Flower; its options are in ``flower_environment``."""
    return celery_command("producers.schedule.beat", "flower")


def celery_command(app: str, *arguments: str) -> list[str]:
    """Starts a program of Celery's, which ends on SIGTERM from its first moment on."""
    return [sys.executable, "-m", "producers.stack.celery_program", "--quiet", "-A", app, *arguments]


def flower_environment(settings: Settings, home: Path, address: str, password: str) -> dict[str, str]:
    """Flower's options, all of them here: ``ps`` shows a command line to everybody, an environment to nobody else."""
    # Flower keeps its state as pickle: who can write here can run code in it
    folder = private_place(home / "flower")
    cookie = folder / "cookie-secret"
    if not cookie.exists():
        # kept, so that people stay logged in over a restart
        write_private(cookie, secrets.token_urlsafe(48))
    return {
        "FLOWER_ADDRESS": address,
        "FLOWER_PORT": str(settings.flower_port),
        "FLOWER_BASIC_AUTH": f"{settings.flower_user}:{password}",
        "FLOWER_READ_ONLY": "true",
        "FLOWER_COOKIE_SECRET": cookie.read_text(),
        "FLOWER_PERSISTENT": "true",
        "FLOWER_DB": str(folder / "flower.db"),
        # a Flower that is killed forgets a minute; to write 10,000 tasks takes a third of a second
        "FLOWER_STATE_SAVE_INTERVAL": "60000",
        "FLOWER_MAX_TASKS": "10000",
        # its count of active tasks holds those that a dead worker had
        "FLOWER_PURGE_OFFLINE_WORKERS": "120",
        # not the default: what a task is about stands in its arguments
        "FLOWER_TASKS_COLUMNS": "name,args,state,received,runtime,worker,uuid",
    }


def check_credentials(settings: Settings) -> None:
    """Raise RequestError for what Flower would misread: it splits at commas and colons and compares ASCII only."""
    user, password = settings.flower_user, settings.flower_password.get_secret_value()
    if not user or ":" in user or "," in user or not user.isascii():
        raise RequestError("SCORING_FLOWER_USER must be plain letters and digits", next_step="Set SCORING_FLOWER_USER to another name.")
    if "," in password or not password.isascii():
        raise RequestError(
            "SCORING_FLOWER_PASSWORD holds a comma or a character outside ASCII, which Flower cannot take",
            next_step="Set SCORING_FLOWER_PASSWORD to another password, or unset it to have one made.",
        )


def private_folder(path: Path) -> Path:
    """The folder, made if it is not there, for its owner only: queues and passwords are in it."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise unusable(path, error) from error
    return path


def unusable(folder: Path, error: OSError) -> RequestError:
    return RequestError(
        f"the folder {folder} cannot be used: {error.strerror}", next_step="Set SCORING_HOME to a folder that can be written."
    )


def write_private(path: Path, text: str) -> None:
    """Put a file in place that only its owner can read."""
    aside = path.with_name(f"{path.name}.{os.getpid()}")
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    aside.replace(path)
