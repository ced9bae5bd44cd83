"""What a worker sends along to be kept: the record as it came, and all else that its appraisal used, once."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from proxy_attestation.appraisal.kinds import Appraiser
from proxy_attestation.formats import cbor
from proxy_attestation.formats.csr import build_csr
from proxy_attestation.formats.evidence import decode_evidence
from proxy_attestation.formats.kept_evidence import KeptEvidence, decode_kept
from proxy_attestation.formats.tee import Tee
from proxy_attestation.service.core import Core
from proxy_attestation.v1 import proxy_attestation_pb2 as pb
from proxy_attestation_simulator.tpm_structures import LogEvent, LogRecipe

Prepare = Callable[..., Any]


def kept(core: Core, authority: Any, message: pb.GetSignedCertificateRequest) -> KeptEvidence:
    asyncio.run(core.get_signed_certificate(message))
    return decode_kept(authority.orders[-1].kept)


def test_a_record_in_the_csr(core: Core, authority: Any, attempt: Prepare) -> None:
    one = attempt()
    found = kept(core, authority, one.message())
    assert decode_evidence(found.record).tee is Tee.SGX
    assert found == KeptEvidence(found.record)


def test_a_record_beside_the_csr(core: Core, authority: Any, attempt: Prepare) -> None:
    one = attempt()
    message = one.message()
    message.csr = build_csr(one.key, None)
    message.evidence = one.record
    assert kept(core, authority, message) == KeptEvidence(message.evidence)


def test_certificates_in_the_record_are_not_kept_twice(core: Core, authority: Any, attempt: Prepare) -> None:
    found = kept(core, authority, attempt(Tee.SNP).message())
    assert decode_evidence(found.record).platform_certificates
    assert found.certificates == ()


def test_certificates_beside_the_record(core: Core, authority: Any, attempt: Prepare) -> None:
    one = attempt(quote_options={"fault": "cert-type=3"})
    message = one.message()
    certificates = tuple(one.platform.certificates[:2])
    message.parts.add(name="platform_certificates", content=cbor.encode(list(certificates)))
    assert kept(core, authority, message).certificates == certificates


def test_a_certificate_of_the_proxys_own(
    core: Core, authority: Any, attempt: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Platforms:
        """Has a certificate that nobody sent."""

        def certificates(self, evidence: object, given: tuple[bytes, ...]) -> tuple[bytes, ...]:
            del evidence
            return (*given, b"a certificate of the proxy's")

        def seen(self, evidence: object, given: object) -> None:
            pass

    one = attempt(Tee.SNP)
    plain = kept(core, authority, one.message())
    monkeypatch.setattr(core, "_platforms", Platforms())
    monkeypatch.setattr(Appraiser, "appraise", _without_the_last(Appraiser.appraise))
    found = kept(core, authority, attempt(Tee.SNP).message())
    assert plain.certificates == ()
    assert found.certificates == (b"a certificate of the proxy's",)


def _without_the_last(appraise: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, evidence, certificates, *rest: appraise(self, evidence, certificates[:-1], *rest)


def test_an_event_log(core: Core, authority: Any, attempt: Prepare) -> None:
    log = LogRecipe((LogEvent(4, 0x0D, b"measured"),), ("sha384",))
    options = {"rtmr3": log.registers("sha384")[4]}
    found = kept(core, authority, attempt(Tee.TDX, event_log=log.encode(), quote_options=options).message())
    assert found.event_log == log.encode()


def test_what_a_tpms_token_says(core: Core, authority: Any, attempt: Prepare) -> None:
    found = kept(core, authority, attempt(Tee.TPM).message())
    activation = authority.orders[-1].token[62:-32]
    assert (found.ak_name or b"") + (found.ek_spki_sha256 or b"") == activation
