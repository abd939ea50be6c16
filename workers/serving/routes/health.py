"""Probes: is the process alive, may it get requests, and what does it serve."""

from typing import Any

from workers.serving.http.answers import Answer, json_answer
from workers.serving.http.service import Service
from workers.serving.releases.swapping import KEYS_DIFFER

IN_LOG = "the newest one is not served; see the server's log"


def live(service: Service) -> Answer:
    """Answers ``GET /v2/health/live``: 503 once a prediction hangs."""
    return json_answer({"live": service.is_live}, 200 if service.is_live else 503)


def ready(service: Service) -> Answer:
    """Answers ``GET /v2/health/ready``: 503 before there is anything to answer from, and from SIGTERM on."""
    why = {} if service.is_ready else {"reason": service.why_not_ready}
    return json_answer({"ready": service.is_ready} | why | state(service), 200 if service.is_ready else 503)


def ping(service: Service) -> Answer:
    """Answers ``GET /ping``, SageMaker's probe."""
    return Answer(b"{}\n", 200 if service.is_ready else 503)


def state(service: Service) -> dict[str, Any]:
    """Returns what is served, and what is wrong."""
    serving = service.serving
    published = serving.published
    return {
        "release": serving.release or None,
        "channel": None if published is None else published.channel,
        "job_id": None if published is None else published.manifest.job_id,
        "finished": None if published is None else published.manifest.finished.isoformat(),
        "problems": {kind: why if kind == KEYS_DIFFER else IN_LOG for kind, why in service.swapper.problems.items()},
    }
