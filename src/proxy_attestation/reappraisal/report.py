"""What a pass in the background leaves behind: reappraisal.json for workers and people, a text file of metrics."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from proxy_attestation.endorsements.durable import replace
from proxy_attestation.reappraisal.judge import Outcome
from proxy_attestation.reappraisal.survey import Finding
from proxy_attestation.service.early import EARLY_MAX, FILE_MAX, FORMAT

_PREFIX: Final = "proxy_attestation_reappraisal_"


@dataclass
class Tally:
    """What a pass found.

    Attributes:
        at: when it began, seconds since the epoch.
        policy_version: that it judged by.
        problems: of collateral.
        verdicts: how many certificates, by outcome and first code (empty when accepted).
        early: by certificate id: what stands in the file.
        more: certificates to be renewed early that the file has no room for.
        seconds: how long it took.
    """

    at: int
    policy_version: int
    problems: tuple[str, ...] = ()
    verdicts: "Counter[tuple[str, str]]" = field(default_factory=Counter)
    early: dict[str, dict[str, Any]] = field(default_factory=dict)
    more: int = 0
    seconds: float = 0.0

    def add(self, one: Finding, before: Mapping[str, Mapping[str, Any]]) -> bool:
        """Count one certificate; tell whether it is to be renewed early for a reason that it had not before."""
        self.verdicts[str(one.outcome), str(one.codes[0]) if one.codes else ""] += 1
        if not one.early or not one.certificate_id:
            return False
        known, codes = before.get(one.certificate_id), [str(code) for code in one.early]
        news = known is None or not set(codes) <= set(known["codes"])
        if len(self.early) >= EARLY_MAX:
            self.more += 1
            return news
        self.early[one.certificate_id] = {
            "index": one.index,
            "serial": one.serial,
            "workload": one.workload,
            "expires": one.not_after,
            "verdict": str(one.outcome),
            "codes": codes,
            "since": self.at if known is None else known["since"],
        }
        return news

    def live(self) -> int:
        """Return how many certificates were judged."""
        return self.verdicts.total()


def write_report(path: Path, tally: Tally) -> None:
    """Write reappraisal.json, whole.

    Raises:
        OSError: when it cannot be written.
    """
    said = {
        "format": FORMAT,
        "at": tally.at,
        "seconds": round(tally.seconds, 3),
        "policy_version": tally.policy_version,
        "live": tally.live(),
        **{str(outcome): _count(tally.verdicts, outcome) for outcome in Outcome},
        "collateral_problems": list(tally.problems),
        "early": tally.early,
        "more": tally.more,
    }
    replace(path, json.dumps(said).encode() + b"\n")


def read_known(path: Path) -> dict[str, dict[str, Any]]:
    """Return the early renewals that an earlier pass wrote, so that nobody is told twice; empty where it wrote none."""
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(FILE_MAX))["early"]
        return {
            str(name): {"since": int(one["since"]), "codes": [*map(str, one["codes"])]} for name, one in found.items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}


def write_gauges(path: Path, tally: Tally) -> None:
    """Write the metrics, whole.

    Raises:
        OSError: when they cannot be written.
    """
    registry = CollectorRegistry()
    live = Gauge(
        _PREFIX + "certificates",
        "Live certificates, by what the proxy would say of their evidence now, and the first code.",
        ("verdict", "code"),
        registry=registry,
    )
    # Each verdict is there even when nobody has it, so that an alarm has something to compare.
    for outcome in Outcome:
        live.labels(str(outcome), "").set(0)
    for (outcome_name, code), count in tally.verdicts.items():
        live.labels(outcome_name, code).set(count)
    numbers: Iterable[tuple[str, str, float]] = (
        (
            "early_renewals",
            "Live certificates that should be renewed before their time.",
            len(tally.early) + tally.more,
        ),
        ("last_run_timestamp_seconds", "When the last pass began.", tally.at),
        ("last_run_seconds", "How long the last pass took; most of it is waiting.", tally.seconds),
    )
    for name, text, value in numbers:
        Gauge(_PREFIX + name, text, registry=registry).set(value)
    replace(path, generate_latest(registry))


def _count(verdicts: "Counter[tuple[str, str]]", outcome: Outcome) -> int:
    return sum(count for (name, _), count in verdicts.items() if name == outcome)
