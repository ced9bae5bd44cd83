"""What AMD's endorsements are checked for before they are kept: by the walk's own functions, at the vendor's door.

`appraisal.snp_collateral` verifies a chain with its list, `appraisal.snp` a VCEK, as workers and authority do again
with what is kept. Here is only what a source can get wrong beside that: to send something else than was asked for.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias

from proxy_attestation.appraisal.endorsements import SnpEndorsements
from proxy_attestation.appraisal.roots import AMD_ARKS, Roots
from proxy_attestation.appraisal.snp import appraise_vek
from proxy_attestation.appraisal.snp_certificate import read_amd_certificate
from proxy_attestation.appraisal.snp_collateral import SnpCollateral, verify_snp_collateral
from proxy_attestation.endorsements.detect_snp import SnpKind, detect_snp
from proxy_attestation.endorsements.fetched import rejected, source, translated
from proxy_attestation.errors import ProxyAttestationError
from proxy_attestation.formats.snp_report import Product

HWID_LENGTH: Final = 64
TURIN_HWID_LENGTH: Final = 8
TCB_PARTS: Final = ("fmc", "bl", "tee", "snp", "ucode")
"""The names of TCB components, in the order of KDS's query; `fmc` is Turin's alone."""

AmdPins: TypeAlias = Mapping[str, frozenset[bytes]]
"""By product: SPKI SHA-256 of the ARKs that count, 32 bytes each."""
AMD_PINS: Final[AmdPins] = {str(product): pins for product, pins in AMD_ARKS.items()}


@dataclass(frozen=True, slots=True)
class ChainPieces:
    """A chain and its list, as a source gave them.

    Attributes:
        product: one of `PRODUCTS`.
        kind: `vcek` or `vlek`.
        signer: DER of the ASK or ASVK.
        root: DER of the ARK.
        crl: DER.
    """

    product: str
    kind: str
    signer: bytes
    root: bytes
    crl: bytes


@dataclass(frozen=True, slots=True)
class VcekRequest:
    """A chip at one TCB.

    Attributes:
        hwid: CHIP_ID of the report: 64 bytes, for Turin the first 8.
        tcb: component by name: `bl`, `tee`, `snp`, `ucode`, for Turin `fmc` too; 0 to 255 each.
    """

    hwid: bytes
    tcb: Mapping[str, int]

    @property
    def file_name(self) -> str:
        """The file of this VCEK. The chip's id is only in it as a digest."""
        label = self.hwid + bytes(self.tcb.get(name, 0) for name in TCB_PARTS)
        return f"vcek-{hashlib.sha256(label).hexdigest()[:32]}.der"


def check_chain(pieces: ChainPieces, pins: AmdPins, now: datetime) -> SnpCollateral:
    """Verify a chain and its list.

    Raises:
        UnavailableError: `endorsements.source`, `endorsements.stale`.
        RefusedError: `endorsements.rejected`.
    """
    name = f"{pieces.kind} chain of {pieces.product}"
    _check_kind(name, pieces.root, SnpKind.ARK)
    _check_kind(name, pieces.signer, SnpKind.ISSUER)
    _check_kind(name, pieces.crl, SnpKind.CRL)
    expected = ("SEV-VLEK-" if pieces.kind == "vlek" else "SEV-") + pieces.product
    try:
        found = verify_snp_collateral(
            SnpEndorsements((pieces.root, pieces.signer), (pieces.crl,)), _roots(pieces.product, pins), now
        )
        signer = read_amd_certificate(pieces.signer).common_name
    except ProxyAttestationError as error:
        raise translated(name, error) from error
    if not signer.endswith(expected):
        raise rejected(name, f"a chain of {signer!r}; {expected!r} was asked for")
    return found


def check_vcek(der: bytes, pieces: ChainPieces, pins: AmdPins, wanted: VcekRequest | None, now: datetime) -> None:
    """Verify a VCEK under a chain that was verified, and that it is for the chip and the TCB that were asked for.

    Raises:
        UnavailableError: `endorsements.source`, `endorsements.stale`.
        RefusedError: `endorsements.rejected`.
    """
    name = f"VCEK of {pieces.product}"
    _check_kind(name, der, SnpKind.VEK)
    chain = SnpEndorsements((der, pieces.signer, pieces.root), ())
    try:
        found, _ = appraise_vek(chain, _roots(pieces.product, pins).amd, now, crl_required=False)
    except ProxyAttestationError as error:
        raise translated(name, error) from error
    if found.hw_id is None:
        raise rejected(name, "a VLEK")
    if wanted is None:
        return
    if found.hw_id.ljust(HWID_LENGTH, b"\0") != wanted.hwid.ljust(HWID_LENGTH, b"\0"):
        raise rejected(name, "a VCEK of another chip")
    if any(found.spls.get(f"{part}SPL") != number for part, number in wanted.tcb.items()):
        raise rejected(name, f"a VCEK for the TCB {dict(found.spls)}")


def _roots(product: str, pins: AmdPins) -> Roots:
    return Roots(frozenset(), {Product(product): pins.get(product, frozenset())})


def _check_kind(name: str, data: bytes, wanted: SnpKind) -> None:
    try:
        pieces = detect_snp(data, name)
    except ProxyAttestationError as error:
        raise source(name, error.detail) from error
    if pieces is None:
        raise source(name, f"the {wanted} was expected")
    if [piece.kind for piece in pieces] != [wanted]:
        raise rejected(name, f"{pieces[0].kind} in the place of the {wanted}")
