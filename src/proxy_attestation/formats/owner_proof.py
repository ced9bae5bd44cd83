r"""Proofs that an instance may hold the names of a policy entry, byte for byte.

The wire carries a proof as deterministic CBOR of one array, at most 4096 bytes::

    proof   = [token / null, grant / null, [* renewal]]           ; at most 12 renewals
    token   = [token id (16 bytes), mac (32 bytes)]
    grant   = [trust domain, entry, SHA-256 of the SPKI (32 bytes), expiry (seconds since the epoch), signature]
    renewal = [SPKI (DER), signature]

What is signed or authenticated, with B the binder of the certificate that is asked for (`formats.binder`), SHA-512(B)
the 64 bytes that its evidence carries, and LP(x) = u32 big-endian length of x, then x:

==========  =========================================================================================================
mac         HMAC-SHA256(the token's secret of 16 bytes, ``"proxy-attestation/owner-token/v1\0" || SHA-512(B)``)
renewal     by the key of the holder's last leaf, over ``"proxy-attestation/owner-renewal/v1\0" || SHA-512(B)``
grant       by the tenant's key, over ``"proxy-attestation/grant/v1\0" || LP(trust domain) || LP(entry) ||
            LP(SHA-256 of the SPKI) || u64 big-endian expiry``
==========  =========================================================================================================

Signatures: ECDSA in DER with SHA-256 (P-256) or SHA-384 (P-384), or Ed25519 (a tenant's key: Ed25519 or P-256).

A token is handed out as text, ``proxy-attestation-token.<id in hex>.<secret in hex>``; a grant as one line, the base64
of the deterministic CBOR of its array.
"""

import base64
import binascii
import hmac
import re
from dataclasses import dataclass
from typing import Annotated, Final, NamedTuple, TypeAlias

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError
from proxy_attestation.formats import cbor
from proxy_attestation.formats.arrays import Array, Size, exactly
from proxy_attestation.formats.binder import length_prefixed
from proxy_attestation.formats.bounds import TIME_MAX

PROOF_MAX: Final = 4096
RENEWALS_MAX: Final = 12
"""Keys that a holder tries: its last leaf's, and those of certificates whose answer may have been lost."""
GRANT_LIFETIME_MAX: Final = 7 * 24 * 3600
"""Seconds that a grant may lie ahead of its expiry."""
TOKEN_LIFETIME_MAX: Final = 7 * 24 * 3600
TOKEN_ID_BYTES: Final = 16
TOKEN_SECRET_BYTES: Final = 16

TOKEN_LABEL: Final = b"proxy-attestation/owner-token/v1\0"
RENEWAL_LABEL: Final = b"proxy-attestation/owner-renewal/v1\0"
GRANT_LABEL: Final = b"proxy-attestation/grant/v1\0"

SigningKey: TypeAlias = Ed25519PrivateKey | ec.EllipticCurvePrivateKey
_Signature: TypeAlias = Annotated[bytes, Size(8, 104)]
_HASHES: Final[dict[str, hashes.HashAlgorithm]] = {"secp256r1": hashes.SHA256(), "secp384r1": hashes.SHA384()}
_TOKEN: Final = re.compile(r"proxy-attestation-token\.([0-9a-f]{32})\.([0-9a-f]{32})\Z")
_CODE: Final = Code.OWNER_MALFORMED


class TokenProof(NamedTuple):
    """Knowledge of a token's secret.

    Attributes:
        token_id: 16 bytes.
        mac: 32 bytes.
    """

    token_id: Annotated[bytes, exactly(TOKEN_ID_BYTES)]
    mac: Annotated[bytes, exactly(32)]


class Grant(NamedTuple):
    """A tenant's word that one key may claim the names of one entry.

    Attributes:
        trust_domain: the proxy's.
        entry: of the policy.
        spki_sha256: of the key that the certificate is asked for, 32 bytes.
        expires: seconds since the epoch.
        signature: the tenant's.
    """

    trust_domain: Annotated[str, Size(1, 255)]
    entry: Annotated[str, Size(1, 63)]
    spki_sha256: Annotated[bytes, exactly(32)]
    expires: Annotated[int, Size(1, TIME_MAX)]
    signature: _Signature


class Renewal(NamedTuple):
    """The word of a leaf that came before.

    Attributes:
        spki: DER of that leaf's key.
        signature: its.
    """

    spki: Annotated[bytes, Size(91, 120)]
    signature: _Signature


@dataclass(frozen=True, slots=True)
class OwnerProof:
    """All that an instance has to show; what counts depends on who holds the names at the time."""

    token: TokenProof | None = None
    grant: Grant | None = None
    renewals: Annotated[tuple[Renewal, ...], Size(0, RENEWALS_MAX)] = ()


class Token(NamedTuple):
    """A one-time token. Its secret is shown to nobody but whom it is handed to.

    Attributes:
        token_id: 16 bytes.
        secret: 16 bytes.
    """

    token_id: bytes
    secret: bytes

    def __repr__(self) -> str:
        """Leave the secret out."""
        return f"Token({self.token_id.hex()})"


