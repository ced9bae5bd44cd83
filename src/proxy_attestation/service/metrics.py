"""The proxy's few metrics, summed over its workers through files in run/metrics.

This is prometheus_client's multiprocess mode. Each worker writes under a slot number instead of its process id, and the
supervisor gives no two living workers one slot: a restarted worker goes on counting where its predecessor stopped, and
the number of files stays bounded.
"""

import contextlib
import os
from pathlib import Path
from typing import Any, Final, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector

_LATENCY_BUCKETS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_COLLATERAL: Final = (
    ("issued_timestamp_seconds", "Issue date of the oldest collateral in use."),
    ("valid_until_timestamp_seconds", "When the first collateral in use expires."),
    ("sets", "Collateral sets in use."),
)
_M = TypeVar("_M", Counter, Gauge, Histogram)
REFRESH_FILE: Final = "endorsements.prom"
"""In the directory of the metrics: the text of the process that keeps collateral fresh."""
REAPPRAISAL_FILE: Final = "reappraisal.prom"
"""Likewise, of the process that judges again what was issued."""
_REFRESH_FILE_MAX: Final = 256 * 1024


class Metrics:
    """What the service counts; this class itself counts nothing."""

    def called(self, rpc: str, front: str, code: str, seconds: float) -> None:
        """Count a call that ended: `ok` or its code, and how long it took."""

    def in_flight(self, calls: int) -> None:
        """Say how many calls have started and not ended."""

    def issued(self, tee: str, workload: str) -> None:
        """Count a certificate that was answered; the policy has accepted TEE and workload."""

    def collateral(self, tee: str, issued_at: float, valid_until: float, sets: int) -> None:
        """Say what collateral is in use for a TEE: the oldest issue date, the earliest end, how many sets."""


class PrometheusMetrics(Metrics):
    """Counts into files that the admin address reads.

    Args of `__init__`: the directory, and the slot of this worker. To be made once a process.
    """

    def __init__(self, directory: Path, slot: int) -> None:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
        values.ValueClass = values.MultiProcessValue(lambda: slot)  # type: ignore[no-untyped-call] # as published

        def named(kind: type[_M], name: str, text: str, *labels: str, **options: Any) -> _M:
            return kind(f"proxy_attestation_{name}", text, labels, registry=registry, **options)

        registry = CollectorRegistry()
        self._calls = named(Counter, "calls", "Calls by rpc, front and code.", "rpc", "front", "code")
        self._issued = named(Counter, "certificates", "Certificates answered.", "tee", "workload")
        self._seconds = named(Histogram, "call_seconds", "Time to answer a call.", "rpc", buckets=_LATENCY_BUCKETS)
        self._in_flight = named(Gauge, "calls_in_flight", "Calls that have not ended.", multiprocess_mode="sum")
        self._in_flight.set(0)  # a predecessor in this slot may have been killed
        self._gauges = [
            named(Gauge, f"collateral_{name}", text, "tee", multiprocess_mode="mostrecent")
            for name, text in _COLLATERAL
        ]

    def called(self, rpc: str, front: str, code: str, seconds: float) -> None:
        """Count a call."""
        self._calls.labels(rpc, front, code).inc()
        self._seconds.labels(rpc).observe(seconds)

    def in_flight(self, calls: int) -> None:
        """Set the gauge."""
        self._in_flight.set(calls)

    def issued(self, tee: str, workload: str) -> None:
        """Count a certificate."""
        self._issued.labels(tee, workload).inc()

    def collateral(self, tee: str, issued_at: float, valid_until: float, sets: int) -> None:
        """Set the gauges of a TEE."""
        for gauge, value in zip(self._gauges, (issued_at, valid_until, sets), strict=True):
            gauge.labels(tee).set(value)


def exposition(directory: Path) -> bytes:
    """Return what all workers counted and what the processes beside them say, in the text format of Prometheus."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(directory))  # type: ignore[no-untyped-call] # as published
    text = generate_latest(registry)
    for name in (REFRESH_FILE, REAPPRAISAL_FILE):
        with contextlib.suppress(OSError), (directory / name).open("rb") as file:
            text += file.read(_REFRESH_FILE_MAX)
    return text
