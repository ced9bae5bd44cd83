"""Reads `owner` of an entry: which instance may hold its names.

===================================================  ==============================================================
``{ shared = true }``                                any instance that the entry accepts, several at a time
``{ chip_ids = ["<hex>", ...] }``                    one of these machines at a time
``{ tenant_key = "<PEM or hex>", in = "<claim>" }``  one that the tenant granted the names to, launched with the digest
                                                     of the tenant's key in that claim
``{ enrolment = true }``                             one that had a one-time token
``{ first_use = true }``                             whoever asks first; only where `[danger]` names the entry
===================================================  ==============================================================
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Final

from proxy_attestation.appraisal.instance import CHIP_LENGTHS, machine_id
from proxy_attestation.formats.bounds import PIN_VALUES_MAX
from proxy_attestation.formats.index import path_fault
from proxy_attestation.formats.owner_proof import tenant_key
from proxy_attestation.formats.pins import MINIMUM, PINS
from proxy_attestation.formats.tee import Tee
from proxy_attestation.policy.application import ReadFile
from proxy_attestation.policy.model import Owner, OwnerKind, Workload
from proxy_attestation.policy.reader import Fault, TableReader, show
from proxy_attestation.policy.vocabulary import OWNER_KEYS, hex_from

_WHY: Final = f"every entry has a fixed name, its SPIFFE ID, so say who may hold it: one of {', '.join(OwnerKind)}"
_FIX: Final = f"write one of {', '.join(OwnerKind)}: owner = {{ shared = true }} lets any instance hold the names"
PLACES: Final[Mapping[Tee, tuple[str, ...]]] = {
    Tee.SGX: ("config_id",),
    Tee.TDX: ("mr_config_id", "mr_owner", "mr_owner_config"),
    Tee.SNP: ("host_data",),
    Tee.NITRO: tuple(f"pcr{index}" for index in range(16, 32)),
    Tee.TPM: (),
}
"""The launch data that can hold the digest of a tenant's key."""
_LENGTHS: Final = {Tee.SGX: 64, Tee.TDX: 48, Tee.SNP: 32}


def launch_data(tee: Tee, tenant: bytes) -> bytes:
    """Return what the launch data of a TEE holds for a tenant's key, given as the DER of its SubjectPublicKeyInfo.

    SHA-256 of that, with zeros behind it where the field is longer. A register of a Nitro enclave cannot be set: it is
    extended once with the digest, and so holds SHA-384(48 zero bytes || digest).
    """
    digest = hashlib.sha256(tenant).digest()
    if tee is Tee.NITRO:
        return hashlib.sha384(bytes(48) + digest).digest()
    return digest.ljust(_LENGTHS[tee], b"\0")


def read_owner(
    reader: TableReader, tees: tuple[Tee | None, Tee | None], first_use: bool, read_file: ReadFile
) -> Owner | None:
    """Read `owner` of an entry; None, with the problem noted, where it is absent or wrong.

    Args:
        reader: of the entry's table.
        tees: the entry's, and the one below that names the machine; None where that is wrong.
        first_use: whether `[danger]` says so of the entry.
        read_file: reads a key file that the owner names.
    """
    if not reader.require(["owner"], _WHY):
        return None
    value = reader.table["owner"]
    content = {value: True} if isinstance(value, str) and value in tuple(OwnerKind) else value
    if not isinstance(content, dict):
        reader.note("owner", f"owner is {show(value)}", _FIX)
        return None
    table = TableReader(content, (*reader.place, "owner"), f"{reader.title} owner", reader.issues)
    noted = len(reader.issues)
    table.refuse_unknown(OWNER_KEYS)
    kinds = [kind for kind in OwnerKind if table.has(kind)]
    if len(kinds) != 1:
        table.note(None, f"{len(kinds)} kinds of owner", _FIX)
        return None
    owner = _read(table, kinds[0], tees, read_file)
    if first_use is not (kinds[0] is OwnerKind.FIRST_USE):
        fix = "write both owner = { first_use = true } and [danger] first_use, which names the entry, or neither"
        table.note(None, "first_use in only one of two places", fix)
    return None if len(reader.issues) > noted else owner


