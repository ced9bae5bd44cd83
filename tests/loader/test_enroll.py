"""One enrolment against a proxy in memory that can answer wrongly in every way that matters."""

import asyncio
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from proxy_attestation.attester.model import Asked, Enrolment, InMemory
from proxy_attestation.codes import Code
from proxy_attestation.errors import ProxyAttestationError, RefusedError, UnavailableError
from proxy_attestation.formats.binder import Binding
from proxy_attestation.formats.csr import spki_of
from proxy_attestation.formats.evidence import Evidence
from proxy_attestation.formats.request import ApplicationKind, KeyOrigin, names_from
from proxy_attestation.formats.tee import Tee
from proxy_attestation.loader.credential import Credential
from proxy_attestation.loader.enroll import Wanted, enroll
from proxy_attestation.loader.ownership import OwnerConfig, Ownership
from proxy_attestation.loader.proxy_client import Timing
from proxy_attestation.loader.report import LineReport
from proxy_attestation.v1 import proxy_attestation_pb2 as v1

DIGEST: Final = b"\x0a" * 32
WANTED: Final = Wanted(
    "example-app", names_from(("app.example.org",), ("192.0.2.1",)), 3600, ApplicationKind.WASM, DIGEST
)
SPIFFE: Final = "spiffe://example.org/example-app"


@pytest.fixture
def attester(make_attester: Callable[[], Any]) -> Any:
    return make_attester()


@pytest.fixture
def proxy(make_proxy: Callable[[Wanted], Any]) -> Any:
    return make_proxy(WANTED)


def run(proxy: Any, attester: Any) -> Credential:
    return asyncio.run(
        enroll(proxy, attester, WANTED, Timing(lambda: proxy.now), Ownership(OwnerConfig(), LineReport(as_json=True)))
    )


def refusal(proxy: Any, attester: Any) -> ProxyAttestationError:
    with pytest.raises(ProxyAttestationError) as refused:
        run(proxy, attester)
    return refused.value


def test_a_good_enrolment(proxy: Any, attester: Any) -> None:
    credential = run(proxy, attester)
    assert spki_of(credential.key.public_key()) == proxy.spki
    assert len(attester.seen) == 1
    assert len(credential.chain) == 2
    assert credential.names == ("app.example.org", "192.0.2.1", SPIFFE)
    assert credential.obtained_at == proxy.now
    assert credential.not_after == proxy.now + timedelta(hours=1)
    assert credential.claims.application_sha256 == DIGEST
    assert credential.ledger_index == 7
    assert credential.renewal_window is None
    assert credential.simulated is True


def test_each_enrolment_has_a_new_key(proxy: Any, attester: Any) -> None:
    first = run(proxy, attester)
    second = run(proxy, attester)
    assert spki_of(first.key.public_key()) != spki_of(second.key.public_key())


def test_the_proxys_renewal_window_is_kept(proxy: Any, attester: Any) -> None:
    start = int(proxy.now.timestamp()) + 60

    def windows(start: int, end: int) -> Callable[[v1.GetSignedCertificateResponse], None]:
        def change(answer: v1.GetSignedCertificateResponse) -> None:
            answer.renewal.start, answer.renewal.end = start, end

        return change

    proxy.answer = windows(start, start + 60)
    window = run(proxy, attester).renewal_window
    assert window == (datetime.fromtimestamp(start, UTC), datetime.fromtimestamp(start + 60, UTC))
    for start_at, end_at in ((0, 0), (start, start - 1), (-5, start), (start, 1 << 60)):
        proxy.answer = windows(start_at, end_at)
        assert run(proxy, attester).renewal_window is None


@pytest.mark.parametrize(
    "change",
    [
        {"session_id": b"s" * 15},
        {"nonce": b"n" * 31},
        {"nonce": b""},
        {"ca_id": b"c" * 33},
        {"session_token": b""},
        {"session_token": bytes(5000)},
        {"expires_at": 0},
        {"expires_at": -1},
        {"expires_at": 1 << 62},
        {"expires_at": 1_700_000_000},
    ],
)
def test_challenges_that_are_none(proxy: Any, attester: Any, change: dict[str, Any]) -> None:
    proxy.challenge = change
    error = refusal(proxy, attester)
    assert (type(error), error.code) == (UnavailableError, Code.PROXY_PROTOCOL)
    assert attester.seen == []


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"uri": ("spiffe://example.org/other-app",)}, Code.PEER_TRUST_DOMAIN),
        ({"uri": ("spiffe://example.com/example-app",)}, Code.PEER_TRUST_DOMAIN),
        ({"uri": ()}, Code.PEER_TRUST_DOMAIN),
        ({"uri": (SPIFFE, SPIFFE + "2")}, Code.PEER_TRUST_DOMAIN),
        ({"dns": ("app.example.org", "more.example.org")}, Code.PEER_NAME),
        ({"dns": ()}, Code.PEER_NAME),
        ({"ip": ()}, Code.PEER_NAME),
    ],
)
def test_other_names_than_asked_for(proxy: Any, attester: Any, change: dict[str, Any], code: Code) -> None:
    proxy.leaf = change
    assert refusal(proxy, attester).code is code


