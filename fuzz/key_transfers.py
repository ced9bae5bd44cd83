"""Harnesses for requests for keys and bundles of keys."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from target import Target

from proxy_attestation.appraisal.asking_proxy import Asked, check_asking
from proxy_attestation.appraisal.endorsements import DcapEndorsements
from proxy_attestation.appraisal.roots import same_for_all
from proxy_attestation.formats.key_transfer import (
    KeyBundle,
    KeyRequest,
    Purpose,
    TransferredKey,
    decode_key_bundle,
    decode_key_request,
    encode_key_bundle,
    encode_key_request,
    open_sealed,
    seal_to,
)
from proxy_attestation.formats.signed_note import KeyType, Verifier
from proxy_attestation.formats.tee import Tee
from proxy_attestation_simulator.intel import Vendor

_DER: Final = b"\x30\x00"
_REQUEST: Final = KeyRequest(Purpose.RECOVERY, b"r" * 32, b"k" * 32, b"n" * 32, Tee.SGX, b"evidence", (_DER,), b"log")
_BUNDLE: Final = KeyBundle(bytes(32), (TransferredKey("log", _DER), TransferredKey("root-g2", _DER)))
_NOW: Final = datetime(2026, 11, 24, 12, tzinfo=UTC)
_VENDOR: Final = Vendor.create(_NOW, secret=b"\x7e" * 32)
_COLLATERAL: Final = DcapEndorsements(**_VENDOR.endorsements("sgx", _NOW))
_ASKED: Final = Asked(
    "example.org", _REQUEST.root, "example.org/issuance/0", (Verifier("alice", KeyType.ED25519, b"a" * 32),), 1,
    same_for_all([_VENDOR.root_pin]),
)  # fmt: skip
_GENUINE: Final = replace(_REQUEST, evidence=_VENDOR.platform("sgx").quote(_REQUEST.binding.report_data))
_KEY: Final = X25519PrivateKey.from_private_bytes(b"\x01" * 32)


def _request(data: bytes) -> None:
    """Whatever is read as a request is written as the same bytes, and can be bound and sealed to, or is refused."""
    request = decode_key_request(data)
    assert encode_key_request(request) == data
    assert len(request.binding.report_data) == 64
    seal_to(request.public_key, b"content", b"info")
    check_asking(request, b"a note\n", _ASKED, _COLLATERAL, _NOW)


def _bundle(data: bytes) -> None:
    assert encode_key_bundle(decode_key_bundle(data)) == data


def _sealed(data: bytes) -> None:
    """Open it as it is, or as a bundle that somebody sealed to us."""
    sealed = data[1:] if data[:1] != b"\0" else seal_to(_KEY.public_key().public_bytes_raw(), data[1:], b"info")
    decode_key_bundle(open_sealed(_KEY, sealed, b"info"))


KEY_TRANSFERS: Final[dict[str, Target]] = {
    "key-request": Target(_request, 16384, lambda: [encode_key_request(_GENUINE), encode_key_request(_REQUEST)]),
    "key-sealed": Target(_sealed, 4096, lambda: [b"\0" + encode_key_bundle(_BUNDLE), bytes([1] * 100)]),
    "key-bundle": Target(_bundle, 4096, lambda: [encode_key_bundle(_BUNDLE)]),
}
