"""The processes of the stack: their commands, and ``scoring run``, which becomes one of them in a container.

Imports no slow module, because the health check of a container imports this one every half minute.
"""

import os
import secrets
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NoReturn

from shared.errors import RequestError
from shared.processes import make_private_folder
from shared.queue.routes import QUEUE_CONTROL, QUEUE_SCORE, QUEUE_TRAIN
from shared.serving import check_access, check_packages
from shared.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
"""The parent folder of the packages, from which ``workers.app`` can be imported."""

WORKER, CONTROL, BEAT, FLOWER, SERVE = "worker", "control", "beat", "flower", "serve"
NAMES = {WORKER: "score", CONTROL: "control"}
"""The names of the workers on the queue and in Flower."""

STOP_SECONDS = 30
"""Seconds for which a worker continues running tasks after SIGTERM, unless ``SCORING_STOP_SECONDS`` is set."""

CONTROL_PROCESSES = 2
"""With one process, a hanging webhook would delay every plan and finish."""


def run(service: str, settings: Settings, options: Mapping[str, str] = MappingProxyType({})) -> NoReturn:
    """Replaces this process by the service, with ``options`` in its environment. The process id stays, so signals reach it.

    Raises:
        RequestError: a setting is invalid.
    """
    environment = dict(os.environ) | dict(options)  # only passed on
    if service == BEAT:
        command = beat_command(settings.home.absolute())
    elif service == FLOWER:
        command = flower_command()
        environment |= _flower_alone(settings)
    elif service == SERVE:
        command = serve_command(settings)
        environment |= _environment_of_serve(settings)
    else:
        command = next(lone_worker_command(*worker) for worker in workers_of(settings) if worker[0] == NAMES[service])
        environment.pop("REMAP_SIGTERM", None)
        environment.setdefault("SCORING_STOP_SECONDS", str(STOP_SECONDS))
    os.chdir(ROOT)
    # blocked, so that a SIGTERM between the two programs waits for the second one's handler
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        os.execve(command[0], command, environment)  # noqa: S606 - a program of this product
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def serve_command(settings: Settings) -> list[str]:
    """The command of the HTTP server; its options are settings.

    Raises:
        RequestError: other machines could reach it without a token, or a package is missing.
    """
    check_packages()
    check_access(settings)
    return [sys.executable, "-m", "workers.serving"]


def _environment_of_serve(settings: Settings) -> dict[str, str]:
    """The bucket and the home as seen from this folder, which may be any; and one thread for predictions in each process."""
    bucket = settings.bucket_url
    if not bucket.startswith(("s3://", "gs://")):
        bucket = str(Path(bucket.removeprefix("file://")).absolute())
    more = {} if settings.definitions is None else {"SCORING_DEFINITIONS": str(settings.definitions.absolute())}
    home = str(settings.home.absolute())
    return more | {"BUCKET_URL": bucket, "SCORING_HOME": home, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def _flower_alone(settings: Settings) -> dict[str, str]:
    password = settings.flower_password.get_secret_value()
    if not password:
        raise RequestError("SCORING_FLOWER_PASSWORD is not set, and Flower could be reached by others", next_step="Set it.")
    check_credentials(settings)
    return flower_environment(settings, settings.home.absolute(), settings.flower_host, password)


def workers_of(settings: Settings) -> tuple[tuple[str, list[str], int], ...]:
    """The workers that serve all queues: name, queues and number of processes."""
    return ("score", [QUEUE_SCORE, QUEUE_TRAIN], settings.processes), ("control", [QUEUE_CONTROL], CONTROL_PROCESSES)


def lone_worker_command(name: str, queues: Sequence[str], processes: int) -> list[str]:
    """The command of a worker."""
    # the workers need no gossip and mingle, which only cost messages
    without = "--without-gossip", "--without-mingle"
    return celery_command("workers.app", "worker", "-n", f"{name}@%h", "-Q", ",".join(queues), "-c", str(processes), *without)


def beat_command(home: Path) -> list[str]:
    """The command of beat, which stores its last sends in ``home``."""
    # beat stores its schedule as pickle: write access to this folder is code execution
    return celery_command("producers.schedule.beat", "beat", "-s", str(make_private_folder(home / "beat") / "schedule"), "--pidfile=")


def flower_command() -> list[str]:
    """The command of Flower; its options are in ``flower_environment``."""
    return celery_command("producers.schedule.beat", "flower")


def celery_command(app: str, *arguments: str) -> list[str]:
    """The command of a Celery program that ends on SIGTERM from its start."""
    return [sys.executable, "-m", "producers.stack.celery_program", "--quiet", "-A", app, *arguments]


def flower_environment(settings: Settings, home: Path, address: str, password: str) -> dict[str, str]:
    """Flower's options as environment variables: ``ps`` shows a command line to every user, but an environment only to its owner."""
    # Flower stores its state as pickle: write access to this folder is code execution
    folder = make_private_folder(home / "flower")
    cookie = folder / "cookie-secret"
    if not cookie.exists():
        # kept, so that people stay logged in after a restart
        write_private(cookie, secrets.token_urlsafe(48))
    return {
        "FLOWER_ADDRESS": address,
        "FLOWER_PORT": str(settings.flower_port),
        "FLOWER_BASIC_AUTH": f"{settings.flower_user}:{password}",
        "FLOWER_READ_ONLY": "true",
        "FLOWER_COOKIE_SECRET": cookie.read_text(),
        "FLOWER_PERSISTENT": "true",
        "FLOWER_DB": str(folder / "flower.db"),
        # a killed Flower loses at most a minute; writing 10,000 tasks takes a third of a second
        "FLOWER_STATE_SAVE_INTERVAL": "60000",
        "FLOWER_MAX_TASKS": "10000",
        # otherwise its count of active tasks includes those of dead workers
        "FLOWER_PURGE_OFFLINE_WORKERS": "120",
        # adds args, which describe the task
        "FLOWER_TASKS_COLUMNS": "name,args,state,received,runtime,worker,uuid",
    }


def check_credentials(settings: Settings) -> None:
    """Raises RequestError for credentials that Flower would misread: it splits at commas and colons and compares ASCII only."""
    user, password = settings.flower_user, settings.flower_password.get_secret_value()
    if not user or ":" in user or "," in user or not user.isascii():
        raise RequestError("SCORING_FLOWER_USER must be plain letters and digits", next_step="Set SCORING_FLOWER_USER to another name.")
    if "," in password or not password.isascii():
        raise RequestError(
            "SCORING_FLOWER_PASSWORD holds a comma or a character outside ASCII, which Flower cannot take",
            next_step="Set SCORING_FLOWER_PASSWORD to another password, or unset it to have one made.",
        )


def make_home_folder(path: Path) -> Path:
    """Creates a folder that only its owner can access; an existing one keeps its mode, as a mounted volume has its own."""
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
    """Writes a file that only its owner can read."""
    aside = path.with_name(f"{path.name}.{os.getpid()}")
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    aside.replace(path)
