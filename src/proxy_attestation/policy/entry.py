"""Reads one `[[workload]]` entry."""

from functools import partial
from typing import Final

from proxy_attestation.appraisal.claims import HARDWARE as HARDWARE_TEES
from proxy_attestation.formats.pins import EK_ROOT, HARDWARE, pin_key_names
from proxy_attestation.formats.request import KeyOrigin, is_workload_name
from proxy_attestation.formats.tee import Tee
from proxy_attestation.policy.application import ReadFile, read_application
from proxy_attestation.policy.danger import Dangers
from proxy_attestation.policy.events import read_events
from proxy_attestation.policy.model import Hardware, Workload
from proxy_attestation.policy.names import RESERVED_ENTRY, read_names
from proxy_attestation.policy.ownership import read_owner, with_launch_data
from proxy_attestation.policy.pins import parse_pins
from proxy_attestation.policy.reader import Fault, TableReader, show
from proxy_attestation.policy.reference import with_values
from proxy_attestation.policy.vocabulary import (
    WORKLOAD_KEYS,
    read_advisories,
    read_tcb,
    seconds_from,
)

_TEES: Final = " or ".join(f'"{tee}"' for tee in Tee)
_ORIGINS: Final = {Tee.TPM: KeyOrigin.TPM}
"""Where keys are made that entries of a TEE accept, if not inside the TEE: a TPM runs no programs, it keeps keys."""
_HINTS: Final = {
    "uri": "remove it: a certificate carries one URI, the entry's SPIFFE ID, which it always has",
    "allow_debug": "name the entry in [danger] allow_debug",
    "software_keys": "name the entry in [danger] software_keys",
    "first_use": "write owner = { first_use = true }, and name the entry in [danger] first_use",
    "min_lifetime": "it holds for the whole policy: write it above the entries",
}
_SHORTER: Final = {
    "min_lifetime": "; for tests, [danger] short_lifetimes = true allows less",
    "max_lifetime": "; the least is the policy's min_lifetime",
}


def read_entry(
    reader: TableReader, dangers: Dangers, min_lifetime: int, max_lifetime: int, read_file: ReadFile
) -> Workload | None:
    """Read an entry; None, with every problem noted, where something is wrong with it.

    Args:
        reader: of the entry's table.
        dangers: of the whole policy.
        min_lifetime: of the whole policy, in seconds.
        max_lifetime: likewise.
        read_file: reads a file that the entry names.
    """
    noted = len(reader.issues)
    name = reader.value("name", _name, 'write name = "...": the last part of the entry\'s SPIFFE ID')
    names = read_names(reader)
    advisories = read_advisories(reader)
    lifetime = read_lifetime(reader, "max_lifetime", min_lifetime, max_lifetime, max_lifetime)
    application = read_application(reader, read_file)
    tee = reader.value("tee", _tee, f"write tee = {_TEES}")
    hardware = None if tee is None else _hardware(reader, tee)
    below = tee if hardware is None else hardware.tee
    owner = read_owner(reader, (tee, below), name in dangers.first_use, read_file)
    if tee is None:
        return None
    found = with_values(reader, tee, read_file)
    if found is None:
        return None
    reader, not_after = found
    _refuse_unknown(reader, tee)
    reader.values("key_origins", len(KeyOrigin), partial(_key_origin, origin=_ORIGINS.get(tee, KeyOrigin.TEE)))
    tcb = read_tcb(tee, reader)
    events = read_events(reader, tee)
    pins = parse_pins(tee, with_launch_data(reader, tee, owner), frozenset(rule.register for rule in events))
    if len(reader.issues) > noted or name is None or owner is None or pins is None:
        return None
    origin = _ORIGINS.get(tee, KeyOrigin.TEE)
    return Workload(
        name=name,
        tee=tee,
        pins=pins,
        tcb=tcb,
        advisories=advisories,
        application=application,
        key_origins=(KeyOrigin.SOFTWARE, origin) if name in dangers.software_keys else (origin,),
        names=names,
        owner=owner,
        max_lifetime=lifetime,
        allow_debug=name in dangers.allow_debug,
        events=events,
        hardware=hardware,
        not_after=not_after,
    )


def _name(text: str) -> str | Fault:
    if text == RESERVED_ENTRY:
        return Fault(f"{text} is reserved for the proxy's own ids", "choose another name")
    fault = Fault(f"{show(text)} is none", "write 1 to 63 of a-z 0-9 . _ -, a letter or digit at both ends")
    return text if is_workload_name(text) else fault


def _tee(text: str) -> Tee | Fault:
    return Tee(text) if text in tuple(Tee) else Fault(show(text), f"write {_TEES}")


def _refuse_unknown(reader: TableReader, tee: Tee) -> None:
    others = {
        key: f"remove it: it is a key of {other} entries, and this one is {tee}"
        for other in Tee
        if other is not tee
        for key in pin_key_names(other)
    }
    reader.refuse_unknown(pin_key_names(tee) | set(WORKLOAD_KEYS), others | _HINTS)


def _hardware(reader: TableReader, tee: Tee) -> Hardware | None:
    """Read what lies below a vTPM; None where the table is absent, or (noted) wrong."""
    table = reader.child(HARDWARE, f"{reader.title} {HARDWARE}")
    if table is None:
        return None
    if tee is not Tee.TPM or reader.has(EK_ROOT):
        fix = f"write {EK_ROOT} or {HARDWARE}; two entries where machines of both kinds run it"
        reader.note(HARDWARE, f"{HARDWARE} in an entry that is no TPM's, or has {EK_ROOT}", fix)
        return None
    kinds = " or ".join(f'"{kind}"' for kind in HARDWARE_TEES)
    below = table.value(
        "tee",
        lambda text: Tee(text) if text in HARDWARE_TEES else Fault(show(text), f"write {kinds}"),
        f"write {kinds}",
    )
    if below is None:
        return None
    table.refuse_unknown(pin_key_names(below) | {"tee", "tcb", "advisories"})
    tcb, advisories, pins = read_tcb(below, table), read_advisories(table), parse_pins(below, table)
    return None if pins is None else Hardware(below, pins, tcb, advisories)


def _key_origin(text: str, origin: KeyOrigin) -> str | Fault:
    """Accept the one word: a key made where the evidence comes from is what entries are about; others are dangers."""
    if text == origin.name.lower():
        return text
    fix = f'write key_origins = ["{origin.name.lower()}"], or leave it out'
    if text == "software":
        fix = "remove it, and name the entry in [danger] software_keys if you must"
    return Fault(f"{show(text)} is no origin that an entry may accept", fix)


def read_lifetime(reader: TableReader, key: str, low: int, high: int, default: int) -> int:
    """Read a duration from `low` to `high` seconds; the default where it is absent or wrong (and noted)."""

    def read(text: str) -> int | Fault:
        seconds = seconds_from(text)
        if seconds is None:
            return Fault(show(text), 'write hours, minutes or seconds: "24h", "15m", "90s"')
        fault = Fault(f"{seconds} s", f"write at least {low} s and at most {high} s{_SHORTER[key]}")
        return seconds if low <= seconds <= high else fault

    seconds = reader.value(key, read)
    return default if seconds is None else seconds
