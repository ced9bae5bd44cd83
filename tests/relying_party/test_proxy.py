"""Fetching a root: the pin, the two calls, and everything that may answer instead of the proxy."""

import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from fake_servers import Answer, StartFront, always
from mini_authority import MiniAuthority

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError, PeerError, UnavailableError, UsageError
from proxy_attestation.relying_party.proxy import fetch_root
from proxy_attestation.v1 import proxy_attestation_pb2 as v1

HOST = "127.0.0.1"
HEADERS = {"content-type": "application/proto"}


def refusal(call: Callable[[], object]) -> Code:
    with pytest.raises(PeerError) as caught:
        call()
    return caught.value.code


def test_fetches_the_pinned_root(authority: MiniAuthority, front: StartFront) -> None:
    fake = front(always(authority.answer()), authority.proxy_leaf())
    info = fetch_root(fake.url, authority.pin)
    assert info.root == authority.root_der
    assert info.pin == authority.pin
    assert info.issuing == (authority.issuing_der,)
    assert (info.sequence, info.trust_domain, info.policy_digest) == (3, "example.org", b"\x07" * 32)
    assert (info.key_origin, info.simulated, info.dangers) == ("file", True, ("allow_debug example-app",))
    nonces = [request.nonce for request in fake.requests]
    assert [len(nonce) for nonce in nonces] == [32, 32]
    assert nonces[0] != nonces[1]


def test_other_roots_of_the_bundle_are_left_out(
    authority: MiniAuthority, other_authority: MiniAuthority, front: StartFront
) -> None:
    bundle = v1.RootBundle(sequence=1, roots=[other_authority.root_der, authority.root_der], issuing=[b"ca"])
    fake = front(always(authority.answer(bundle=bundle)), authority.proxy_leaf())
    assert fetch_root(fake.url, authority.pin).root == authority.root_der


def test_evidence_may_differ_from_call_to_call(authority: MiniAuthority, front: StartFront) -> None:
    def answer(_number: int, request: v1.GetRootCertificateRequest) -> tuple[int, dict[str, str], bytes]:
        return 200, HEADERS, authority.answer(evidence=request.nonce).SerializeToString()

    fake = front(answer, authority.proxy_leaf())
    assert fetch_root(fake.url, authority.pin).evidence == fake.requests[1].nonce


def test_server_name_wins_over_the_url(authority: MiniAuthority, front: StartFront) -> None:
    fake = front(always(authority.answer()), authority.proxy_leaf(ip=()))
    assert fetch_root(fake.url, authority.pin, server_name="proxy.example.org").root == authority.root_der
    assert refusal(lambda: fetch_root(fake.url, authority.pin)) is Code.PEER_NAME


@pytest.mark.parametrize("pin", [b"", b"\1" * 31, bytes(32)])
def test_there_is_no_fetching_without_a_pin(authority: MiniAuthority, front: StartFront, pin: bytes) -> None:
    fake = front(always(authority.answer()), authority.proxy_leaf())
    assert refusal(lambda: fetch_root(fake.url, pin)) is Code.PEER_ROOT_PIN
    assert fake.requests == []


def test_another_root_is_refused(authority: MiniAuthority, other_authority: MiniAuthority, front: StartFront) -> None:
    fake = front(always(other_authority.answer()), other_authority.proxy_leaf())
    assert refusal(lambda: fetch_root(fake.url, authority.pin)) is Code.PEER_ROOT_PIN
    assert len(fake.requests) == 1


def test_two_certificates_of_the_pinned_key_are_refused(authority: MiniAuthority, front: StartFront) -> None:
    again = authority.reissued_root().public_bytes(Encoding.DER)
    bundle = v1.RootBundle(sequence=1, roots=[authority.root_der, again], issuing=[authority.issuing_der])
    fake = front(always(authority.answer(bundle=bundle)), authority.proxy_leaf())
    assert refusal(lambda: fetch_root(fake.url, authority.pin)) is Code.PEER_ROOT_PIN


def test_somebody_who_repeats_the_right_answer_is_refused(
    authority: MiniAuthority, other_authority: MiniAuthority, front: StartFront
) -> None:
    # The man in the middle: the proxy's own words over his own TLS.
    fake = front(always(authority.answer()), other_authority.proxy_leaf())
    assert refusal(lambda: fetch_root(fake.url, authority.pin)) is Code.PEER_CHAIN
    assert len(fake.requests) == 1


