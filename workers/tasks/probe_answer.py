"""The answer of a worker to ``scoring doctor``: its host, libraries, definitions, version, and whether it sees the bucket."""

import contextlib
import socket
from pathlib import Path

from model_store.definitions import excluded_definitions, is_tried, list_definitions, load_definition
from model_store.store import library_versions
from model_store.trial_import import exclude_crashing_definitions
from shared.errors import ModelError, ScoringError
from shared.queue import routes
from shared.queue.probe import Answer, Probe, probe_file
from shared.version import code_version
from workers.tasks import context


def describe_worker(asked: Probe, queue: str, webhook: str | None) -> Answer:
    """Returns the answer of this process for a queue; ``webhook`` is the result of a test message, or None without a webhook test."""
    definitions = context.settings().definitions
    return Answer(
        # a worker of the control queue alone imports no definitions with their libraries
        sources={} if queue == routes.QUEUE_CONTROL else _digest_sources(definitions),
        host=socket.gethostname(),
        libraries=library_versions(),
        definitions=list_definitions(definitions),
        left_out=excluded_definitions(definitions),
        webhook=webhook,
        version=code_version(),
        bucket=context.bucket().url,
        sees_bucket=_sees_bucket(asked),
    )


def _sees_bucket(asked: Probe) -> bool | None:
    try:
        return context.bucket().exists(probe_file(asked))
    except ScoringError:
        return None


def _digest_sources(definitions: Path | None) -> dict[str, str]:
    """Returns the digest of each definition's code as this process would run it; broken definitions are left out."""
    names, found = list_definitions(definitions), {}
    # definitions that were added since the worker started may kill the process that imports them
    exclude_crashing_definitions([name for name in names if not is_tried(name, definitions)], definitions)
    for name in names:
        with contextlib.suppress(ModelError):
            found[name] = load_definition(name, definitions).source_sha256
    return found