def with_launch_data(reader: TableReader, tee: Tee, owner: Owner | None) -> TableReader:
    """Return the entry's table with the pin that its owner stands for, where the entry could not do without."""
    if owner is None or not owner.place:
        return reader
    if reader.has(owner.place):
        reader.note(owner.place, f"{owner.place} is pinned, and what it holds is the owner's", "remove the pin")
    key = PINS[tee].get(owner.place)
    if key is None or (key.absent is None and not any(key.name in form for form in MINIMUM[tee])):
        return reader
    text = launch_data(tee, owner.key).hex()
    # MRCONFIGID may have several values, the others one.
    pin: object = text if key.absent is not None else [text]
    return TableReader({**reader.table, owner.place: pin}, reader.place, reader.title, reader.issues)


def refuse_shared_names(entries: Iterable[tuple[TableReader, Workload]]) -> None:
    """Note every name of an owned entry that stands in another entry too: it would have two owners."""
    seen: dict[str, Workload] = {}
    for reader, entry in entries:
        for name in entry.names.readable():
            other = seen.setdefault(name, entry)
            if other is not entry and any(one.owner.kind is not OwnerKind.SHARED for one in (entry, other)):
                fix = "give it to one entry: whoever holds a name holds it alone, unless every entry is shared"
                reader.note("owner", f"{name} stands in {other.name} too", fix)


def _read(
    table: TableReader, kind: OwnerKind, tees: tuple[Tee | None, Tee | None], read_file: ReadFile
) -> Owner | None:
    if kind is OwnerKind.TENANT_KEY:
        return _tenant(table, tees[0], read_file)
    if table.has("in"):
        table.note("in", "in belongs to tenant_key", "remove it")
    if kind is OwnerKind.CHIP_IDS:
        return _chips(table, tees[1])
    return Owner(kind) if table.flag(kind) else None


def _chips(table: TableReader, tee: Tee | None) -> Owner | None:
    lengths = () if tee is None else CHIP_LENGTHS.get(tee, ())
    if tee is not None and not lengths:
        table.note("chip_ids", f"{tee} evidence names no chip", "write enrolment = true, or tenant_key")
    if not lengths or tee is None:
        return None

    def read(text: str) -> bytes | Fault:
        found = hex_from(text, lengths[0], zero=False, lengths=lengths)
        return found if isinstance(found, Fault) else machine_id(tee, found) or b""

    return Owner(OwnerKind.CHIP_IDS, chips=table.values("chip_ids", PIN_VALUES_MAX, read))


def _tenant(table: TableReader, tee: Tee | None, read_file: ReadFile) -> Owner | None:
    places = () if tee is None else PLACES[tee]
    if tee is not None and not places:
        table.note("tenant_key", f"{tee} evidence holds no launch data", "write enrolment = true, or chip_ids")
    if not places:
        return None

    def place(text: str) -> str | Fault:
        return text if text in places else Fault(show(text), f"write one of {', '.join(places)}")

    spki = table.value("tenant_key", lambda text: _key(text, read_file))
    where = table.value("in", place, f"say which launch data holds the digest of the key: in = {' or '.join(places)}")
    return None if spki is None or where is None else Owner(OwnerKind.TENANT_KEY, key=spki, place=where)


def _key(text: str, read_file: ReadFile) -> bytes | Fault:
    fix = "name a PEM file beside the policy (*.pem), or write the DER of the SubjectPublicKeyInfo in hex"
    try:
        if not text.endswith(".pem"):
            data = bytes.fromhex(text)
        elif (fault := path_fault(text)) is not None:
            return Fault(f"{show(text)}: {fault}", fix)
        else:
            data = read_file(text)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return Fault(f"{show(text)} cannot be read: {reason}", fix)
    return tenant_key(data) or Fault(f"{show(text)} is no Ed25519 or P-256 public key", fix)
