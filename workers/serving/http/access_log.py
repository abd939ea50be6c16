"""The access log: one line for each request, written by structlog without the standard library's loggers, which take ten times as long."""

import logging
import sys
from typing import Any, Protocol

import orjson
import structlog

from shared.settings import Settings
from shared.text.plain import plain


class AccessLog(Protocol):
    """Writes a line."""

    def info(self, event: str, **facts: object) -> Any:  # noqa: ANN401 - whatever JSON may hold
        """Writes a line with these facts."""


def make_access_log(settings: Settings) -> AccessLog:
    """Returns the log in the format of the settings, on standard error."""
    last: list[Any] = [structlog.processors.JSONRenderer(serializer=_json)] if settings.log == "json" else [_line]
    log: AccessLog = structlog.wrap_logger(
        structlog.BytesLogger(sys.stderr.buffer),
        processors=[structlog.processors.add_log_level, structlog.processors.TimeStamper(fmt="iso", utc=True), *last],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[settings.log_level]),
        cache_logger_on_first_use=True,
    ).bind()
    return log


def _json(event: Any, **_: Any) -> bytes:  # noqa: ANN401 - whatever JSON may hold
    return orjson.dumps(event, default=str)


def _line(_logger: object, _method: str, event: Any) -> bytes:  # noqa: ANN401 - whatever JSON may hold
    time, level, name = event.pop("timestamp"), event.pop("level"), event.pop("event")
    facts = " ".join(f"{key}={value}" for key, value in event.items())
    return f"{time} [{level}] {name} {plain(facts)}".encode()
