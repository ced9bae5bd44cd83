"""What happens in the handshake: refusals with their codes, resumed sessions, and no way on in clear."""

import socket
import ssl
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from dial import dial, refusal
from fake_servers import Serve
from mini_authority import MiniAuthority

from proxy_attestation.codes import Code
from proxy_attestation.errors import PeerError
from proxy_attestation.relying_party import (
    AttestationVerificationError,
    AttestedContext,
    Expectation,
    Peer,
    attestation_error,
)
from proxy_attestation.relying_party.context import CHAINS_MAX
from proxy_attestation.relying_party.failure import from_openssl
from proxy_attestation.relying_party.handshake import CheckedSocket

HOST = "127.0.0.1"
REQUEST = b"GET / HTTP/1.1\r\nhost: app.example.org\r\n\r\n"


# (what is wrong with the leaf, code): the first half is refused by OpenSSL already, the second by our check alone.
LEAVES: dict[str, tuple[dict[str, Any], Code]] = {
    "expired": ({"not_after": timedelta(seconds=-1)}, Code.PEER_EXPIRED),
    "not yet valid": ({"not_before": timedelta(hours=1)}, Code.PEER_EXPIRED),
    "other address": ({"ip": ("127.0.0.2",)}, Code.PEER_NAME),
    "missing intermediate": ({"present": lambda _, der: (der,)}, Code.PEER_CHAIN),
    "extra leaf": ({"present": lambda ca, der: (der, ca.issuing_der, ca.leaf().der)}, Code.PEER_CHAIN),
    "other trust domain": ({"uri": ("spiffe://evil.test/example-app",)}, Code.PEER_TRUST_DOMAIN),
    "proxy as workload": ({"uri": ("spiffe://example.org/proxy-attestation/server",)}, Code.PEER_TRUST_DOMAIN),
    "no claims": ({"without_claims": True}, Code.PEER_CLAIMS_MISSING),
    "claims twice": ({"second_claims": True}, Code.PEER_CLAIMS_MALFORMED),
    "malformed claims": ({"claims": b"\x04\x00"}, Code.PEER_CLAIMS_MALFORMED),
    "claims about another key": ({"claims_key": b"key"}, Code.PEER_CLAIMS_KEY),
    "simulated": ({"claims": {"simulated": True}}, Code.PEER_CLAIMS_MISMATCH),
    "old TCB": ({"claims": {"tcb_status": "OutOfDate"}}, Code.PEER_CLAIMS_MISMATCH),
    "other measurement": ({"claims": {"measurements": (("mr_enclave", b"\1" * 32),)}}, Code.PEER_CLAIMS_MISMATCH),
    "other application": ({"claims": {"application_sha256": b"\1" * 32}}, Code.PEER_CLAIMS_MISMATCH),
}


@pytest.mark.parametrize("fault", LEAVES)
def test_every_refusal_carries_its_code_and_no_byte(
    fault: str, authority: MiniAuthority, context: AttestedContext, serve: Serve
) -> None:
    changes, code = LEAVES[fault]
    server = serve(authority.leaf(**changes))
    error = refusal(lambda: dial(context, server.port))
    assert error.code is code
    assert isinstance(error.__cause__, PeerError)
    assert error.__cause__ is error.error
    # And through the lazy path, whose first act is a write.
    with dial(context, server.port, do_handshake_on_connect=False) as connection:
        assert refusal(lambda: connection.sendall(REQUEST)).code is code
    server.finish()
    assert server.received == b""


def test_mismatches_travel_with_the_refusal(authority: MiniAuthority, context: AttestedContext, serve: Serve) -> None:
    server = serve(authority.leaf(claims={"simulated": True}))
    error = refusal(lambda: dial(context, server.port))
    assert isinstance(error.error, PeerError)
    assert [(m.code, m.field, m.expected, m.actual) for m in error.error.mismatches] == [
        (Code.POLICY_CLAIM, "simulated", "false", "true")
    ]


def test_resumed_sessions_are_checked_again(
    authority: MiniAuthority, expectation: Expectation, serve: Serve, now: datetime
) -> None:
    times = [now]
    context = AttestedContext(expectation, [authority.root_der], clock=lambda: times[-1])
    server = serve(authority.leaf())
    sessions: list[ssl.SSLSession | None] = []
    for expected in (False, True, True):
        session = sessions[-1] if sessions else None
        with dial(context, server.port, session=session) as connection:
            connection.sendall(REQUEST)
            assert connection.recv(65536).endswith(b"hello")
            assert connection.session_reused is expected
            sessions.append(connection.session)
    received = server.received
    # OpenSSL looks at no certificate when it resumes: only our check can see that the leaf has expired since.
    times.append(now + timedelta(hours=25))
    error = refusal(lambda: dial(context, server.port, session=sessions[-1]))
    assert error.code is Code.PEER_EXPIRED
    server.finish()
    assert server.resumed == 3
    assert server.received == received


def test_a_session_whose_chain_was_forgotten_is_refused(
    authority: MiniAuthority, context: AttestedContext, serve: Serve
) -> None:
    server = serve(authority.leaf())
    with dial(context, server.port) as connection:
        connection.sendall(REQUEST)
        assert connection.recv(65536).endswith(b"hello")
        session = connection.session
        assert isinstance(connection.attested_peer, Peer)
        leaf = connection.attested_peer.chain[0]
    received = server.received
    for number in range(CHAINS_MAX):
        assert len(context.remembered(leaf)) == 2
        context.remember((number.to_bytes(4, "big"), b""))
    assert context.remembered(leaf) == ()
    assert refusal(lambda: dial(context, server.port, session=session)).code is Code.PEER_CHAIN
    server.finish()
    assert server.received == received


