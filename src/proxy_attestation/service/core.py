"""The calls, whatever carried them here: messages in, messages or errors of ours out.

Order of work in `get_signed_certificate`, cheap first; each block below is tagged with its number:

 1. Sizes.
 2. The session token, and how often its session has failed.
 3. The request, and the CSR's form: key, names, evidence.
 4. The binder: rebuilt from the session, the CSR's key and the request, and compared with what the evidence carries.
 5. The CSR's signature.
 6. The evidence: chains by cached digest, then the evidence itself, and the event log beside it (`appraisal.kinds`).
 7. The authority: policy, certificate, ledger.

A try that is refused after step 2 counts against its session; what is unavailable counts for nothing.
"""

import asyncio
import hashlib
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, NoReturn, Protocol

from proxy_attestation.appraisal.endorsements import Floor
from proxy_attestation.appraisal.kinds import Appraiser, Beside, Endorsements, decode_evidence_of
from proxy_attestation.authority.messages import AuthorityInfo, Issued, IssueOrder, Proven
from proxy_attestation.authority.token import TOKEN_LENGTH_MAX, Token, open_token
from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError, RequestError, UnavailableError
from proxy_attestation.formats import binder, cbor
from proxy_attestation.formats.bounds import (
    CERTIFICATE_MAX,
    CSR_MAX,
    EVENT_LOG_MAX,
    PLATFORM_CERTIFICATES_MAX,
    QUOTE_MAX,
    REQUEST_MAX,
)
from proxy_attestation.formats.certificate_id import check_certificate_id
from proxy_attestation.formats.csr import Csr, decode_csr, verify_csr
from proxy_attestation.formats.evidence import Evidence, decode_evidence
from proxy_attestation.formats.kept_evidence import KeptEvidence, encode_kept
from proxy_attestation.formats.request import Request, decode_request
from proxy_attestation.formats.tee import Tee
from proxy_attestation.service.answers import challenge_answer, renewal_answer, root_answer, signed_answer
from proxy_attestation.service.challenge import new_challenge, read_tpm_identity
from proxy_attestation.service.early import EarlyRenewals
from proxy_attestation.service.limits import Tries
from proxy_attestation.service.metrics import Metrics
from proxy_attestation.service.platforms import Platforms
from proxy_attestation.service.published import LedgerFiles
from proxy_attestation.v1 import proxy_attestation_pb2 as pb

NONCE_BYTES: Final = 32
OWNER_KIND_MAX: Final = 64
OWNER_PROOF_MAX: Final = 4 * 1024
# A CMW record with platform certificates, in PEM or DER; `decode_evidence` and `decode_csr` bound the pieces.
_CSR_MESSAGE_MAX: Final = CSR_MAX + 2 * QUOTE_MAX
_EVENT_LOG: Final = "event_log"
_PLATFORM_CERTIFICATES: Final = "platform_certificates"
_CERTIFICATES_PART_MAX: Final = PLATFORM_CERTIFICATES_MAX * CERTIFICATE_MAX + 64
_PART_MAX: Final = {_EVENT_LOG: EVENT_LOG_MAX, _PLATFORM_CERTIFICATES: _CERTIFICATES_PART_MAX}


class AuthorityPort(Protocol):
    """What the core needs of an authority: over its socket in a worker, in the same process in a benchmark."""

    async def hello(self) -> AuthorityInfo:
        """Say what a worker needs to know."""

    async def denied(self) -> bytes:
        """Return the signed deny list."""

    async def issue(self, order: IssueOrder) -> Issued:
        """Decide, and issue or refuse."""

    async def raise_floor(self, endorsements: Endorsements) -> Floor:
        """Have a set verified and its floor raised; return where that stands now."""

    async def evidence(self, nonce: bytes) -> Proven:
        """Say what the proxy is, with its own evidence over a nonce."""


@dataclass(frozen=True, slots=True)
class Serving:
    """What a worker works with at one moment; replaced as a whole.

    Attributes:
        info: what the authority said last.
        appraiser: over the collateral in use.
    """

    info: AuthorityInfo
    appraiser: Appraiser