_PROOF: Final = Array[OwnerProof](OwnerProof, _CODE)
_GRANT: Final = Array[Grant](Grant, _CODE)


def encode_proof(proof: OwnerProof) -> bytes:
    """Return the bytes of a proof."""
    return cbor.encode(_PROOF.write(proof))


def decode_proof(data: bytes) -> OwnerProof:
    """Return the proof of some bytes.

    Raises:
        FormatError: `owner.malformed`.
    """
    return _PROOF.read(cbor.decode(data, _CODE, PROOF_MAX))


def format_token(token: Token) -> str:
    """Return a token as it is handed out."""
    return f"proxy-attestation-token.{token.token_id.hex()}.{token.secret.hex()}"


def parse_token(text: str) -> Token:
    """Return the token of a text; white space around it does not count.

    Raises:
        FormatError: `owner.malformed`.
    """
    match = _TOKEN.match(text.strip())
    if match is None:
        raise FormatError(_CODE, "not a token as `owner token` prints it")
    return Token(bytes.fromhex(match[1]), bytes.fromhex(match[2]))


def format_grant(grant: Grant) -> str:
    """Return a grant as it is handed out: one line."""
    return base64.b64encode(cbor.encode(_GRANT.write(grant))).decode()


def parse_grant(text: str) -> Grant:
    """Return the grant of a text; white space around it does not count.

    Raises:
        FormatError: `owner.malformed`.
    """
    try:
        data = base64.b64decode(text.strip(), validate=True)
    except (ValueError, binascii.Error) as error:
        raise FormatError(_CODE, "not a grant as `owner grant` prints it") from error
    return _GRANT.read(cbor.decode(data, _CODE, PROOF_MAX))


def prove_token(token: Token, report_data: bytes) -> TokenProof:
    """Return the proof that a token is known.

    Args:
        token: the token.
        report_data: SHA-512(B), 64 bytes.
    """
    return TokenProof(token.token_id, token_mac(token.secret, report_data))


def token_mac(secret: bytes, report_data: bytes) -> bytes:
    """Return the 32 bytes that stand for a token's secret of 16 bytes under a binder."""
    return hmac.digest(secret, TOKEN_LABEL + report_data, "sha256")


def prove_renewal(key: ec.EllipticCurvePrivateKey, spki: bytes, report_data: bytes) -> Renewal:
    """Return the proof by a leaf's key, whose SPKI is given; a key in a TPM signs there, and blocks."""
    return Renewal(spki, sign(key, RENEWAL_LABEL + report_data))


def verify_renewal(renewal: Renewal, report_data: bytes) -> bool:
    """Tell whether a renewal's signature is its key's, under this binder."""
    return _verifies(renewal.spki, renewal.signature, RENEWAL_LABEL + report_data)


def make_grant(key: SigningKey, trust_domain: str, entry: str, spki_sha256: bytes, expires: int) -> Grant:
    """Sign a grant with the tenant's key."""
    grant = Grant(trust_domain, entry, spki_sha256, expires, b"")
    return grant._replace(signature=sign(key, _granted(grant)))


def verify_grant(grant: Grant, tenant: bytes) -> bool:
    """Tell whether a grant is signed by a tenant's key, given as the DER of its SubjectPublicKeyInfo."""
    return _verifies(tenant, grant.signature, _granted(grant))


def tenant_key(data: bytes) -> bytes | None:
    """Return the DER of a tenant's public key, Ed25519 or P-256, given in PEM or DER; None for anything else."""
    try:
        pem = data.lstrip().startswith(b"-----BEGIN ")
        key = serialization.load_pem_public_key(data) if pem else serialization.load_der_public_key(data)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    usual = isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == "secp256r1"
    if not usual and not isinstance(key, Ed25519PublicKey):
        return None
    spki = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return spki if pem or spki == data else None


def sign(key: SigningKey, message: bytes) -> bytes:
    """Return a signature of the kind that the key makes: Ed25519, or ECDSA in DER with the hash of its curve."""
    if isinstance(key, Ed25519PrivateKey):
        return key.sign(message)
    return key.sign(message, ec.ECDSA(_HASHES[key.curve.name]))


def _granted(grant: Grant) -> bytes:
    parts = (grant.trust_domain.encode(), grant.entry.encode(), grant.spki_sha256)
    return GRANT_LABEL + b"".join(map(length_prefixed, parts)) + grant.expires.to_bytes(8, "big")


def _verifies(spki: bytes, signature: bytes, message: bytes) -> bool:
    try:
        key = serialization.load_der_public_key(spki)
        if isinstance(key, Ed25519PublicKey):
            key.verify(signature, message)
        elif isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _HASHES:
            key.verify(signature, message, ec.ECDSA(_HASHES[key.curve.name]))
        else:
            return False
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return True
