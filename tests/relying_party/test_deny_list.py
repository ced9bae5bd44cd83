"""A stolen key: whoever speaks plain TLS accepts it until it expires, our clients refuse it once it is denied."""

import dataclasses
import socket
import ssl
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from deny_lists import DAY, deny_list, digest_of, other_issuing, serial_of, spki_of
from dial import HOST, REQUEST, dial, refusal
from fake_servers import Serve
from mini_authority import Leaf, MiniAuthority

from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError, PeerError, ProxyAttestationError, UnavailableError
from proxy_attestation.relying_party import AttestedContext, Expectation, attestation_error
from proxy_attestation.relying_party.deny_list import (
    RENEW_SECONDS,
    RETRY_SECONDS,
    DenyListReader,
    read_deny_list,
    read_source,
)
from proxy_attestation.relying_party.expectation_file import parse_expectation
from proxy_attestation.relying_party.httpx_adapter import attested_httpx_client
from proxy_attestation.relying_party.path import load_roots


def code_of(call: Callable[[], object]) -> Code:
    with pytest.raises(PeerError) as caught:
        call()
    return caught.value.code


class Source:
    """What a reader is served, and a clock that stands until it is moved."""

    def __init__(self, authority: MiniAuthority, *, max_age: int | None = None) -> None:
        self.answer: bytes | ProxyAttestationError = deny_list(authority)
        self.reads = 0
        self.seconds = 0.0
        self.reader = DenyListReader(
            "https://proxy.example.org/denied",
            load_roots([authority.root_der]),
            max_age=max_age,
            read=self._read,
            spawn=lambda work: work(),
            monotonic=lambda: self.seconds,
        )

    def _read(self, source: str) -> bytes:
        assert source == "https://proxy.example.org/denied"
        self.reads += 1
        if isinstance(self.answer, ProxyAttestationError):
            raise self.answer
        return self.answer


AWAY = UnavailableError(Code.PROXY_UNREACHABLE, "away")


class TestReading:
    """Steps 2 to 6 of the walk: each time one thing is wrong."""

    def test_a_good_list(self, authority: MiniAuthority, now: datetime) -> None:
        held = read_deny_list(deny_list(authority, b"\1" * 20), load_roots([authority.root_der]), now)
        assert (held.content.sequence, set(held.denied)) == (1, {b"\1" * 20})
        assert held.signer == digest_of(authority.issuing_key)

    @pytest.mark.parametrize(
        "fault",
        [
            "malformed",
            "another root",
            "forged",
            "a leaf's",
            "a root's",
            "a CA that may certify CAs",
            "expired CA",
            "future",
        ],
    )
    def test_refused(self, authority: MiniAuthority, other_authority: MiniAuthority, now: datetime, fault: str) -> None:
        leaf, (upper, upper_der) = authority.leaf(), other_issuing(authority, path_length=1)
        lists: dict[str, Callable[[], bytes]] = {
            "malformed": lambda: b"junk",
            "another root": lambda: deny_list(other_authority),
            "forged": lambda: deny_list(authority, signer=leaf.key),
            "a leaf's": lambda: deny_list(authority, signer=leaf.key, certificates=(leaf.der, authority.issuing_der)),
            "a root's": lambda: deny_list(authority, signer=authority.root_key, certificates=(authority.root_der,)),
            "a CA that may certify CAs": lambda: deny_list(authority, signer=upper, certificates=(upper_der,)),
            "expired CA": lambda: deny_list(authority),
            "future": lambda: deny_list(authority, age=timedelta(seconds=-61)),
        }
        at = now + timedelta(days=91) if fault == "expired CA" else now
        assert code_of(lambda: read_deny_list(lists[fault](), load_roots([authority.root_der]), at)) is (
            Code.CERTIFICATE_DENY_LIST
        )

    def test_an_older_one_is_refused(self, authority: MiniAuthority, now: datetime) -> None:
        roots = load_roots([authority.root_der])
        seen = read_deny_list(deny_list(authority, sequence=7), roots, now)
        assert read_deny_list(deny_list(authority, sequence=7), roots, now, seen).content.sequence == 7
        assert code_of(lambda: read_deny_list(deny_list(authority, sequence=6), roots, now, seen)) is (
            Code.CERTIFICATE_DENY_LIST_OLDER
        )

    def test_a_ca_that_was_replaced_has_no_say(self, authority: MiniAuthority, now: datetime) -> None:
        """A stolen key of a retired issuing CA signs lists with numbers as high as it likes."""
        roots = load_roots([authority.root_der])
        key, der = other_issuing(authority, since=timedelta(seconds=1))
        seen = read_deny_list(deny_list(authority, signer=key, certificates=(der,)), roots, now)
        assert code_of(lambda: read_deny_list(deny_list(authority, sequence=99), roots, now, seen)) is (
            Code.CERTIFICATE_DENY_LIST_OLDER
        )

    def test_a_ca_that_was_denied_has_no_say(self, authority: MiniAuthority, now: datetime) -> None:
        roots = load_roots([authority.root_der])
        key, der = other_issuing(authority, since=timedelta(seconds=1))
        seen = read_deny_list(deny_list(authority, digest_of(key)), roots, now)
        forged = deny_list(authority, signer=key, certificates=(der,), sequence=99)
        assert read_deny_list(forged, roots, now)
        assert code_of(lambda: read_deny_list(forged, roots, now, seen)) is Code.CERTIFICATE_DENY_LIST_OLDER


