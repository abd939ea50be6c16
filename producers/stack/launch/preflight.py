"""The checks of ``scoring up`` before anything is started: the home folder, ports, Redis and the bucket."""

import contextlib
import errno
import fcntl
import os
import secrets
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import redis
from kombu.utils.url import maybe_sanitize_url

from producers.stack.server import HOST
from producers.stack.services import make_home_folder, unusable
from shared.bucket.opening import open_bucket
from shared.errors import BrokerError, RequestError
from shared.settings import Settings


@contextlib.contextmanager
def sole_use(home: Path) -> Iterator[None]:
    """Holds the home folder while the block runs; raises RequestError when another ``scoring up`` holds it."""
    try:
        lock = (make_home_folder(home) / "up.lock").open("a+")
    except OSError as error:
        raise unusable(home, error) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            pid = lock.read().strip()
            raise RequestError(
                f"scoring up runs already on {home}, pid {pid}",
                next_step=f"Stop it with Ctrl-C or: kill {pid}, or set SCORING_HOME to another folder.",
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def check_ports(ports: Mapping[str, int]) -> None:
    """Raises RequestError when a port is taken; the message names the process that uses it."""
    if len({*ports.values()}) < len(ports):
        raise RequestError(f"{' and '.join(ports)} are the same port", next_step=f"Set {next(iter(ports))} to another port.")
    for variable, port in ports.items():
        with socket.socket() as probe:
            # allow a port in TIME_WAIT, which was closed a minute ago
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    reason = f"port {port} cannot be used: {error.strerror}"
                    raise RequestError(reason, next_step=f"Set {variable} to another port.") from error
                raise RequestError(
                    f"port {port} is busy{_port_user(port)}", next_step=f"Stop it, or set {variable} to another port."
                ) from error


def _port_user(port: int) -> str:
    """The process that listens on a port; empty when the system does not name it."""
    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port and connection.pid:
                return f" (used by {psutil.Process(connection.pid).name()}, pid {connection.pid})"
    return ""


def check_broker(settings: Settings) -> None:
    """Raises RequestError when REDIS_URL is not an address, BrokerError when the server does not answer."""
    try:
        shown = maybe_sanitize_url(settings.broker_url)
    except ValueError:
        # neither the address nor the error is shown, because both may contain a part of the password
        raise RequestError(
            "REDIS_URL is not an address", next_step="Set it to one like redis://:password@host:6379/0, special characters as %xx."
        ) from None
    problem = broker_problem(settings)
    if problem is not None:
        raise BrokerError(
            f"the Redis at REDIS_URL, {shown}, does not answer: {problem}",
            next_step="Start it, correct REDIS_URL, or unset REDIS_URL to have a server started here.",
        )


def broker_problem(settings: Settings) -> str | None:
    """Returns why the server does not answer PING, or None when it does."""
    try:
        with redis.Redis.from_url(settings.broker_url, socket_connect_timeout=5, socket_timeout=5) as client:
            client.ping()
    except (redis.RedisError, OSError) as error:
        return str(error).rstrip(".") or type(error).__name__
    return None


def check_bucket(settings: Settings) -> None:
    """Raises BucketError when the bucket cannot be written."""
    place = f"doctor/{secrets.token_hex(8)}"
    bucket = open_bucket(settings.bucket_url, settings.signer)
    bucket.write(place, b"")
    bucket.delete(place)
