"""The authority's log: one JSON object a line on standard error, in the form of the workers' log.

Tokens, keys and owner proofs never stand in it: of an unexpected exception only its type and the places it passed
through are written, since its text could quote input.
"""

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any, Final

_LOGGER: Final = logging.getLogger("proxy_attestation.authority")


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": "authority",
            "pid": record.process,
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = record.exc_info[0].__name__
            frames = traceback.extract_tb(record.exc_info[2])
            line["traceback"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
        return json.dumps(line, ensure_ascii=False, default=str)


def configure() -> None:
    """Send everything that this process logs to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)


def info(event: str, **fields: object) -> None:
    """Log something that was expected."""
    _LOGGER.info(event, extra={"fields": fields})


def warning(event: str, **fields: object) -> None:
    """Log something that an operator should know."""
    _LOGGER.warning(event, extra={"fields": fields})


def bug(error: BaseException, **fields: object) -> None:
    """Log a bug of ours."""
    _LOGGER.error("bug", exc_info=(type(error), error, error.__traceback__), extra={"fields": fields})
