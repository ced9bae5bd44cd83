"""Fetching a root with evidence instead of a pin: who may stand between, and what the proxy cannot do now."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from attested_proxy import MR_PROXY, AttestedProxy, statement
from fake_servers import Answer, StartFront
from mini_authority import Leaf, MiniAuthority

from proxy_attestation.codes import Code
from proxy_attestation.errors import ProxyAttestationError
from proxy_attestation.formats.csr import spki_of
from proxy_attestation.formats.root_binder import RootFacts
from proxy_attestation.relying_party.proxy import fetch_attested_root
from proxy_attestation.relying_party.proxy_evidence import CheckedProxy, checker
from proxy_attestation.relying_party.proxy_expectation import ProxyExpectation
from proxy_attestation.relying_party.root_info import RootInfo
from proxy_attestation.v1 import proxy_attestation_pb2 as v1
from proxy_attestation_simulator.intel import Vendor

HEADERS = {"content-type": "application/proto"}


class Proxy(AttestedProxy):
    """An attested proxy over a real root."""

    def of(self, authority: MiniAuthority) -> "Proxy":
        self.authority = authority
        self.root = spki_of(authority.root_key.public_key())
        return self

    @property
    def facts(self) -> RootFacts:
        issuing = spki_of(self.authority.issuing_key.public_key())
        return RootFacts(self.root, issuing, b"\x07" * 32, b"log+key", "tee")

    def response(self, request: v1.GetRootCertificateRequest, **changes: Any) -> v1.GetRootCertificateResponse:
        fields = {
            "key_origin": "tee",
            "ledger_key": b"log+key",
            "deployment_statement": self.note,
            "evidence": self.evidence((request.nonce,)) if request.evidence else b"",
        }
        return self.authority.answer(**(fields | changes))

    def answers(self, **changes: Any) -> Answer:
        return lambda _n, request: (200, HEADERS, self.response(request, **changes).SerializeToString())


@pytest.fixture(scope="module")
def vendor() -> Vendor:
    return Vendor.create(datetime.now().astimezone())


@pytest.fixture
def proxy(vendor: Vendor, authority: MiniAuthority, now: datetime) -> Proxy:
    return Proxy(vendor, now).of(authority)


@pytest.fixture
def fetch(proxy: Proxy, now: datetime) -> Callable[..., tuple[RootInfo, CheckedProxy]]:
    def call(url: str, expectation: ProxyExpectation | None = None) -> tuple[RootInfo, CheckedProxy]:
        wanted = proxy.expectation() if expectation is None else expectation
        return fetch_attested_root(url, checker(wanted, proxy.vendors(), lambda: now))

    return call


Fetch = Callable[..., tuple[RootInfo, CheckedProxy]]


def refusal(call: Callable[[], object]) -> Code:
    with pytest.raises(ProxyAttestationError) as caught:
        call()
    return caught.value.code


def test_evidence_says_which_root_to_trust(proxy: Proxy, front: StartFront, fetch: Fetch) -> None:
    fake = front(proxy.answers(), proxy.authority.proxy_leaf())
    info, checked = fetch(fake.url)
    assert info.root == proxy.authority.root_der
    assert info.pin == proxy.authority.pin
    assert checked.statement.pins[0].value == MR_PROXY
    assert [request.evidence for request in fake.requests] == [True, False]
    assert fake.requests[0].nonce != fake.requests[1].nonce


def test_evidence_that_is_taken_out_on_first_contact(proxy: Proxy, front: StartFront, fetch: Fetch) -> None:
    fake = front(proxy.answers(evidence=b""), proxy.authority.proxy_leaf())
    assert refusal(lambda: fetch(fake.url)) is Code.PROXY_NO_EVIDENCE


def test_a_relay_that_shows_a_root_of_its_own(
    proxy: Proxy, other_authority: MiniAuthority, front: StartFront, fetch: Fetch
) -> None:
    """B asks A for evidence over the caller's nonce, and passes it on with its own root."""
    bundle = v1.RootBundle(sequence=1, roots=[other_authority.root_der], issuing=[other_authority.issuing_der])
    fake = front(proxy.answers(bundle=bundle), other_authority.proxy_leaf())
    assert refusal(lambda: fetch(fake.url)) is Code.PROXY_BINDER


def test_a_relay_that_passes_on_the_whole_answer(
    proxy: Proxy, other_authority: MiniAuthority, front: StartFront, fetch: Fetch
) -> None:
    """B shows A's root too; but B's connection is not of a certificate under it."""
    fake = front(proxy.answers(), other_authority.proxy_leaf())
    assert refusal(lambda: fetch(fake.url)) is Code.PEER_CHAIN


