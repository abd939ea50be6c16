"""The environment of the processes of a stack, and of another terminal that works with it."""

import os
import shlex
from collections.abc import Mapping
from pathlib import Path

from kombu.utils.url import maybe_sanitize_url

from shared.settings import FOREIGN_VARIABLES, SECRETS, Settings


def child_environment(settings: Settings, home: Path) -> dict[str, str]:
    """The environment of every process: the user's own, with paths that mean the same in another folder."""
    foreign = {f"{prefix}{name}" for name in FOREIGN_VARIABLES for prefix in ("", "CELERY_")} | {
        # it would turn the SIGTERM that lets work finish into one that breaks it off after 30 s
        "REMAP_SIGTERM"
    }
    bucket = settings.bucket_url
    if not bucket.startswith(("s3://", "gs://")):
        bucket = str(Path(bucket.removeprefix("file://")).absolute())
    # passed on, not read: settings stay the one reader of the environment
    return {
        **{name: value for name, value in os.environ.items() if name not in foreign},
        "BUCKET_URL": bucket,
        "SCORING_HOME": str(home),
        **({"SCORING_DEFINITIONS": str(settings.definitions.absolute())} if settings.definitions else {}),
        **{file: str(Path(os.environ[file]).absolute()) for name in SECRETS if os.environ.get(file := f"{name}_FILE")},
        # one thread per process: there is a process for each core already
        "OMP_NUM_THREADS": "1",
        # lines come when they are printed, not when 8 kB are full
        "PYTHONUNBUFFERED": "1",
    }


def exports(settings: Settings, environment: Mapping[str, str]) -> str:
    """The line that gives another terminal, in any folder, the same bucket, home and Redis."""
    wanted = {"BUCKET_URL": environment["BUCKET_URL"], "SCORING_HOME": environment["SCORING_HOME"]}
    if settings.redis_url:
        # with a password it is not shown: the terminal gets it as this one did
        wanted["REDIS_URL"] = settings.broker_url if settings.broker_url == maybe_sanitize_url(settings.broker_url) else "(as here)"
    else:
        wanted["SCORING_REDIS_PORT"] = str(settings.redis_port)
    return "export " + " ".join(f"{name}={shlex.quote(value)}" for name, value in wanted.items())
