"""Who steals a leaf key: it serves until it expires, and for nothing else."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from issuing import Issuing
from mini_authority import MiniAuthority
from workload import Workload, new_key, request_for

from proxy_attestation.codes import Code
from proxy_attestation.errors import PeerError
from proxy_attestation.relying_party.path import load_roots, verify_path

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def authority() -> MiniAuthority:
    return MiniAuthority(NOW)


def test_it_renews_nothing_without_evidence_for_a_new_key(proxy: Issuing, app: Workload, refusal: Any) -> None:
    """The thief signs with the stolen key; the evidence that he can show is over the challenge of the workload."""
    stolen = new_key()
    seen = app.message(proxy.challenge(), request_for(), stolen)
    proxy.sign(seen)
    mine = proxy.challenge()
    seen.session_token = mine.session_token
    assert refusal(lambda: proxy.sign(seen)).code is Code.BINDER_MISMATCH


def test_it_signs_no_certificate(authority: MiniAuthority) -> None:
    """A leaf is no CA: what it signs leads nowhere."""
    stolen = authority.leaf()
    leaf = x509.load_der_x509_certificate(stolen.der)
    key = ec.generate_private_key(ec.SECP256R1())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    child = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(leaf.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(minutes=1))
        .not_valid_after(NOW + timedelta(hours=1))
        .add_extension(names.value, critical=True)
        .sign(stolen.key, SHA256())
    )
    chain = (child.public_bytes(Encoding.DER), *stolen.chain)
    with pytest.raises(PeerError) as caught:
        verify_path(chain, load_roots((authority.root_der,)), NOW, server_name="app.example.org")
    assert caught.value.code is Code.PEER_CHAIN


def test_it_ends_when_its_certificate_does(authority: MiniAuthority) -> None:
    stolen = authority.leaf()
    roots = load_roots((authority.root_der,))
    end = x509.load_der_x509_certificate(stolen.der).not_valid_after_utc
    verify_path(stolen.chain, roots, NOW, server_name="app.example.org")
    with pytest.raises(PeerError) as caught:
        verify_path(stolen.chain, roots, end + timedelta(seconds=1), server_name="app.example.org")
    assert caught.value.code is Code.PEER_EXPIRED
    assert end - NOW <= timedelta(hours=24)
