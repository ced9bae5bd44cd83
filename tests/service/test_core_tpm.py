"""A TPM at the core: the challenge inside a credential, and evidence under it. The authority is a stand-in."""

import asyncio
import hashlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from proxy_attestation.appraisal.kinds import Appraiser
from proxy_attestation.appraisal.roots import Roots
from proxy_attestation.appraisal.tpm_body import TpmBody
from proxy_attestation.authority.messages import AuthorityInfo
from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError, ProxyAttestationError, RequestError
from proxy_attestation.formats import binder
from proxy_attestation.formats.csr import build_csr, spki_of
from proxy_attestation.formats.evidence import Evidence, encode_evidence
from proxy_attestation.formats.request import (
    ApplicationKind,
    KeyOrigin,
    Request,
    RuntimeClaims,
    encode_request,
    names_from,
)
from proxy_attestation.formats.tee import Tee
from proxy_attestation.service.core import Core, Serving
from proxy_attestation.v1 import proxy_attestation_pb2 as pb
from proxy_attestation_simulator.azure import SNP, TDX, make_azure
from proxy_attestation_simulator.tpm import BOOT, LeafRecipe, TpmRecipe, TpmVendor, ak_certificate_recipe
from proxy_attestation_simulator.tpm_machine import TpmMachine
from proxy_attestation_simulator.tpm_structures import AK_ATTRIBUTES

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
VENDOR = TpmVendor.create(NOW)
GENUINE = TpmMachine(VENDOR)
_RESTRICTED = 0x00010000
_T = TypeVar("_T")


def run(call: Coroutine[Any, Any, _T]) -> _T:
    return asyncio.run(call)


@pytest.fixture
def tpm_core(core: Core, info: AuthorityInfo) -> Core:
    """Return the core of a proxy whose policy names the vendor's root."""
    pins = frozenset({VENDOR.pin})
    core.serving = Serving(replace(info, tpm_roots=(VENDOR.pin,)), Appraiser(Roots(frozenset(), tpm=pins), {}))
    return core


def asked(machine: TpmMachine) -> pb.GetChallengeRequest:
    first, *issuers = machine.certificates
    return pb.GetChallengeRequest(tee="tpm", ek_certificate=first, ak_public=machine.ak_public, ek_issuers=issuers)


@dataclass(frozen=True)
class Try:
    """One issuance as a workload on a TPM prepares it; `replace` makes exactly one thing wrong."""

    session: pb.GetChallengeResponse
    nonce: bytes
    machine: TpmMachine = GENUINE
    key: ec.EllipticCurvePrivateKey | None = None
    log: bool = True
    qualifying: Callable[[bytes], bytes] = bytes
    certificates: tuple[bytes, ...] | None = None

    def message(self) -> pb.GetSignedCertificateRequest:
        key = self.key or self.machine.key
        runtime = RuntimeClaims(ApplicationKind.NONE, None, KeyOrigin.TPM)
        request = encode_request(Request("example-app", Tee.TPM, names_from(), 3600, runtime))
        bound = binder.bind(
            ca_id=self.session.ca_id,
            session_id=self.session.session_id,
            nonce=self.nonce,
            spki=spki_of(key.public_key()),
            request=request,
        )
        made = self.machine.attest(self.qualifying(bound.digest))
        log = hashlib.sha256(made.event_log).digest() if self.log else None
        certificates = made.certificates if self.certificates is None else self.certificates
        record = encode_evidence(Evidence(Tee.TPM, made.evidence, certificates, log))
        message = pb.GetSignedCertificateRequest(
            session_token=self.session.session_token, request=request, csr=build_csr(key, record)
        )
        if self.log:
            message.parts.add(name="event_log", content=made.event_log)
        return message


def prepare(core: Core, machine: TpmMachine = GENUINE) -> Try:
    session = run(core.get_challenge(asked(machine)))
    assert session.nonce == b""
    nonce = machine.activate(session.credential_blob)
    assert nonce is not None
    return Try(session, nonce, machine)


