"""Assertions that are evidence of a TEE: what the attester makes of the handshake's binding, and how it is judged.

The authority type is ``proxy-attestation/<tee>``, the identity type CODE_IDENTITY; the assertion is deterministic CBOR
``{1: CMW record as in a CSR (formats.evidence), 2: event log}``, the log only where there is one. A TPM has no kind
here: its evidence needs a credential that is answered in between.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Final

from proxy_attestation.appraisal.claims import Claims
from proxy_attestation.appraisal.kinds import Beside, ParsedOrTpm, decode_evidence_of
from proxy_attestation.attester.model import Attester
from proxy_attestation.codes import Code
from proxy_attestation.ekep.handshake import CODE_IDENTITY, Kind
from proxy_attestation.errors import AppraisalError, FormatError, RequestError
from proxy_attestation.formats import cbor
from proxy_attestation.formats.binder import Binding
from proxy_attestation.formats.bounds import EVENT_LOG_MAX, MESSAGE_MAX, QUOTE_MAX
from proxy_attestation.formats.evidence import decode_evidence, encode_evidence
from proxy_attestation.formats.tee import Tee, debug_code
from proxy_attestation.formats.values import Item, Record, as_bytes

KINDS: Final[dict[Tee, Kind]] = {
    tee: Kind(CODE_IDENTITY, f"proxy-attestation/{tee}") for tee in Tee if tee is not Tee.TPM
}

_ASSERTION_MAX: Final = MESSAGE_MAX
_CODE: Final = Code.EVIDENCE_MALFORMED

Appraise = Callable[[ParsedOrTpm, tuple[bytes, ...], Beside], Claims]
"""Evidence as read, platform certificates and what came beside it, to claims; raises as `appraisal.kinds` says."""


@dataclass(frozen=True, slots=True)
class _Assertion:
    record: Annotated[bytes, Item(1, as_bytes, (1, 4 * QUOTE_MAX))]
    event_log: Annotated[bytes | None, Item(2, as_bytes, (1, EVENT_LOG_MAX), absent=None)] = None


_RECORD: Final = Record(_Assertion)


class EvidenceAssertions:
    """One side's: an attester that speaks for it, and how it judges the other."""

    def __init__(
        self,
        attester: Attester,
        accepted: tuple[Tee, ...],
        appraise: Appraise,
        judge: Callable[[Claims], None] = lambda _: None,
    ) -> None:
        """Say who speaks and who is believed.

        Args:
            attester: of this side.
            accepted: whose evidence is.
            appraise: is it genuine?
            judge: is it acceptable? Raises a RefusedError where it is not. Debug mode is refused before it is asked.
        """
        self._attester = attester
        self._appraise = appraise
        self._judge = judge
        self.offers = (KINDS[attester.tee],) if attester.tee in KINDS else ()
        self.requests = tuple(KINDS[tee] for tee in accepted if tee in KINDS)
        self.claims: Claims | None = None
        """Of the other side, once its evidence was accepted."""

    def make(self, kind: Kind, binding: Binding) -> bytes:
        """Have this side attested.

        Raises:
            UnavailableError: `attester.unavailable`.
        """
        del kind  # the one that is offered
        with self._attester.begin() as enrolment:
            made = enrolment.attest(binding)
        return cbor.encode_ordered(_RECORD.write(_Assertion(encode_evidence(made.evidence), made.event_log)))

    def verify(self, kind: Kind, assertion: bytes, binding: Binding) -> None:
        """Judge the other side's evidence.

        Raises:
            FormatError, AppraisalError, UnavailableError: as appraisal says; `<tee>.debug`; `binder.mismatch`.
            RefusedError: as `judge` says.
        """
        content = cbor.decode(assertion, _CODE, _ASSERTION_MAX)
        if not isinstance(content, dict):
            raise FormatError(_CODE, "not an assertion")
        read = _Assertion(**_RECORD.read(content, _CODE))
        evidence = decode_evidence(read.record)
        if KINDS.get(evidence.tee) != kind:
            raise RequestError(Code.REQUEST_TEE, f"{evidence.tee} evidence in an assertion of {kind.authority_type}")
        found = decode_evidence_of(evidence.tee, evidence.evidence)
        if not binding.is_in(evidence.tee, found.bound):
            raise RequestError(Code.BINDER_MISMATCH, "not the binding of this handshake and key")
        claims = self._appraise(found, evidence.platform_certificates, Beside(event_log=read.event_log))
        if claims.tee is not evidence.tee or not binding.is_in(evidence.tee, claims.bound):
            raise RequestError(Code.BINDER_MISMATCH, "what was appraised is not what was read")
        if claims.debug or claims.body.debug:
            raise AppraisalError(debug_code(claims.tee), "debug mode")
        self._judge(claims)
        self.claims = claims