def test_a_certificate_that_is_not_valid_now(proxy: Any, attester: Any) -> None:
    proxy.leaf = {"not_after": proxy.now - timedelta(seconds=1)}
    assert refusal(proxy, attester).code is Code.PEER_EXPIRED


def test_a_certificate_that_outlives_what_was_asked_for(proxy: Any, attester: Any) -> None:
    proxy.leaf = {"not_after": proxy.now + timedelta(hours=2)}
    assert refusal(proxy, attester).code is Code.PEER_CLAIMS_MISMATCH


def test_a_certificate_for_another_key(proxy: Any, attester: Any) -> None:
    proxy.other_key = True
    assert refusal(proxy, attester).code is Code.PEER_CLAIMS_KEY


def test_claims_about_another_key(proxy: Any, attester: Any) -> None:
    proxy.claims = {"spki": spki_of(ec.generate_private_key(ec.SECP256R1()).public_key())}
    assert refusal(proxy, attester).code is Code.PEER_CLAIMS_KEY


def test_absent_and_malformed_claims(proxy: Any, attester: Any) -> None:
    proxy.no_claims = True
    assert refusal(proxy, attester).code is Code.PEER_CLAIMS_MISSING
    proxy.no_claims, proxy.broken_claims = False, True
    assert refusal(proxy, attester).code is Code.PEER_CLAIMS_MALFORMED


@pytest.mark.parametrize(
    "change",
    [
        {"tee": Tee.TDX},
        {"key_origin": KeyOrigin.SOFTWARE},
        {"application_sha256": None},
        {"application_sha256": b"\x0b" * 32},
        {"nonce": b"m" * 32},
        {"evidence_sha256": b"e" * 32},
        {"simulated": False},
    ],
)
def test_claims_that_say_something_else(proxy: Any, attester: Any, change: dict[str, Any]) -> None:
    proxy.claims = change
    assert refusal(proxy, attester).code is Code.PEER_CLAIMS_MISMATCH


def test_a_chain_to_another_root(proxy: Any, attester: Any) -> None:
    other = type(proxy.authority)(proxy.now)

    def swap(answer: v1.GetSignedCertificateResponse) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        del answer.chain[:]
        answer.chain.extend(
            other.chain(key.public_key(), not_before=proxy.now, not_after=proxy.now + timedelta(hours=1))
        )

    proxy.answer = swap
    assert refusal(proxy, attester).code is Code.PEER_CHAIN


@pytest.mark.parametrize("chain", [[], [b""], [b"x", b"y"], [b""] * 20])
def test_chains_that_are_none(proxy: Any, attester: Any, chain: list[bytes]) -> None:
    def change(answer: v1.GetSignedCertificateResponse) -> None:
        del answer.chain[:]
        answer.chain.extend(chain)

    proxy.answer = change
    assert refusal(proxy, attester).code is Code.PEER_CHAIN


def test_an_attester_that_fails(proxy: Any, attester: Any) -> None:
    attester.error = UnavailableError(Code.ATTESTER_UNAVAILABLE)
    assert refusal(proxy, attester).code is Code.ATTESTER_UNAVAILABLE


def test_a_verdict_comes_through(proxy: Any, attester: Any) -> None:
    def refuse(_: v1.GetSignedCertificateResponse) -> None:
        raise RefusedError(Code.SGX_DEBUG)

    proxy.answer = refuse
    assert refusal(proxy, attester).code is Code.SGX_DEBUG


def test_the_firmwares_log_travels_beside_the_evidence(proxy: Any, attester: Any, tmp_path: Path) -> None:
    attester.event_log_path = tmp_path / "log"
    run(proxy, attester)
    assert proxy.parts == {}  # this machine has none
    attester.event_log_path.write_bytes(b"firmware")
    run(proxy, attester)
    assert proxy.parts == {"event_log": b"firmware"}
    assert proxy.event_log_sha256 == hashlib.sha256(b"firmware").digest()


@pytest.mark.parametrize("change", [{"nonce": b"", "credential_blob": b"blob"}, {"credential_blob": b"blob"}])
def test_a_credential_that_nobody_asked_for(proxy: Any, attester: Any, change: dict[str, Any]) -> None:
    proxy.challenge = change
    assert refusal(proxy, attester).code is Code.PROXY_PROTOCOL


class Credentialed(InMemory):
    """Asks as a TPM's attester does; nothing else of it is like one."""

    tee = Tee.SGX

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def attest(self, binding: Binding) -> Evidence:
        evidence: Evidence = self.inner.attest(binding)
        return evidence

    def begin(self) -> Enrolment:
        begun = super().begin()
        begun.asked = Asked(b"ek", (b"issuer",), b"ak")  # type: ignore[misc] # final in the class of the others
        begun.nonce = lambda plain, credential_blob: credential_blob or plain  # type: ignore[method-assign] # for this one
        return begun


def test_the_nonce_comes_out_of_the_credential(proxy: Any, attester: Any) -> None:
    source = Credentialed(attester)
    proxy.asked = Asked(b"ek", (b"issuer",), b"ak")
    proxy.challenge = {"nonce": b"", "credential_blob": b"n" * 32}
    assert run(proxy, source).serial
    for change in ({}, {"nonce": b""}, {"credential_blob": b"n" * 32}):
        proxy.challenge = change
        assert refusal(proxy, source).code is Code.PROXY_PROTOCOL