def refusal(core: Core, message: pb.GetSignedCertificateRequest) -> Code:
    with pytest.raises(ProxyAttestationError) as caught:
        run(core.get_signed_certificate(message))
    return caught.value.code


def test_a_genuine_tpm_reaches_the_authority(tpm_core: Core, authority: Any) -> None:
    attempt = prepare(tpm_core)
    assert attempt.nonce not in attempt.session.SerializeToString()
    run(tpm_core.get_signed_certificate(attempt.message()))
    (order,) = authority.orders
    claims = order.claims
    assert isinstance(claims.body, TpmBody)
    assert (claims.tee, claims.body.ek_root, claims.body.key_certified) == (Tee.TPM, VENDOR.pin, True)
    assert sorted(claims.body.measurements) == ["pcr0", "pcr4", "pcr7"]
    assert {layer.name(Tee.TPM): len(layer.events) for layer in claims.layers} == {"pcr0": 2, "pcr4": 1, "pcr7": 1}
    assert order.collateral_floor is None


def test_an_ak_with_a_certificate_needs_no_credential(tpm_core: Core, authority: Any) -> None:
    machine = TpmMachine(VENDOR, ak_certificate_recipe(TpmRecipe()))
    session = run(tpm_core.get_challenge(pb.GetChallengeRequest(tee="tpm")))
    assert (len(session.nonce), session.credential_blob) == (32, b"")
    run(tpm_core.get_signed_certificate(Try(session, session.nonce, machine).message()))
    assert authority.orders[0].claims.body.ek_root == VENDOR.pin


def test_a_software_key_is_told_from_one_in_the_tpm(tpm_core: Core, authority: Any) -> None:
    machine = TpmMachine(VENDOR, TpmRecipe(with_key=False))
    attempt = replace(prepare(tpm_core, machine), key=ec.generate_private_key(ec.SECP256R1()))
    run(tpm_core.get_signed_certificate(attempt.message()))
    assert authority.orders[0].claims.body.key_certified is False


@pytest.mark.parametrize(
    ("recipe", "code"),
    [
        (TpmRecipe(ak_attributes=AK_ATTRIBUTES & ~_RESTRICTED), Code.TPM_NOT_RESTRICTED),
        (TpmRecipe(ak_attributes=AK_ATTRIBUTES & ~0x2), Code.TPM_AK_ATTRIBUTES),
        (TpmRecipe(root_secret=b"another vendor"), Code.TPM_ROOT),
        (TpmRecipe(certificate=LeafRecipe(forged=True)), Code.TPM_CHAIN),
        (TpmRecipe(certificate=LeafRecipe(days=0)), Code.TPM_EXPIRED),
        (ak_certificate_recipe(TpmRecipe()), Code.TPM_EK_CERTIFICATE),
    ],
)
def test_no_credential_is_made_for(tpm_core: Core, recipe: TpmRecipe, code: Code) -> None:
    with pytest.raises(ProxyAttestationError) as caught:
        run(tpm_core.get_challenge(asked(TpmMachine(VENDOR, recipe))))
    assert caught.value.code is code


def _no_ak(request: pb.GetChallengeRequest) -> None:
    request.ak_public = b""


def _no_ek(request: pb.GetChallengeRequest) -> None:
    request.ek_certificate = b""


def _issuers_alone(request: pb.GetChallengeRequest) -> None:
    _no_ak(request)
    _no_ek(request)


def _large_ak(request: pb.GetChallengeRequest) -> None:
    request.ak_public += bytes(801)


def _large_certificate(request: pb.GetChallengeRequest) -> None:
    request.ek_certificate += bytes(8 * 1024)


def _many_issuers(request: pb.GetChallengeRequest) -> None:
    request.ek_issuers.extend([b"\x30"] * 8)


@pytest.mark.parametrize(
    "change",
    [_no_ak, _no_ek, _issuers_alone, _large_ak, _large_certificate, _many_issuers],
    ids=lambda one: one.__name__,
)
def test_parameters_that_cannot_be(tpm_core: Core, change: Callable[[pb.GetChallengeRequest], None]) -> None:
    request = asked(GENUINE)
    change(request)
    with pytest.raises(FormatError) as caught:
        run(tpm_core.get_challenge(request))
    assert caught.value.code is Code.REQUEST_MALFORMED


