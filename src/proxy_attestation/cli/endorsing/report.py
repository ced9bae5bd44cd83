"""How the `endorsements` commands show what they did and what there is."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from proxy_attestation.cli.output import error_to_json
from proxy_attestation.endorsements.cache import HeldSet
from proxy_attestation.endorsements.early import Early
from proxy_attestation.endorsements.refresh import Outcome
from proxy_attestation.endorsements.status import Status


def times(time: datetime | None) -> str | None:
    """Return a time as text, RFC 3339, UTC."""
    return None if time is None else f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def outcome_to_json(outcome: Outcome) -> dict[str, object]:
    """Return what came of a refresh as a JSON object."""
    fetched = outcome.fetched
    return {
        "name": outcome.name,
        "source": outcome.source,
        "result": "failed" if fetched is None else "new" if outcome.new else "unchanged",
        "valid_until": None if fetched is None else times(fetched.valid_until),
        "refresh_at": None if fetched is None else times(fetched.half_life),
        "numbers": {} if fetched is None else dict(sorted(fetched.numbers.items())),
        "error": None if outcome.error is None else error_to_json(outcome.error),
    }


def outcome_lines(outcome: Outcome) -> list[str]:
    """Return what came of a refresh for people: one line."""
    if outcome.fetched is None:
        return [f"{outcome.name}  FAILED  {outcome.error}"]
    result = "new" if outcome.new else "unchanged"
    return [f"{outcome.name}  {result}, until {times(outcome.fetched.valid_until)}"]


def status_to_json(
    held: Mapping[str, HeldSet], statuses: Mapping[str, Status], early: Mapping[str, Early], now: datetime
) -> list[dict[str, Any]]:
    """Return every set and every name that was ever asked for, sorted, as JSON objects."""
    return [
        {
            **_item(name, held.get(name), statuses.get(name, Status()), now),
            "early": _early_to_json(early[name]) if name in early else None,
        }
        for name in sorted({*held, *statuses})
    ]


def _early_to_json(early: Early) -> dict[str, object]:
    return {
        "at": times(early.at),
        "evaluation_number": early.number,
        "platforms": early.platforms,
        "refused": early.refused,
        "named": list(early.named),
    }


def _item(name: str, item: HeldSet | None, status: Status, now: datetime) -> dict[str, Any]:
    if item is None:
        state = "missing"
    elif item.valid_until <= now:
        state = "expired"
    else:
        state = "due" if item.half_life <= now else "fresh"
    error = {
        "at": times(status.error_at),
        "code": status.code,
        "detail": status.detail,
        "failures": status.failures,
    }
    return {
        "name": name,
        "state": state,
        "valid_until": None if item is None else times(item.valid_until),
        "refresh_at": None if item is None else times(item.half_life),
        "numbers": {} if item is None else dict(sorted(item.numbers.items())),
        "source": status.source or None,
        "last_success": times(status.success),
        "last_error": None if status.error_at is None else error,
    }


def status_lines(items: list[dict[str, Any]]) -> list[str]:
    """Return the same for people."""
    if not items:
        return ["nothing was fetched or imported yet"]
    lines = []
    for item in items:
        until = f", until {item['valid_until']}" if item["valid_until"] else ""
        lines.append(f"{item['name']}  {item['state']}{until}")
        lines += [f"    {name:<22} {number}" for name, number in item["numbers"].items()]
        if item["early"]:
            early = item["early"]
            verdict = f"WOULD REFUSE {early['refused']}" if early["refused"] else "would refuse none"
            lines.append(
                f"    coming TCB release     {early['evaluation_number']}: {verdict} of {early['platforms']} seen"
            )
            lines += [f"        PCK certificate     {name}" for name in early["named"]]
        if item["last_success"]:
            lines.append(f"    last success           {item['last_success']} from {item['source']}")
        if item["last_error"]:
            error = item["last_error"]
            lines.append(f"    last error             {error['at']} {error['code']}: {error['detail']}")
    return lines
