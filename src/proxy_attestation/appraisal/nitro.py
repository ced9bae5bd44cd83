"""Appraisal of AWS Nitro Enclaves attestation documents. "Is it genuine?" Pure functions; the clock is a parameter.

The walk (AWS, docs/attestation_process.md, section 3.2; RFC 5280 section 6.1 for the chain):

  1  parse: COSE_Sign1, ES384, payload, bounds           malformed, algorithm   (formats.nitro)
  2  cabundle[0] has the pinned root's key               root
  3  root -> ... -> signing certificate: names, CA,      chain
     keyCertSign, pathLen, signatures, the root's own
     signature; the signing one is an end entity with
     digitalSignature
  4  all of them hold at `now`                           expired
  5  the signing certificate's key signed the document   signature
  6  the document was made within that certificate's     timestamp
     life

The anchor is a pinned key, never the certificate that the document brings: that one only has to show this key and to be
signed with it, as every other one has to be signed by the one before. AWS publishes no revocation lists that its own
procedure would have one read ("CRLs off"); short lives stand in for them.

What the caller MUST still do: compare `bound` with its own binder, judge debug and the registers, and, where the
document answers a challenge, call `check_fresh`.

`valid_until` is the earliest end of the certificates that live longer than a week: root and region. The zone's (6
days), the instance's (24 hours) and the enclave's (3 hours) are made anew all the time; they must hold at `now` and say
nothing about how long what they vouched for stays true, so they bound no certificate of ours.
"""

import hashlib
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

from proxy_attestation.appraisal.claims import Claims
from proxy_attestation.appraisal.instance import machine_id
from proxy_attestation.appraisal.nitro_claims import claims_of
from proxy_attestation.appraisal.refusal import refuse
from proxy_attestation.appraisal.roots import Roots
from proxy_attestation.appraisal.x509_chain import (
    Certificate,
    check_end_entity,
    check_issued,
    check_validity,
    read_certificate,
    verifies_raw,
)
from proxy_attestation.codes import Code
from proxy_attestation.errors import AppraisalError
from proxy_attestation.formats.dcap_codes import DcapFault
from proxy_attestation.formats.nitro import NitroDocument
from proxy_attestation.formats.tee import Tee

LONG_LIVED: Final = timedelta(days=7)

_TEE: Final = Tee.NITRO
_CURVE: Final = "secp384r1"
_SKEW: Final = timedelta(seconds=60)


def appraise_nitro(document: NitroDocument, roots: Roots, now: datetime) -> Claims:
    """Appraise one document (step 1 is `formats.nitro.decode_nitro`).

    Args:
        document: as decoded.
        roots: the anchors.
        now: aware, UTC.

    Raises:
        AppraisalError: with a code of the walk above.
    """
    # 2
    root = read_certificate(document.cabundle[0], _TEE, _CURVE)
    if root.spki_sha256 not in roots.aws:
        refuse(_TEE, DcapFault.ROOT, f"the root has the key {root.spki_sha256.hex()}")
    # 3
    chain = _chain(root, document)
    # 4
    for certificate in chain:
        check_validity(certificate, now, _TEE)
    # 5
    leaf = chain[-1]
    if not verifies_raw(leaf.public_key, document.signature, document.signed):
        refuse(_TEE, DcapFault.SIGNATURE, "the signing certificate's key did not sign the document")
    # 6
    first, last = (int(end.timestamp()) * 1000 for end in (leaf.not_before, leaf.not_after))
    if not first <= document.timestamp_ms < last + 1000:
        raise AppraisalError(Code.NITRO_TIMESTAMP, f"made at {document.timestamp_ms} ms, outside {first} to {last}")
    instance, separator, _ = document.module_id.partition("-enc")
    body = claims_of(document)
    return Claims(
        tee=Tee.NITRO,
        body=body,
        bound=document.bound,
        debug=body.debug,
        tcb=None,
        # The parent instance; a module id that has no such part names none.
        instance_id=machine_id(Tee.NITRO, instance.encode()) if separator else None,
        anchor=root.spki_sha256,
        evidence_sha256=hashlib.sha256(document.data).digest(),
        valid_until=min(end.not_after for end in chain if end is root or end.not_after - end.not_before > LONG_LIVED),
    )


def check_fresh(timestamp_ms: int, now: datetime, age: timedelta) -> None:
    """Check that a document was made at most `age` before `now`, and not after it; the clocks may differ by a minute.

    Raises:
        AppraisalError: `nitro.timestamp`.
    """
    now_ms = int(now.timestamp() * 1000)
    earliest, latest = (now_ms + delta // timedelta(milliseconds=1) for delta in (-age - _SKEW, _SKEW))
    if not earliest <= timestamp_ms <= latest:
        raise AppraisalError(Code.NITRO_TIMESTAMP, f"made at {timestamp_ms} ms, outside {earliest} to {latest}")


def _chain(root: Certificate, document: NitroDocument) -> tuple[Certificate, ...]:
    """Step 3: return the certificates from the root to the signing one."""
    ders = (*document.cabundle[1:], document.certificate)
    chain = (root, *(read_certificate(der, _TEE, _CURVE) for der in ders))
    cas_below = len(chain) - 2
    check_issued(root, root, _TEE, cas_below=cas_below)
    for depth, (issuer, child) in enumerate(pairwise(chain)):
        check_issued(child, issuer, _TEE, cas_below=cas_below - depth)
    check_end_entity(chain[-1], "", _TEE, DcapFault.CHAIN)
    return chain
