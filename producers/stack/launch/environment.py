"""The environment of the processes of a stack, and of another terminal."""

import os
import shlex
from collections.abc import Mapping
from pathlib import Path

from kombu.utils.url import maybe_sanitize_url

from shared.settings import FOREIGN_VARIABLES, SECRETS, Settings


def child_environment(settings: Settings, home: Path) -> dict[str, str]:
    """The environment of every process: the user's own, with absolute paths."""
    foreign = {f"{prefix}{name}" for name in FOREIGN_VARIABLES for prefix in ("", "CELERY_")} | {
        # it would turn the SIGTERM that lets work finish into one that aborts it after 30 s
        "REMAP_SIGTERM"
    }
    bucket = settings.bucket_url
    if not bucket.startswith(("s3://", "gs://")):
        bucket = str(Path(bucket.removeprefix("file://")).absolute())
    # only passed on: settings remain the only reader of the environment
    return {
        **{name: value for name, value in os.environ.items() if name not in foreign},
        "BUCKET_URL": bucket,
        "SCORING_HOME": str(home),
        **({"SCORING_DEFINITIONS": str(settings.definitions.absolute())} if settings.definitions else {}),
        **{file: str(Path(os.environ[file]).absolute()) for name in SECRETS if os.environ.get(file := f"{name}_FILE")},
        # one thread per process, because there is already a process for each core
        "OMP_NUM_THREADS": "1",
        # without it, lines appear only when a buffer of 8 kB is full
        "PYTHONUNBUFFERED": "1",
    }


def exports(settings: Settings, environment: Mapping[str, str]) -> str:
    """The shell command that gives another terminal, in any folder, the same bucket, home and Redis."""
    wanted = {"BUCKET_URL": environment["BUCKET_URL"], "SCORING_HOME": environment["SCORING_HOME"]}
    if settings.redis_url:
        # an address with a password is not shown: the terminal needs the user's own setting
        wanted["REDIS_URL"] = settings.broker_url if settings.broker_url == maybe_sanitize_url(settings.broker_url) else "(as here)"
    else:
        wanted["SCORING_REDIS_PORT"] = str(settings.redis_port)
    return "export " + " ".join(f"{name}={shlex.quote(value)}" for name, value in wanted.items())
