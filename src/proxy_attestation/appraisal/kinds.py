"""All kinds of evidence under one roof: what is read first, and which walk judges it."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final, TypeAlias

from proxy_attestation.appraisal.claims import Claims
from proxy_attestation.appraisal.dcap import DcapAppraiser
from proxy_attestation.appraisal.endorsements import Floor
from proxy_attestation.appraisal.nitro import appraise_nitro
from proxy_attestation.appraisal.roots import Roots
from proxy_attestation.formats.dcap_quote import Quote, decode_quote
from proxy_attestation.formats.nitro import NitroDocument, decode_nitro
from proxy_attestation.formats.tee import Tee

Parsed: TypeAlias = Quote | NitroDocument
"""Evidence that was read and not yet believed; `bound` is what a binder must equal."""

_DECODERS: Final[Mapping[Tee, Callable[[bytes], Parsed]]] = {
    Tee.SGX: decode_quote,
    Tee.TDX: decode_quote,
    Tee.NITRO: decode_nitro,
}


def decode_evidence_of(tee: Tee, data: bytes) -> Parsed:
    """Read evidence of a kind.

    Raises:
        FormatError, AppraisalError: as the decoder of that kind says.
    """
    return _DECODERS[tee](data)


class Appraiser:
    """The walks of every kind, over the endorsements in use. Not for several threads at once."""

    def __init__(self, roots: Roots, dcap: DcapAppraiser) -> None:
        self._roots = roots
        self._dcap = dcap

    def appraise(
        self, evidence: Parsed, platform_certificates: Sequence[bytes], now: datetime
    ) -> tuple[Claims, Floor | None]:
        """Appraise evidence.

        Args:
            evidence: as read.
            platform_certificates: DER, that came with it.
            now: aware, UTC.

        Returns:
            The claims, and the numbers of the collateral that they rest on, where there is any.

        Raises:
            FormatError, AppraisalError, UnavailableError: as the walk of that kind says.
        """
        if isinstance(evidence, NitroDocument):
            return appraise_nitro(evidence, self._roots, now), None
        return self._dcap.appraise(evidence, platform_certificates, now)
