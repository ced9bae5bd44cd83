"""What SEV-SNP evidence is made from. A fault is a function from one recipe to another."""

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from proxy_attestation_simulator.recipes import Crl

REPORT_SIZE: Final = 0x4A0
SIGNED_SIZE: Final = 0x2A0
REPORT_DATA_AT: Final = 0x050

OLD_LAYOUT: Final = ("blSPL", "teeSPL", "spl4", "spl5", "spl6", "spl7", "snpSPL", "ucodeSPL")
NEW_LAYOUT: Final = ("fmcSPL", "blSPL", "teeSPL", "snpSPL", "spl5", "spl6", "spl7", "ucodeSPL")


@dataclass(frozen=True, slots=True)
class Line:
    """A processor line.

    Attributes:
        name: as in the names of its certificates.
        product_name: in a VCEK.
        cpuid: family, model, stepping.
        layout: what each byte of a TCB_VERSION is.
        tcb: the TCB_VERSION of an up-to-date platform.
        chip_id_size: bytes of a chip id that are not zero.
        struct_version: of a VCEK's extensions.
    """

    name: str
    product_name: str
    cpuid: bytes
    layout: tuple[str, ...]
    tcb: bytes
    chip_id_size: int
    struct_version: int


LINES: Final = {
    line.name: line
    for line in (
        Line("Milan", "Milan-B0", b"\x19\x01\x01", OLD_LAYOUT, bytes((4, 0, 0, 0, 0, 0, 24, 219)), 64, 0),
        Line("Genoa", "Genoa", b"\x19\x11\x01", OLD_LAYOUT, bytes((10, 0, 0, 0, 0, 0, 25, 84)), 64, 0),
        Line("Turin", "Turin", b"\x1a\x02\x01", NEW_LAYOUT, bytes((1, 2, 1, 4, 0, 0, 0, 77)), 8, 1),
    )
}


@dataclass(frozen=True, slots=True)
class VekRecipe:
    """A VCEK or VLEK certificate.

    Attributes:
        common_name: of the subject.
        extensions: (OID below AMD's arc, value), in order.
        not_before: UTC.
        not_after: UTC.
        key: the key in it, "own" or "other".
        signer: who signs, "issuer" or "other", a key that is not the issuer's.
        is_ca: whether it says that it is a CA's.
        critical: whether it has an unknown critical extension.
        patches: (old, new) bytes of one length, changed before it is signed.
    """

    common_name: str
    extensions: tuple[tuple[str, bytes], ...]
    not_before: datetime
    not_after: datetime
    key: str = "own"
    signer: str = "issuer"
    is_ca: bool = False
    critical: bool = False
    patches: tuple[tuple[bytes, bytes], ...] = ()

    def with_extension(self, oid: str, value: bytes | None) -> "VekRecipe":
        """Return the recipe with another value of an extension (at the end, if it is new), or without it."""
        kept = tuple((name, old if name != oid or value is None else value) for name, old in self.extensions)
        if value is None:
            kept = tuple(item for item in kept if item[0] != oid)
        elif oid not in dict(kept):
            kept += ((oid, value),)
        return replace(self, extensions=kept)


@dataclass(frozen=True, slots=True)
class SnpRecipe:
    """Evidence of one platform.

    Attributes:
        line: of the processor.
        kind: "VCEK" or "VLEK".
        report: what is signed, 672 bytes.
        vek: the certificate of the key that signs.
        report_key: which key signs, "own", "other", or "none" (the signature is zero).
        flips: (offset, mask) of bytes that change after the signature.
        tail: what fills the report behind the signature, 368 bytes.
        cut: bytes missing at the end.
        append: bytes that follow the end.
        chain: which certificates are given, of "vek", "issuer" and "ark".
        issuer: the ASK or ASVK: "good", "expired", "other" (the ARK did not sign it), "not-ca" or "depth".
        ark: "good", "expired", "not-ca" or "no-crl" (its key usage allows no lists).
        stranger: whether the ARK and the issuer are another vendor's.
        crls: the revocation lists.
        crl_bytes: instead of them, or None.
    """

    line: Line
    kind: str
    report: bytes
    vek: VekRecipe
    report_key: str = "own"
    flips: tuple[tuple[int, int], ...] = ()
    tail: bytes = field(default=bytes(REPORT_SIZE - SIGNED_SIZE - 144))
    cut: int = 0
    append: bytes = b""
    chain: tuple[str, ...] = ("vek", "issuer", "ark")
    issuer: str = "good"
    ark: str = "good"
    stranger: bool = False
    crls: tuple[Crl, ...] = ()
    crl_bytes: bytes | None = None

    def put(self, offset: int, value: bytes) -> "SnpRecipe":
        """Return the recipe with other bytes in the report."""
        report = self.report[:offset] + value + self.report[offset + len(value) :]
        return replace(self, report=report)

    def number(self, offset: int, size: int) -> int:
        """Return a little-endian number in the report."""
        return int.from_bytes(self.report[offset : offset + size], "little")


@dataclass(frozen=True, slots=True)
class SnpEvidence:
    """What a platform and its vendor give.

    Attributes:
        report: 1184 bytes.
        certificates: DER: VCEK or VLEK, ASK or ASVK, ARK.
        crls: DER, of the ARK.
    """

    report: bytes
    certificates: tuple[bytes, ...]
    crls: tuple[bytes, ...]
