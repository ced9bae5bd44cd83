"""Intel's collateral for one platform family, verified once and then used for every quote.

The walk; each step is tagged in the code:

 C1  every piece is there, and none is too large
 C2  the documents are signed JSON; their issuer chains and the PCK CRL's are PEM
 C3  one pinned root signed itself, the PCK CA and the TCB signers; common names give the roles; all are valid
 C4  the root's CRL and the PCK CA's CRL: issuer, signature, number, thisUpdate <= now <= nextUpdate  (QVL 4.1.2.4.6)
 C5  the root's CRL lists neither the PCK CA nor a TCB signer                             (QVL 4.1.2.3)
 C6  TCB info: signature over the exact bytes, contents, TEE, issueDate <= now <= nextUpdate   (QVL 4.1.2.3, 4.1.2.4.9)
 C7  QE identity: the same; `QE` for SGX, `TD_QE` for TDX                                 (QVL 4.1.2.4.14)

What the caller still does: compare the numbers with its floors (`below`), and with each quote everything of
`appraisal.dcap`.
"""

import hashlib
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Final

from proxy_attestation.appraisal.endorsements import DcapEndorsements, Floor
from proxy_attestation.appraisal.pck_chain import check_pck_ca, check_root, decode_chain, find_issuer
from proxy_attestation.appraisal.refusal import refuse
from proxy_attestation.appraisal.roots import Roots
from proxy_attestation.appraisal.x509_chain import (
    Certificate,
    RevocationList,
    check_end_entity,
    check_issued,
    check_validity,
    read_certificate,
    read_crl,
    verifies_raw,
)
from proxy_attestation.errors import FormatError
from proxy_attestation.formats.bounds import COLLATERAL_DOCUMENT_MAX
from proxy_attestation.formats.dcap_codes import DcapFault, dcap_code
from proxy_attestation.formats.dcap_collateral import (
    QeIdentity,
    TcbInfo,
    declared_tee,
    decode_qe_identity,
    decode_tcb_info,
)
from proxy_attestation.formats.signed_json import SignedDocument, decode_signed_document
from proxy_attestation.formats.tee import Tee

_SIGNER_NAME: Final = "SGX TCB Signing"
_QE_ID: Final = {Tee.SGX: "QE", Tee.TDX: "TD_QE"}
_DIGEST_LABEL: Final = b"proxy-attestation/collateral/v1\0"
_REQUIRED: Final = tuple(f.name for f in fields(DcapEndorsements) if f.name != "pck_certificate_chain")


@dataclass(frozen=True, slots=True)
class DcapCollateral:
    """A verified set.

    Attributes:
        tee: what the set is for.
        tcb_info: its levels, sorted.
        qe_identity: its levels, sorted.
        root: the pinned root.
        pck_ca: the PCK CA whose CRL this is.
        root_crl: what the root revoked.
        pck_crl: what the PCK CA revoked.
        valid_from: the latest start of any piece, UTC.
        valid_until: the earliest end of any piece, UTC.
        digest: SHA-256 over all pieces, 32 bytes.
    """

    tee: Tee
    tcb_info: TcbInfo
    qe_identity: QeIdentity
    root: Certificate
    pck_ca: Certificate
    root_crl: RevocationList
    pck_crl: RevocationList
    valid_from: datetime
    valid_until: datetime
    digest: bytes

    @property
    def fmspc(self) -> bytes:
        """The platform family, 6 bytes."""
        return self.tcb_info.fmspc

    @property
    def platform(self) -> bytes:
        """What its floor is kept for: the FMSPC."""
        return self.tcb_info.fmspc

    @property
    def floor(self) -> Floor:
        """The set's own numbers: what it would raise a floor to."""
        return Floor(
            self.tcb_info.evaluation_number,
            int(self.tcb_info.issue_date.timestamp()),
            self.pck_crl.number,
            self.root_crl.number,
        )

    def below(self, floor: Floor) -> bool:
        """Tell whether any of the set's numbers lies below a floor."""
        own = self.floor
        return any(getattr(own, f.name) < getattr(floor, f.name) for f in fields(Floor))


def missing_pieces(endorsements: DcapEndorsements | None) -> tuple[str, ...]:
    """Return the names of the pieces that a set lacks."""
    return tuple(name for name in _REQUIRED if getattr(endorsements, name, None) is None)


def issuer_pool(endorsements: DcapEndorsements | None, tee: Tee) -> tuple[Certificate, ...]:
    """Return the certificates of a complete set's issuer chains, unverified; none for an incomplete set.

    Raises:
        AppraisalError: `<tee>.chain`.
        FormatError: `<tee>.endorsements_malformed`.
    """
    if endorsements is None or missing_pieces(endorsements):
        return ()
    chains = (
        endorsements.pck_crl_issuer_chain,
        endorsements.tcb_info_issuer_chain,
        endorsements.qe_identity_issuer_chain,
    )
    return tuple(
        read_certificate(der, tee)
        for der in dict.fromkeys(
            der for pem in chains for der in decode_chain(pem or b"", tee, DcapFault.ENDORSEMENTS_MALFORMED)
        )
    )


