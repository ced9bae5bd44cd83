r"""How an authority's private keys move from one attested proxy to another, byte for byte.

A *request* is the deterministic CBOR map ``{1: version, 2: purpose, 3: SHA-256 of the first root's
SubjectPublicKeyInfo, 4: the asking proxy's X25519 key, 5: nonce, 6: tee, 7: evidence, 8: [platform certificates],
9: event log}``; keys 8 and 9 are optional. Its evidence commits to

``B = "proxy-attestation/keys/v1\0" || LP(purpose, 1 byte) || LP(root) || LP(X25519 key) || LP(nonce)``

with ``LP`` and the places of each TEE as in `binder.py`; the SubjectPublicKeyInfo of Nitro's slot is the X25519 key's.

Whatever is sealed is sealed with HPKE (RFC 9180, base mode, single shot): DHKEM(X25519, HKDF-SHA256), HKDF-SHA256,
AES-256-GCM; the encapsulated key stands in front. Its info says what is inside and for whom, so that nothing stands in
for anything else: a *bundle* (keys for the asking proxy; SHA-256 of authority.toml is inside), a *share* (for a
custodian) and an *approval* (that share for the asking proxy), both of which name that digest, or an *escrow* (one key,
for the recovery key).
"""

import hashlib
import re
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError, RefusedError
from proxy_attestation.formats import cbor
from proxy_attestation.formats.arrays import Array, Size, exactly
from proxy_attestation.formats.binder import Binding, length_prefixed
from proxy_attestation.formats.bounds import (
    CERTIFICATE_MAX,
    EVENT_LOG_MAX,
    KEY_BUNDLE_MAX,
    KEY_REQUEST_MAX,
    PLATFORM_CERTIFICATES_MAX,
    QUOTE_MAX,
    TRANSFERRED_KEY_MAX,
    TRANSFERRED_KEYS_MAX,
)
from proxy_attestation.formats.tee import Tee
from proxy_attestation.formats.values import Item, Record, as_bytes, as_member, as_tuple, as_uint

LABEL: Final = b"proxy-attestation/keys/v1\0"
NONCE_BYTES: Final = 32
HPKE_OVERHEAD: Final = 32 + 16
"""The encapsulated key and the tag."""

_CODE: Final = Code.KEYS_TRANSFER_MALFORMED
_VERSION: Final = 1
_SUITE: Final = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_CERTIFICATES: Final = (1, PLATFORM_CERTIFICATES_MAX, as_bytes, 1, CERTIFICATE_MAX)
_NAME: Final = re.compile(r"(root(-g[1-9][0-9]{0,9})?|issuing-[1-9][0-9]{0,9}|log)\Z")


class Purpose(IntEnum):
    """What keys are asked for."""

    HAND_OVER = 1
    """Of a proxy that runs, over its nonce."""
    RECOVERY = 2
    """Of custodians, over a nonce of the asking proxy's."""


@dataclass(frozen=True, slots=True)
class KeyRequest:
    """What a proxy without keys sends to whoever may give it some.

    Attributes:
        purpose: of whom it asks.
        root: SHA-256 of the SubjectPublicKeyInfo of the authority's first root, 32 bytes.
        public_key: X25519, 32 bytes; the private half is in the asking process's memory alone.
        nonce: 32 bytes.
        tee: the kind of evidence.
        evidence: the vendor's own encoding.
        platform_certificates: DER, where they are not inside the evidence.
        event_log: of the firmware, or None.
        version: of this format.
    """

    purpose: Annotated[Purpose, Item(2, as_member, (Purpose,), write=int)]
    root: Annotated[bytes, Item(3, as_bytes, (32,))]
    public_key: Annotated[bytes, Item(4, as_bytes, (32,))]
    nonce: Annotated[bytes, Item(5, as_bytes, (NONCE_BYTES,))]
    tee: Annotated[Tee, Item(6, as_member, (Tee,), write=str)]
    evidence: Annotated[bytes, Item(7, as_bytes, (1, QUOTE_MAX))]
    platform_certificates: Annotated[tuple[bytes, ...], Item(8, as_tuple, _CERTIFICATES, absent=())] = ()
    event_log: Annotated[bytes | None, Item(9, as_bytes, (1, EVENT_LOG_MAX), absent=None)] = None
    version: Annotated[int, Item(1, as_uint, (_VERSION, _VERSION))] = _VERSION

    @property
    def binding(self) -> Binding:
        """What its evidence must carry."""
        return bind_keys(self.purpose, self.root, self.public_key, self.nonce)


