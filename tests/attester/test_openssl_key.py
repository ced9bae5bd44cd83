"""TLS whose key signs elsewhere, with a key of the test's own in the TPM's place: no TPM, and this very process."""

import ssl
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from mini_authority import DNS, Leaf, MiniAuthority

from proxy_attestation.attester import openssl_key
from proxy_attestation.attester.model import unavailable
from proxy_attestation.attester.openssl_key import forget_resident_key, require_foreign_keys, use_resident_key
from proxy_attestation.attester.resident_key import ResidentKey
from proxy_attestation.codes import Code
from proxy_attestation.errors import UnavailableError


def _fits() -> bool:
    try:
        require_foreign_keys()
    except UnavailableError:
        return False
    return True


pytestmark = pytest.mark.skipif(not _fits(), reason="this Python's OpenSSL is static, or of a version not looked at")


@pytest.fixture(scope="module")
def authority() -> MiniAuthority:
    return MiniAuthority(datetime.now(UTC).replace(microsecond=0))


def elsewhere(key: ec.EllipticCurvePrivateKey, signed: list[bytes]) -> Callable[[bytes], bytes]:
    def sign(digest: bytes) -> bytes:
        signed.append(digest)
        return key.sign(digest, ec.ECDSA(utils.Prehashed(hashes.SHA256())))

    return sign


def server(leaf: Leaf, key: ResidentKey, directory: Path) -> tuple[ssl.SSLContext, int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    file = directory / "chain.pem"
    file.write_bytes(leaf.chain_pem)
    return context, use_resident_key(context, str(file), key)


def shake(authority: MiniAuthority, context: ssl.SSLContext, **client: Any) -> bytes | None:
    """Shake hands in memory; return the leaf that the client saw."""
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trust.load_verify_locations(cadata=authority.root_der)
    for name, value in client.items():
        getattr(trust, name)(value)
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        trust.wrap_bio(down, up, server_hostname=DNS),
        context.wrap_bio(up, down, server_side=True),
    ]
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert ends[1].version() == "TLSv1.3"
    return ends[0].getpeercert(binary_form=True)


def test_handshakes_are_signed_elsewhere(authority: MiniAuthority, tmp_path: Path) -> None:
    signed: list[bytes] = []
    leaves = [authority.leaf() for _ in range(2)]
    contexts = [
        server(leaf, ResidentKey(leaf.key.public_key(), elsewhere(leaf.key, signed)), tmp_path)[0] for leaf in leaves
    ]
    for number in (0, 1, 0):
        assert shake(authority, contexts[number]) == leaves[number].der
    assert shake(authority, contexts[0], set_ecdh_curve="prime256v1") == leaves[0].der
    assert len(signed) == 4
    assert {len(digest) for digest in signed} == {32}


def test_a_certificate_for_another_key_is_not_taken(authority: MiniAuthority, tmp_path: Path) -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(UnavailableError) as refused:
        server(authority.leaf(), ResidentKey(other.public_key(), elsewhere(other, [])), tmp_path)
    assert refused.value.code is Code.ATTESTER_UNAVAILABLE


@pytest.mark.parametrize("content", [b"", b"no certificate"])
def test_a_chain_that_is_none_is_not_taken(tmp_path: Path, content: bytes) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    file = tmp_path / "chain.pem"
    file.write_bytes(content)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with pytest.raises(UnavailableError):
        use_resident_key(context, str(file), ResidentKey(key.public_key(), elsewhere(key, [])))
    with pytest.raises(UnavailableError):
        use_resident_key(context, str(tmp_path / "absent"), ResidentKey(key.public_key(), elsewhere(key, [])))


def _fails(_: bytes) -> bytes:
    raise unavailable("the TPM is gone")


@pytest.mark.parametrize("sign", [_fails, lambda _: b"", lambda _: bytes(73), lambda _: bytes(8)])
def test_a_signature_that_is_none_ends_the_handshake(
    authority: MiniAuthority, tmp_path: Path, sign: Callable[[bytes], bytes]
) -> None:
    leaf = authority.leaf()
    context, _ = server(leaf, ResidentKey(leaf.key.public_key(), sign), tmp_path)
    with pytest.raises(ssl.SSLError):
        shake(authority, context)


def test_a_key_that_was_forgotten_signs_no_more(authority: MiniAuthority, tmp_path: Path) -> None:
    leaf = authority.leaf()
    context, number = server(leaf, ResidentKey(leaf.key.public_key(), elsewhere(leaf.key, [])), tmp_path)
    shake(authority, context)
    forget_resident_key(number)
    forget_resident_key(number)
    with pytest.raises(ssl.SSLError):
        shake(authority, context)


def _fresh(monkeypatch: pytest.MonkeyPatch) -> Code:
    monkeypatch.setattr(openssl_key, "_openssl", openssl_key._OpenSsl)
    with pytest.raises(UnavailableError) as refused:
        require_foreign_keys()
    return refused.value.code


def test_a_python_that_was_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 99, 0, "final", 0))
    assert _fresh(monkeypatch) is Code.ATTESTER_UNAVAILABLE


def test_an_openssl_without_what_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(openssl_key._FUNCTIONS, "EC_KEY_of_another_kind", (None, ()))
    assert _fresh(monkeypatch) is Code.ATTESTER_UNAVAILABLE
