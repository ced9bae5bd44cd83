"""Inputs that fuzzing found, each with what was wrong."""

import warnings
from datetime import UTC, datetime

import pytest
from mini_authority import MiniAuthority

from proxy_attestation.codes import Code
from proxy_attestation.errors import PeerError
from proxy_attestation.relying_party.path import load_roots, verify_path
from proxy_attestation_simulator.intel import Vendor

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def test_an_issuer_that_cannot_be_read_is_refused_like_any_other_chain() -> None:
    # `cryptography` reads the issuer on first use: a ValueError left the function while it looked for its code.
    root = Vendor.create(NOW, secret=b"\x05" * 32).root_der
    spoiled = root.replace(b"SIMULATED", b"SIMUL\xff\xfe\xfd\xfc", 1)
    assert spoiled != root
    with pytest.raises(PeerError) as caught:
        verify_path((spoiled, spoiled), load_roots((root,)), NOW, server_name=None)
    assert caught.value.code is Code.PEER_CHAIN


@pytest.mark.parametrize("strict", [True, False])
def test_a_serial_number_below_one_is_refused(strict: bool, authority: MiniAuthority) -> None:
    # `cryptography` only warns of it: an exception of its own where warnings are errors, nothing where they are not.
    leaf = authority.leaf().der
    at = leaf.index(b"\xa0\x03\x02\x01\x02\x02") + 7
    spoiled = leaf[:at] + bytes([leaf[at] | 0x80]) + leaf[at + 1 :]
    with warnings.catch_warnings(), pytest.raises(PeerError) as caught:
        warnings.simplefilter("error" if strict else "ignore")
        verify_path(
            (spoiled, authority.issuing_der), load_roots((authority.root_der,)), authority.now, server_name=None
        )
    assert caught.value.code is Code.PEER_CHAIN
