"""Who controls the network: replays, swapped keys, relays between two proxies. He gets no certificate by any of it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from issuing import Issuing, issuing
from workload import Workload, new_key, request_for

from proxy_attestation.codes import Code
from proxy_attestation.formats.csr import build_csr, decode_csr
from proxy_attestation.formats.evidence import Evidence, encode_evidence
from proxy_attestation.formats.root_binder import bind_root
from proxy_attestation.formats.tee import Tee
from proxy_attestation.v1 import proxy_attestation_pb2 as pb


@pytest.fixture
def second(proxy: Issuing, tmp_path: Path) -> Iterator[Issuing]:
    """Another proxy, of the same vendor, policy and trust domain, with keys of its own."""
    directory = tmp_path / "second"
    directory.mkdir()
    with issuing(directory, proxy.now) as made:
        yield made


def test_a_call_that_was_seen_gives_the_thief_nothing_but_the_same_certificate(proxy: Issuing, app: Workload) -> None:
    """It is public, and for the key of the workload."""
    seen = app.message(proxy.challenge(), request_for(), new_key())
    size = proxy.issuer.authority.ledger.size()
    first, again = proxy.sign(seen), proxy.sign(seen)
    assert again.chain == first.chain
    assert proxy.issuer.authority.ledger.size() == size + 1


def test_a_call_that_was_seen_is_of_no_use_two_minutes_later(proxy: Issuing, app: Workload, refusal: Any) -> None:
    seen = app.message(proxy.challenge(), request_for(), new_key())
    proxy.move(seconds=121)
    assert refusal(lambda: proxy.sign(seen)).code is Code.CHALLENGE_EXPIRED


def test_evidence_that_was_seen_under_a_challenge_of_the_thief(proxy: Issuing, app: Workload, refusal: Any) -> None:
    seen = app.message(proxy.challenge(), request_for(), new_key())
    mine = proxy.challenge()
    seen.session_token = mine.session_token
    assert refusal(lambda: proxy.sign(seen)).code is Code.BINDER_MISMATCH


def test_a_key_of_the_thief_under_evidence_that_was_seen(proxy: Issuing, app: Workload, refusal: Any) -> None:
    theirs, mine = new_key(), new_key()
    call = app.message(proxy.challenge(), request_for(), mine, attested=theirs)
    assert refusal(lambda: proxy.sign(call)).code is Code.BINDER_MISMATCH


def test_the_attested_key_without_a_signature_by_it(proxy: Issuing, app: Workload, refusal: Any) -> None:
    """He names the attested key, and cannot sign with it."""
    seen = app.message(proxy.challenge(), request_for(), new_key())
    seen.csr = seen.csr[:-1] + bytes([seen.csr[-1] ^ 1])
    assert decode_csr(seen.csr).spki
    assert refusal(lambda: proxy.sign(seen)).code is Code.CSR_SIGNATURE


def test_another_request_under_evidence_that_was_seen(proxy: Issuing, app: Workload, refusal: Any) -> None:
    seen = app.message(proxy.challenge(), request_for(), new_key())
    seen.request = request_for(lifetime=3601)
    assert refusal(lambda: proxy.sign(seen)).code is Code.BINDER_MISMATCH


def test_no_evidence(proxy: Issuing, refusal: Any) -> None:
    csr = build_csr(new_key(), None)
    call = pb.GetSignedCertificateRequest(session_token=proxy.challenge().session_token, request=request_for(), csr=csr)
    assert refusal(lambda: proxy.sign(call)).code is Code.EVIDENCE_MISSING


class TestRelay:
    """A relay between two proxies that accept the same workloads."""

    def test_a_call_for_one_is_none_for_the_other(
        self, proxy: Issuing, second: Issuing, app: Workload, refusal: Any
    ) -> None:
        call = app.message(proxy.challenge(), request_for(), new_key())
        assert refusal(lambda: second.sign(call)).code is Code.CHALLENGE_INVALID
        proxy.sign(call)

    def test_evidence_over_the_challenge_of_one_under_the_token_of_the_other(
        self, proxy: Issuing, second: Issuing, app: Workload, refusal: Any
    ) -> None:
        """B hands A's session and nonce to a workload as its own; the issuing CA's name in the binder is B's."""
        of_a, of_b = proxy.challenge(), second.challenge()
        shown = pb.GetChallengeResponse(
            session_token=of_a.session_token, session_id=of_a.session_id, nonce=of_a.nonce, ca_id=of_b.ca_id
        )
        call = app.message(shown, request_for(), new_key())
        assert refusal(lambda: proxy.sign(call)).code is Code.BINDER_MISMATCH
        shown.ca_id = of_a.ca_id  # the one thing that was wrong
        proxy.sign(app.message(shown, request_for(), new_key()))

    def test_evidence_that_one_proxy_makes_of_itself_is_none_of_a_workload(
        self, proxy: Issuing, app: Workload, refusal: Callable[[Callable[[], object]], Any]
    ) -> None:
        """Even where the proxy's image were a workload's: what it quotes begins with another label."""
        challenge, key = proxy.challenge(), new_key()
        root = bind_root(proxy.issuer.authority.root_facts(), challenge.nonce)
        csr = build_csr(key, encode_evidence(Evidence(Tee.SGX, app.platform.quote(root.report_data))))
        call = pb.GetSignedCertificateRequest(session_token=challenge.session_token, request=request_for(), csr=csr)
        assert refusal(lambda: proxy.sign(call)).code is Code.BINDER_MISMATCH

    def test_the_two_have_nothing_in_common(self, proxy: Issuing, second: Issuing) -> None:
        one, two = (of.issuer.authority for of in (proxy, second))
        assert one.root.spki != two.root.spki
        assert one.active.ca.ca_id != two.active.ca.ca_id
        assert one.ledger_key != two.ledger_key
