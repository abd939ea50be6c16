"""``python -m workers.serving``: the HTTP server, as ``scoring serve`` and ``scoring run serve`` start it. Its options are settings."""

import os

# Before numpy is imported: one thread for predictions in each process.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import signal
import socket
import sys

from shared.errors import RequestError, ScoringError
from shared.processes import limit_new_files
from shared.serving import check_access, check_packages
from shared.settings import Settings, read_settings
from workers.serving import metrics

BACKLOG = 2048


def serve(settings: Settings) -> None:
    """Listens, and serves in this process or, if there are to be several, in processes of its own.

    Raises:
        RequestError: the address cannot be used or is open to others without a token, or a package is missing.
    """
    check_packages()
    check_access(settings)
    with _listen(settings) as listening:
        # only now: another server on this port still uses its folder
        metrics.empty_folder(settings.home.absolute() / "serving" / f"metrics-{settings.serve_port}")
        if settings.serve_workers == 1:
            from workers.serving.process import run_process  # noqa: PLC0415 - imported at its first use

            run_process(settings, listening)
        else:
            from workers.serving.supervisor import Supervisor  # noqa: PLC0415 - imported at its first use

            Supervisor(settings, listening).run()


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.serve_host else socket.AF_INET
    listening = socket.socket(family)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((settings.serve_host, settings.serve_port))
        listening.listen(BACKLOG)
        listening.set_inheritable(True)
    except OSError as error:
        listening.close()
        raise RequestError(
            f"port {settings.serve_port} on {settings.serve_host} cannot be used: {error.strerror or error}",
            next_step="Choose another one with --port, or SCORING_SERVE_PORT.",
        ) from error
    return listening


def main() -> int:
    """Serves until SIGTERM; returns the exit code."""
    # `scoring run` blocks it between the two programs
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    try:
        settings = read_settings()
        limit_new_files(settings.umask)
        serve(settings)
    except ScoringError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
