"""Reads one `[[workload]]` entry."""

from dataclasses import dataclass
from typing import Final

from proxy_attestation.formats.request import KeyOrigin, is_workload_name
from proxy_attestation.formats.tee import Tee
from proxy_attestation.policy.application import ReadFile, read_application
from proxy_attestation.policy.model import OwnerKind, Workload
from proxy_attestation.policy.names import RESERVED_ENTRY, read_names
from proxy_attestation.policy.pins import parse_pins
from proxy_attestation.policy.reader import TableReader, show
from proxy_attestation.policy.vocabulary import (
    LATER_TEES,
    WORKLOAD_KEYS,
    pin_key_names,
    read_advisories,
    read_tcb,
    seconds_from,
)

_LATER_OWNERS: Final = ("chip_ids", "tenant_key", "enrolment", "first_use")
_SHARED: Final = "owner = { shared = true }"
_OWNER_SHARED: Final = f"write {_SHARED}: any instance that the entry accepts may hold its names"
_HINTS: Final = {
    "uri": "remove it: a certificate carries one URI, the entry's SPIFFE ID, which it always has",
    "allow_debug": "name the entry in [danger] allow_debug",
    "software_keys": "name the entry in [danger] software_keys",
    "min_lifetime": "it holds for the whole policy: write it above the entries",
}
_SHORTER: Final = {
    "min_lifetime": "; for tests, [danger] short_lifetimes = true allows less",
    "max_lifetime": "; the least is the policy's min_lifetime",
}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an entry takes from the rest of the file.

    Attributes:
        min_lifetime: seconds.
        max_lifetime: seconds.
        allow_debug: the entries that `[danger]` names there.
        software_keys: and there.
        read_file: reads an index that an entry names.
    """

    min_lifetime: int
    max_lifetime: int
    allow_debug: frozenset[str]
    software_keys: frozenset[str]
    read_file: ReadFile


def read_entry(reader: TableReader, around: Surroundings) -> Workload | None:
    """Read an entry; None, with every problem noted, where something is wrong with it."""
    noted = len(reader.issues)
    name = _name(reader)
    owner = _owner(reader)
    names = read_names(reader)
    advisories = read_advisories(reader)
    origins = _key_origins(reader)
    lifetime = _max_lifetime(reader, around)
    application = read_application(reader, around.read_file)
    tee = _tee(reader)
    if tee is None:
        return None
    _refuse_unknown(reader, tee)
    tcb = read_tcb(tee, reader)
    pins = parse_pins(tee, reader)
    if len(reader.issues) > noted or name is None or owner is None or pins is None:
        return None
    if name in around.software_keys:
        origins = (KeyOrigin.SOFTWARE, *origins)
    return Workload(
        name=name,
        tee=tee,
        pins=pins,
        tcb=tcb,
        advisories=advisories,
        application=application,
        key_origins=origins,
        names=names,
        owner=owner,
        max_lifetime=lifetime,
        allow_debug=name in around.allow_debug,
    )


def _name(reader: TableReader) -> str | None:
    if not reader.require(["name"], 'write name = "...": the last part of the entry\'s SPIFFE ID'):
        return None
    name = reader.text("name")
    if name is None:
        return None
    if not is_workload_name(name):
        reader.note(
            "name", f"{show(name)} is no entry name", "write 1 to 63 of a-z 0-9 . _ -, a letter or digit at both ends"
        )
    elif name == RESERVED_ENTRY:
        reader.note("name", f"{name} is reserved for the proxy's own ids", "choose another name")
    else:
        return name
    return None


def _tee(reader: TableReader) -> Tee | None:
    known = " or ".join(f'"{tee}"' for tee in Tee)
    if not reader.require(["tee"], f"write tee = {known}"):
        return None
    text = reader.text("tee")
    if text is None:
        return None
    try:
        return Tee(text)
    except ValueError:
        later = "not supported yet; " if text in LATER_TEES else ""
        reader.note("tee", f"{later}tee is {show(text)}", f"write {known}")
        return None


def _refuse_unknown(reader: TableReader, tee: Tee) -> None:
    others = {
        key: f"remove it: it is a key of {other} entries, and this one is {tee}"
        for other in Tee
        if other is not tee
        for key in pin_key_names(other)
    }
    reader.refuse_unknown(pin_key_names(tee) | set(WORKLOAD_KEYS), others | _HINTS)


def _owner(reader: TableReader) -> OwnerKind | None:
    if not reader.require(["owner"], f"every entry has a fixed name, its SPIFFE ID, so say who may hold it: {_SHARED}"):
        return None
    value = reader.table["owner"]
    if value == str(OwnerKind.SHARED):
        return OwnerKind.SHARED
    if not isinstance(value, dict):
        reader.note("owner", f"owner is {show(value)}", _OWNER_SHARED)
        return None
    later = [kind for kind in _LATER_OWNERS if kind in value]
    if later:
        reader.note("owner", f"owner {', '.join(later)} is not supported yet", _OWNER_SHARED)
    elif set(value) != {"shared"} or value["shared"] is not True:
        reader.note("owner", f"owner is {show(value)}", _OWNER_SHARED)
    else:
        return OwnerKind.SHARED
    return None


def _key_origins(reader: TableReader) -> tuple[KeyOrigin, ...]:
    """Read `key_origins`. A key made inside the TEE is what SGX and TDX entries are about; others are dangers."""
    for index, text in reader.texts("key_origins", len(KeyOrigin)):
        if text == "software":
            fix = "remove it, and name the entry in [danger] software_keys if you must"
        else:
            fix = 'write key_origins = ["tee"], or leave it out'
        if text != "tee":
            reader.note("key_origins", f"{show(text)} is no origin that an entry may accept", fix, index)
    return (KeyOrigin.TEE,)


def _max_lifetime(reader: TableReader, around: Surroundings) -> int:
    return read_lifetime(reader, "max_lifetime", around.min_lifetime, around.max_lifetime, around.max_lifetime)


def read_lifetime(reader: TableReader, key: str, low: int, high: int, default: int) -> int:
    """Read a duration from `low` to `high` seconds; the default where it is absent or wrong (and noted)."""
    text = reader.text(key)
    if text is None:
        return default
    seconds = seconds_from(text)
    if seconds is None:
        reader.note(key, f"{key} is {show(text)}", 'write hours, minutes or seconds: "24h", "15m", "90s"')
    elif not low <= seconds <= high:
        reader.note(key, f"{key} is {seconds} s", f"write at least {low} s and at most {high} s{_SHORTER[key]}")
    else:
        return seconds
    return default