def verify_collateral(
    endorsements: DcapEndorsements, roots: Roots, now: datetime, *, tee: Tee | None = None
) -> DcapCollateral:
    """Verify a set of collateral.

    Args:
        endorsements: the pieces.
        roots: the anchors.
        now: aware, UTC.
        tee: what it must be for; None takes what the TCB info says.

    Raises:
        AppraisalError: `<tee>.endorsements_missing`, `.chain`, `.root`, `.expired`, `.revoked`, `.crl`,
            `.crl_expired`, `.tcb_info_signature`, `.tcb_info_expired`, `.tcb_info_mismatch`,
            `.qe_identity_signature`, `.qe_identity_expired`, `.qe_identity`.
        FormatError: `<tee>.endorsements_malformed`, `.crl`. While the TEE is not known the prefix is `sgx`.
    """
    assumed = tee or Tee.SGX
    # C1
    missing = missing_pieces(endorsements)
    if missing:
        refuse(assumed, DcapFault.ENDORSEMENTS_MISSING, f"absent: {', '.join(missing)}")
    pieces = {name: getattr(endorsements, name) for name in _REQUIRED}
    malformed = dcap_code(assumed, DcapFault.ENDORSEMENTS_MALFORMED)
    for name, piece in pieces.items():
        if len(piece) > COLLATERAL_DOCUMENT_MAX:
            raise FormatError(malformed, f"{name} has {len(piece)} bytes")
    # C2
    tcb_document = decode_signed_document(pieces["tcb_info"], "tcbInfo", malformed)
    qe_document = decode_signed_document(pieces["qe_identity"], "enclaveIdentity", malformed)
    declared = declared_tee(tcb_document.content, malformed)
    if tee not in (None, declared):
        refuse(assumed, DcapFault.TCB_INFO_MISMATCH, f"TCB info for {declared}")
    tee = declared
    pool = issuer_pool(endorsements, tee)
    # C3
    pck_ca, tcb_signer, qe_signer = (
        _first(pieces[f"{name}_issuer_chain"], pool, tee) for name in ("pck_crl", "tcb_info", "qe_identity")
    )
    root = find_issuer(pck_ca, pool)
    if root is None:
        refuse(tee, DcapFault.ROOT, "no issuer chain holds a root")
    check_root(root, roots, tee)
    check_pck_ca(pck_ca, root, tee)
    signers = (tcb_signer, qe_signer)
    for signer in signers:
        check_end_entity(signer, _SIGNER_NAME, tee, DcapFault.CHAIN)
        check_issued(signer, root, tee, cas_below=0)
    certificates = (root, pck_ca, *signers)
    for certificate in certificates:
        check_validity(certificate, now, tee)
    # C4
    root_crl = read_crl(pieces["root_ca_crl"], root, now, tee)
    pck_crl = read_crl(pieces["pck_crl"], pck_ca, now, tee)
    # C5
    for certificate in (pck_ca, *signers):
        if certificate.serial in root_crl.revoked:
            refuse(tee, DcapFault.REVOKED, f"{certificate.common_name!r} is revoked")
    # C6, C7
    tcb_info = _tcb_info(tcb_document, tcb_signer, now, tee)
    qe_identity = _qe_identity(qe_document, qe_signer, now, tee)
    starts = [c.not_before for c in certificates] + [root_crl.this_update, pck_crl.this_update]
    ends = [c.not_after for c in certificates] + [root_crl.next_update, pck_crl.next_update]
    return DcapCollateral(
        tee=tee,
        tcb_info=tcb_info,
        qe_identity=qe_identity,
        root=root,
        pck_ca=pck_ca,
        root_crl=root_crl,
        pck_crl=pck_crl,
        valid_from=max(*starts, tcb_info.issue_date, qe_identity.issue_date),
        valid_until=min(*ends, tcb_info.next_update, qe_identity.next_update),
        digest=_digest(pieces),
    )


def _first(pem: bytes, pool: tuple[Certificate, ...], tee: Tee) -> Certificate:
    """Return the first certificate of an issuer chain; the pool holds all of them."""
    der = decode_chain(pem, tee, DcapFault.ENDORSEMENTS_MALFORMED)[0]
    return next(certificate for certificate in pool if certificate.der == der)


def _tcb_info(document: SignedDocument, signer: Certificate, now: datetime, tee: Tee) -> TcbInfo:
    if not verifies_raw(signer.public_key, document.signature, document.content):
        refuse(tee, DcapFault.TCB_INFO_SIGNATURE, "the signature over the TCB info is wrong")
    info = decode_tcb_info(document.content, dcap_code(tee, DcapFault.ENDORSEMENTS_MALFORMED))
    if not info.issue_date <= now <= info.next_update:
        refuse(tee, DcapFault.TCB_INFO_EXPIRED, f"TCB info holds from {info.issue_date} to {info.next_update}")
    return info


def _qe_identity(document: SignedDocument, signer: Certificate, now: datetime, tee: Tee) -> QeIdentity:
    if not verifies_raw(signer.public_key, document.signature, document.content):
        refuse(tee, DcapFault.QE_IDENTITY_SIGNATURE, "the signature over the QE identity is wrong")
    identity = decode_qe_identity(document.content, dcap_code(tee, DcapFault.ENDORSEMENTS_MALFORMED))
    if identity.id != _QE_ID[tee]:
        refuse(tee, DcapFault.QE_IDENTITY, f"the identity of {identity.id!r}")
    if not identity.issue_date <= now <= identity.next_update:
        refuse(
            tee,
            DcapFault.QE_IDENTITY_EXPIRED,
            f"the QE identity holds from {identity.issue_date} to {identity.next_update}",
        )
    return identity


def _digest(pieces: dict[str, bytes]) -> bytes:
    """SHA-256 over the label and, in the order of `DcapEndorsements`, each piece behind its u32 big-endian length."""
    digest = hashlib.sha256(_DIGEST_LABEL)
    for piece in pieces.values():
        digest.update(len(piece).to_bytes(4) + piece)
    return digest.digest()
