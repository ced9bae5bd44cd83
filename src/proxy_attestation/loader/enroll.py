"""One enrolment, from a new key to a certificate that has been checked.

In order:

1. The proxy's root against the pin (done by the `ProxyPort` that is handed in).
2. A new P-256 key: in this process's memory, or in the TPM whose evidence it will be.
3. The request's bytes: entry, TEE, names, lifetime, what the loader says of itself.
4. A challenge. For a TPM its nonce is inside a credential that this TPM alone opens.
5. The binder over challenge, key and request; evidence that carries it; proofs that this instance may hold the names.
6. A CSR signed by the key, with the evidence in its attribute; the firmware's event log travels beside it.
7. The certificate, which has to be the one that was asked for: chain to the pinned root, our key, our names and
   SPIFFE ID, valid now and no longer than asked, claims about this key, this challenge and this application.
"""

import asyncio
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509

from proxy_attestation.attester.model import Attester
from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError, PeerError, UnavailableError
from proxy_attestation.formats.binder import bind
from proxy_attestation.formats.bounds import TIME_MAX
from proxy_attestation.formats.csr import build_csr, spki_of
from proxy_attestation.formats.ear import LeafClaims, decode_extension
from proxy_attestation.formats.evidence import Evidence, encode_evidence
from proxy_attestation.formats.request import ApplicationKind, Names, Request, RuntimeClaims, encode_request
from proxy_attestation.loader.credential import Credential
from proxy_attestation.loader.ledger_proof import check_ledger_proof
from proxy_attestation.loader.ownership import Claimant, Ownership
from proxy_attestation.loader.proxy_client import ProxyPort, Timing
from proxy_attestation.relying_party.path import VerifiedPath, load_roots, verify_path
from proxy_attestation.v1 import proxy_attestation_pb2 as v1

