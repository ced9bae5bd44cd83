"""Proofs of ownership: their bytes, what verifies, and that any other bytes are an error of ours."""

import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError
from proxy_attestation.formats import cbor
from proxy_attestation.formats.csr import spki_of
from proxy_attestation.formats.owner_proof import (
    PROOF_MAX,
    RENEWALS_MAX,
    Grant,
    OwnerProof,
    Renewal,
    Token,
    TokenProof,
    decode_proof,
    encode_proof,
    format_grant,
    format_token,
    make_grant,
    parse_grant,
    parse_token,
    prove_renewal,
    prove_token,
    tenant_key,
    verify_grant,
    verify_renewal,
)

DATA = bytes(range(64))
P256 = ec.derive_private_key(1, ec.SECP256R1())
P384 = ec.derive_private_key(1, ec.SECP384R1())
P521 = ec.derive_private_key(1, ec.SECP521R1())
ED = ed25519.Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
TOKEN = Token(bytes(range(16)), bytes(range(16, 32)))
GRANT = Grant("example.org", "app", b"\x22" * 32, 1_795_521_720, b"\x33" * 64)


def der(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize(
    "proof",
    [
        OwnerProof(),
        OwnerProof(token=TokenProof(bytes(16), bytes(32))),
        OwnerProof(grant=GRANT),
        OwnerProof(renewals=(Renewal(der(P256), bytes(70)),)),
        OwnerProof(TokenProof(bytes(16), bytes(32)), GRANT, (Renewal(der(P256), bytes(72)),) * RENEWALS_MAX),
        OwnerProof(renewals=(Renewal(der(P384), bytes(104)),) * RENEWALS_MAX),
    ],
)
def test_round_trip(proof: OwnerProof) -> None:
    data = encode_proof(proof)
    assert decode_proof(data) == proof
    assert len(data) <= PROOF_MAX


def test_the_bytes_of_a_proof() -> None:
    proof = OwnerProof(TokenProof(b"\x01" * 16, b"\x02" * 32), GRANT, (Renewal(der(P256), b"\x04" * 70),))
    assert cbor.decode(encode_proof(proof), Code.INTERNAL, PROOF_MAX) == [
        [b"\x01" * 16, b"\x02" * 32],
        ["example.org", "app", b"\x22" * 32, 1_795_521_720, b"\x33" * 64],
        [[der(P256), b"\x04" * 70]],
    ]
    assert encode_proof(OwnerProof()) == b"\x83\xf6\xf6\x80"


def test_what_is_authenticated_and_signed() -> None:
    mac = hmac.digest(TOKEN.secret, b"proxy-attestation/owner-token/v1\0" + DATA, "sha256")
    assert prove_token(TOKEN, DATA) == TokenProof(TOKEN.token_id, mac)
    renewal = prove_renewal(P256, der(P256), DATA)
    message = b"proxy-attestation/owner-renewal/v1\0" + DATA
    P256.public_key().verify(renewal.signature, message, ec.ECDSA(hashes.SHA256()))
    digest = hashlib.sha256(b"spki").digest()
    grant = make_grant(ED, "example.org", "app", digest, 1_795_521_720)
    ED.public_key().verify(
        grant.signature,
        b"proxy-attestation/grant/v1\0"
         b"\0\0\0\x0bexample.org" + b"\0\0\0\x03app" + b"\0\0\0\x20" + digest + (1_795_521_720).to_bytes(8, "big"),
    )  # fmt: skip


@pytest.mark.parametrize("key", [P256, P384])
def test_a_renewal_is_its_key_s_and_its_binder_s(key: ec.EllipticCurvePrivateKey) -> None:
    renewal = prove_renewal(key, der(key), DATA)
    assert verify_renewal(renewal, DATA)
    assert not verify_renewal(renewal, DATA[:-1] + b"\0")
    assert not verify_renewal(renewal._replace(spki=der(ec.derive_private_key(2, key.curve))), DATA)
    assert not verify_renewal(renewal._replace(signature=renewal.signature[:-1]), DATA)


@pytest.mark.parametrize("key", [ED, P256])
def test_a_grant_is_the_tenant_s(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> None:
    grant = make_grant(key, "example.org", "app", bytes(32), 1)
    assert verify_grant(grant, der(key))
    assert not verify_grant(grant, der(ec.derive_private_key(2, ec.SECP256R1())))
    for changed in (
        grant._replace(trust_domain="example.or"), grant._replace(entry="gapp"), grant._replace(expires=2),
        grant._replace(spki_sha256=b"\x01" * 32), grant._replace(trust_domain="example.orga", entry="pp"),
    ):  # fmt: skip
        assert not verify_grant(changed, der(key))


@pytest.mark.parametrize("spki", [b"", b"\x30\x00", bytes(91), der(P256)[:-1], der(P521)])
def test_a_key_that_verifies_nothing(spki: bytes) -> None:
    assert not verify_renewal(Renewal(spki, bytes(70)), DATA)
    assert not verify_grant(GRANT, spki)


def test_tenants_keys() -> None:
    for key in (ED, P256):
        assert tenant_key(der(key)) == der(key)
        pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        assert tenant_key(b"\n" + pem) == der(key)
    point = P256.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    compressed = der(P256)[:23].replace(b"\x30\x59", b"\x30\x39").replace(b"\x03\x42", b"\x03\x22") + b"\x03\x22\0"
    for other in (der(P384), b"", b"-----BEGIN PUBLIC KEY-----\n", der(ED) + b"\0", compressed + point, point):
        assert tenant_key(other) is None


def test_tokens_and_grants_as_text() -> None:
    text = format_token(TOKEN)
    assert text == f"proxy-attestation-token.{TOKEN.token_id.hex()}.{TOKEN.secret.hex()}"
    assert parse_token(f" {text}\n") == TOKEN
    assert TOKEN.secret.hex() not in repr(TOKEN)
    assert parse_grant(f"{format_grant(GRANT)}\n") == GRANT


@pytest.mark.parametrize(
    "text", ["", "x", format_token(TOKEN)[:-1], format_token(TOKEN).upper(), format_token(TOKEN) + "0"]
)
def test_no_token(text: str) -> None:
    with pytest.raises(FormatError) as caught:
        parse_token(text)
    assert caught.value.code is Code.OWNER_MALFORMED


@given(st.text(max_size=200))
def test_any_text_is_a_token_or_an_error_of_ours(text: str) -> None:
    for parse in (parse_token, parse_grant):
        with pytest.raises(FormatError):
            parse(text)


@pytest.mark.parametrize(
    "content",
    [
        {},
        [],
        [None, None],
        [None, None, [], None],
        [[bytes(15), bytes(32)], None, []],
        [[bytes(16), bytes(31)], None, []],
        [None, ["", "app", bytes(32), 1, bytes(64)], []],
        [None, ["example.org", "app", bytes(32), -1, bytes(64)], []],
        [None, ["example.org", "app", bytes(32), 1, b""], []],
        [None, None, [[der(P256)]]],
        [None, None, [[bytes(90), bytes(70)]]],
        [None, None, [[der(P256), bytes(70)]] * (RENEWALS_MAX + 1)],
    ],
)
def test_no_proof(content: object) -> None:
    with pytest.raises(FormatError) as caught:
        decode_proof(cbor.encode(content))
    assert caught.value.code is Code.OWNER_MALFORMED


@given(st.binary(max_size=300))
def test_any_bytes_are_a_proof_or_an_error_of_ours(data: bytes) -> None:
    try:
        proof = decode_proof(data)
    except FormatError as error:
        assert error.code is Code.OWNER_MALFORMED
    else:
        assert encode_proof(proof) == data
        for renewal in proof.renewals:
            verify_renewal(renewal, DATA)


def test_spki_lengths_are_those_of_leaves() -> None:
    assert {len(spki_of(key.public_key())) for key in (P256, P384)} == {91, 120}