def test_a_public_area_that_is_none(tpm_core: Core) -> None:
    request = asked(GENUINE)
    request.ak_public = request.ak_public[:-1]
    with pytest.raises(FormatError) as caught:
        run(tpm_core.get_challenge(request))
    assert caught.value.code is Code.TPM_MALFORMED


def test_another_tpm_cannot_open_the_credential(tpm_core: Core) -> None:
    session = run(tpm_core.get_challenge(asked(GENUINE)))
    assert GENUINE.activate(session.credential_blob) is not None
    assert TpmMachine(VENDOR, TpmRecipe(ak_secret=b"other")).activate(session.credential_blob) is None
    assert TpmMachine(VENDOR, TpmRecipe(ek_secret=b"other")).activate(session.credential_blob) is None


@pytest.mark.parametrize("qualifying", [b"", bytes(32), bytes(31), b"\x01" * 32, bytes(64)])
def test_another_binder(tpm_core: Core, qualifying: bytes) -> None:
    attempt = replace(prepare(tpm_core), qualifying=lambda _: qualifying)
    assert refusal(tpm_core, attempt.message()) is Code.BINDER_MISMATCH


def test_a_replayed_quote(tpm_core: Core) -> None:
    old = prepare(tpm_core)
    new = replace(prepare(tpm_core), nonce=old.nonce)
    assert refusal(tpm_core, new.message()) is Code.BINDER_MISMATCH


def test_a_guessed_nonce(tpm_core: Core) -> None:
    session = run(tpm_core.get_challenge(asked(GENUINE)))
    assert refusal(tpm_core, Try(session, bytes(32)).message()) is Code.BINDER_MISMATCH


def test_another_ak_than_the_credentials(tpm_core: Core) -> None:
    attempt = prepare(tpm_core)
    other = TpmMachine(VENDOR, TpmRecipe(ak_secret=b"other", signed_by=b"other", certify_signed_by=b"other"))
    assert refusal(tpm_core, replace(attempt, machine=other).message()) is Code.TPM_AK_NAME


def test_another_ek_than_the_credentials(tpm_core: Core) -> None:
    attempt = prepare(tpm_core)
    other = TpmMachine(VENDOR, TpmRecipe(ek_secret=b"other"))
    assert refusal(tpm_core, replace(attempt, certificates=other.certificates).message()) is Code.TPM_EK_CERTIFICATE


def test_a_nonce_in_clear_activates_nothing(tpm_core: Core) -> None:
    session = run(tpm_core.get_challenge(pb.GetChallengeRequest(tee="tpm")))
    assert refusal(tpm_core, Try(session, session.nonce).message()) is Code.TPM_AK_CERTIFICATE


def test_the_certified_key_is_not_the_csrs(tpm_core: Core) -> None:
    attempt = replace(prepare(tpm_core), key=ec.generate_private_key(ec.SECP256R1()))
    assert refusal(tpm_core, attempt.message()) is Code.TPM_KEY_MISMATCH


def _changed(log: bytes) -> bytes:
    return log.replace(hashlib.sha256(b"SecureBoot").digest(), hashlib.sha256(b"Secureboot").digest())


def test_a_log_that_leads_elsewhere(tpm_core: Core) -> None:
    shorter = replace(BOOT, events=BOOT.events[:-1]).encode()
    machine = TpmMachine(VENDOR, TpmRecipe(log_bytes=lambda _: shorter))
    assert (
        refusal(tpm_core, prepare(tpm_core, TpmMachine(VENDOR, TpmRecipe(log_bytes=_changed))).message())
        is Code.TPM_EVENT_LOG
    )
    # A register that the log says nothing of keeps its value, and no event rule of an entry will find one.
    run(tpm_core.get_signed_certificate(prepare(tpm_core, machine).message()))