def test_a_workload_under_the_right_root_is_refused(authority: MiniAuthority, front: StartFront) -> None:
    fake = front(always(authority.answer()), authority.leaf())
    assert refusal(lambda: fetch_root(fake.url, authority.pin)) is Code.PEER_TRUST_DOMAIN


def test_a_trust_domain_that_is_not_the_certificates_is_refused(authority: MiniAuthority, front: StartFront) -> None:
    fake = front(always(authority.answer(trust_domain="evil.test")), authority.proxy_leaf())
    assert refusal(lambda: fetch_root(fake.url, authority.pin)) is Code.PEER_TRUST_DOMAIN


def test_somebody_who_steps_in_for_the_second_call_is_refused(
    authority: MiniAuthority, other_authority: MiniAuthority, front: StartFront
) -> None:
    fake = front(always(authority.answer()), authority.proxy_leaf(), other_authority.proxy_leaf())
    assert refusal(lambda: fetch_root(fake.url, authority.pin)) is Code.PEER_CHAIN
    assert len(fake.requests) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"simulated": False},
        {"key_origin": "tee"},
        {"deployment_statement": b"other"},
        {"ledger_key": b"other"},
    ],
)
def test_answers_that_differ_are_refused(changes: dict[str, Any], authority: MiniAuthority, front: StartFront) -> None:
    def answer(number: int, _request: v1.GetRootCertificateRequest) -> tuple[int, dict[str, str], bytes]:
        return 200, HEADERS, authority.answer(**(changes if number else {})).SerializeToString()

    fake = front(answer, authority.proxy_leaf())
    assert refusal(lambda: fetch_root(fake.url, authority.pin)) is Code.PEER_CHAIN


def test_a_policy_that_changes_between_the_calls_is_the_proxys_own_business(
    authority: MiniAuthority, front: StartFront
) -> None:
    def answer(number: int, _request: v1.GetRootCertificateRequest) -> tuple[int, dict[str, str], bytes]:
        changes: dict[str, Any] = {"policy_digest": b"\x08" * 32} if number else {}
        return 200, HEADERS, authority.answer(**changes).SerializeToString()

    fake = front(answer, authority.proxy_leaf())
    assert fetch_root(fake.url, authority.pin).policy_digest == b"\x08" * 32


NONSENSE: dict[str, Answer] = {
    "not found": lambda _n, _r: (404, HEADERS, b""),
    "redirect": lambda _n, _r: (302, {"location": "https://127.0.0.1/"}, b""),
    "JSON": lambda _n, _r: (200, {"content-type": "application/json"}, b"{}"),
    "no type": lambda _n, _r: (200, {}, b""),
    "not protobuf": lambda _n, _r: (200, HEADERS, b"\xff"),
    "empty": lambda _n, _r: (200, HEADERS, b""),
    "compressed": lambda _n, _r: (200, HEADERS | {"content-encoding": "gzip"}, b"\x1f\x8b"),
}


@pytest.mark.parametrize("kind", NONSENSE)
def test_nonsense_is_no_answer(kind: str, authority: MiniAuthority, front: StartFront) -> None:
    fake = front(NONSENSE[kind], authority.proxy_leaf())
    with pytest.raises(FormatError) as caught:
        fetch_root(fake.url, authority.pin)
    assert caught.value.code is Code.PROXY_PROTOCOL


def test_an_answer_that_is_too_large_is_none(authority: MiniAuthority, front: StartFront) -> None:
    fake = front(always(authority.answer(evidence=bytes(512 * 1024))), authority.proxy_leaf())
    with pytest.raises(FormatError) as caught:
        fetch_root(fake.url, authority.pin)
    assert caught.value.code is Code.PROXY_PROTOCOL


