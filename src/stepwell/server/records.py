"""The server's own log: a JSON object a line, or readable lines in development. Standard logging goes there too."""

from __future__ import annotations

import logging
import sys
from typing import Any

import msgspec
import structlog

from stepwell.errors import ConfigError

_LEVELS = ("debug", "info", "warning", "error")
# Some say too much, and an HTTP client says whole addresses, of which those of notices are secrets.
_QUIET = ("uvicorn.access", "uvicorn.error", "websockets", "httpx2", "httpcore2", "httpcore")


def configure_log(level: str, form: str) -> None:
    """Raises ConfigError for a level or form that does not exist."""
    if level not in _LEVELS:
        raise ConfigError(f"log_level = {level!r} is none", hint=f"one of {', '.join(_LEVELS)}")
    if form not in {"json", "text"}:
        raise ConfigError(f"log_format = {form!r} is none", hint="json or text")
    number = getattr(logging, level.upper())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if form == "json":
        rendered: list[Any] = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(_json)]
    else:
        rendered = [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(),
                exception_formatter=structlog.dev.plain_traceback,  # without locals: they hold payloads and keys
            )
        ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendered],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(number)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def _json(event: Any, **_: Any) -> str:
    return msgspec.json.encode(event, enc_hook=repr).decode()
