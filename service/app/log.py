"""One JSON object a line on stdout: `timestamp` (UTC, microseconds), `level`, `event`, facts.

Events are static snake_case names. Never logged: keys, tokens, bodies, addresses of secrets, `str()` of a driver's
exception (its DETAIL prints rows, a DSN error prints a password). What libraries log is reduced to logger, class and
message template for the same reason.
"""

import logging
import sys
import traceback
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec
import structlog

LEVELS: Final[Mapping[str, int]] = {"debug": 10, "info": 20, "warning": 30, "error": 40}
FRAMES_MAX: Final = 8
TEXT_CHARACTERS_MAX: Final = 512
SILENT_LIBRARIES: Final = ("psycopg", "psycopg.pool", "yoyo", "yoyo.migrations")
"""These put `str(driver_exception)` into messages; we log the classes ourselves."""

_encoder: Final = msgspec.json.Encoder(enc_hook=lambda value: type(value).__name__)


def configure(level: str = "info", *, output: BinaryIO | None = None) -> None:
    """Send our log and the libraries' warnings to `output` (stdout when None)."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _in_order,
            lambda _logger, _method, fields: _encoder.encode(fields),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.BytesLoggerFactory(file=output or sys.stdout.buffer),
        cache_logger_on_first_use=output is None,
    )
    logging.basicConfig(handlers=[_Foreign()], level=logging.WARNING, force=True)
    for name in SILENT_LIBRARIES:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def get(**facts: object) -> structlog.typing.FilteringBoundLogger:
    """Return a logger; call it at the place of use, with ids rather than objects."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(**facts)
    return logger


def failure(event: str, error: BaseException, **facts: object) -> None:
    """Log an error nobody foresaw: its class, SQLSTATE and places, never its text."""
    frames = traceback.extract_tb(error.__traceback__)[-FRAMES_MAX:]
    get().error(
        event,
        error=type(error).__name__,
        sqlstate=getattr(error, "sqlstate", None),
        places=[f"{Path(frame.filename).stem}.{frame.name}:{frame.lineno}" for frame in frames],
        **facts,
    )


def _in_order(_logger: object, _method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Put what every line has first; cut long texts and replace what UTF-8 cannot carry: one line stays one line."""
    ordered = {name: fields.pop(name) for name in ("timestamp", "level", "event")}
    for name, value in fields.items():
        ordered[name] = _safe(value) if isinstance(value, str) else value
    return ordered


def _safe(text: str) -> str:
    return text[:TEXT_CHARACTERS_MAX].encode("utf-8", "replace").decode()


class _Foreign(logging.Handler):
    """Log records of libraries: where from, which template, which exception class. No arguments."""

    def emit(self, record: logging.LogRecord) -> None:
        kind = record.exc_info[0] if record.exc_info else None
        structlog.get_logger().log(
            min(max(record.levelno, logging.DEBUG), logging.CRITICAL),
            "library_message",
            logger=record.name,
            template=str(record.msg).strip(),
            error=kind.__name__ if kind else None,
        )
