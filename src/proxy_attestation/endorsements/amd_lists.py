"""Which of an ARK's revocation lists a set counts: those that are good now, the newest first, as many as may be.

KDS serves one list for VCEKs and one for VLEKs. Both are the ARK's and neither says which it is (an extension that
could, the issuing distribution point, stands in neither), so one of them cannot take the other's place: all that are
good now count together, and what one of them revokes is revoked. A list that is broken, expired or one too many is left
out, so that it does not put the good ones beside it out of use.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from proxy_attestation.appraisal.endorsements import SnpEndorsements
from proxy_attestation.appraisal.snp_certificate import (
    AmdCertificate,
    AmdCrl,
    read_amd_certificate,
    read_amd_crl,
    signed_by,
)
from proxy_attestation.errors import AppraisalError
from proxy_attestation.formats.bounds import SNP_CRLS_MAX


def choose_lists(endorsements: SnpEndorsements, now: datetime) -> tuple[SnpEndorsements, Mapping[bytes, str]]:
    """Leave out the lists of a set that do not count.

    Args:
        endorsements: one ARK's set as `snp_sets` made it, the ARK first.
        now: aware, UTC.

    Returns:
        The set with at most `SNP_CRLS_MAX` lists, the newest first (by number, then date); and for each one that was
        left out why, by its SHA-256. Where none is good the set has what was there: the walk says what is wrong.
    """
    try:
        ark = read_amd_certificate(endorsements.certificates[0])
    except (AppraisalError, IndexError):
        return replace(endorsements, crls=endorsements.crls[:SNP_CRLS_MAX]), {}
    good: list[tuple[int, datetime, bytes]] = []
    dropped: dict[bytes, str] = {}
    for der in endorsements.crls:
        try:
            crl = read_amd_crl(der, ())
            problem = _problem(crl, ark, now)
        except AppraisalError as error:
            problem = str(error)
        if problem is None:
            good.append((crl.content.number, crl.content.this_update, der))
        else:
            dropped[der] = problem
    good.sort(reverse=True)
    if not good:
        return replace(endorsements, crls=endorsements.crls[:SNP_CRLS_MAX]), {}
    dropped |= {der: f"{len(good)} good lists, the newest {SNP_CRLS_MAX} count" for _, _, der in good[SNP_CRLS_MAX:]}
    kept = tuple(der for _, _, der in good[:SNP_CRLS_MAX])
    reasons = {
        hashlib.sha256(der).digest(): f"a list of {ark.common_name!r} left out: {problem}"
        for der, problem in dropped.items()
    }
    return replace(endorsements, crls=kept), reasons


def _problem(crl: AmdCrl, ark: AmdCertificate, now: datetime) -> str | None:
    if crl.issuer != ark.subject or not signed_by(ark, crl.signature, crl.tbs):
        return "not signed by it"
    if not crl.content.this_update <= now <= crl.content.next_update:
        return f"it holds from {crl.content.this_update} to {crl.content.next_update}"
    return None
