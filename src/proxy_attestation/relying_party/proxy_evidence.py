"""Is this proxy the attested one? Its answer, its evidence and its signers' statement against an expectation.

`check_proxy`, in order; each step below is tagged with its number:

 1. The answer has evidence, and a statement: `proxy.no_evidence`, `proxy.no_statement`. Whoever takes them out on the
    way gets nothing but a refusal.
 2. The evidence is a record of the proxy's kind: `proxy.evidence_kind`, `proxy.evidence_malformed`.
 3. The caller's nonce has a place in its batch: `proxy.nonce_path`.
 4. The binder, rebuilt from the answer's own values and the batch: `proxy.binder`, before any signature is checked.
 5. The evidence is genuine: the codes of the vendor's walk, collateral that is stale or absent among them.
 6. What was appraised is what was compared: `proxy.binder` again.
 7. The code and the platform are those expected: `proxy.measurement`, with every mismatch.
 8. The keys are where they may be: `proxy.key_origin`.
 9. Enough signers have signed the statement: `note.*`, `proxy.statement_malformed`, `proxy.statement_signatures`.
10. It is about this trust domain, root and ledger key: `proxy.statement_other`.
11. It names what was measured: `proxy.statement_measurement`.

What the caller must still do: make the nonce, prove that the other end of the connection is the proxy under that root
(`proxy.fetch_attested_root`), and compare trust domain, simulation and policy digest (`check_root`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from proxy_attestation.appraisal.claims import Claims, claim_of
from proxy_attestation.appraisal.dcap import appraise
from proxy_attestation.appraisal.kinds import ParsedOrTpm, decode_evidence_of, snp_result_claims, tee_of
from proxy_attestation.appraisal.nitro import appraise_nitro
from proxy_attestation.appraisal.roots import Roots
from proxy_attestation.appraisal.snp import appraise_snp
from proxy_attestation.codes import Code
from proxy_attestation.endorsements.choose import choose_set, platform_of
from proxy_attestation.endorsements.detect_snp import snp_endorsements
from proxy_attestation.endorsements.load import Material
from proxy_attestation.errors import AppraisalError, Mismatch, PeerError, RefusedError
from proxy_attestation.formats.dcap_quote import Quote
from proxy_attestation.formats.deployment import Deployment, check_about, verify_deployment
from proxy_attestation.formats.merkle import leaf_hash, root_of_path
from proxy_attestation.formats.nitro import NitroDocument
from proxy_attestation.formats.pins import PINS, Claim
from proxy_attestation.formats.request import KeyOrigin
from proxy_attestation.formats.root_binder import RootFacts, bind_root
from proxy_attestation.formats.root_evidence import RootEvidence, decode_root_evidence
from proxy_attestation.formats.snp_report import SnpReport
from proxy_attestation.formats.tee import Tee
from proxy_attestation.relying_party.compare import compare_attested
from proxy_attestation.relying_party.context import Clock
from proxy_attestation.relying_party.expectation import Expectation
from proxy_attestation.relying_party.path import spki_of_presented
from proxy_attestation.relying_party.proxy_expectation import ProxyExpectation
from proxy_attestation.relying_party.root_info import RootInfo

_BESIDE: Final = ("mr_signer", "isv_prod_id", "isv_svn")


class Vendors(NamedTuple):
    """What evidence is appraised with, off line.

    Attributes:
        roots: to which it must chain.
        material: vendors' collateral, as `endorsements.load.load_material` reads it.
    """

    roots: Roots
    material: Material


class Answer(NamedTuple):
    """What a proxy answered, as far as its evidence vouches for it or is part of it."""

    facts: RootFacts
    trust_domain: str
    root_spki_sha256: bytes
    evidence: bytes
    statement: bytes


@dataclass(frozen=True, slots=True)
class CheckedProxy:
    """What has been found.

    Attributes:
        claims: of the proxy's evidence.
        statement: of its signers.
    """

    claims: Claims
    statement: Deployment


def check_proxy(
    answer: Answer, nonce: bytes, expectation: ProxyExpectation, vendors: Vendors, now: datetime
) -> CheckedProxy:
    """Check a proxy's answer as the module says.

    Args:
        answer: what it answered.
        nonce: that was sent, 32 random bytes.
        expectation: one that names a measurement.
        vendors: roots and collateral.
        now: aware, UTC.

    Raises:
        FormatError, AppraisalError, RefusedError, PeerError: with the code of the first step that fails.
    """
    # 1.
    if not answer.evidence:
        raise PeerError(Code.PROXY_NO_EVIDENCE)
    if not answer.statement:
        raise PeerError(Code.PROXY_NO_STATEMENT)
    # 2.
    record = decode_root_evidence(answer.evidence)
    # 3.
    path = record.path
    batch = root_of_path(path.index, path.size, leaf_hash(nonce), path.hashes, Code.PROXY_NONCE_PATH)
    # 4.
    binding = bind_root(answer.facts, batch)
    parsed = decode_evidence_of(record.tee, record.evidence)
    if tee_of(parsed) is not record.tee or not binding.is_in(record.tee, parsed.bound):
        raise RefusedError(Code.PROXY_BINDER, "the evidence is bound to something else")
    # 5.
    claims = _appraise(parsed, record, vendors, now)
    # 6.
    if claims.tee is not record.tee or not binding.is_in(claims.tee, claims.bound):
        raise RefusedError(Code.PROXY_BINDER, "what was appraised is bound to something else than what was read")
    # 7.
    mismatches = compare_attested(expectation.code, _Attested(claims))
    if mismatches:
        detail = "; ".join(f"{m.code} {m.field}" for m in mismatches)
        raise PeerError(Code.PROXY_MEASUREMENT, detail, mismatches)
    # 8.
    if answer.facts.key_origin not in expectation.key_origins:
        raise PeerError(Code.PROXY_KEY_ORIGIN, f"{answer.facts.key_origin}, not {', '.join(expectation.key_origins)}")
    # 9.
    statement = verify_deployment(answer.statement, expectation.signers, expectation.threshold)
    # 10.
    ledger_key = answer.facts.ledger_key.decode("utf-8", "replace")
    check_about(statement, answer.trust_domain, answer.root_spki_sha256, ledger_key)
    # 11.
    accepted = statement.accepted(claims.tee)
    wrong = [field for field, values in accepted.items() if claim_of(claims.body, field) not in values]
    if wrong or not accepted:
        raise RefusedError(Code.PROXY_STATEMENT_MEASUREMENT, ", ".join(wrong) or f"nothing of {claims.tee}")
    return CheckedProxy(claims, statement)


def checker(expectation: ProxyExpectation, vendors: Vendors, clock: Clock) -> Callable[[RootInfo, bytes], CheckedProxy]:
    """Return what `proxy.fetch_attested_root` checks an answer with: `check_proxy`, then `check_root`."""

    def check(info: RootInfo, nonce: bytes) -> CheckedProxy:
        issuing = spki_of_presented(info.issuing[0])
        root = spki_of_presented(info.root)
        facts = RootFacts(root, issuing, info.policy_digest, info.ledger_key, info.key_origin)
        answer = Answer(facts, info.trust_domain, info.pin, info.evidence, info.deployment_statement)
        checked = check_proxy(answer, nonce, expectation, vendors, clock())
        check_root(info, expectation.code)
        return checked

    return check


def check_root(info: RootInfo, expectation: Expectation) -> None:
    """Hold what a proxy says of itself against an expectation.

    Raises:
        PeerError: `peer.trust_domain`; `peer.root_pin`; `peer.claims_mismatch`.
    """
    if info.trust_domain != expectation.trust_domain:
        raise PeerError(Code.PEER_TRUST_DOMAIN, f"the proxy is that of {info.trust_domain}")
    if expectation.root_pin is not None and info.pin != expectation.root_pin:
        raise PeerError(Code.PEER_ROOT_PIN, f"the root has the pin {info.pin.hex()}")
    mismatches = []
    if info.simulated != expectation.simulated:
        mismatches.append(
            Mismatch(Code.POLICY_CLAIM, "simulated", str(expectation.simulated).lower(), str(info.simulated).lower())
        )
    if expectation.policy_digests and info.policy_digest not in expectation.policy_digests:
        accepted = " or ".join(digest.hex() for digest in expectation.policy_digests)
        mismatches.append(Mismatch(Code.POLICY_CLAIM, "policy_digest", accepted, info.policy_digest.hex()))
    if mismatches:
        detail = "; ".join(f"{m.field}: expected {m.expected}, found {m.actual}" for m in mismatches)
        raise PeerError(Code.PEER_CLAIMS_MISMATCH, detail, tuple(mismatches))


def _appraise(parsed: ParsedOrTpm, record: RootEvidence, vendors: Vendors, now: datetime) -> Claims:
    certificates, material = record.platform_certificates, vendors.material
    if isinstance(parsed, Quote):
        fmspc, issuer = platform_of(parsed, certificates, material.dcap)
        endorsements = choose_set(material.dcap, parsed.tee, fmspc, issuer, now)
        return appraise(parsed.data, endorsements, vendors.roots, None, now, platform_certificates=certificates)
    if isinstance(parsed, SnpReport):
        amd = snp_endorsements(material.amd, parsed)
        return snp_result_claims(
            appraise_snp(
                parsed, amd, vendors.roots.amd, None, now, platform_certificates=certificates, crl_required=True
            )
        )
    if isinstance(parsed, NitroDocument):
        return appraise_nitro(parsed, vendors.roots, now)
    raise AppraisalError(Code.EVIDENCE_UNKNOWN, "a TPM's quote: only who made its challenge can tell whose it is")


class _Attested:
    """Claims as `compare` holds them against an expectation: in the words of a leaf."""

    application_sha256 = None
    key_origin = KeyOrigin.TEE
    """The evidence is the proxy's own; where it keeps its keys is step 8."""

    def __init__(self, claims: Claims) -> None:
        body, tcb = claims.body, claims.tcb
        signer, product, svn = (claim_of(body, name) for name in _BESIDE)
        self.tee: Tee = claims.tee
        self.measurements = tuple(
            (key.claim, _as_bytes(value, key.size))
            for key in PINS[claims.tee].values()
            if key.claim not in _BESIDE and (value := claim_of(body, key.claim)) is not None
        )
        self.signer = signer if isinstance(signer, bytes) else None
        self.product_id = product if isinstance(product, int) else None
        self.svn = svn if isinstance(svn, int) else None
        self.debug = claims.debug
        self.tcb_status = None if tcb is None else tcb.status
        self.advisories = () if tcb is None else tcb.advisories


def _as_bytes(value: Claim, size: int) -> bytes:
    if isinstance(value, int):
        return value.to_bytes(size)
    return value.encode() if isinstance(value, str) else value