def test_another_log_than_the_evidence_names(tpm_core: Core) -> None:
    message = prepare(tpm_core).message()
    message.parts[0].content = replace(BOOT, events=BOOT.events[:-1]).encode()
    assert refusal(tpm_core, message) is Code.EVIDENCE_MALFORMED


def test_a_challenge_of_another_tee(tpm_core: Core) -> None:
    session = run(tpm_core.get_challenge(pb.GetChallengeRequest(tee="sgx")))
    with pytest.raises(RequestError) as caught:
        run(tpm_core.get_signed_certificate(Try(session, session.nonce).message()))
    assert caught.value.code is Code.REQUEST_TEE


# A vTPM, for which the TEE that it runs in vouches.


@pytest.fixture
def azure_core(core: Core, info: AuthorityInfo) -> Core:
    """Return the core with all its vendors, and no CA of TPMs."""
    assert core.serving is not None
    core.serving = Serving(replace(info, tpm_roots=()), core.serving.appraiser)
    return core


def _on_azure(core: Core, machines: Any, tee: Tee, fault: str = "", **changes: Any) -> pb.GetSignedCertificateRequest:
    session = run(core.get_challenge(pb.GetChallengeRequest(tee="tpm")))
    key = GENUINE.key
    runtime = RuntimeClaims(ApplicationKind.NONE, None, KeyOrigin.TPM)
    request = encode_request(Request("example-app", Tee.TPM, names_from(), 3600, runtime))
    bound = binder.bind(
        ca_id=session.ca_id, session_id=session.session_id, nonce=session.nonce,
        spki=spki_of(key.public_key()), request=request,
    )  # fmt: skip
    certificates: list[bytes] = []

    def hardware(data: bytes) -> bytes:
        if tee is Tee.TDX:
            quote: bytes = machines[tee].quote(data, fault=fault)
            return quote
        made = machines[tee].evidence(data, now=NOW, fault=fault)
        certificates.extend(made.certificates)
        report: bytes = made.report
        return report

    kind = {Tee.SNP: SNP, Tee.TDX: TDX}[tee]
    made = make_azure(VENDOR, kind, hardware, recipe=TpmRecipe(extra_data=bound.digest), **changes)
    record = encode_evidence(Evidence(Tee.TPM, made.evidence, tuple(certificates)))
    return pb.GetSignedCertificateRequest(
        session_token=session.session_token, request=request, csr=build_csr(key, record)
    )


@pytest.mark.parametrize("tee", [Tee.SNP, Tee.TDX])
def test_both_layers_of_a_vtpm(azure_core: Core, authority: Any, machines: Any, tee: Tee) -> None:
    run(azure_core.get_signed_certificate(_on_azure(azure_core, machines, tee)))
    (order,) = authority.orders
    assert order.claims.hardware.tee is tee
    assert (order.claims.body.ek_root, order.claims.body.key_certified) == (None, True)
    assert order.collateral_floor is not None
    assert (order.claims.hardware.tcb is None) is (tee is Tee.SNP)


@pytest.mark.parametrize("tee", [Tee.SNP, Tee.TDX])
def test_debug_below_is_debug(azure_core: Core, authority: Any, machines: Any, tee: Tee) -> None:
    run(azure_core.get_signed_certificate(_on_azure(azure_core, machines, tee, "debug")))
    assert authority.orders[0].claims.debug


@pytest.mark.parametrize(
    ("tee", "fault", "code"),
    [
        (Tee.SNP, "vmpl=1", Code.TPM_HCL_LAYER),
        (Tee.TDX, "wrong-key", Code.TDX_SIGNATURE),
        (Tee.SNP, "signature", Code.SNP_SIGNATURE),
    ],
)
def test_hardware_that_does_not_hold(azure_core: Core, machines: Any, tee: Tee, fault: str, code: Code) -> None:
    assert refusal(azure_core, _on_azure(azure_core, machines, tee, fault)) is code


def test_a_td_quote_that_is_absent(azure_core: Core, machines: Any) -> None:
    assert refusal(azure_core, _on_azure(azure_core, machines, Tee.TDX, parts={9: None})) is Code.TPM_HCL_LAYER
