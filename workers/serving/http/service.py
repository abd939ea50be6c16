"""What all requests of one process share."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta

from shared.settings import Settings
from shared.text.durations import read_duration
from workers.serving.http.access_log import AccessLog
from workers.serving.http.tokens import Tokens
from workers.serving.metrics import Metrics
from workers.serving.rates.serving import Serving
from workers.serving.releases.swapping import Swapper

STUCK_SECONDS = 60.0
"""A prediction that takes longer makes the process report that it is not live."""


@dataclass
class Service:
    """The state of one process of the server."""

    settings: Settings
    swapper: Swapper
    metrics: Metrics
    access_log: AccessLog
    tokens: Tokens
    is_draining: bool = False
    """True from SIGTERM on."""
    in_hand: int = 0
    """Requests that are being answered."""
    computing: int = 0
    """Requests whose rows the thread for predictions has."""
    computing_since: float = 0.0
    now: Callable[[], float] = time.monotonic
    max_age: timedelta = field(init=False)
    # a definition may not be written for several threads: all predictions of large requests run in this one
    executor: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(max_workers=1, thread_name_prefix="predicting"))

    def __post_init__(self) -> None:
        self.max_age = read_duration(self.settings.serve_max_age)

    @property
    def serving(self) -> Serving:
        """What is served at this moment; a request reads it once."""
        return self.swapper.serving

    @property
    def is_ready(self) -> bool:
        """True while new requests are welcome."""
        return self.swapper.is_ready and not self.is_draining

    @property
    def why_not_ready(self) -> str:
        """Why new requests are not welcome, in a sentence; empty if they are."""
        return "the process is ending" if self.is_draining else self.swapper.why_not_ready

    @property
    def is_live(self) -> bool:
        """False once a prediction hangs."""
        return not self.computing or self.now() - self.computing_since < STUCK_SECONDS
