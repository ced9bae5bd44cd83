"""MakeCredential against a TPM's half of it, done here; the real TPM is in tests/attester/test_tpm_swtpm.py."""

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from proxy_attestation.codes import Code
from proxy_attestation.errors import AppraisalError
from proxy_attestation.formats.tpm_credential import RANDOM_BYTES, kdf_a, kdf_e, make_credential
from proxy_attestation_simulator.tpm_machine import kdf_a as plain_kdf_a
from proxy_attestation_simulator.tpm_machine import open_credential

NAME = b"\0\x0b" + bytes(range(32))
SECRET = b"n" * 32
RANDOM = bytes(range(RANDOM_BYTES))
EK = ec.derive_private_key(11, ec.SECP256R1())


@pytest.mark.parametrize("kind", ["rsa", "p256", "p384"])
def test_the_tpm_beside_the_named_object_opens_it(kind: str) -> None:
    made: dict[str, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey] = {
        "rsa": rsa.generate_private_key(65537, 2048),
        "p256": EK,
        "p384": ec.derive_private_key(12, ec.SECP384R1()),
    }
    ek = made[kind]
    blob = make_credential(ek.public_key(), NAME, SECRET, RANDOM)
    assert open_credential(ek, blob, NAME) == SECRET
    assert open_credential(ek, blob, b"\0\x0b" + bytes(32)) is None
    assert SECRET not in blob


def test_the_key_derivations_are_the_specifications() -> None:
    for name, bits in (("sha256", 128), ("sha256", 256), ("sha384", 256), ("sha384", 384), ("sha256", 512)):
        assert kdf_a(name, b"k" * 32, b"STORAGE", NAME, bits) == plain_kdf_a(name, b"k" * 32, b"STORAGE", NAME, bits)
    expected = hashlib.sha256(b"\0\0\0\x01" + b"z" * 32 + b"IDENTITY\0" + b"uv").digest()
    assert kdf_e("sha256", b"z" * 32, b"IDENTITY\0", b"uv", 256) == expected


def test_other_random_bytes_make_another_blob() -> None:
    blobs = {make_credential(EK.public_key(), NAME, SECRET, bytes([byte]) * RANDOM_BYTES) for byte in range(4)}
    assert len(blobs) == 4


@pytest.mark.parametrize(
    ("secret", "random"), [(b"", RANDOM), (bytes(33), RANDOM), (SECRET, RANDOM[:-1]), (SECRET, RANDOM + b"\0")]
)
def test_arguments_of_other_lengths_are_refused(secret: bytes, random: bytes) -> None:
    with pytest.raises(AppraisalError) as refused:
        make_credential(EK.public_key(), NAME, secret, random)
    assert refused.value.code is Code.TPM_CREDENTIAL


def test_an_ek_of_no_template_is_refused() -> None:
    for ek in (ec.derive_private_key(3, ec.SECP521R1()), rsa.generate_private_key(65537, 1024 + 64)):
        with pytest.raises(AppraisalError) as refused:
            make_credential(ek.public_key(), NAME, SECRET, RANDOM)
        assert refused.value.code is Code.TPM_CREDENTIAL