@pytest.mark.parametrize(
    "changes",
    [
        {"bundle": v1.RootBundle(issuing=[b"ca"])},
        {"bundle": v1.RootBundle(roots=[b"junk"], issuing=[b"ca"])},
        {"bundle": v1.RootBundle(roots=[b"junk"] * 9, issuing=[b"ca"])},
        {"trust_domain": ""},
        {"trust_domain": "example.org/a"},
        {"policy_digest": b""},
        {"dangers": ["d"] * 1025},
    ],
)
def test_answers_with_holes_are_none(changes: dict[str, Any], authority: MiniAuthority, front: StartFront) -> None:
    fake = front(always(authority.answer(**changes)), authority.proxy_leaf())
    with pytest.raises(FormatError) as caught:
        fetch_root(fake.url, authority.pin)
    assert caught.value.code is Code.PROXY_PROTOCOL


def test_roots_that_are_none_are_no_answer(authority: MiniAuthority, front: StartFront) -> None:
    for root in (authority.issuing_der, authority.leaf().der):
        bundle = v1.RootBundle(roots=[root], issuing=[authority.issuing_der])
        fake = front(always(authority.answer(bundle=bundle)), authority.proxy_leaf())
        with pytest.raises(FormatError) as caught:
            fetch_root(fake.url, authority.pin)
        assert caught.value.code is Code.PROXY_PROTOCOL


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_proxy_that_cannot_answer_is_unavailable(status: int, authority: MiniAuthority, front: StartFront) -> None:
    fake = front(lambda _n, _r: (status, HEADERS, b""), authority.proxy_leaf())
    with pytest.raises(UnavailableError) as caught:
        fetch_root(fake.url, authority.pin)
    assert caught.value.code is Code.PROXY_UNREACHABLE


def test_nobody_there_is_unavailable(authority: MiniAuthority) -> None:
    with socket.socket() as reserved:
        # Bound and not listening: connections are refused, and nobody else can take the port.
        reserved.bind((HOST, 0))
        with pytest.raises(UnavailableError) as caught:
            fetch_root(f"https://{HOST}:{reserved.getsockname()[1]}", authority.pin)
    assert caught.value.code is Code.PROXY_UNREACHABLE


def test_silence_is_unavailable(authority: MiniAuthority) -> None:
    # The kernel accepts for a listener that nobody reads from.
    with socket.create_server((HOST, 0)) as silent, pytest.raises(UnavailableError) as caught:
        fetch_root(f"https://{HOST}:{silent.getsockname()[1]}", authority.pin, timeout=0.2)
    assert caught.value.code is Code.PROXY_UNREACHABLE


def test_an_answer_that_trickles_is_unavailable(authority: MiniAuthority, tmp_path: Path) -> None:
    # Each step is in time, the whole never is: without a deadline of its own this would go on as long as it likes.
    context = authority.proxy_leaf().server_context(tmp_path)
    gone = threading.Event()

    def trickle(listener: socket.socket) -> None:
        raw, _ = listener.accept()
        with raw:
            try:
                with context.wrap_socket(raw, server_side=True) as connection:
                    connection.recv(65536)
                    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/proto\r\n\r\n")
                    while not gone.wait(0.05):
                        connection.sendall(b"\0")
            except OSError:
                return

    with socket.create_server((HOST, 0)) as listener:
        thread = threading.Thread(target=trickle, args=(listener,))
        thread.start()
        with pytest.raises(UnavailableError) as caught:
            fetch_root(f"https://{HOST}:{listener.getsockname()[1]}", authority.pin, timeout=0.5)
        gone.set()
        thread.join(30)
    assert caught.value.code is Code.PROXY_UNREACHABLE


def test_tls_1_2_is_unavailable(authority: MiniAuthority, front: StartFront) -> None:
    fake = front(always(authority.answer()), authority.proxy_leaf(), version=ssl.TLSVersion.TLSv1_2)
    with pytest.raises(UnavailableError) as caught:
        fetch_root(fake.url, authority.pin)
    assert caught.value.code is Code.PROXY_UNREACHABLE
    assert fake.requests == []


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1",
        "127.0.0.1:1",
        "https://",
        "https://127.0.0.1:1/path",
        "https://127.0.0.1:1/?query",
        "https://127.0.0.1:1/#fragment",
        "https://user@127.0.0.1:1",
        "https://127.0.0.1:99999",
        "https://[::1",
        "https://\x00",
        "",
    ],
)
def test_other_urls_are_refused(url: str, authority: MiniAuthority) -> None:
    with pytest.raises(UsageError):
        fetch_root(url, authority.pin)
