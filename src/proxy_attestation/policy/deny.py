"""`[deny]`: what is refused whatever any entry says: the quick answer to a broken platform, a bad build, a stolen key.

=================  =====================================================  =================  ==========================
key                values                                                 code               of
=================  =====================================================  =================  ==========================
``products``       processor lines of AMD's, such as "Milan"              deny.product       snp
``fmspcs``         hex, 6 bytes: families of Intel platforms              deny.fmspc         sgx, tdx
``chip_ids``       hex, 16, 32 or 64 bytes: machines                      deny.chip_id       sgx, tdx, snp, tpm
``measurements``   hex, 32, 48 or 64 bytes: code, or an event in a log    deny.measurement   every TEE
``advisories``     the vendor's advisory ids                              deny.advisory      sgx, tdx
``serials``        hex, at most 20 bytes: certificates                    deny.serial        renewals, the deny list
``spkis``          hex, 32 bytes: SHA-256 of certified keys               deny.spki          every TEE, the deny list
=================  =====================================================  =================  ==========================

Below a vTPM the hardware's claims count too. A chip id that can be of the TEE at hand denies evidence that names no
machine as well: it may come from that one.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from proxy_attestation.appraisal.claims import Claims, claim_of
from proxy_attestation.appraisal.instance import CHIP_LENGTHS, machine_id
from proxy_attestation.codes import Code
from proxy_attestation.errors import Mismatch
from proxy_attestation.formats.bounds import DENY_VALUES_MAX
from proxy_attestation.formats.pins import PINS
from proxy_attestation.formats.snp_report import Product
from proxy_attestation.formats.tee import Tee
from proxy_attestation.policy.reader import Fault, TableReader, show
from proxy_attestation.policy.vocabulary import DENY_KEYS, advisory_from, hex_from

SERIAL_BYTES: Final = 20
SPKI_BYTES: Final = 32
_CODES: Final = dict(
    zip(
        DENY_KEYS,
        (
            Code.DENY_PRODUCT, Code.DENY_FMSPC, Code.DENY_CHIP_ID, Code.DENY_MEASUREMENT, Code.DENY_ADVISORY,
            Code.DENY_SERIAL, Code.DENY_SPKI,
        ),
        strict=True,
    )
)  # fmt: skip
_CODE_LENGTHS: Final = (32, 48, 64)
_CHIP_LENGTHS: Final = tuple(sorted({length for lengths in CHIP_LENGTHS.values() for length in lengths}))
_CODE_CLAIMS: Final[Mapping[Tee, tuple[str, ...]]] = {
    tee: tuple(key.claim for key in keys.values() if key.code is Code.POLICY_MEASUREMENT) for tee, keys in PINS.items()
}


@dataclass(frozen=True, slots=True)
class Deny:
    """What is denied; every list sorted, and empty where the table does not have it.

    Attributes:
        products: processor lines of AMD's.
        fmspcs: 6 bytes each.
        chip_ids: as the vendor names machines, 16, 32 or 64 bytes each.
        measurements: 32, 48 or 64 bytes each.
        advisories: ids.
        serials: of certificates, 20 bytes each, big-endian.
        spkis: SHA-256 of SubjectPublicKeyInfo, 32 bytes each.
    """

    products: tuple[str, ...] = ()
    fmspcs: tuple[bytes, ...] = ()
    chip_ids: tuple[bytes, ...] = ()
    measurements: tuple[bytes, ...] = ()
    advisories: tuple[str, ...] = ()
    serials: tuple[bytes, ...] = ()
    spkis: tuple[bytes, ...] = ()


_NOTHING: Final = Deny()


def read_deny(reader: TableReader) -> Deny:
    """Read `[deny]` of the whole file; what is wrong with it is noted in the reader."""
    table = reader.child("deny", "[deny]")
    if table is None:
        return Deny()
    table.refuse_unknown(DENY_KEYS)
    if not table.table:
        table.note(None, "an empty table", "remove it")
    return Deny(
        products=table.values("products", DENY_VALUES_MAX, _product),
        fmspcs=table.values("fmspcs", DENY_VALUES_MAX, partial(hex_from, size=6, zero=True)),
        chip_ids=table.values("chip_ids", DENY_VALUES_MAX, _hex_of(_CHIP_LENGTHS)),
        measurements=table.values("measurements", DENY_VALUES_MAX, _hex_of(_CODE_LENGTHS)),
        advisories=table.values("advisories", DENY_VALUES_MAX, advisory_from),
        serials=table.values("serials", DENY_VALUES_MAX, _serial),
        spkis=table.values("spkis", DENY_VALUES_MAX, _hex_of((SPKI_BYTES,))),
    )


def _hex_of(lengths: tuple[int, ...]) -> Callable[[str], bytes | Fault]:
    return partial(hex_from, size=lengths[0], zero=False, lengths=lengths)


def _product(text: str) -> str | Fault:
    known = tuple(Product)
    return text if text in known else Fault(f"{show(text)} is no processor line", f"known: {', '.join(known)}")


def _serial(text: str) -> bytes | Fault:
    # As `inspect` and other programs print it: whole bytes, those in front left out where they are zero.
    serial = hex_from(text, SERIAL_BYTES, zero=False, lengths=tuple(range(1, SERIAL_BYTES)))
    return serial.rjust(SERIAL_BYTES, b"\0") if isinstance(serial, bytes) else serial


def match_claims(deny: Deny, claims: Claims) -> Iterator[Mismatch]:
    """Yield a mismatch for each denied thing that the evidence speaks of, in the order of the keys."""
    if deny == _NOTHING:
        return
    parts = (claims,) if claims.hardware is None else (claims, claims.hardware)
    tcbs = [part.tcb for part in parts if part.tcb is not None]
    code = [claim_of(part.body, name) for part in parts for name in _CODE_CLAIMS[part.body.tee]]
    code += [digest for layer in claims.layers for digest in (layer.value, *(event.digest for event in layer.events))]
    found: tuple[tuple[str, Iterable[object]], ...] = (
        ("products", [claim_of(part.body, "product") for part in parts]),
        ("fmspcs", [tcb.fmspc for tcb in tcbs]),
        ("chip_ids", _denied_chips(deny, claims)),
        ("measurements", code),
        ("advisories", [advisory for tcb in tcbs for advisory in tcb.advisories]),
    )
    for key, values in found:
        yield from _denied(deny, key, values)


def match_certificate(deny: Deny, spki_sha256: bytes, serial: bytes | None = None) -> Iterator[Mismatch]:
    """Yield a mismatch where a key is denied, or the certificate that has it.

    Args:
        deny: of the policy in force.
        spki_sha256: 32 bytes: of the key that a certificate is asked for, or of the one that is renewed.
        serial: 20 bytes, of the certificate that is renewed; None where it is not known.
    """
    yield from _denied(deny, "serials", (serial,))
    yield from _denied(deny, "spkis", (spki_sha256,))


def _denied(deny: Deny, key: str, values: Iterable[object]) -> Iterator[Mismatch]:
    denied = getattr(deny, key)
    for value in dict.fromkeys(value for value in values if value in denied):
        shown = value.hex() if isinstance(value, bytes) else str(value)
        yield Mismatch(_CODES[key], key, "nothing that is denied", shown)


def _denied_chips(deny: Deny, claims: Claims) -> list[bytes]:
    """Return the denied names that the evidence's machine may have: its own, or all where it says none."""
    tee, machine = claims.rooted.tee, claims.instance_id
    possible = [name for name in deny.chip_ids if len(name) in CHIP_LENGTHS.get(tee, ())]
    return [name for name in possible if machine is None or machine_id(tee, name) == machine]