_CHALLENGE_MAX: Final = timedelta(seconds=120)
_SKEW: Final = timedelta(seconds=60)
_EVENT_LOG: Final = "event_log"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to ask for; the same at every renewal.

    Attributes:
        workload: the policy's entry.
        names: to be in the certificate.
        lifetime: seconds.
        application_kind: what runs behind the loader.
        application_sha256: 32 bytes, or None where no claim is made.
    """

    workload: str
    names: Names
    lifetime: int
    application_kind: ApplicationKind
    application_sha256: bytes | None


@dataclass(frozen=True, slots=True)
class _Challenge:
    session_id: bytes
    token: bytes
    nonce: bytes
    ca_id: bytes
    expires_at: datetime


async def enroll(
    proxy: ProxyPort, attester: Attester, wanted: Wanted, timing: Timing, ownership: Ownership
) -> Credential:
    """Make a key, attest it, get its certificate, check it.

    Raises:
        RefusedError: the proxy's verdict, with its code.
        PeerError: the answer is not what was asked for: `peer.chain`, `peer.expired`, `peer.name`,
            `peer.trust_domain`, `peer.claims_missing`, `peer.claims_malformed`, `peer.claims_key`,
            `peer.claims_mismatch`, `peer.ledger_proof`.
        FormatError: `owner.malformed`.
        UnavailableError: proxy or attester cannot answer now; `owner.needed`.
    """
    # 2.
    with await asyncio.to_thread(attester.begin) as enrolment:
        key, spki = enrolment.key, spki_of(enrolment.key.public_key())
        # 3.
        runtime = RuntimeClaims(wanted.application_kind, wanted.application_sha256, attester.key_origin)
        request = encode_request(Request(wanted.workload, attester.tee, wanted.names, wanted.lifetime, runtime))
        # The tenant has to see the key before the challenge's clock runs.
        grant = await ownership.grant(Claimant(spki, wanted.workload, proxy.root.trust_domain), timing)
        # 4.
        answer = await proxy.get_challenge(attester.tee, enrolment.asked)
        if bool(answer.nonce) is bool(enrolment.asked.ak_public) or bool(answer.nonce) is bool(answer.credential_blob):
            raise UnavailableError(Code.PROXY_PROTOCOL, "a challenge with its nonce in another place")
        nonce = await asyncio.to_thread(enrolment.nonce, answer.nonce, answer.credential_blob)
        challenge = _challenge(answer, nonce, timing.clock())
        # 5.
        binding = bind(
            ca_id=challenge.ca_id,
            session_id=challenge.session_id,
            nonce=challenge.nonce,
            spki=spki,
            request=request,
        )
        attested = await asyncio.to_thread(enrolment.attest, binding)
        proof = await asyncio.to_thread(ownership.prove, binding.report_data, grant, timing.clock())
        # 6.
        csr = await asyncio.to_thread(build_csr, key, encode_evidence(attested.evidence))
    # 7.
    parts = [] if attested.event_log is None else [v1.NamedPart(name=_EVENT_LOG, content=attested.event_log)]
    with ownership.attempt(key):
        signed = await proxy.get_signed_certificate(
            v1.GetSignedCertificateRequest(
                session_token=challenge.token, request=request, csr=csr, parts=parts, owner_proof=proof
            ),
            challenge.expires_at,
        )
    now = timing.clock()
    path = _verify(signed, proxy.root.root, now)
    if path.spki != spki:
        raise PeerError(Code.PEER_CLAIMS_KEY, "the certificate is for another key")
    _check_names(path, wanted, proxy.root.trust_domain)
    if path.not_after > now + timedelta(seconds=wanted.lifetime) + _SKEW:
        raise PeerError(Code.PEER_CLAIMS_MISMATCH, "the certificate lives longer than was asked for")
    claims = _check_claims(path, _Expected(attester, wanted, attested.evidence, challenge, proxy.root.simulated))
    if proxy.root.ledger_key:
        check_ledger_proof(
            signed.ledger_proof, signed.ledger_index, path.chain[0], claims.ledger_origin, proxy.root.ledger_key
        )
    return Credential(
        key=key,
        chain=path.chain,
        serial=x509.load_der_x509_certificate(path.chain[0]).serial_number,
        names=path.names.readable(),
        obtained_at=now,
        not_before=path.not_before,
        not_after=path.not_after,
        claims=claims,
        ledger_index=signed.ledger_index,
        ledger_proof=signed.ledger_proof,
        renewal_window=_window(signed),
        simulated=proxy.root.simulated,
    )


@dataclass(frozen=True, slots=True)
class _Expected:
    attester: Attester
    wanted: Wanted
    evidence: Evidence
    challenge: _Challenge
    simulated: bool


def _challenge(answer: v1.GetChallengeResponse, nonce: bytes, now: datetime) -> _Challenge:
    lengths = len(answer.session_id), len(nonce), len(answer.ca_id)
    if lengths != (16, 32, 32) or not 0 < len(answer.session_token) <= 4096:
        raise UnavailableError(Code.PROXY_PROTOCOL, f"a challenge with parts of {lengths} bytes")
    expires_at = _time(answer.expires_at)
    if expires_at is None or not now - _SKEW <= expires_at <= now + _CHALLENGE_MAX + _SKEW:
        raise UnavailableError(Code.PROXY_PROTOCOL, "a challenge that ends at another time: compare the clocks")
    return _Challenge(answer.session_id, answer.session_token, nonce, answer.ca_id, expires_at)


def _verify(answer: v1.GetSignedCertificateResponse, root: bytes, now: datetime) -> VerifiedPath:
    # The workload's own clock may be behind the proxy's; notBefore is dated back as much as `_SKEW`.
    return verify_path(tuple(answer.chain), load_roots((root,)), now, server_name=None)


def _check_names(path: VerifiedPath, wanted: Wanted, trust_domain: str) -> None:
    spiffe_id = f"spiffe://{trust_domain}/{wanted.workload}"
    if set(path.names.uri) != {spiffe_id, *wanted.names.uri} or len(path.names.uri) != 1:
        raise PeerError(Code.PEER_TRUST_DOMAIN, f"certified as {', '.join(path.names.uri)}, not as {spiffe_id}")
    if (path.names.dns, path.names.ip) != (wanted.names.dns, wanted.names.ip):
        raise PeerError(Code.PEER_NAME, f"certified for {', '.join(path.names.readable())}")


def _check_claims(path: VerifiedPath, expected: _Expected) -> LeafClaims:
    if path.claims_extension is None:
        raise PeerError(Code.PEER_CLAIMS_MISSING, "the certificate has no claims")
    try:
        claims = decode_extension(path.claims_extension)
    except FormatError as error:
        raise PeerError(error.code, error.detail) from error
    if claims.spki != path.spki:
        raise PeerError(Code.PEER_CLAIMS_KEY, "the claims are about another key")
    found = {
        "tee": claims.tee,
        "key_origin": claims.key_origin,
        "application": claims.application_sha256,
        "nonce": claims.nonce,
        "evidence": claims.evidence_sha256,
        "simulated": claims.simulated,
    }
    asked = {
        "tee": expected.attester.tee,
        "key_origin": expected.attester.key_origin,
        "application": expected.wanted.application_sha256,
        "nonce": expected.challenge.nonce,
        "evidence": hashlib.sha256(expected.evidence.evidence).digest(),
        "simulated": expected.simulated,
    }
    different = [name for name, value in found.items() if value != asked[name]]
    if different:
        raise PeerError(Code.PEER_CLAIMS_MISMATCH, f"certified with another {', '.join(different)}")
    return claims


def _window(answer: v1.GetSignedCertificateResponse) -> tuple[datetime, datetime] | None:
    if not answer.HasField("renewal"):
        return None
    start, end = _time(answer.renewal.start), _time(answer.renewal.end)
    return (start, end) if start is not None and end is not None and start <= end else None


def _time(seconds: int) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if 0 < seconds <= TIME_MAX else None
