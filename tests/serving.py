"""The HTTP application on a bucket with one published result, asked in this process; and keys and rates of a result."""

import asyncio
import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from model_store.library import ModelLibrary
from shared.bucket.interface import Bucket
from shared.catalog.channels import read_channel
from shared.settings import Settings
from workers.serving.http.access_log import make_access_log
from workers.serving.http.application import make_application
from workers.serving.http.service import Service
from workers.serving.http.tokens import Tokens
from workers.serving.metrics import Metrics
from workers.serving.releases.swapping import Events, Swapper, Watched

RATES, JOBS = "r" * 20, "j" * 20
BOTH_TOKENS = f"rates:{RATES},jobs:{JOBS}"


def make_service(bucket: Bucket, home: Path, **settings: Any) -> Service:
    """The state of a server process; nothing is loaded before ``swapper.look``."""
    chosen = Settings(**{"redis_url": "redis://127.0.0.1:1/0", "home": home, "serve_model": "v1", "log_level": "WARNING"} | settings)
    watched = Watched(
        bucket=bucket,
        library=ModelLibrary(bucket, home / "releases", chosen.definitions),
        home=home,
        model=chosen.serve_model,
        channel=chosen.serve_channel,
    )
    metrics = Metrics()
    return Service(
        settings=chosen,
        swapper=Swapper(watched, Events(swapped=metrics.note_swap, failed=metrics.note_failure)),
        metrics=metrics,
        access_log=make_access_log(chosen),
        tokens=Tokens.of(chosen.serve_tokens),
    )


def ask(service: Service, method: str, path: str, **more: Any) -> httpx.Response:
    """Sends a request to the application in this process."""

    async def call() -> httpx.Response:
        transport = httpx.ASGITransport(_application_of(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.request(method, path, **more)

    return asyncio.run(call())


_applications: list[tuple[Service, Any]] = []


def _application_of(service: Service) -> Any:
    """Its application, made once: that takes longer than a request."""
    for known, application in _applications:
        if known is service:
            return application
    application = make_application(service)
    _applications[:] = [*_applications[-3:], (service, application)]
    return application


def published_lines(bucket: Bucket, channel: str) -> Iterator[list[str]]:
    """The cells of each line of the predictions that a channel shows."""
    change = read_channel(bucket, channel)
    assert change is not None
    text = gzip.decompress(bucket.read(f"{change.revision}/prediction_output.csv.gz") or b"").decode()
    return (line.split(",") for line in text.splitlines()[1:])
