"""What a running loader tells the operator: lines for people, or one JSON object a line."""

import json
import sys
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from proxy_attestation.errors import ProxyAttestationError
from proxy_attestation.loader.credential import Credential
from proxy_attestation.loader.news import Asked

_TEXT_MAX = 4096


class Report(Protocol):
    """Takes events."""

    def event(self, name: str, text: str, **fields: object) -> None:
        """Tell one event: its name and fields for machines, the text for people."""

    def note(self, text: str) -> None:
        """Tell something for people only: the application's own words, restarts."""


class LineReport:
    """Events on stdout, notes on stderr."""

    def __init__(self, *, as_json: bool, write: Callable[[str], None] | None = None) -> None:
        self._as_json = as_json
        self._write = write or _print

    def event(self, name: str, text: str, **fields: object) -> None:
        """Print a line."""
        self._write(json.dumps({"event": name, **fields}) if self._as_json else text)

    def note(self, text: str) -> None:
        """Print a line; what an application wrote must not steer the terminal or look like several lines."""
        clean = "".join(c if c.isprintable() else " " for c in text[:_TEXT_MAX])
        sys.stderr.write(clean + "\n")
        sys.stderr.flush()


def time_text(moment: datetime) -> str:
    """Return a time as RFC 3339 in UTC."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def credential_json(credential: Credential) -> dict[str, object]:
    """Return a certificate as JSON values."""
    return {
        "serial": f"{credential.serial:x}",
        "names": list(credential.names),
        "not_before": time_text(credential.not_before),
        "not_after": time_text(credential.not_after),
        "ledger_index": credential.ledger_index,
        "ledger_proof": credential.ledger_proof.decode("utf-8", "replace") or None,
        "tee": str(credential.claims.tee),
        "key_origin": credential.claims.key_origin.name.lower(),
        "tcb_status": credential.claims.tcb_status,
        "simulated": credential.simulated,
    }


def asked_json(asked: Asked) -> dict[str, object]:
    """Return how the last question about renewal went, as JSON values."""
    advice = asked.advice
    return {
        "asked_at": time_text(asked.at),
        "serial": f"{asked.serial:x}",
        "renew_now": advice is not None and advice.is_now(asked.at),
        "codes": [] if advice is None else list(advice.codes),
        "error": None if asked.error is None else error_json(asked.error),
        "next_at": time_text(asked.next_at),
    }


def error_json(error: ProxyAttestationError) -> dict[str, object]:
    """Return an error as JSON values."""
    return {"code": str(error.code), "detail": error.detail, "exit_status": error.exit_status}


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
