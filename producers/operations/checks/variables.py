"""The check of the environment variables."""

import os
from collections.abc import Iterator

from producers.operations.checks.examined import Examined
from producers.operations.checks.finding import Finding, ok, warning
from shared.settings import Settings

OF_COMPOSE = {
    f"SCORING_{name}"
    for name in (
        "UID", "GID", "BUCKET", "WORKERS", "IMAGE_TAG", "NOTEBOOK_TOKEN", "NOTEBOOK_PORT", "PROMETHEUS_PORT", "GRAFANA_PORT",
        "WORKER_CPUS", "WORKER_MEMORY", "CONTROL_MEMORY", "NOTEBOOK_MEMORY", "REDIS_MEMORY", "REDIS_MEMORY_LIMIT", "SERVE_MEMORY",
    )
}  # fmt: skip
"""Variables that docker-compose reads; a shell with the settings of ``.env`` has them too."""


def check_variables(_: Examined) -> Iterator[Finding]:
    """Checks that every SCORING_ variable is known."""
    known = {f"SCORING_{name.upper()}" for name in Settings.model_fields} | OF_COMPOSE
    unknown = sorted(name for name in os.environ if name.startswith("SCORING_") and name.removesuffix("_FILE") not in known)
    if unknown:
        yield warning("settings", f"nothing reads {', '.join(unknown)}", "Check the name, or unset it.")
    else:
        yield ok("settings", "every SCORING_ variable is known")
