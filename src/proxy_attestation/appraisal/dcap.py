"""Appraisal of Intel DCAP quotes, SGX and TDX. "Is it genuine?" Pure functions; the clock is a parameter.

The walk; each step is tagged in the code, here or in the module named. QVL numbers are those of Intel's quote
verification library, which calls the whole 4.1.2.4. Codes lack their `sgx.` or `tdx.` prefix here.

Without endorsements:

  1  parse; version, attestation key type, QE vendor         malformed, version, key_type, qe_vendor,
     (formats.dcap_quote)                                      certification_data
  2  PCK certificate <- PCK CA <- pinned root, all valid     chain, root, expired          (pck_chain)
  3  it is a PCK certificate: name, usage, SGX extension     pck                           (pck_chain; QVL .4)
  4  the PCK signed the quoting enclave's report             qe_report_signature           (dcap_steps; QVL .12)
  5  that report binds the attestation key                   qe_report_data                (dcap_steps; QVL .13)
  6  the attestation key signed header and body              signature                     (dcap_steps; QVL .16)
  7  TDX: reserved attributes, XFAM                          attributes, xfam              (bodies)

With endorsements:

  8  they are complete, genuine and current, not below       endorsements_missing, ...     (dcap_collateral: C1 to C7)
     the floor                                                 endorsements_floor
  9  PCK certificate and CA against the CRLs of their own    crl, revoked, root,           (QVL .6, .7, .10)
     issuers; FMSPC and PCEID against the TCB info             tcb_info_mismatch             (dcap_steps)
 10  TDX module: signer, attributes, level                   module_identity, ...          (tcb; QVL .11, .17.4)
 11  quoting enclave: identity, level                        qe_identity, ...              (tcb; QVL .14, .15)
 12  platform level, converged with 10 and 11                tcb_not_supported, tcb_revoked  (tcb; QVL .17)

What the caller MUST still do: compare `bound` with its own binder; judge debug, the TCB status and advisories,
MRSERVICETD and the measurements. A quote without PCK chain ends in `endorsements_missing`, after steps 5 to 7.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Generic, NoReturn, TypeVar

from cryptography.hazmat.primitives.asymmetric import ec

from proxy_attestation.appraisal.bodies import check_body, parse_body
from proxy_attestation.appraisal.claims import Claims, DcapBody, SgxClaims, TcbClaims
from proxy_attestation.appraisal.dcap_collateral import (
    DcapCollateral,
    issuer_pool,
    missing_pieces,
    verify_collateral,
)
from proxy_attestation.appraisal.dcap_steps import (
    check_platform,
    make_claims,
    verify_qe_report,
    verify_quote_signature,
)
from proxy_attestation.appraisal.endorsements import DcapEndorsements, Floor
from proxy_attestation.appraisal.pck_chain import PckChain, find_chain, verify_pck_chain
from proxy_attestation.appraisal.refusal import EvidenceRefusedError, refuse
from proxy_attestation.appraisal.roots import Roots
from proxy_attestation.appraisal.tcb import judge_tcb
from proxy_attestation.codes import Code
from proxy_attestation.errors import AppraisalError, UnavailableError
from proxy_attestation.formats.dcap_codes import DcapFault, dcap_code
from proxy_attestation.formats.dcap_quote import Quote, decode_quote
from proxy_attestation.formats.tee import Tee

REMEMBERED_MAX: Final = 4096
"""Entries of each kind. Only platforms that chain to a pinned root get in, so strangers cannot push others out."""
_V = TypeVar("_V")


def appraise(
    evidence: bytes,
    endorsements: DcapEndorsements | None,
    roots: Roots,
    floor: Floor | None,
    now: datetime,
    *,
    platform_certificates: Sequence[bytes] = (),
) -> Claims:
    """Appraise one quote, everything from scratch.

    Args:
        evidence: the quote, raw.
        endorsements: Intel's collateral for its platform family.
        roots: the anchors.
        floor: the oldest collateral that may be used, or None where nothing is known yet.
        now: aware, UTC.
        platform_certificates: DER, PCK certificate first, for a quote that has no chain inside.

    Raises:
        FormatError, AppraisalError: with a code of the walk above. From step 7 on an `AppraisalError` is an
            `EvidenceRefusedError`, which holds the report body.
    """
    # 1
    quote = decode_quote(evidence)
    # 2, 3
    pool = issuer_pool(endorsements, quote.tee)
    fallback = None if endorsements is None else endorsements.pck_certificate_chain
    certificates = find_chain(quote, platform_certificates, fallback)
    chain = verify_pck_chain(certificates, quote.tee, roots, now, pool=pool) if certificates else None
    # 4, 5, 6
    verify_quote_signature(quote, verify_qe_report(quote, None if chain is None else chain.key))
    body = parse_body(quote)
    try:
        # 7
        check_body(body)
        # 8
        if chain is None:
            refuse(quote.tee, DcapFault.ENDORSEMENTS_MISSING, "absent: a PCK certificate chain")
        missing = missing_pieces(endorsements)
        if endorsements is None or missing:
            refuse(quote.tee, DcapFault.ENDORSEMENTS_MISSING, f"absent: {', '.join(missing)}")
        collateral = verify_collateral(endorsements, roots, now, tee=quote.tee)
        if floor is not None and collateral.below(floor):
            refuse(quote.tee, DcapFault.ENDORSEMENTS_FLOOR, f"{collateral.floor} lies below {floor}")
        # 9 to 12
        tcb = _judge(quote, chain, collateral, body)
    except AppraisalError as error:
        raise EvidenceRefusedError(error.code, error.detail, body) from error
    return make_claims(quote, body, chain, collateral, tcb)


@dataclass(frozen=True, slots=True)
class _Platform:
    """What steps 2 to 5 established about the platform of a quote, and the collateral for it.

    Attributes:
        chain: its certificates.
        key: the attestation key that its quoting enclave vouches for.
        collateral: None where there is none.
        floor: the collateral's own numbers.
    """

    chain: PckChain
    key: ec.EllipticCurvePublicKey
    collateral: DcapCollateral | None
    floor: Floor


class _Remembered(Generic[_V]):
    """Values by the keys used last, at most `REMEMBERED_MAX`."""

    def __init__(self) -> None:
        self._values: dict[bytes, _V] = {}

    def get(self, key: bytes) -> _V | None:
        """Return what is remembered for `key`, and count that as a use."""
        value = self._values.pop(key, None)
        if value is not None:
            self._values[key] = value
        return value

    def keep(self, key: bytes, value: _V) -> None:
        """Remember a value; the one that was not used for longest makes room."""
        if len(self._values) >= REMEMBERED_MAX:
            del self._values[next(iter(self._values))]
        self._values[key] = value


class DcapAppraiser:
    """The same walk for many quotes, against one verified set of collateral for each (TEE, FMSPC).

    What does not change from quote to quote is remembered: a platform's chain and its quoting enclave's report about an
    attestation key (steps 2 to 5), and how the collateral judges them (9 to 12). The quote's own signature is verified
    each time, and every date is compared with `now` each time. Refusals are never remembered, nor is a platform that
    did not sign the quote in hand. On refresh of the collateral a new appraiser is made, and everything remembered is
    gone. Not for several threads at once.
    """

    def __init__(self, roots: Roots, collateral: Mapping[tuple[Tee, bytes], DcapCollateral]) -> None:
        self._roots = roots
        self._collateral = dict(collateral)
        pool = {c.der: c for value in self._collateral.values() for c in (value.pck_ca, value.root)}
        self._pool = tuple(pool.values())
        self._platforms = _Remembered[_Platform]()
        self._judged = _Remembered[TcbClaims]()

    def appraise(
        self, evidence: bytes | Quote, platform_certificates: Sequence[bytes], now: datetime
    ) -> tuple[Claims, Floor]:
        """Appraise one quote.

        Args:
            evidence: the quote, raw, or what `decode_quote` made of it.
            platform_certificates: DER, PCK certificate first, for a quote that has no chain inside.
            now: aware, UTC.

        Returns:
            The claims, and the numbers of the collateral that they rest on.

        Raises:
            FormatError, AppraisalError: as `appraise`; `<tee>.endorsements_missing` only for an absent PCK chain.
            UnavailableError: `endorsements.unavailable`: no current collateral for this genuine platform.
        """
        # 1
        quote = evidence if isinstance(evidence, Quote) else decode_quote(evidence)
        if not quote.has_chain and not platform_certificates:
            _refuse_without_chain(quote)
        # 2, 3, 4, 5
        identity = _identity(quote, platform_certificates)
        known = self._platforms.get(identity)
        platform = known or self._verify_platform(quote, platform_certificates, now)
        chain = platform.chain
        if not chain.valid_from <= now <= chain.valid_until:
            refuse(quote.tee, DcapFault.EXPIRED, f"the chain holds from {chain.valid_from} to {chain.valid_until}")
        # 6
        verify_quote_signature(quote, platform.key)
        if known is None:
            self._platforms.keep(identity, platform)
        body = parse_body(quote)
        try:
            # 7
            check_body(body)
            # 8
            collateral = _current(platform, quote.tee, now)
            # 9 to 12
            judged = identity + _tdx_svns(body)
            tcb = self._judged.get(judged)
            if tcb is None:
                tcb = _judge(quote, chain, collateral, body)
                self._judged.keep(judged, tcb)
        except AppraisalError as error:
            raise EvidenceRefusedError(error.code, error.detail, body) from error
        return make_claims(quote, body, chain, collateral, tcb), platform.floor

    def _verify_platform(self, quote: Quote, platform_certificates: Sequence[bytes], now: datetime) -> _Platform:
        # 2, 3
        certificates = find_chain(quote, platform_certificates, None)
        chain = verify_pck_chain(certificates, quote.tee, self._roots, now, pool=self._pool, pool_verified=True)
        if chain.root is None:
            raise UnavailableError(Code.ENDORSEMENTS_UNAVAILABLE, "no collateral names the root of the chain")
        # 4, 5
        key = verify_qe_report(quote, chain.key)
        collateral = self._collateral.get((quote.tee, chain.extension.fmspc))
        return _Platform(chain, key, collateral, Floor() if collateral is None else collateral.floor)


def _current(platform: _Platform, tee: Tee, now: datetime) -> DcapCollateral:
    """Step 8 of a remembered set: there is one, and it holds."""
    collateral = platform.collateral
    if collateral is not None and collateral.valid_from <= now <= collateral.valid_until:
        return collateral
    held = "is absent" if collateral is None else f"holds from {collateral.valid_from} to {collateral.valid_until}"
    fmspc = platform.chain.extension.fmspc.hex()
    raise UnavailableError(Code.ENDORSEMENTS_UNAVAILABLE, f"collateral for {tee} and FMSPC {fmspc} {held}")


def _refuse_without_chain(quote: Quote) -> NoReturn:
    """Steps 5 to 8 of a quote whose peer sent no PCK certificate."""
    verify_quote_signature(quote, verify_qe_report(quote, None))
    body = parse_body(quote)
    check_body(body)
    raise EvidenceRefusedError(
        dcap_code(quote.tee, DcapFault.ENDORSEMENTS_MISSING), "absent: a PCK certificate chain", body
    )


def _judge(quote: Quote, chain: PckChain, collateral: DcapCollateral, body: DcapBody) -> TcbClaims:
    """Steps 9 to 12."""
    check_platform(chain, collateral)
    return judge_tcb(collateral, chain.extension, quote.qe_report, body)


def _tdx_svns(body: DcapBody) -> bytes:
    """Return everything in a TD's body that steps 10 to 12 look at; it is the module's, so few values occur."""
    if isinstance(body, SgxClaims):
        return b""
    return body.tee_tcb_svn + body.mr_signer_seam + body.seam_attributes + (body.tee_tcb_svn_2 or b"")


def _identity(quote: Quote, platform_certificates: Sequence[bytes]) -> bytes:
    """Return SHA-256 over all that steps 2 to 5 look at, each part behind its u32 big-endian length."""
    parts = [bytes((quote.version,)), quote.certified, *(() if quote.has_chain else platform_certificates)]
    return hashlib.sha256(b"".join([len(part).to_bytes(4) + part for part in parts])).digest()
