"""TPM2_MakeCredential, done by whoever asks (TPM 2.0 library specification, part 1, section 24).

A secret goes into a blob that one TPM alone can open, and only for an object of the given name in it: who answers with
the secret has shown that this key lives beside this endorsement key. How the service must use it:

  - the challenge for a TPM carries the EK's certificate and the AK's TPMT_PUBLIC. The service verifies the certificate
    (`appraisal.tpm_chain`), the AK's attributes (`appraisal.tpm.check_ak`), and puts the nonce into the blob, nowhere
    else: it is not in the answer, not in the token in clear, not in the log;
  - the session token binds the AK's name and the SHA-256 of the EK's SubjectPublicKeyInfo (`Activation`). Evidence is
    appraised with this activation, so that an AK of another name, or another TPM's EK certificate, is refused;
  - a blob is for one session. The binder holds the nonce, so a quote and a certification whose qualifying data equal
    the binder's digest prove that the secret was read. A wrong one is `binder.mismatch`.

    TPM2B_ID_OBJECT          u16 | TPM2B integrity HMAC | encIdentity = AES-CFB(TPM2B secret)
    TPM2B_ENCRYPTED_SECRET   RSA: TPM2B OAEP(seed); ECC: u16 | TPM2B x | TPM2B y of an ephemeral key
"""

import hashlib
import hmac
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.kdf.kbkdf import KBKDFHMAC, CounterLocation, Mode

from proxy_attestation.codes import Code
from proxy_attestation.errors import AppraisalError
from proxy_attestation.formats.tpm import PublicKey
from proxy_attestation.formats.tpm_codes import HASH_SIZES, HASHES

RANDOM_BYTES: Final = 64
SECRET_MAX: Final = 32
_IDENTITY: Final = b"IDENTITY\0"
# (kind, bits): name hash and AES key length of the EK templates of the TCG EK Credential Profile 2.5, annex B.
_TEMPLATES: Final = {
    ("rsa", 2048): ("sha256", 128),
    ("rsa", 3072): ("sha384", 256),
    ("rsa", 4096): ("sha512", 256),
    ("secp256r1", 256): ("sha256", 128),
    ("secp384r1", 384): ("sha384", 256),
}


def kdf_a(name: str, key: bytes, label: bytes, context: bytes, bits: int) -> bytes:
    """KDFa: SP 800-108 in counter mode with HMAC (part 1, section 11.4.10.2); `context` is both contexts in a row."""
    kdf = KBKDFHMAC(
        algorithm=HASHES[name],
        mode=Mode.CounterMode,
        length=bits // 8,
        rlen=4,
        llen=4,
        location=CounterLocation.BeforeFixed,
        label=label,
        context=context,
        fixed=None,
    )
    return kdf.derive(key)


def kdf_e(name: str, z: bytes, use: bytes, parties: bytes, bits: int) -> bytes:
    """KDFe: SP 800-56A one-step (part 1, section 11.4.10.3); `use` ends with a zero byte, `parties` are both."""
    return ConcatKDFHash(HASHES[name], bits // 8, use + parties).derive(z)


def make_credential(ek: PublicKey, ak_name: bytes, secret: bytes, random: bytes) -> bytes:
    """Return TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET, one behind the other.

    Args:
        ek: the endorsement key, of a template of the TCG's: RSA 2048, 3072 or 4096, P-256 or P-384.
        ak_name: the name of the object that must live beside it (`Public.name`).
        secret: 1 to 32 bytes.
        random: exactly 64 fresh random bytes, of which seed or ephemeral key are made. OAEP adds its own.

    Raises:
        AppraisalError: `tpm.credential`, for an EK of another kind or arguments of other lengths.
    """
    kind = ek.curve.name if isinstance(ek, ec.EllipticCurvePublicKey) else "rsa"
    if (kind, ek.key_size) not in _TEMPLATES:
        raise AppraisalError(Code.TPM_CREDENTIAL, f"no template for an EK of kind {kind}, {ek.key_size} bits")
    if not 0 < len(secret) <= SECRET_MAX or len(random) != RANDOM_BYTES:
        raise AppraisalError(Code.TPM_CREDENTIAL, "secret or random bytes of another length")
    name, aes_bits = _TEMPLATES[kind, ek.key_size]
    try:
        seed, encrypted = _rsa(ek, name, random) if isinstance(ek, rsa.RSAPublicKey) else _ecc(ek, name, random)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise AppraisalError(Code.TPM_CREDENTIAL, "nothing can be encrypted to this EK") from error
    storage = kdf_a(name, seed, b"STORAGE", ak_name, aes_bits)
    encryptor = Cipher(AES(storage), CFB(bytes(16))).encryptor()
    identity = encryptor.update(_sized(secret)) + encryptor.finalize()
    integrity_key = kdf_a(name, seed, b"INTEGRITY", b"", 8 * HASH_SIZES[name])
    integrity = hmac.digest(integrity_key, identity + ak_name, name)
    return _sized(_sized(integrity) + identity) + _sized(encrypted)


def _sized(data: bytes) -> bytes:
    return len(data).to_bytes(2) + data


def _rsa(ek: rsa.RSAPublicKey, name: str, random: bytes) -> tuple[bytes, bytes]:
    # Hashed so that any of the given bytes counts; the seed is as long as the hash of the EK's name.
    seed = hashlib.new(name, random).digest()
    oaep = padding.OAEP(padding.MGF1(HASHES[name]), HASHES[name], _IDENTITY)
    return seed, ek.encrypt(seed, oaep)


def _ecc(ek: ec.EllipticCurvePublicKey, name: str, random: bytes) -> tuple[bytes, bytes]:
    # 512 bits modulo the order: the bias is below 2**-128 (FIPS 186-5, A.2.1).
    order = ek.curve.group_order
    ephemeral = ec.derive_private_key(int.from_bytes(random) % (order - 1) + 1, ek.curve)
    numbers, size = ephemeral.public_key().public_numbers(), (ek.key_size + 7) // 8
    x, y = numbers.x.to_bytes(size), numbers.y.to_bytes(size)
    z = ephemeral.exchange(ec.ECDH(), ek)
    seed = kdf_e(name, z, _IDENTITY, x + ek.public_numbers().x.to_bytes(size), 8 * HASH_SIZES[name])
    return seed, _sized(x) + _sized(y)