def test_a_workload_of_the_proxy_in_the_proxy_s_place(proxy: Proxy, front: StartFront, fetch: Fetch) -> None:
    fake = front(proxy.answers(), proxy.authority.leaf(dns=("proxy.example.org",)))
    assert refusal(lambda: fetch(fake.url)) in (Code.PEER_TRUST_DOMAIN, Code.PEER_CHAIN)


def test_the_second_answer_must_be_of_the_same_proxy(proxy: Proxy, front: StartFront, fetch: Fetch) -> None:
    def answer(number: int, request: v1.GetRootCertificateRequest) -> tuple[int, dict[str, str], bytes]:
        changes = {} if request.evidence else {"ledger_key": b"another"}
        del number
        return 200, HEADERS, proxy.response(request, **changes).SerializeToString()

    fake = front(answer, proxy.authority.proxy_leaf())
    assert refusal(lambda: fetch(fake.url)) is Code.PEER_CHAIN


def test_a_pin_beside_the_measurement_must_fit_too(proxy: Proxy, front: StartFront, fetch: Fetch) -> None:
    fake = front(proxy.answers(), proxy.authority.proxy_leaf())
    fetch(fake.url, proxy.expectation(root_pin=proxy.authority.pin))
    other = proxy.expectation(root_pin=b"\x01" * 32)
    assert refusal(lambda: fetch(fake.url, other)) is Code.PEER_ROOT_PIN


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"trust_domain": "example.com"}, Code.PEER_TRUST_DOMAIN),
        ({"simulated": False}, Code.PEER_CLAIMS_MISMATCH),
        ({"policy_digests": (b"\x08" * 32,)}, Code.PEER_CLAIMS_MISMATCH),
    ],
)
def test_what_else_was_expected(
    proxy: Proxy, front: StartFront, fetch: Fetch, changes: dict[str, Any], code: Code
) -> None:
    fake = front(proxy.answers(), proxy.authority.proxy_leaf())
    assert refusal(lambda: fetch(fake.url, proxy.expectation(**changes))) is code


def test_an_issuing_ca_that_is_none(proxy: Proxy, front: StartFront, fetch: Fetch) -> None:
    bundle = v1.RootBundle(sequence=1, roots=[proxy.authority.root_der], issuing=[b"ca"])
    fake = front(proxy.answers(bundle=bundle), proxy.authority.proxy_leaf())
    assert refusal(lambda: fetch(fake.url)) is Code.PEER_CHAIN


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("proxy.evidence_busy: too many", Code.PROXY_EVIDENCE_BUSY),
        ("attester.unavailable: no quote", Code.ATTESTER_UNAVAILABLE),
        ("something else", Code.PROXY_UNREACHABLE),
    ],
)
def test_a_proxy_that_cannot_now(proxy: Proxy, front: StartFront, fetch: Fetch, message: str, code: Code) -> None:
    body = json.dumps({"code": "unavailable", "message": message}).encode()
    fake = front(lambda _n, _r: (503, {"content-type": "application/json"}, body), proxy.authority.proxy_leaf())
    assert refusal(lambda: fetch(fake.url)) is code


def leaf_of(proxy: Proxy) -> Leaf:
    return proxy.authority.proxy_leaf()


def test_a_clone_with_the_statement_of_the_proxy(
    proxy: Proxy, other_authority: MiniAuthority, front: StartFront, fetch: Fetch
) -> None:
    copy = Proxy(proxy.vendor, proxy.now, proxy.signers).of(other_authority)
    fake = front(copy.answers(deployment_statement=proxy.note), leaf_of(copy))
    assert refusal(lambda: fetch(fake.url)) is Code.PROXY_STATEMENT_OTHER


def test_signers_that_nobody_named(proxy: Proxy, front: StartFront, fetch: Fetch) -> None:
    strangers = Proxy(proxy.vendor, proxy.now).of(proxy.authority).signers
    note = statement(proxy.facts, strangers, proxy.pins)
    fake = front(proxy.answers(deployment_statement=note), leaf_of(proxy))
    assert refusal(lambda: fetch(fake.url)) is Code.PROXY_STATEMENT_SIGNATURES
    strange = replace(proxy.expectation(), signers=tuple(one.verifier for one in strangers))
    info, _ = fetch(fake.url, strange)
    assert hashlib.sha256(proxy.root).digest() == info.pin