class TestReader:
    """When it reads, and what it does without a list."""

    def test_it_renews_after_five_minutes(self, authority: MiniAuthority, now: datetime) -> None:
        source, leaf = Source(authority), authority.leaf()
        source.reader.check(leaf.chain, now)
        source.answer = deny_list(authority, serial_of(leaf), sequence=2)
        source.seconds = RENEW_SECONDS - 1
        source.reader.check(leaf.chain, now)
        source.seconds = RENEW_SECONDS
        assert code_of(lambda: source.reader.check(leaf.chain, now)) is Code.CERTIFICATE_REVOKED
        assert source.reads == 2

    @pytest.mark.parametrize("what", ["serial", "key", "issuing CA"])
    def test_what_is_denied(self, authority: MiniAuthority, now: datetime, what: str) -> None:
        source, leaf = Source(authority), authority.leaf()
        denied = {"serial": serial_of(leaf), "key": digest_of(leaf.key), "issuing CA": digest_of(authority.issuing_key)}
        source.answer = deny_list(authority, denied[what])
        assert code_of(lambda: source.reader.check(leaf.chain, now)) is Code.CERTIFICATE_REVOKED
        if what != "issuing CA":
            source.reader.check(authority.leaf().chain, now)

    def test_without_a_greatest_age_a_list_that_is_away_only_warns(
        self, authority: MiniAuthority, now: datetime, caplog: pytest.LogCaptureFixture
    ) -> None:
        source = Source(authority)
        source.answer = AWAY
        source.reader.check(authority.leaf().chain, now)
        assert caplog.records

    def test_with_a_greatest_age_it_refuses(self, authority: MiniAuthority, now: datetime) -> None:
        source, leaf = Source(authority, max_age=DAY), authority.leaf()
        source.answer = AWAY
        assert code_of(lambda: source.reader.check(leaf.chain, now)) is Code.CERTIFICATE_DENY_LIST_STALE
        # It tries again before long.
        source.answer = deny_list(authority)
        source.seconds = RETRY_SECONDS
        source.reader.check(leaf.chain, now)
        source.reader.check(leaf.chain, now + timedelta(seconds=DAY))
        assert code_of(lambda: source.reader.check(leaf.chain, now + timedelta(seconds=DAY + 1))) is (
            Code.CERTIFICATE_DENY_LIST_STALE
        )

    def test_a_denial_outlives_the_list(self, authority: MiniAuthority, now: datetime) -> None:
        """Whoever keeps newer lists back does not bring back what an old one denied."""
        source, leaf = Source(authority), authority.leaf()
        source.answer = deny_list(authority, serial_of(leaf))
        assert code_of(lambda: source.reader.check(leaf.chain, now)) is Code.CERTIFICATE_REVOKED
        source.answer, source.seconds = AWAY, RENEW_SECONDS
        later = now + timedelta(days=2)
        assert code_of(lambda: source.reader.check(leaf.chain, later)) is Code.CERTIFICATE_REVOKED

    @pytest.mark.parametrize("fault", ["forged", "stripped"])
    def test_what_is_no_list_refuses_even_without_a_greatest_age(
        self, authority: MiniAuthority, now: datetime, fault: str
    ) -> None:
        source, leaf = Source(authority), authority.leaf()
        good = deny_list(authority, serial_of(leaf))
        source.answer = b"\n".join(line for line in good.split(b"\n") if not line.startswith(b"serial"))
        if fault == "forged":
            source.answer = deny_list(authority, signer=leaf.key)
        assert code_of(lambda: source.reader.check(leaf.chain, now)) is Code.CERTIFICATE_DENY_LIST

    def test_an_older_list_leaves_the_newer_one_in_force(self, authority: MiniAuthority, now: datetime) -> None:
        source, leaf = Source(authority), authority.leaf()
        source.answer = deny_list(authority, serial_of(leaf), sequence=2)
        assert code_of(lambda: source.reader.check(leaf.chain, now)) is Code.CERTIFICATE_REVOKED
        source.answer, source.seconds = deny_list(authority), RENEW_SECONDS
        assert code_of(lambda: source.reader.check(leaf.chain, now)) is Code.CERTIFICATE_REVOKED
        # Once the newer one is too old, the older one is refused for what it is.
        other, later = authority.leaf(), now + timedelta(days=2)
        source.seconds += RETRY_SECONDS
        assert code_of(lambda: source.reader.check(other.chain, later)) is Code.CERTIFICATE_DENY_LIST_OLDER


