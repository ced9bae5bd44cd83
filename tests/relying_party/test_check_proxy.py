"""The check of the proxy's own certificate."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from mini_authority import MiniAuthority

from proxy_attestation.codes import Code
from proxy_attestation.errors import PeerError
from proxy_attestation.relying_party import check_proxy_chain

PROXY = "proxy.example.org"


def refusal(chain: tuple[bytes, ...], root: bytes, now: datetime) -> Code:
    with pytest.raises(PeerError) as caught:
        check_proxy_chain(chain, [root], "example.org", now, server_name=PROXY)
    return caught.value.code


def test_proxy_is_accepted(authority: MiniAuthority, now: datetime) -> None:
    leaf = authority.proxy_leaf()
    peer = check_proxy_chain(leaf.chain, [authority.root_der], "example.org", now, server_name=PROXY)
    assert peer.spiffe_id == "spiffe://example.org/proxy-attestation/server"
    assert peer.root == authority.root_der


PROXIES: dict[str, tuple[dict[str, Any], Code]] = {
    "a workload": ({"uri": ("spiffe://example.org/example-app",)}, Code.PEER_TRUST_DOMAIN),
    "another id of the proxy": ({"uri": ("spiffe://example.org/proxy-attestation/other",)}, Code.PEER_TRUST_DOMAIN),
    "other trust domain": ({"uri": ("spiffe://evil.test/proxy-attestation/server",)}, Code.PEER_TRUST_DOMAIN),
    "two ids": (
        {"uri": ("spiffe://example.org/proxy-attestation/server", "spiffe://example.org/app")},
        Code.PEER_TRUST_DOMAIN,
    ),
    "claims": ({"without_claims": False}, Code.PEER_CLAIMS_MALFORMED),
    "other name": ({"dns": ("other.example.org",)}, Code.PEER_NAME),
    "expired": ({"not_after": timedelta(seconds=-1)}, Code.PEER_EXPIRED),
}


@pytest.mark.parametrize("fault", PROXIES)
def test_refuses_proxy(fault: str, authority: MiniAuthority, now: datetime) -> None:
    changes, code = PROXIES[fault]
    leaf = authority.proxy_leaf(**changes)
    assert refusal(leaf.chain, authority.root_der, now) is code


def test_refuses_proxy_under_another_root(
    authority: MiniAuthority, other_authority: MiniAuthority, now: datetime
) -> None:
    chain = authority.proxy_leaf().chain
    assert refusal(chain, other_authority.root_der, now) is Code.PEER_CHAIN
