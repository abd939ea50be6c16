"""The metrics of all processes of one server, collected in files of a folder (prometheus_client's multiprocess mode)."""

import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workers.serving.rates.answering import Answers
    from workers.serving.rates.serving import Serving

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that prometheus_client reads when it is imported."""
BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)


def empty_folder(folder: Path) -> None:
    """Makes the folder of the metrics, without the files of earlier processes, and names it to prometheus_client."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True)
    os.environ[FOLDER] = str(folder)


def mark_dead(pid: int) -> None:
    """Removes the gauges of a process that has ended; its counts stay."""
    from prometheus_client.multiprocess import mark_process_dead  # noqa: PLC0415 - imported at its first use

    mark_process_dead(pid)


class Metrics:
    """What this process counts."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram  # noqa: PLC0415 - imported at its first use

        self.registry = own = CollectorRegistry()
        self._requests = Counter("scoring_serve_requests", "Requests, by route and status code.", ["route", "code"], registry=own)
        self._seconds = Histogram("scoring_serve_request_seconds", "Seconds to answer a request.", ["route"], buckets=BUCKETS, registry=own)
        self._rows = Counter("scoring_serve_rows", "Rows answered, by source and status.", ["source", "status"], registry=own)
        self._swaps = Counter("scoring_serve_swaps", "Releases and results exchanged.", ["kind"], registry=own)
        self._failures = Counter("scoring_serve_swap_failures", "Releases and results that could not be opened.", ["kind"], registry=own)
        self._finished = Gauge(
            "scoring_serve_result_finished_timestamp_seconds",
            "When the published result was made.",
            multiprocess_mode="livemin",
            registry=own,
        )
        self._age = Gauge("scoring_serve_result_age_seconds", "Age of the published result.", multiprocess_mode="livemax", registry=own)
        self._release = Gauge(
            "scoring_serve_release_info",
            "1 for the release and the result in use.",
            ["release", "job_id"],
            multiprocess_mode="livemax",
            registry=own,
        )
        self._ready = Gauge("scoring_serve_ready_processes", "Processes that can answer.", multiprocess_mode="livesum", registry=own)
        self._known: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        self._shown: tuple[str, str] | None = None

    def note_request(self, route: str, code: int, seconds: float) -> None:
        """Counts a request that was answered."""
        known = self._known.get((route, code))
        if known is None:
            known = self._known[route, code] = self._requests.labels(route, str(code)), self._seconds.labels(route)
        known[0].inc()
        known[1].observe(seconds)

    def note_rows(self, given: "Answers") -> None:
        """Counts the rows of an answer."""
        for (source, status), count in given.counts.items():
            self._rows.labels(source or "none", status).inc(count)

    def note_swap(self, kind: str, _seconds: float) -> None:
        """Counts an exchange."""
        self._swaps.labels(kind).inc()

    def note_failure(self, kind: str) -> None:
        """Counts a release or result that could not be opened."""
        self._failures.labels(kind).inc()

    def note_state(self, serving: "Serving", *, is_ready: bool) -> None:
        """Records what is served now; called once a second."""
        self._ready.set(1 if is_ready else 0)
        published = serving.published
        if published is not None:
            finished = published.manifest.finished.timestamp()
            self._finished.set(finished)
            self._age.set(max(time.time() - finished, 0))
        shown = serving.release, "" if published is None else published.manifest.job_id
        if shown != self._shown:
            if self._shown is not None:
                self._release.labels(*self._shown).set(0)
            self._release.labels(*shown).set(1)
            self._shown = shown

    @staticmethod
    def page() -> bytes:
        """Returns the metrics of all processes in Prometheus' text format."""
        from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415 - imported at its first use
        from prometheus_client.multiprocess import MultiProcessCollector  # noqa: PLC0415 - imported at its first use

        registry = CollectorRegistry()
        MultiProcessCollector(registry)
        return generate_latest(registry)