class TestSources:
    def test_a_file(self, tmp_path: Path) -> None:
        path = tmp_path / "denied"
        path.write_bytes(b"list")
        assert read_source(str(path)) == b"list"
        path.write_bytes(b"x" * (960 * 1024 + 1))
        assert code_of(lambda: read_source(str(path))) is Code.CERTIFICATE_DENY_LIST

    def test_no_file_and_no_server(self, tmp_path: Path) -> None:
        with socket.socket() as bound:
            bound.bind((HOST, 0))  # not listening: the connection is refused
            for source in (str(tmp_path / "none"), f"https://{HOST}:{bound.getsockname()[1]}/denied", "https://["):
                with pytest.raises(UnavailableError) as caught:
                    read_source(source)
                assert caught.value.code is Code.PROXY_UNREACHABLE

    def test_a_server(self, authority: MiniAuthority, serve: Serve) -> None:
        server = serve(authority.proxy_leaf())
        assert read_source(f"https://{HOST}:{server.port}/denied") == b"hello"


@pytest.fixture
def stolen(authority: MiniAuthority) -> Leaf:
    return authority.leaf()


@pytest.fixture
def denied_file(tmp_path: Path, authority: MiniAuthority, stolen: Leaf) -> Path:
    path = tmp_path / "denied"
    path.write_bytes(deny_list(authority, serial_of(stolen)))
    return path