_REQUEST: Final = Record(KeyRequest)


def bind_keys(purpose: Purpose, root: bytes, public_key: bytes, nonce: bytes) -> Binding:
    """Return what the evidence of an asking proxy is to carry; root, key and nonce have 32 bytes each."""
    binder = LABEL + b"".join(map(length_prefixed, (bytes([purpose]), root, public_key, nonce)))
    key = X25519PublicKey.from_public_bytes(public_key)
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return Binding(hashlib.sha512(binder).digest(), hashlib.sha256(binder).digest(), nonce, spki)


def encode_key_request(request: KeyRequest) -> bytes:
    """Encode a request."""
    return cbor.encode_ordered(_REQUEST.write(request))


def decode_key_request(data: bytes) -> KeyRequest:
    """Decode a request; nothing vouches for it yet.

    Raises:
        FormatError: `keys.transfer_malformed`.
    """
    return KeyRequest(**_REQUEST.read(cbor.decode(data, _CODE, KEY_REQUEST_MAX), _CODE))


class TransferredKey(NamedTuple):
    """One private key.

    Attributes:
        name: `root`, `root-gN`, `issuing-N` or `log`.
        pkcs8: DER, not encrypted.
    """

    name: Annotated[str, Size(1, 32)]
    pkcs8: Annotated[bytes, Size(1, TRANSFERRED_KEY_MAX)]


class KeyBundle(NamedTuple):
    """What a hand-over gives.

    Attributes:
        settings_sha256: of the authority.toml that the keys belong to, 32 bytes.
        keys: by name, each once.
    """

    settings_sha256: Annotated[bytes, exactly(32)]
    keys: Annotated[tuple[TransferredKey, ...], Size(1, TRANSFERRED_KEYS_MAX)]


_BUNDLE: Final = Array[KeyBundle](KeyBundle, _CODE)


def encode_key_bundle(bundle: KeyBundle) -> bytes:
    """Encode a bundle: a CBOR array, names sorted."""
    return cbor.encode(_BUNDLE.write(bundle))


def decode_key_bundle(data: bytes) -> KeyBundle:
    """Decode a bundle.

    Raises:
        FormatError: `keys.transfer_malformed`.
    """
    bundle = _BUNDLE.read(cbor.decode(data, _CODE, KEY_BUNDLE_MAX))
    names = [key.name for key in bundle.keys]
    if names != sorted(set(names)) or not all(map(_NAME.match, names)):
        raise FormatError(_CODE, "names of keys that no authority has, or not sorted, each once")
    return bundle


def bundle_info(request: bytes) -> bytes:
    """Return the info of a bundle that answers the exact bytes of a request."""
    return _info(b"bundle", hashlib.sha256(request).digest())


def share_info(custodian: str, settings_sha256: bytes) -> bytes:
    """Return the info of a custodian's share."""
    return _info(b"share", custodian.encode(), settings_sha256)


def approval_info(request: bytes, settings_sha256: bytes) -> bytes:
    """Return the info of a share that answers the exact bytes of a request."""
    return _info(b"approval", hashlib.sha256(request).digest(), settings_sha256)


def escrow_info(name: str) -> bytes:
    """Return the info of one key in escrow; the first of them exist before authority.toml does."""
    return _info(b"escrow", name.encode())


def _info(what: bytes, *parts: bytes) -> bytes:
    return LABEL + b"".join(map(length_prefixed, (what, *parts)))


def seal_to(public_key: bytes, content: bytes, info: bytes) -> bytes:
    """Seal something to an X25519 key of 32 bytes; the result is `HPKE_OVERHEAD` bytes longer.

    Raises:
        FormatError: `keys.transfer_malformed`, for a key with which there is no secret (RFC 7748 section 6.1).
    """
    try:
        return _SUITE.encrypt(content, X25519PublicKey.from_public_bytes(public_key), info)
    except Exception as error:
        # Of any class: the key is the only thing that can be wrong here.
        raise FormatError(_CODE, "not an X25519 key that something can be sealed to") from error


def open_sealed(private_key: X25519PrivateKey, data: bytes, info: bytes) -> bytes:
    """Open what was sealed to the public half under the same info.

    Raises:
        RefusedError: `keys.transfer_sealed`, for anything else.
    """
    try:
        return _SUITE.decrypt(data, private_key, info)
    except (InvalidTag, ValueError) as error:
        raise RefusedError(Code.KEYS_TRANSFER_SEALED, "sealed to another key or for another use, or changed") from error
