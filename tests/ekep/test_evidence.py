"""Evidence as assertions, over simulated platforms: one thing wrong at a time."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from proxy_attestation.appraisal.claims import Claims
from proxy_attestation.appraisal.endorsements import DcapEndorsements
from proxy_attestation.appraisal.kinds import Appraiser, Beside, ParsedOrTpm, verify_endorsements
from proxy_attestation.appraisal.roots import same_for_all
from proxy_attestation.attester.model import InMemory
from proxy_attestation.codes import Code
from proxy_attestation.ekep.evidence import KINDS, EvidenceAssertions
from proxy_attestation.ekep.frames import AbortCode, HandshakeAborted
from proxy_attestation.ekep.handshake import Handshake, State
from proxy_attestation.ekep.keys import assertion_binding
from proxy_attestation.errors import ProxyAttestationError, RefusedError, UnavailableError
from proxy_attestation.formats.binder import Binding
from proxy_attestation.formats.evidence import Evidence
from proxy_attestation.formats.tee import Tee
from proxy_attestation_simulator.intel import Vendor

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
BINDING = assertion_binding(b"\1" * 32, b"\2" * 32, b"\3" * 32)
OTHER = assertion_binding(b"\1" * 32, b"\2" * 31 + b"\4", b"\3" * 32)


class OnPlatform(InMemory):
    """A simulated platform as the machine that this process runs on."""

    def __init__(self, vendor: Vendor, tee: Tee, fault: str | tuple[str, ...] = ()) -> None:
        self.tee = tee
        self._platform = vendor.platform(str(tee))
        self._fault = fault
        self.made: list[bytes] = []

    def attest(self, binding: Binding) -> Evidence:
        self.made.append(binding.report_data)
        return Evidence(self.tee, self._platform.quote(binding.report_data, fault=self._fault))


@pytest.fixture(scope="module")
def vendor() -> Vendor:
    return Vendor.create(NOW)


@pytest.fixture(scope="module")
def appraise(vendor: Vendor) -> Callable[..., Claims]:
    roots = same_for_all(frozenset({vendor.root_pin}))
    sets = [
        verify_endorsements(DcapEndorsements(**vendor.endorsements(tee, NOW)), roots, NOW) for tee in ("sgx", "tdx")
    ]
    appraiser = Appraiser(roots, {(found.tee, found.platform): found for found in sets})

    def judge(evidence: ParsedOrTpm, certificates: tuple[bytes, ...], beside: Beside) -> Claims:
        return appraiser.appraise(evidence, certificates, NOW, beside)[0]

    return judge


@pytest.fixture
def side(vendor: Vendor, appraise: Any) -> Callable[..., EvidenceAssertions]:
    def make(tee: Tee = Tee.SGX, judge: Any = lambda _: None, **options: Any) -> EvidenceAssertions:
        return EvidenceAssertions(OnPlatform(vendor, tee, **options), (Tee.SGX, Tee.TDX), appraise, judge)

    return make


def code_of(work: Callable[[], object]) -> Code:
    with pytest.raises(ProxyAttestationError) as caught:
        work()
    return caught.value.code


@pytest.mark.parametrize("tee", [Tee.SGX, Tee.TDX])
def test_what_one_side_makes_the_other_accepts(tee: Tee, side: Callable[..., EvidenceAssertions]) -> None:
    other = side()

    other.verify(KINDS[tee], side(tee).make(KINDS[tee], BINDING), BINDING)

    assert other.claims is not None
    assert other.claims.tee is tee


def test_bound_to_another_handshake(side: Callable[..., EvidenceAssertions]) -> None:
    made = side().make(KINDS[Tee.SGX], OTHER)
    assert code_of(lambda: side().verify(KINDS[Tee.SGX], made, BINDING)) is Code.BINDER_MISMATCH


def test_of_another_kind_than_was_agreed(side: Callable[..., EvidenceAssertions]) -> None:
    made = side(Tee.TDX).make(KINDS[Tee.TDX], BINDING)
    assert code_of(lambda: side().verify(KINDS[Tee.SGX], made, BINDING)) is Code.REQUEST_TEE


def test_debug_mode(side: Callable[..., EvidenceAssertions]) -> None:
    made = side(fault="debug").make(KINDS[Tee.SGX], BINDING)
    assert code_of(lambda: side().verify(KINDS[Tee.SGX], made, BINDING)) is Code.SGX_DEBUG


def test_a_changed_signature(side: Callable[..., EvidenceAssertions], vendor: Vendor) -> None:
    class Changing(OnPlatform):
        def attest(self, binding: Binding) -> Evidence:
            quote = super().attest(binding).evidence
            # The signature of an ECDSA quote begins behind its header, report and length: 48 + 384 + 4.
            return Evidence(self.tee, quote[:436] + bytes((quote[436] ^ 1,)) + quote[437:])

    made = EvidenceAssertions(Changing(vendor, Tee.SGX), (), lambda *_: pytest.fail("not asked"))
    found = made.make(KINDS[Tee.SGX], BINDING)
    assert code_of(lambda: side().verify(KINDS[Tee.SGX], found, BINDING)) is Code.SGX_SIGNATURE


def test_of_a_vendor_that_nobody_trusts(side: Callable[..., EvidenceAssertions]) -> None:
    stranger = EvidenceAssertions(OnPlatform(Vendor.create(NOW), Tee.SGX), (), lambda *_: pytest.fail("not asked"))
    made = stranger.make(KINDS[Tee.SGX], BINDING)
    assert code_of(lambda: side().verify(KINDS[Tee.SGX], made, BINDING)) is Code.SGX_ROOT


def test_what_the_judge_refuses(side: Callable[..., EvidenceAssertions]) -> None:
    def refuse(_: Claims) -> None:
        raise RefusedError(Code.POLICY_MEASUREMENT, "not that one")

    made = side().make(KINDS[Tee.SGX], BINDING)
    judging = side(judge=refuse)
    assert code_of(lambda: judging.verify(KINDS[Tee.SGX], made, BINDING)) is Code.POLICY_MEASUREMENT
    assert judging.claims is None


@pytest.mark.parametrize("assertion", [b"", b"\x80", b"\xa0", b"\xa1\x01\x41\x00", b"\xa1\x01\x40", b"\xff"])
def test_what_is_no_assertion(assertion: bytes, side: Callable[..., EvidenceAssertions]) -> None:
    with pytest.raises(ProxyAttestationError):
        side().verify(KINDS[Tee.SGX], assertion, BINDING)


def test_a_tpm_has_no_kind(side: Callable[..., EvidenceAssertions], vendor: Vendor, appraise: Any) -> None:
    machine = OnPlatform(vendor, Tee.SGX)
    machine.tee = Tee.TPM
    made = EvidenceAssertions(machine, (Tee.TPM,), appraise)

    assert (made.offers, made.requests) == ((), ())
    handshake = Handshake(side(), server=True)
    with pytest.raises(HandshakeAborted) as caught:
        handshake.receive(Handshake(made, server=False).start()[0])
    assert caught.value.abort is AbortCode.BAD_ASSERTION_TYPE


def test_a_whole_handshake_between_two_kinds(side: Callable[..., EvidenceAssertions]) -> None:
    ours, theirs = side(Tee.TDX), side(Tee.SGX)
    client, server = Handshake(ours, server=False), Handshake(theirs, server=True)
    waiting = [(server, frame) for frame in client.start()]
    while waiting:
        receiver, frame = waiting.pop(0)
        waiting += [(client if receiver is server else server, answer) for answer in receiver.receive(frame)]

    assert (client.state, server.state) == (State.DONE, State.DONE)
    assert ours.claims is not None
    assert theirs.claims is not None
    assert (ours.claims.tee, theirs.claims.tee) == (Tee.SGX, Tee.TDX)


def test_evidence_that_cannot_be_judged_now(vendor: Vendor) -> None:
    def away(*_: object) -> Claims:
        raise UnavailableError(Code.ENDORSEMENTS_UNAVAILABLE)

    side = EvidenceAssertions(OnPlatform(vendor, Tee.SGX), (Tee.SGX,), away)
    made = side.make(KINDS[Tee.SGX], BINDING)

    assert code_of(lambda: side.verify(KINDS[Tee.SGX], made, BINDING)) is Code.ENDORSEMENTS_UNAVAILABLE
