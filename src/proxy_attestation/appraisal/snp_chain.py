"""From a VCEK or VLEK to AMD's pinned root, and the root's revocation lists (steps 7 to 9 of `appraisal.snp`).

    VCEK <- ASK  ("SEV-<product>")      <- ARK ("ARK-<product>"), pinned by the SHA-256 of its SubjectPublicKeyInfo
    VLEK <- ASVK ("SEV-VLEK-<product>") <- the same ARK

All certificates are hints, whoever sent them, until they chain to the pinned key. Only the ARK may issue lists (its
keyUsage alone has cRLSign). KDS serves one list for VCEKs and one for VLEKs, and nothing in a list says which one it
is: every list of the ARK that is given must be good and current, and what one of them revokes is revoked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias

from proxy_attestation.appraisal.snp_certificate import AmdCertificate, read_amd_crl, refuse, signed_by
from proxy_attestation.appraisal.x509_chain import RevocationList
from proxy_attestation.codes import Code
from proxy_attestation.formats.bounds import SNP_CRLS_MAX
from proxy_attestation.formats.snp_report import VCEK, VLEK, Product

ArkPins: TypeAlias = Mapping[Product, frozenset[bytes]]
"""For each processor line the SPKI SHA-256 values, 32 bytes each, of the roots that may stand above it."""

ARK_NAME: Final = "ARK-"
_ISSUER_NAME: Final = {VCEK: "SEV-", VLEK: "SEV-VLEK-"}


@dataclass(frozen=True, slots=True)
class SnpFloor:
    """The oldest revocation list that may still be used for one ARK. Neither value goes back.

    Attributes:
        crl_number: the highest CRL number.
        this_update: the latest thisUpdate, seconds since the epoch.
    """

    crl_number: int = 0
    this_update: int = 0


def verify_vek_chain(
    vek: AmdCertificate,
    kind: str,
    product: Product,
    *,
    pool: Sequence[AmdCertificate],
    pins: ArkPins,
    now: datetime,
) -> tuple[AmdCertificate, AmdCertificate]:
    """Step 7: return the ASK or ASVK and the ARK above a VCEK or VLEK.

    Args:
        vek: the certificate.
        kind: `VCEK` or `VLEK`.
        product: the processor line.
        pool: where its issuers are looked for.
        pins: the anchors.
        now: aware, UTC.

    Raises:
        AppraisalError: `snp.endorsements_missing`, `snp.root`, `snp.chain`, `snp.expired`.
    """
    issuers = _named(pool, vek, _ISSUER_NAME[kind] + product)
    arks = _named(pool, issuers[0], ARK_NAME + product)
    ark = next((ark for ark in arks if ark.spki_sha256 in pins.get(product, ())), None)
    if ark is None:
        refuse(Code.SNP_ROOT, f"root {arks[0].common_name!r} with SPKI {arks[0].spki_sha256.hex()} is not pinned")
    # Several may have the name, such as the one of a stranger; a signature tells which one is meant.
    issuer = next((issuer for issuer in issuers if signed_by(ark, issuer.signature, issuer.tbs)), None)
    if issuer is None or not signed_by(ark, ark.signature, ark.tbs):
        refuse(Code.SNP_CHAIN, f"{ark.common_name!r} did not sign itself or {issuers[0].common_name!r}")
    if not signed_by(issuer, vek.signature, vek.tbs):
        refuse(Code.SNP_CHAIN, f"{issuer.common_name!r} did not sign {vek.common_name!r}")
    check_ca(ark, 1)
    check_ca(issuer, 0)
    if vek.path_length is not None or vek.key_cert_sign:
        refuse(Code.SNP_CHAIN, f"{vek.common_name!r} is a CA")
    for certificate in (vek, issuer, ark):
        if not certificate.not_before <= now <= certificate.not_after:
            refuse(
                Code.SNP_EXPIRED,
                f"{certificate.common_name!r} is valid from {certificate.not_before} to {certificate.not_after}",
            )
    return issuer, ark


def check_ca(ca: AmdCertificate, below: int) -> None:
    """Refuse what is no CA with at least `below` more of them under it.

    Raises:
        AppraisalError: `snp.chain`.
    """
    if ca.path_length is None or ca.path_length < below or not ca.key_cert_sign or ca.serial < 1:
        refuse(Code.SNP_CHAIN, f"{ca.common_name!r} is no CA for what stands below it")


def _named(pool: Sequence[AmdCertificate], child: AmdCertificate, name: str) -> list[AmdCertificate]:
    """Return the certificates of the child's issuer, whose common name must end in `name`; at least one."""
    found = [certificate for certificate in pool if certificate.subject == child.issuer]
    if not found:
        refuse(Code.SNP_ENDORSEMENTS_MISSING, f"absent: the certificate of {child.common_name!r}'s issuer")
    if not found[0].common_name.endswith(name):
        refuse(Code.SNP_CHAIN, f"{child.common_name!r} is issued by {found[0].common_name!r}, not by {name}")
    return found


def check_revocation(
    issuer: AmdCertificate, ark: AmdCertificate, crls: Sequence[bytes], now: datetime, *, required: bool
) -> RevocationList | None:
    """Step 8: the ARK's lists, and what they revoke.

    Args:
        issuer: the ASK or ASVK.
        ark: the root.
        crls: DER; lists of other issuers are left alone.
        now: aware, UTC.
        required: whether there must be one.

    Returns:
        All lists as one: the highest number, the latest start, the earliest end; None where there is none.

    Raises:
        AppraisalError: `snp.crl`, `snp.crl_missing`, `snp.crl_expired`, `snp.revoked`.
    """
    # Keys that sign reports all have serial number 0 and the ASK or ASVK for an issuer: no list of the ARK names one.
    serials = (issuer.serial, ark.serial)
    if len(crls) > SNP_CRLS_MAX:
        refuse(Code.SNP_CRL, f"{len(crls)} lists, at most {SNP_CRLS_MAX} allowed")
    lists = [crl for crl in (read_amd_crl(der, serials) for der in crls) if crl.issuer == ark.subject]
    if not lists:
        if required:
            refuse(Code.SNP_CRL_MISSING, f"absent: a revocation list of {ark.common_name!r}")
        return None
    for crl in lists:
        if not ark.crl_sign or not signed_by(ark, crl.signature, crl.tbs):
            refuse(Code.SNP_CRL, f"{ark.common_name!r} did not sign the list")
    contents = [crl.content for crl in lists]
    together = RevocationList(
        number=max(content.number for content in contents),
        this_update=max(content.this_update for content in contents),
        next_update=min(content.next_update for content in contents),
        revoked=frozenset().union(*(content.revoked for content in contents)),
    )
    if not together.this_update <= now <= together.next_update:
        refuse(Code.SNP_CRL_EXPIRED, f"the list holds from {together.this_update} to {together.next_update}")
    if together.revoked:
        refuse(Code.SNP_REVOKED, f"revoked: {sorted(together.revoked)}")
    return together
