"""What a worker is called on the queue and in Flower."""

import contextlib
import re
import socket
from pathlib import Path

RESOLVER = Path("/etc/resolv.conf")
DOCKER_NAME_SERVER = "127.0.0.11"
"""Docker's own; it knows the containers of a network by name, and answers within a millisecond."""


def node_host() -> str:
    """The name of the container where Docker tells it (``scoring_worker_1``), else of the machine.

    A container's host name is another one each time it is made, so Flower would collect the names of all that ever were.
    """
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if DOCKER_NAME_SERVER in RESOLVER.read_text():
            name = socket.gethostbyaddr(socket.gethostbyname(socket.gethostname()))[0].split(".")[0]
            if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
                return name
    return socket.gethostname()
