"""Reads `[danger]`: the choices that weaken what a certificate means, each by its name, each visible to all."""

from dataclasses import dataclass

from proxy_attestation.formats.bounds import POLICY_WORKLOADS_MAX
from proxy_attestation.policy.reader import Fault, TableReader, show
from proxy_attestation.policy.vocabulary import DANGER_KEYS


@dataclass(frozen=True, slots=True)
class Dangers:
    """What `[danger]` switches on.

    Attributes:
        allow_debug: entries that accept TEEs in debug mode.
        software_keys: entries that accept keys made outside a TEE.
        first_use: entries whose names are the first instance's that asks.
        short_lifetimes: whether `min_lifetime` may be less than 15 minutes.
    """

    allow_debug: frozenset[str] = frozenset()
    software_keys: frozenset[str] = frozenset()
    first_use: frozenset[str] = frozenset()
    short_lifetimes: bool = False

    def readable(self) -> tuple[str, ...]:
        """Return a line for each switch and entry, sorted."""
        lines = [
            f"allow_debug {name}: whoever runs the machine can read and change the TEE" for name in self.allow_debug
        ]
        lines += [f"software_keys {name}: the key is not made inside the TEE" for name in self.software_keys]
        lines += [f"first_use {name}: whoever asks first holds the names" for name in self.first_use]
        if self.short_lifetimes:
            lines.append("short_lifetimes: certificates may live less than 15 minutes")
        return tuple(sorted(lines))


def read_dangers(reader: TableReader, entries: frozenset[str]) -> Dangers:
    """Read `[danger]` of the whole file; what is wrong with it is noted in the reader.

    Args:
        reader: of the file's top.
        entries: the names of all entries: a switch for an entry that is not there is a mistake.
    """
    table = reader.child("danger", "[danger]")
    if table is None:
        return Dangers()
    table.refuse_unknown(DANGER_KEYS)
    if not table.table:
        table.note(None, "an empty table", "remove it")

    def entry(name: str) -> str | Fault:
        return name if name in entries else Fault(f"{show(name)} is no entry", "write the name of a [[workload]]")

    return Dangers(
        allow_debug=frozenset(table.values("allow_debug", POLICY_WORKLOADS_MAX, entry)),
        software_keys=frozenset(table.values("software_keys", POLICY_WORKLOADS_MAX, entry)),
        first_use=frozenset(table.values("first_use", POLICY_WORKLOADS_MAX, entry)),
        short_lifetimes=table.flag("short_lifetimes"),
    )
