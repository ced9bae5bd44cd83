"""AMD's part of what a proxy keeps: one processor line's root, issuers and revocation lists, verified by themselves."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from proxy_attestation.appraisal.endorsements import Floor, SnpEndorsements
from proxy_attestation.appraisal.roots import Roots
from proxy_attestation.appraisal.snp_certificate import AmdCertificate, read_amd_certificate, refuse, signed_by
from proxy_attestation.appraisal.snp_chain import ARK_NAME, SnpFloor, check_ca, check_revocation
from proxy_attestation.codes import Code
from proxy_attestation.formats.snp_report import Product
from proxy_attestation.formats.tee import Tee


@dataclass(frozen=True, slots=True)
class SnpCollateral:
    """A set that was verified.

    Attributes:
        product: the processor line.
        endorsements: the set.
        floor: the numbers of its lists.
        valid_from: when the last of them began, UTC.
        valid_until: when the first of them ends, UTC.
        digest: SHA-256 over the set, 32 bytes.
    """

    tee: ClassVar[Tee] = Tee.SNP
    product: Product
    endorsements: SnpEndorsements
    floor: Floor
    valid_from: datetime
    valid_until: datetime
    digest: bytes

    @property
    def platform(self) -> bytes:
        """What its floor is kept for: the processor line's name."""
        return self.product.encode()

    def below(self, floor: Floor) -> bool:
        """Tell whether a number of the set lies below that of `floor`."""
        return self.floor.issue_date < floor.issue_date or self.floor.pck_crl_number < floor.pck_crl_number


def floor_of(floor: SnpFloor) -> Floor:
    """Return an ARK's floor in the form that is recorded: only the list's number and date count."""
    return Floor(issue_date=floor.this_update, pck_crl_number=floor.crl_number)


def verify_snp_collateral(endorsements: SnpEndorsements, roots: Roots, now: datetime) -> SnpCollateral:
    """Verify the set of one processor line: a pinned ARK, at least one issuer that it signed, at least one list.

    Raises:
        AppraisalError: `snp.root`, `snp.chain`, `snp.endorsements_missing`, `snp.crl_missing`, `snp.crl`,
            `snp.crl_expired`, `snp.revoked`, `snp.expired`.
    """
    pool = [read_amd_certificate(der) for der in endorsements.certificates]
    product, ark = _pinned_root(pool, roots)
    issuers = [one for one in pool if one.issuer == ark.subject and one.subject != ark.subject]
    if not issuers:
        refuse(Code.SNP_ENDORSEMENTS_MISSING, f"absent: an ASK or ASVK below {ark.common_name!r}")
    for certificate in (ark, *issuers):
        check_ca(certificate, 1 if certificate is ark else 0)
        if not signed_by(ark, certificate.signature, certificate.tbs):
            refuse(Code.SNP_CHAIN, f"{ark.common_name!r} did not sign {certificate.common_name!r}")
        if not certificate.not_before <= now <= certificate.not_after:
            refuse(Code.SNP_EXPIRED, f"{certificate.common_name!r} does not hold at {now}")
    lists = [check_revocation(issuer, ark, endorsements.crls, now, required=True) for issuer in issuers]
    together = lists[0]
    if together is None:
        refuse(Code.SNP_CRL_MISSING, f"absent: a revocation list of {ark.common_name!r}")
    own = SnpFloor(together.number, int(together.this_update.timestamp()))
    digest = hashlib.sha256()
    for part in (*endorsements.certificates, *endorsements.crls):
        digest.update(len(part).to_bytes(4) + part)
    return SnpCollateral(
        product=product,
        endorsements=endorsements,
        floor=floor_of(own),
        valid_from=together.this_update,
        valid_until=min(together.next_update, *(one.not_after for one in (ark, *issuers))),
        digest=digest.digest(),
    )


def _pinned_root(pool: Sequence[AmdCertificate], roots: Roots) -> tuple[Product, AmdCertificate]:
    found = (
        (product, certificate)
        for certificate in pool
        for product, pins in roots.amd.items()
        if certificate.spki_sha256 in pins and certificate.common_name.endswith(ARK_NAME + product)
    )
    pinned = next(found, None)
    if pinned is None:
        refuse(Code.SNP_ROOT, "no certificate of the set is a pinned ARK")
    return pinned