class Core:
    """The service, without a transport.

    Attributes:
        serving: what to work with; None while the authority is away, and then every call is UNAVAILABLE.
        ledger: what is published of the ledger, or None.
    """

    def __init__(
        self,
        authority: AuthorityPort,
        clock: Callable[[], datetime],
        random: Callable[[int], bytes] = secrets.token_bytes,
        *,
        metrics: Metrics | None = None,
        platforms: Platforms | None = None,
        early: EarlyRenewals | None = None,
        ledger: LedgerFiles | None = None,
    ) -> None:
        self.serving: Serving | None = None
        self.ledger = ledger
        self._authority = authority
        self._clock = clock
        self._random = random
        self._metrics = metrics or Metrics()
        self._tries = Tries()
        self._platforms = platforms
        self._early = early
        self._denied: tuple[int, bytes] | None = None
        self._deny_lock = asyncio.Lock()

    async def get_root_certificate(self, request: pb.GetRootCertificateRequest) -> pb.GetRootCertificateResponse:
        """Answer the root bundle, and the proxy's own evidence where it is asked for.

        Raises:
            FormatError: `request.malformed`, for a nonce that is not 32 bytes.
            UnavailableError: `authority.unavailable`; `proxy.evidence_busy` and `attester.unavailable` where evidence
                is asked for.
        """
        if len(request.nonce) != NONCE_BYTES:
            raise FormatError(Code.REQUEST_MALFORMED, f"a nonce of {len(request.nonce)} bytes")
        serving = self._require()
        if not request.evidence:
            return root_answer(serving.info)
        # With what was in force when it was quoted, which this worker may not have been told of yet.
        proven = await self._authority.evidence(request.nonce)
        return root_answer(proven.info, proven.evidence)

    async def get_challenge(self, request: pb.GetChallengeRequest) -> pb.GetChallengeResponse:
        """Answer a fresh challenge.

        Raises:
            FormatError: `request.malformed`, when TPM parameters come with another TEE, or not all of them.
            AppraisalError: see `challenge.read_tpm_identity`.
            RequestError: `request.tee`, for a TEE that this proxy does not know.
            UnavailableError: `authority.unavailable`.
        """
        serving = self._require()
        try:
            tee = Tee(request.tee)
        except ValueError as error:
            raise RequestError(Code.REQUEST_TEE, f"unknown tee {request.tee[:16]!r}") from error
        now, tpm = self._clock(), None
        parameters = (request.ek_certificate, request.ak_public, request.ek_issuers)
        if any(parameters):
            if tee is not Tee.TPM or not all(parameters[:2]):
                raise FormatError(Code.REQUEST_MALFORMED, f"TPM parameters for {tee}, or not all of them")
            certificates = (request.ek_certificate, *request.ek_issuers)
            tpm = read_tpm_identity(certificates, request.ak_public, frozenset(serving.info.tpm_roots), now)
        return challenge_answer(new_challenge(serving.info, tee, now, self._random, tpm))

    async def deny_list(self) -> bytes:
        """Answer the signed deny list; the authority is asked once for each.

        Raises:
            UnavailableError: `authority.unavailable`.
        """
        async with self._deny_lock:
            sequence = self._require().info.deny_sequence
            if self._denied is None or self._denied[0] != sequence:
                self._denied = (sequence, await self._authority.denied())
            return self._denied[1]

    async def get_ledger_proof(self, request: pb.GetLedgerProofRequest) -> pb.GetLedgerProofResponse:
        """Answer the proof that an entry stands in the ledger, under the checkpoint that is published now.

        Raises:
            RequestError: `ledger.no_proof`, for an index that it does not cover.
            UnavailableError: `authority.unavailable`, `limits.exhausted`, `ledger.inconsistent`.
        """
        if self.ledger is None:
            raise UnavailableError(Code.AUTHORITY_UNAVAILABLE, "no ledger to read")
        proof, checkpoint = self.ledger.proof(request.index)
        return pb.GetLedgerProofResponse(inclusion_proof=proof, checkpoint=checkpoint)

    async def get_renewal_information(
        self, request: pb.GetRenewalInformationRequest
    ) -> pb.GetRenewalInformationResponse:
        """Answer whether a certificate should be renewed now. Whether there is such a certificate is not told.

        Raises:
            FormatError: `request.malformed`, for what names no certificate.
        """
        name = check_certificate_id(request.certificate_id)
        return renewal_answer(None if self._early is None else self._early.find(name))

    async def get_signed_certificate(self, message: pb.GetSignedCertificateRequest) -> pb.GetSignedCertificateResponse:
        """Exchange evidence for a certificate.

        Raises:
            FormatError: `request.*`, `csr.*`, `evidence.*`, `<tee>.malformed`.
            RefusedError: `challenge.*`, `request.tee`, `csr.names`, `binder.mismatch`, what appraisal refuses, and
                every mismatch with the policy.
            UnavailableError: `authority.*`, `endorsements.unavailable`.
        """
        serving = self._require()
        _check_sizes(message)  # 1
        now = self._clock()
        token = open_token(serving.info.token_keys, message.session_token, now)  # 2
        seconds = int(now.timestamp())
        self._tries.check(token.session_id, seconds)
        try:
            return await self._sign(serving, message, token, now)
        except UnavailableError:
            raise
        except Exception:
            # A bug that a message runs into counts like a refusal: nobody shall run into it without end.
            self._tries.failed(token.session_id, token.expires_at)
            raise

    async def _sign(
        self, serving: Serving, message: pb.GetSignedCertificateRequest, token: Token, now: datetime
    ) -> pb.GetSignedCertificateResponse:
        request, csr, evidence = _read(message, token)  # 3
        found = decode_evidence_of(evidence.tee, evidence.evidence)  # 4
        wanted = binder.bind(
            ca_id=token.ca_id, session_id=token.session_id, nonce=token.nonce, spki=csr.spki, request=message.request
        )
        if not wanted.is_in(token.tee, found.bound):
            raise RequestError(Code.BINDER_MISMATCH, "not the binder of this session, key and request")
        verify_csr(csr)  # 5
        log = next((part.content for part in message.parts if part.name == _EVENT_LOG), None)
        beside = Beside(event_log=log, activation=token.activation, spki=csr.spki)
        certificates = evidence.platform_certificates
        if self._platforms is not None:
            certificates = self._platforms.certificates(found, certificates)
        claims, floor = serving.appraiser.appraise(found, certificates, now, beside)  # 6
        # What was compared above is what the verified signature covers, and of the TEE that was asked for.
        if claims.tee is not request.tee:
            raise RequestError(Code.REQUEST_TEE, f"{claims.tee} evidence for a {request.tee} request")
        if not wanted.is_in(token.tee, claims.bound):
            raise RequestError(Code.BINDER_MISMATCH, "what was appraised is bound to something else than what was read")
        order = IssueOrder(  # 7
            token=message.session_token,
            request=message.request,
            spki=csr.spki,
            claims=claims,
            collateral_floor=floor,
            policy_digest=serving.info.policy_digest,
            owner_kind=message.owner_proof.kind,
            owner_proof=message.owner_proof.proof,
            kept=_kept(message, csr, evidence, certificates, beside),
        )
        answer = signed_answer(await self._authority.issue(order))
        self._metrics.issued(str(request.tee), request.workload)
        if self._platforms is not None:
            self._platforms.seen(found, certificates)
        return answer

    def _require(self) -> Serving:
        if self.serving is None:
            raise UnavailableError(Code.AUTHORITY_UNAVAILABLE, "the authority is away")
        return self.serving


