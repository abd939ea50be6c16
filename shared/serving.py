"""Checks before the HTTP server starts: its packages are installed, and nobody else reaches it without a token."""

import importlib.util
import ipaddress

from shared.errors import RequestError
from shared.settings import Settings, serve_tokens_of

PACKAGES = ("fastapi", "uvicorn", "httptools", "orjson")


def check_packages() -> None:
    """Raises RequestError if a package of the extra ``serve`` is missing."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise RequestError(
            f"the HTTP server needs {', '.join(missing)}, which this installation does not have",
            next_step="Install the extra: python -m pip install '.[serve]'",
        )


def check_access(settings: Settings) -> None:
    """Raises RequestError if other machines could reach the server without a token."""
    if not serve_tokens_of(settings.serve_tokens) and not _is_loopback(settings.serve_host):
        raise RequestError(
            f"no token is set, and other machines reach {settings.serve_host}",
            next_step="Set SCORING_SERVE_TOKENS_FILE to a file with a line rates:TOKEN, or listen on 127.0.0.1.",
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
