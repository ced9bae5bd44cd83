"""The pure check: what the default leaf passes, and every refusal with exactly one thing wrong."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mini_authority import MiniAuthority

from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError, PeerError
from proxy_attestation.formats.request import Names
from proxy_attestation.relying_party import Expectation, check_chain

DNS = "app.example.org"
HOUR = timedelta(hours=1)


def refusal(call: Callable[[], object]) -> PeerError:
    with pytest.raises(PeerError) as caught:
        call()
    return caught.value


def test_accepts_what_was_expected(authority: MiniAuthority, expectation: Expectation, now: datetime) -> None:
    leaf = authority.leaf()
    peer = check_chain(leaf.chain, [authority.root_der], expectation, now, server_name=DNS)
    assert peer.chain == leaf.chain
    assert peer.root == authority.root_der
    assert peer.spiffe_id == "spiffe://example.org/example-app"
    assert peer.workload == "example-app"
    assert peer.names == Names((DNS,), (bytes((127, 0, 0, 1)),), ("spiffe://example.org/example-app",))
    assert peer.not_after == now + timedelta(hours=24)
    assert peer.claims.tcb_status == "UpToDate"


@pytest.mark.parametrize("server_name", [DNS, "APP.EXAMPLE.ORG", "127.0.0.1", None])
def test_accepts_each_form_of_name(
    authority: MiniAuthority, expectation: Expectation, now: datetime, server_name: str | None
) -> None:
    assert check_chain(authority.leaf().chain, [authority.root_der], expectation, now, server_name=server_name)


def test_accepts_ipv6(authority: MiniAuthority, expectation: Expectation, now: datetime) -> None:
    leaf = authority.leaf(ip=("2001:db8::1",))
    assert check_chain(leaf.chain, [authority.root_der], expectation, now, server_name="2001:DB8:0::1")


def test_accepts_the_root_as_third_certificate(
    authority: MiniAuthority, expectation: Expectation, now: datetime
) -> None:
    leaf = authority.leaf(present=lambda ca, der: (der, ca.issuing_der, ca.root_der))
    assert check_chain(leaf.chain, [authority.root_der], expectation, now, server_name=DNS).root == authority.root_der


def test_accepts_a_second_trusted_root(
    authority: MiniAuthority, other_authority: MiniAuthority, expectation: Expectation, now: datetime
) -> None:
    roots = [other_authority.root_der, authority.root_der]
    peer = check_chain(authority.leaf().chain, roots, expectation, now, server_name=DNS)
    assert peer.root == authority.root_der


# What the peer presents: exactly one thing is wrong with each.
CHAINS = {
    "nothing": (),
    "missing intermediate": ("leaf",),
    "root in place of intermediate": ("leaf", "root"),
    "other issuing CA": ("leaf", "other issuing"),
    "wrong order": ("issuing", "leaf"),
    "second leaf between": ("leaf", "other leaf", "issuing"),
    "second leaf at the end": ("leaf", "issuing", "other leaf"),
    "leaf twice": ("leaf", "leaf", "issuing"),
    "other root at the end": ("leaf", "issuing", "other root"),
    "root of another certificate": ("leaf", "issuing", "reissued root"),
    "issuing CA twice": ("leaf", "issuing", "issuing"),
    "four certificates": ("leaf", "issuing", "root", "root"),
    "junk intermediate": ("leaf", "junk"),
    "junk at the end": ("leaf", "issuing", "junk"),
    "byte after the leaf": ("long leaf", "issuing"),
    "certificate too large": ("leaf", "too large"),
    "leaf with another signature": ("forged leaf", "issuing"),
}


@pytest.mark.parametrize("fault", CHAINS)
def test_refuses_chain(
    fault: str, authority: MiniAuthority, other_authority: MiniAuthority, expectation: Expectation, now: datetime
) -> None:
    leaf = authority.leaf().der
    parts = {
        "leaf": leaf,
        "issuing": authority.issuing_der,
        "root": authority.root_der,
        "other leaf": authority.leaf().der,
        "other issuing": other_authority.issuing_der,
        "other root": other_authority.root_der,
        "reissued root": authority.reissued_root().public_bytes(Encoding.DER),
        "junk": b"junk",
        "too large": b"\x30" * (8 * 1024 + 1),
        "long leaf": leaf + b"\0",
        "forged leaf": leaf[:-1] + bytes([leaf[-1] ^ 1]),
    }
    chain = [parts[name] for name in CHAINS[fault]]
    error = refusal(lambda: check_chain(chain, [authority.root_der], expectation, now, server_name=DNS))
    assert error.code is Code.PEER_CHAIN


def test_refuses_another_root_of_the_same_name(
    authority: MiniAuthority, other_authority: MiniAuthority, expectation: Expectation, now: datetime
) -> None:
    assert authority.root.subject == other_authority.root.subject
    chain = authority.leaf().chain
    error = refusal(lambda: check_chain(chain, [other_authority.root_der], expectation, now, server_name=DNS))
    assert error.code is Code.PEER_CHAIN


def test_refuses_a_presented_root_that_is_not_ours(
    authority: MiniAuthority, other_authority: MiniAuthority, expectation: Expectation, now: datetime
) -> None:
    leaf = other_authority.leaf(present=lambda ca, der: (der, ca.issuing_der, ca.root_der))
    error = refusal(lambda: check_chain(leaf.chain, [authority.root_der], expectation, now, server_name=DNS))
    assert error.code is Code.PEER_CHAIN


LEAVES: dict[str, tuple[dict[str, Any], Code]] = {
    "expired": ({"not_after": timedelta(seconds=-1)}, Code.PEER_EXPIRED),
    "not yet valid": ({"not_before": timedelta(seconds=1)}, Code.PEER_EXPIRED),
    "no server authentication": ({"eku": (ExtendedKeyUsageOID.CLIENT_AUTH,)}, Code.PEER_CHAIN),
    "DNS name outside the name constraints": ({"dns": (DNS, "app.evil.test")}, Code.PEER_CHAIN),
    "wildcard": ({"dns": (DNS, "*.example.org")}, Code.PEER_CHAIN),
    "mail address": ({"extra_names": (x509.RFC822Name("a@example.org"),)}, Code.PEER_CHAIN),
    "no URI": ({"uri": ()}, Code.PEER_TRUST_DOMAIN),
    "two URIs": (
        {"uri": ("spiffe://example.org/example-app", "spiffe://example.org/other")},
        Code.PEER_TRUST_DOMAIN,
    ),
    "other trust domain": ({"uri": ("spiffe://evil.test/example-app",)}, Code.PEER_TRUST_DOMAIN),
    "trust domain as prefix": ({"uri": ("spiffe://example.org.evil.test/example-app",)}, Code.PEER_TRUST_DOMAIN),
    "not a SPIFFE ID": ({"uri": ("https://example.org/example-app",)}, Code.PEER_TRUST_DOMAIN),
    "no path": ({"uri": ("spiffe://example.org/",)}, Code.PEER_TRUST_DOMAIN),
    "longer path": ({"uri": ("spiffe://example.org/other/example-app",)}, Code.PEER_TRUST_DOMAIN),
    "the proxy's id": ({"uri": ("spiffe://example.org/proxy-attestation/server",)}, Code.PEER_TRUST_DOMAIN),
    "the reserved name": ({"uri": ("spiffe://example.org/proxy-attestation",)}, Code.PEER_TRUST_DOMAIN),
    "no claims": ({"without_claims": True}, Code.PEER_CLAIMS_MISSING),
    "claims twice": ({"second_claims": True}, Code.PEER_CLAIMS_MALFORMED),
    "empty claims": ({"claims": b""}, Code.PEER_CLAIMS_MALFORMED),
    "claims that are none": ({"claims": b"\x04\x02\x81\x00"}, Code.PEER_CLAIMS_MALFORMED),
    "claims about another key": ({"claims_key": b"another key"}, Code.PEER_CLAIMS_KEY),
}


@pytest.mark.parametrize("fault", LEAVES)
def test_refuses_leaf(fault: str, authority: MiniAuthority, expectation: Expectation, now: datetime) -> None:
    changes, code = LEAVES[fault]
    leaf = authority.leaf(**changes)
    error = refusal(lambda: check_chain(leaf.chain, [authority.root_der], expectation, now, server_name=DNS))
    assert error.code is code


def test_refuses_an_unknown_profile(authority: MiniAuthority, expectation: Expectation, now: datetime) -> None:
    leaf = authority.leaf()
    extension = x509.load_der_x509_certificate(leaf.der).extensions.get_extension_for_oid(
        x509.ObjectIdentifier("1.3.6.1.5.5.7.1.35")
    )
    value = extension.value.public_bytes().replace(b"rats/ear#03", b"rats/ear#99")
    changed = authority.leaf(claims=value)
    error = refusal(lambda: check_chain(changed.chain, [authority.root_der], expectation, now, server_name=DNS))
    assert error.code is Code.PEER_CLAIMS_MALFORMED


@pytest.mark.parametrize(
    "server_name", ["other.example.org", "127.0.0.2", "::1", "", "app.example.org.", "äpp.example.org"]
)
def test_refuses_another_name(
    authority: MiniAuthority, expectation: Expectation, now: datetime, server_name: str
) -> None:
    chain = authority.leaf().chain
    error = refusal(lambda: check_chain(chain, [authority.root_der], expectation, now, server_name=server_name))
    assert error.code is Code.PEER_NAME


def test_refuses_an_address_with_a_zone(authority: MiniAuthority, expectation: Expectation, now: datetime) -> None:
    leaf = authority.leaf(ip=("fe80::1",))
    error = refusal(lambda: check_chain(leaf.chain, [authority.root_der], expectation, now, server_name="fe80::1%1"))
    assert error.code is Code.PEER_NAME


def test_refuses_a_client_without_client_authentication(
    authority: MiniAuthority, expectation: Expectation, now: datetime
) -> None:
    leaf = authority.leaf(eku=(ExtendedKeyUsageOID.SERVER_AUTH,))
    assert check_chain(leaf.chain, [authority.root_der], expectation, now, server_name=DNS)
    error = refusal(lambda: check_chain(leaf.chain, [authority.root_der], expectation, now, server_name=None))
    assert error.code is Code.PEER_CHAIN


def test_refuses_when_only_the_issuing_ca_has_expired(
    authority: MiniAuthority, expectation: Expectation, now: datetime
) -> None:
    later = now + timedelta(days=91)
    life = {"issued_at": int(later.timestamp()), "expires_at": int((later + HOUR).timestamp())}
    leaf = authority.leaf(not_before=timedelta(days=91), not_after=timedelta(days=92), claims=life)
    error = refusal(lambda: check_chain(leaf.chain, [authority.root_der], expectation, later, server_name=DNS))
    # No moment exists at which the whole path was valid.
    assert error.code is Code.PEER_CHAIN
    within = now + timedelta(days=89)
    leaf = authority.leaf(not_before=timedelta(days=88), not_after=timedelta(days=92))
    error = refusal(
        lambda: check_chain(leaf.chain, [authority.root_der], expectation, within + timedelta(days=2), server_name=DNS)
    )
    assert error.code is Code.PEER_EXPIRED


CLAIM_TIMES: dict[str, tuple[dict[str, int], Code | None]] = {
    "one second longer than the leaf": ({"expires_at": 24 * 3600 + 1}, Code.PEER_CLAIMS_MALFORMED),
    "beyond every year": ({"expires_at": 1 << 39}, Code.PEER_CLAIMS_MALFORMED),
    "end before they begin": ({"issued_at": 10, "expires_at": 9}, Code.PEER_CLAIMS_MALFORMED),
    "ended": ({"issued_at": -100, "expires_at": -1}, Code.PEER_EXPIRED),
    "begin later than the clocks may differ": ({"issued_at": 61}, Code.PEER_EXPIRED),
    "begin within the clocks' difference": ({"issued_at": 60}, None),
    "end now": ({"issued_at": -100, "expires_at": 0}, None),
}


@pytest.mark.parametrize("case", CLAIM_TIMES)
def test_holds_claims_to_the_time(case: str, authority: MiniAuthority, expectation: Expectation, now: datetime) -> None:
    offsets, code = CLAIM_TIMES[case]
    claims = {name: int(now.timestamp()) + offset for name, offset in offsets.items()}
    leaf = authority.leaf(claims=claims)
    if code is None:
        assert check_chain(leaf.chain, [authority.root_der], expectation, now, server_name=DNS)
        return
    error = refusal(lambda: check_chain(leaf.chain, [authority.root_der], expectation, now, server_name=DNS))
    assert error.code is code


def test_root_pin_chooses_the_root(
    authority: MiniAuthority, other_authority: MiniAuthority, expectation: Expectation, now: datetime
) -> None:
    roots = [other_authority.root_der, authority.root_der]
    chain = authority.leaf().chain
    assert check_chain(chain, roots, replace(expectation, root_pin=authority.pin), now, server_name=DNS)
    other = replace(expectation, root_pin=other_authority.pin)
    assert refusal(lambda: check_chain(chain, roots, other, now, server_name=DNS)).code is Code.PEER_CHAIN
    unknown = replace(expectation, root_pin=hashlib.sha256(b"unknown").digest())
    assert refusal(lambda: check_chain(chain, roots, unknown, now, server_name=DNS)).code is Code.PEER_ROOT_PIN


def test_returns_every_mismatch(authority: MiniAuthority, expectation: Expectation, now: datetime) -> None:
    leaf = authority.leaf(claims={"debug": True, "status": 96, "tcb_status": "OutOfDate", "simulated": True})
    error = refusal(lambda: check_chain(leaf.chain, [authority.root_der], expectation, now, server_name=DNS))
    assert error.code is Code.PEER_CLAIMS_MISMATCH
    assert [(m.code, m.field) for m in error.mismatches] == [
        (Code.SGX_DEBUG, "debug"),
        (Code.SGX_TCB_STATUS, "tcb"),
        (Code.POLICY_CLAIM, "ear_status"),
        (Code.POLICY_CLAIM, "simulated"),
    ]


@pytest.mark.parametrize("count", [0, 9])
def test_refuses_too_few_or_too_many_roots(
    authority: MiniAuthority, expectation: Expectation, now: datetime, count: int
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_chain(authority.leaf().chain, [authority.root_der] * count, expectation, now, server_name=DNS)
    assert caught.value.code is Code.CONFIGURATION_MALFORMED


@pytest.mark.parametrize("kind", ["leaf", "issuing", "junk"])
def test_refuses_a_root_that_is_none(
    authority: MiniAuthority, expectation: Expectation, now: datetime, kind: str
) -> None:
    leaf = authority.leaf()
    root = {"leaf": leaf.der, "issuing": authority.issuing_der, "junk": b"junk"}[kind]
    with pytest.raises(ConfigurationError) as caught:
        check_chain(leaf.chain, [root], expectation, now, server_name=DNS)
    assert caught.value.code is Code.CONFIGURATION_MALFORMED


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_bytes_are_refused_with_our_error(
    data: st.DataObject, authority: MiniAuthority, expectation: Expectation, now: datetime
) -> None:
    chain = list(authority.leaf_once().chain)
    index = data.draw(st.integers(0, 1))
    der = bytearray(chain[index])
    position = data.draw(st.integers(0, len(der) - 1))
    der[position] ^= data.draw(st.integers(1, 255))
    chain[index] = data.draw(st.one_of(st.just(bytes(der)), st.binary(max_size=64), st.just(bytes(der[:position]))))
    with pytest.raises(PeerError):
        check_chain(chain, [authority.root_der], expectation, now, server_name=DNS)


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(server_name=st.text(max_size=40))
def test_any_server_name_is_judged(
    server_name: str, authority: MiniAuthority, expectation: Expectation, now: datetime
) -> None:
    chain = authority.leaf_once().chain
    error = refusal(lambda: check_chain(chain, [authority.root_der], expectation, now, server_name=server_name))
    assert error.code is Code.PEER_NAME