def _check_sizes(message: pb.GetSignedCertificateRequest) -> None:
    if len(message.session_token) > TOKEN_LENGTH_MAX:
        _too_large("session token", len(message.session_token), TOKEN_LENGTH_MAX)
    if len(message.request) > REQUEST_MAX:
        _too_large("request", len(message.request), REQUEST_MAX)
    if len(message.csr) > _CSR_MESSAGE_MAX:
        _too_large("CSR", len(message.csr), _CSR_MESSAGE_MAX)
    proof = message.owner_proof
    if len(proof.kind) > OWNER_KIND_MAX:
        _too_large("owner's kind", len(proof.kind), OWNER_KIND_MAX)
    if len(proof.proof) > OWNER_PROOF_MAX:
        _too_large("owner's proof", len(proof.proof), OWNER_PROOF_MAX)
    if message.parts:
        _check_parts(message.parts)


def _too_large(name: str, size: int, limit: int) -> NoReturn:
    raise FormatError(Code.REQUEST_TOO_LARGE, f"{name}: {size} bytes, at most {limit} allowed")


def _check_parts(parts: Iterable[pb.NamedPart]) -> None:
    seen: set[str] = set()
    for part in parts:
        if part.name not in _PART_MAX or part.name in seen:
            raise FormatError(Code.EVIDENCE_UNKNOWN, f"part {part.name[:32]!r} unknown or repeated")
        limit = _PART_MAX[part.name]
        if len(part.content) > limit:
            raise FormatError(Code.EVIDENCE_TOO_LARGE, f"{part.name}: {len(part.content)} bytes, {limit} allowed")
        if not part.content:
            raise FormatError(Code.EVIDENCE_MALFORMED, f"{part.name} is empty")
        seen.add(part.name)