def test_a_stolen_leaf_key(
    authority: MiniAuthority, expectation: Expectation, serve: Serve, stolen: Leaf, denied_file: Path
) -> None:
    server = serve(stolen)
    # Plain TLS: accepted.
    plain = ssl.create_default_context(cadata=ssl.DER_cert_to_PEM_cert(authority.root_der))
    with socket.create_connection((HOST, server.port), 30) as raw, plain.wrap_socket(raw, server_hostname=HOST) as tls:
        tls.sendall(REQUEST)
        assert tls.recv(8)
    received = server.received
    # Ours, without a list: accepted; with one: refused, before a byte of the application.
    dial(AttestedContext(expectation, [authority.root_der]), server.port).close()
    reading = dataclasses.replace(expectation, deny_list=str(denied_file), deny_list_max_age=DAY)
    context = AttestedContext(reading, [authority.root_der])
    assert refusal(lambda: dial(context, server.port)).code is Code.CERTIFICATE_REVOKED
    connection = dial(context, server.port, do_handshake_on_connect=False)
    assert refusal(lambda: connection.sendall(REQUEST)).code is Code.CERTIFICATE_REVOKED
    connection.close()
    with attested_httpx_client(reading, [authority.root_der]) as client, pytest.raises(httpx.ConnectError) as caught:
        client.get(f"https://{HOST}:{server.port}/")
    refused = attestation_error(caught.value)
    assert refused is not None
    assert refused.code is Code.CERTIFICATE_REVOKED
    server.finish()
    assert server.received == received
    # The workload itself, with a new key.
    fresh = serve(authority.leaf())
    dial(context, fresh.port).close()


def test_a_client_s_certificate_is_denied_too(
    authority: MiniAuthority, expectation: Expectation, stolen: Leaf, denied_file: Path
) -> None:
    reading = dataclasses.replace(expectation, deny_list=str(denied_file))
    context = AttestedContext(reading, [authority.root_der], server_side=True)
    assert code_of(lambda: context.check_peer(stolen.chain, None)) is Code.CERTIFICATE_REVOKED
    context.check_peer(authority.leaf().chain, None)


def test_the_list_must_be_of_the_pinned_root(
    authority: MiniAuthority, other_authority: MiniAuthority, expectation: Expectation, tmp_path: Path
) -> None:
    path = tmp_path / "denied"
    path.write_bytes(deny_list(other_authority))
    reading = dataclasses.replace(expectation, deny_list=str(path), root_pin=authority.pin)
    context = AttestedContext(reading, [authority.root_der, other_authority.root_der])
    assert code_of(lambda: context.check_peer(authority.leaf().chain, HOST)) is Code.CERTIFICATE_DENY_LIST


TEXT = 'trust_domain = "example.org"\nworkload = "example-app"\n'


def _none(name: str) -> bytes:
    raise OSError(name)


def test_the_expectation_names_it_in_one_line() -> None:
    found = parse_expectation(f'{TEXT}deny_list = "https://proxy/denied"\ndeny_list_max_age = "25h"\n', _none)
    assert (found.deny_list, found.deny_list_max_age) == ("https://proxy/denied", 25 * 3600)


@pytest.mark.parametrize(
    "line",
    [
        "deny_list = 1",
        'deny_list = ""',
        'deny_list = "http://proxy/denied"',
        'deny_list_max_age = "25h"',
        'deny_list = "a"\ndeny_list_max_age = 90000',
        'deny_list = "a"\ndeny_list_max_age = "0h"',
        'deny_list = "a"\ndeny_list_max_age = "25 h"',
    ],
)
def test_an_expectation_that_cannot_be_meant_is_refused(line: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_expectation(f"{TEXT}{line}\n", _none)
    assert caught.value.code is Code.CONFIGURATION_MALFORMED


def test_keys_and_serials_of_the_support_are_what_they_say(authority: MiniAuthority, stolen: Leaf) -> None:
    certificate: Any = x509.load_der_x509_certificate(stolen.der)
    assert certificate.public_key() == stolen.key.public_key()
    assert len(serial_of(stolen)) == 20
    assert spki_of(authority.issuing_key) != spki_of(stolen.key)
