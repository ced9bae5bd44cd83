"""The proxy's log: one JSON object a line on standard error.

Details of refusals stand here under the request id, and nowhere else. Evidence, keys, tokens and owner proofs never do:
of an unexpected exception only its type and the places it passed through are written, since its text could quote input.
"""

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any, Final

LOGGER: Final = logging.getLogger("proxy_attestation")


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": self._process,
            "pid": record.process,
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = record.exc_info[0].__name__
            frames = traceback.extract_tb(record.exc_info[2])
            line["traceback"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
        return json.dumps(line, ensure_ascii=False, default=str)


def configure(process: str) -> None:
    """Send everything that this process logs to standard error, as JSON.

    Args:
        process: `supervisor`, `authority` or `worker`.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(process))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)


def info(event: str, **fields: object) -> None:
    """Log something that was expected."""
    LOGGER.info(event, extra={"fields": fields})


def warning(event: str, **fields: object) -> None:
    """Log something that an operator should know."""
    LOGGER.warning(event, extra={"fields": fields})


def failure(event: str, error: BaseException, **fields: object) -> None:
    """Log a bug of ours: the exception's type and the places it passed through."""
    LOGGER.error(event, exc_info=(type(error), error, error.__traceback__), extra={"fields": fields})


def bug(error: BaseException, **fields: object) -> None:
    """Log a bug of ours that one call ran into."""
    failure("bug", error, **fields)
