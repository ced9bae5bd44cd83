"""How keeping endorsements fresh goes, as a Prometheus text file: the supervisor's `/metrics` ends with it.

A file and no counter: all of it is times and numbers, which stay true when nobody renews them.
"""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from proxy_attestation.endorsements.cache import HeldSet
from proxy_attestation.endorsements.durable import replace
from proxy_attestation.endorsements.early import Early
from proxy_attestation.endorsements.status import Status

_PREFIX: Final = "proxy_attestation_endorsements_"


def write_gauges(
    path: Path,
    held: Mapping[str, HeldSet],
    statuses: Mapping[str, Status],
    due: Mapping[str, datetime],
    early: Mapping[str, Early],
) -> None:
    """Write the file, whole.

    Args:
        path: of the file; its directory is there.
        held: the sets.
        statuses: how refreshing went.
        due: when each is refreshed next.
        early: what the coming release would do.

    Raises:
        OSError: when it cannot be written.
    """
    registry = CollectorRegistry()

    def gauge(name: str, text: str, *labels: str) -> Gauge:
        return Gauge(_PREFIX + name, text, ("set", *labels), registry=registry)

    until = gauge("valid_until_timestamp_seconds", "When the first piece of a set expires.")
    success = gauge("last_success_timestamp_seconds", "When a set was refreshed last; its age is time() - this.")
    failures = gauge("failures", "Refreshes of a set that failed since the last one that did not.")
    error = gauge(
        "last_error_timestamp_seconds", "When refreshing a set failed, and how; gone after it worked.", "code"
    )
    later = gauge("next_refresh_timestamp_seconds", "When a set is refreshed next.")
    coming = gauge("early_evaluation_number", "Evaluation number of the coming TCB release.")
    seen = gauge("early_platforms", "Platforms seen, by what the coming TCB release would do.", "verdict")
    for name, outlook in early.items():
        coming.labels(name).set(outlook.number)
        seen.labels(name, "refused").set(outlook.refused)
        seen.labels(name, "accepted").set(outlook.platforms - outlook.refused)
    for name, item in held.items():
        until.labels(name).set(item.valid_until.timestamp())
    for name, status in statuses.items():
        failures.labels(name).set(status.failures)
        if status.success is not None:
            success.labels(name).set(status.success.timestamp())
        if status.error_at is not None:
            error.labels(name, status.code).set(status.error_at.timestamp())
    for name, time in due.items():
        later.labels(name).set(time.timestamp())
    replace(path, generate_latest(registry))
