"""Sets up logging once per process: one readable line (or one JSON object) per event, with its job and chunk."""

import logging
import sys
from typing import Any

import structlog

from shared.settings import Settings
from shared.text.plain import plain


def log_place(settings: Settings) -> str:
    """The place of the workers' log, as a phrase of a sentence."""
    return f"the log {settings.log_file}" if settings.log_file else "the worker's log"


def set_up_logs(settings: Settings) -> None:
    """Sends structlog and the standard library's loggers to standard error in the configured format."""
    shared_steps: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: structlog.types.Processor = (
        structlog.processors.JSONRenderer()
        if settings.log == "json"
        else structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    )
    structlog.configure(
        processors=[*shared_steps, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    lines = logging.StreamHandler(sys.stderr)
    lines.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared_steps,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, structlog.processors.format_exc_info, last]
            if settings.log == "json"
            else [structlog.stdlib.ProcessorFormatter.remove_processors_meta, last, _shown],
        )
    )
    root = logging.getLogger()
    root.handlers = [lines]
    root.setLevel(settings.log_level)
    for name in ("celery.worker.strategy", "celery.app.trace", "celery.beat"):
        # Celery logs a line for every message received and done, including every sweep; the steps' own lines say more
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


def _shown(_logger: object, _method: str, line: Any) -> str:  # noqa: ANN401 - structlog's name for what a renderer made
    """The line without characters that a terminal would interpret: an error may quote a table."""
    return plain(line, lines=True)
