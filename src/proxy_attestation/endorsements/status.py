"""How a set of endorsements fared: when it was last fetched, and why it could not be."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Status:
    """How refreshing one name went.

    Attributes:
        source: where it was asked for.
        success: when it last worked, or None.
        error_at: when it last failed, or None; None again once it has worked.
        code: of that failure.
        detail: of that failure.
        failures: in a row.
    """

    source: str = ""
    success: datetime | None = None
    error_at: datetime | None = None
    code: str = ""
    detail: str = ""
    failures: int = 0


def status_to_plain(status: Status) -> dict[str, object]:
    """Return what is written to the file."""
    return {
        "source": status.source,
        "success": None if status.success is None else stamp(status.success),
        "error_at": None if status.error_at is None else stamp(status.error_at),
        "code": status.code,
        "detail": status.detail,
        "failures": status.failures,
    }


def status_from_plain(value: Any) -> Status:
    """Read what was written; TypeError, KeyError or ValueError for anything else."""
    return Status(
        source=str(value["source"]),
        success=parse_stamp(value["success"]),
        error_at=parse_stamp(value["error_at"]),
        code=str(value["code"]),
        detail=str(value["detail"]),
        failures=int(value["failures"]),
    )


def stamp(time: datetime) -> str:
    """Return a time as it is written, in whole seconds, UTC."""
    return f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def parse_stamp(text: object) -> datetime | None:
    """Read a time, or None; ValueError for anything else."""
    if text is None:
        return None
    return datetime.strptime(str(text), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
