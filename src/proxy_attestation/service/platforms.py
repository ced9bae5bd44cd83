"""What a worker and the process that fetches tell each other about platforms, over files (`endorsements.spool`).

A worker never fetches. Where a SEV-SNP report comes without its VCEK, and that process fetches for its processor line,
the worker asks for the VCEK by chip id and TCB and answers UNAVAILABLE; the peer comes again. The URL is made by that
process, from what its operator configured.
"""

import hashlib
import ssl
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from proxy_attestation.appraisal.kinds import ParsedOrTpm
from proxy_attestation.appraisal.pck_chain import find_chain
from proxy_attestation.appraisal.snp_claims import snp_claims
from proxy_attestation.codes import Code
from proxy_attestation.endorsements.amd_checks import TURIN_HWID_LENGTH, VcekRequest
from proxy_attestation.endorsements.spool import PlatformSpool, VcekSpool
from proxy_attestation.errors import UnavailableError
from proxy_attestation.formats.dcap_quote import Quote
from proxy_attestation.formats.snp_report import VCEK, Product, SnpReport, tcb_components

_NAME: Final = b"SEV-VCEK"
_NOTE_SECONDS: Final = 3600.0
_NOTED_MAX: Final = 1024


class Platforms:
    """What the core calls. Args of `__init__`: STATE/run, STATE/endorsements, seconds that never go back."""

    def __init__(self, run: Path, endorsements: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._vceks = VcekSpool(run, endorsements)
        self._platforms = PlatformSpool(run)
        self._clock = clock
        self._noted: dict[str, float] = {}

    def certificates(self, evidence: ParsedOrTpm, given: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """Return the certificates to appraise evidence with: those that came, and the VCEK where it did not come.

        Args:
            evidence: as read; nothing is believed yet.
            given: DER, that came with it.

        Raises:
            UnavailableError: `endorsements.unavailable`; the VCEK was asked for, and the same call may succeed later.
            FormatError, AppraisalError: as `snp_claims`.
        """
        if not isinstance(evidence, SnpReport) or evidence.signing_key != VCEK:
            return given
        # A rough test: who has these letters elsewhere in a certificate is refused by the walk.
        if any(_NAME in der for der in (*evidence.certificates.certificates, *given)):
            return given
        body = snp_claims(evidence)
        # Version 2 names no processor line, and a masked chip id names no chip: nobody can ask for those.
        if body.product is None or not any(body.chip_id):
            return given
        hwid = body.chip_id[:TURIN_HWID_LENGTH] if body.product is Product.TURIN else body.chip_id
        levels = tcb_components(body.product, body.reported_tcb)
        request = VcekRequest(hwid, {name.removesuffix("SPL"): level for name, level in levels.items()})
        found = self._vceks.find(body.product, request)
        if found is not None:
            return (*given, found)
        if self._vceks.ask(body.product, request):
            raise UnavailableError(Code.ENDORSEMENTS_UNAVAILABLE, f"a VCEK of {body.product} was asked for")
        return given

    def seen(self, evidence: ParsedOrTpm, given: Sequence[bytes]) -> None:
        """Note a platform that got a certificate, at most once an hour; Intel's alone."""
        if not isinstance(evidence, Quote):
            return
        chain = find_chain(evidence, given, None)
        if not chain:
            return
        name = f"{evidence.tee}-{hashlib.sha256(chain[0]).hexdigest()[:32]}.pem"
        now = self._clock()
        if now - self._noted.get(name, float("-inf")) < _NOTE_SECONDS:
            return
        if self._platforms.note(name, "".join(map(ssl.DER_cert_to_PEM_cert, chain)).encode()):
            if len(self._noted) >= _NOTED_MAX:
                self._noted.clear()
            self._noted[name] = now