@pytest.mark.parametrize("server_hostname", [None, ""])
def test_no_server_name_is_no_connection(
    authority: MiniAuthority, context: AttestedContext, serve: Serve, server_hostname: str | None
) -> None:
    server = serve(authority.leaf())
    with pytest.raises(ValueError):
        dial(context, server.port, server_hostname=server_hostname)
    server.finish()
    assert server.received == b""


def test_no_server_name_over_memory_buffers_is_refused(
    authority: MiniAuthority, context: AttestedContext, tmp_path: Path
) -> None:
    # The standard library demands a name for a socket only, and OpenSSL checks none where none was given.
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(to_client, to_server, server_hostname=None)
    server = authority.leaf().server_context(tmp_path).wrap_bio(to_server, to_client, server_side=True)
    with pytest.raises(ssl.SSLWantReadError):
        client.write(REQUEST)
    with pytest.raises(ssl.SSLWantReadError):
        server.do_handshake()
    for _ in range(2):
        assert refusal(lambda: client.write(REQUEST)).code is Code.PEER_NAME
    server.do_handshake()
    with pytest.raises(ssl.SSLWantReadError):
        server.read(1)


def test_tls_1_2_is_refused(authority: MiniAuthority, context: AttestedContext, serve: Serve, tmp_path: Path) -> None:
    server = serve(authority.leaf())
    old = authority.leaf().server_context(tmp_path)
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_2
    server.use(old)
    with pytest.raises(ssl.SSLError) as caught:
        dial(context, server.port)
    # Not a verdict on the peer: no certificate was seen.
    assert attestation_error(caught.value) is None
    server.finish()
    assert server.received == b""


@pytest.mark.parametrize("end", [lambda c: c.shutdown(socket.SHUT_RD), lambda c: c.unwrap()])
def test_nothing_goes_out_in_clear_afterwards(
    end: Callable[[CheckedSocket], object], authority: MiniAuthority, context: AttestedContext, serve: Serve
) -> None:
    # The standard library's socket falls back to TCP after shutdown() and unwrap().
    server = serve(authority.leaf())
    with dial(context, server.port) as connection:
        end(connection)
        attempts: tuple[Callable[[], object], ...] = (
            lambda: connection.send(b"clear"),
            lambda: connection.sendall(b"clear"),
            lambda: connection.recv(1),
            lambda: connection.recv_into(bytearray(1)),
            lambda: connection.recvfrom(1),
            lambda: connection.recvfrom_into(bytearray(1)),
        )
        for attempt in attempts:
            with pytest.raises(OSError):
                attempt()
        with pytest.raises(ValueError):
            connection.sendto(b"clear", (HOST, 1))


def test_the_context_of_a_connection_cannot_be_replaced(
    authority: MiniAuthority, context: AttestedContext, serve: Serve
) -> None:
    server = serve(authority.leaf())
    other = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with dial(context, server.port) as connection, pytest.raises(AttributeError):
        connection.context = other
    tls = context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=HOST)
    with pytest.raises(AttributeError):
        tls.context = other


def test_the_check_uses_the_name_of_the_handshake(
    authority: MiniAuthority, context: AttestedContext, serve: Serve
) -> None:
    server = serve(authority.leaf())
    with dial(context, server.port, server_hostname="app.example.org", do_handshake_on_connect=False) as connection:
        connection.server_hostname = "other.example.org"
        connection.do_handshake()
        assert connection.attested_peer is not None


def test_a_bug_in_the_check_refuses(authority: MiniAuthority, expectation: Expectation, serve: Serve) -> None:
    def broken() -> datetime:
        raise ZeroDivisionError

    server = serve(authority.leaf())
    context = AttestedContext(expectation, [authority.root_der], clock=broken)
    error = refusal(lambda: dial(context, server.port))
    assert error.code is Code.INTERNAL
    assert isinstance(error.__cause__.__cause__ if error.__cause__ else None, ZeroDivisionError)
    server.finish()
    assert server.received == b""


def test_our_error_is_found_in_what_clients_raise() -> None:
    ours = PeerError(Code.PEER_NAME)
    assert attestation_error(None) is None
    assert attestation_error(ValueError()) is None
    assert attestation_error(ours) is ours
    assert attestation_error(AttestationVerificationError(ours)) is ours
    wrapped: BaseException = AttestationVerificationError(ours)
    for _ in range(3):
        outer = OSError()
        outer.__context__ = wrapped
        wrapped = outer
    assert attestation_error(wrapped) is ours
    circle = ValueError()
    circle.__cause__ = circle
    assert attestation_error(circle) is None


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (9, Code.PEER_EXPIRED),
        (10, Code.PEER_EXPIRED),
        (62, Code.PEER_NAME),
        (64, Code.PEER_NAME),
        (20, Code.PEER_CHAIN),
    ],
)
def test_openssl_numbers_have_codes(number: int, code: Code) -> None:
    error = ssl.SSLCertVerificationError()
    error.verify_code = number
    error.verify_message = "why"
    assert from_openssl(error).code is code
