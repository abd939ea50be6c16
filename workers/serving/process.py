"""One process of the server: ``python -m workers.serving.process SOCKET PARENT READY``, started by the supervisor."""

import contextlib
import gc
import os
import signal
import socket
import sys
from typing import NoReturn

import structlog

from model_store.isolated_loading import end_with_parent
from model_store.library import ModelLibrary
from shared.bucket.opening import open_bucket
from shared.errors import ScoringError, SettingsError
from shared.logs import set_up_logs
from shared.settings import Settings, read_settings, serve_tokens_of
from workers.runtime.memory import give_back_freed_memory
from workers.serving.http.access_log import make_access_log
from workers.serving.http.application import make_application
from workers.serving.http.server import Server
from workers.serving.http.service import Service
from workers.serving.http.tokens import Tokens
from workers.serving.metrics import Metrics
from workers.serving.releases.swapping import Events, Swapper, Watched
from workers.serving.releases.trial import try_release

log = structlog.get_logger()

FIRST_LOOK_SECONDS = 30.0
"""A process takes requests once its first look has ended, or after this time."""
SWITCH_SECONDS = 0.0005
"""Loading a release runs Python beside the event loop; at the default of 5 ms, each request would wait that long for its turn."""


def run_process(settings: Settings, listening: socket.socket, ready: int | None = None) -> None:
    """Serves until SIGTERM; writes to the pipe ``ready``, if one is given, once it can answer."""
    set_up_logs(settings)
    sys.setswitchinterval(SWITCH_SECONDS)
    service = make_service(settings)
    server = Server(make_application(service), service)
    if ready is not None:
        service.swapper.events.looked.append(_Readiness(service, ready))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)  # until the server has its own
    service.swapper.start()
    # the socket may be that of other processes, which can answer what this one cannot yet
    service.swapper.wait_for_first_look(FIRST_LOOK_SECONDS)
    _settle_memory()
    server.run(sockets=[listening])
    service.swapper.stop()


def _settle_memory() -> None:
    """Returns what loading has freed to the kernel, and exempts what stays from garbage collection.

    A collection of all objects of the libraries stops the event loop for some hundredths of a second.
    """
    gc.collect()
    gc.freeze()
    give_back_freed_memory()


def _end(*_: object) -> NoReturn:
    sys.exit(0)


def make_service(settings: Settings) -> Service:
    """Returns the state of a process; nothing is loaded yet."""
    bucket = open_bucket(settings.bucket_url, settings.signer)
    library = ModelLibrary(bucket, settings.home / "releases", settings.definitions)
    metrics = Metrics()
    watched = Watched(bucket=bucket, library=library, home=settings.home, model=settings.serve_model, channel=settings.serve_channel)
    events = Events(swapped=metrics.note_swap, failed=metrics.note_failure)
    swapper = Swapper(watched, events, trial=lambda release: try_release(settings, release))
    service = Service(
        settings=settings,
        swapper=swapper,
        metrics=metrics,
        access_log=make_access_log(settings),
        tokens=Tokens.of(settings.serve_tokens),
    )
    swapper.events.looked.append(lambda: _read_tokens(service))
    return service


class _Readiness:
    """Tells the supervisor once, through a pipe, that this process can answer."""

    def __init__(self, service: Service, pipe: int) -> None:
        self._service, self._pipe = service, os.fdopen(pipe, "wb", buffering=0)

    def __call__(self) -> None:
        if self._service.is_ready and not self._pipe.closed:
            with contextlib.suppress(OSError):  # the supervisor has gone on
                self._pipe.write(b".")
            # a number that is closed may be that of a connection the next time
            self._pipe.close()


def _read_tokens(service: Service) -> None:
    """Takes over the tokens of a file that was changed, so that a new one needs no restart."""
    try:
        now = read_settings().serve_tokens
    except SettingsError as error:
        # the file is being written, or holds no token: the old ones stay
        if service.swapper.problems.get("tokens") != str(error):
            log.warning("tokens not read again", why=str(error))
        service.swapper.problems["tokens"] = str(error)
        return
    service.swapper.problems.pop("tokens", None)
    if now != service.settings.serve_tokens and serve_tokens_of(now):
        service.settings = service.settings.model_copy(update={"serve_tokens": now})
        service.tokens = Tokens.of(now)
        log.info("tokens read again")


def main() -> int:
    """Serves on the socket that the supervisor has opened; returns the exit code."""
    end_with_parent(int(sys.argv[2]))
    listening = socket.socket(fileno=int(sys.argv[1]))
    try:
        run_process(read_settings(), listening, int(sys.argv[3]))
    except ScoringError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
