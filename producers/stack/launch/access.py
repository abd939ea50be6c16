"""The access to a running stack: the lines that ``scoring up`` prints, and the ready file for programs."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from kombu.utils.url import maybe_sanitize_url

from producers.stack.launch.environment import exports
from producers.stack.server import HOST
from producers.stack.services import write_private
from shared.settings import Settings


def access_lines(settings: Settings, environment: Mapping[str, str], password: str, *, with_http: bool = False) -> dict[str, str]:
    """Name -> address, for printing; ``password`` is Flower's as it is shown."""
    return {
        "Redis": maybe_sanitize_url(settings.broker_url),
        "Bucket": environment["BUCKET_URL"],
        "Flower": f"{_flower_url(settings)}  user: {settings.flower_user}  password: {password}",
        **({"HTTP": f"{http_url(settings)}/docs"} if with_http else {}),
        "Log": environment["SCORING_LOG_FILE"],
        "Work": f"in another terminal: {exports(settings, environment)}",
        "": "then: scoring sample; scoring train v1; scoring score TABLE; see: scoring --help",
        "Stop": f"Ctrl-C, or: kill {os.getpid()}",
    }


def write_ready_file(path: Path, settings: Settings, password: str, *, with_http: bool = False) -> None:
    """Writes the addresses as JSON, readable only by the owner."""
    facts = {
        "pid": os.getpid(),
        "redis_port": None if settings.redis_url else settings.redis_port,
        "flower_url": _flower_url(settings),
        "flower_user": settings.flower_user,
        "flower_password": password,
        **({"http_url": http_url(settings)} if with_http else {}),
    }
    write_private(path, json.dumps(facts, indent=1))


def http_url(settings: Settings) -> str:
    """The address of the HTTP server, as this machine reaches it."""
    host = settings.serve_host if settings.serve_host not in ("0.0.0.0", "::") else HOST  # noqa: S104 - a comparison
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.serve_port}"


def _flower_url(settings: Settings) -> str:
    return f"http://{HOST}:{settings.flower_port}"