def _read(message: pb.GetSignedCertificateRequest, token: Token) -> tuple[Request, Csr, Evidence]:
    request = decode_request(message.request)
    if request.tee is not token.tee:
        raise RequestError(Code.REQUEST_TEE, f"a {request.tee} request under a challenge for {token.tee}")
    csr = decode_csr(message.csr)
    if csr.names is not None and csr.names != request.names:
        raise RequestError(Code.CSR_NAMES, "the CSR's names are not the request's")
    if csr.cmw is not None and message.evidence:
        raise FormatError(Code.EVIDENCE_MALFORMED, "evidence in the CSR and beside it")
    record = csr.cmw if csr.cmw is not None else message.evidence
    if not record:
        raise RequestError(Code.EVIDENCE_MISSING, "neither in the CSR nor beside it")
    evidence = decode_evidence(record)
    if evidence.tee is not request.tee:
        raise RequestError(Code.REQUEST_TEE, f"{evidence.tee} evidence for a {request.tee} request")
    if message.parts or evidence.event_log_sha256 is not None:
        evidence = _with_parts(evidence, {part.name: part.content for part in message.parts})
    return request, csr, evidence


def _kept(
    message: pb.GetSignedCertificateRequest, csr: Csr, evidence: Evidence, used: tuple[bytes, ...], beside: Beside
) -> bytes:
    """Return what re-appraisal needs: the record as received, and of the certificates used those that it lacks."""
    apart = any(part.name == _PLATFORM_CERTIFICATES for part in message.parts)
    return encode_kept(
        KeptEvidence(
            record=message.evidence if csr.cmw is None else csr.cmw,
            certificates=used if apart else used[len(evidence.platform_certificates) :],
            event_log=beside.event_log,
            ak_name=None if beside.activation is None else beside.activation.ak_name,
            ek_spki_sha256=None if beside.activation is None else beside.activation.ek_spki_sha256,
        )
    )


def _with_parts(evidence: Evidence, parts: dict[str, bytes]) -> Evidence:
    """Check the event log that came beside the evidence, and add the platform certificates."""
    log = hashlib.sha256(parts[_EVENT_LOG]).digest() if _EVENT_LOG in parts else None
    if log != evidence.event_log_sha256:
        raise FormatError(Code.EVIDENCE_MALFORMED, "the event log is not the one that the evidence names")
    if _PLATFORM_CERTIFICATES in parts:
        return _with_certificates(evidence, parts[_PLATFORM_CERTIFICATES])
    return evidence


def _with_certificates(evidence: Evidence, content: bytes) -> Evidence:
    """Add platform certificates that came beside the evidence: a CBOR list of DER, as in the evidence's key 2."""
    code = Code.EVIDENCE_MALFORMED
    if evidence.platform_certificates:
        raise FormatError(code, "platform certificates in the evidence and beside it")
    items = cbor.as_list(cbor.decode(content, code, _CERTIFICATES_PART_MAX), code, PLATFORM_CERTIFICATES_MAX)
    certificates = tuple(cbor.as_bytes(item, code, 1, CERTIFICATE_MAX) for item in items)
    if not certificates:
        raise FormatError(code, "an empty list of platform certificates")
    return replace(evidence, platform_certificates=certificates)
