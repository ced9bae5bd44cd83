"""Nitro documents: what is read, and the exact bounds."""

from datetime import UTC, datetime

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError, ProxyAttestationError
from proxy_attestation.formats.nitro import DOCUMENT_MAX, decode_nitro, looks_like_nitro
from proxy_attestation_simulator.aws import Aws

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
VENDOR = Aws.create(NOW, secret=bytes(range(32)))
ENCLAVE = VENDOR.enclave()
GOOD = ENCLAVE.document(nonce=b"n" * 32, public_key=b"k" * 91, user_data=b"u" * 64)


def test_the_three_slots_are_bound_in_their_order() -> None:
    assert decode_nitro(GOOD).bound == (b"n" * 32, b"k" * 91, b"u" * 64)


def test_null_and_absent_are_the_same_and_empty() -> None:
    for fault in ("", "omitted"):
        document = decode_nitro(ENCLAVE.document(fault=fault))
        assert document.bound == (b"", b"", b"")
        assert (document.nonce, document.public_key, document.user_data) == (None, None, None)


def test_an_empty_slot_binds_nothing() -> None:
    document = decode_nitro(ENCLAVE.document(nonce=b"", user_data=b""))
    assert document.bound == (b"", b"", b"")


def test_fields_are_read_as_they_stand() -> None:
    document = decode_nitro(GOOD)
    assert document.data == GOOD
    assert document.module_id == VENDOR.module_id("0")
    assert document.timestamp_ms == int(NOW.timestamp()) * 1000
    assert [index for index, _ in document.pcrs] == list(range(16))
    assert document.cabundle[0] == VENDOR.root_der
    protected, _, payload, signature = cbor2.loads(GOOD)
    assert document.signed == cbor2.dumps(["Signature1", protected, b"", payload])
    assert document.signature == signature


def test_what_is_signed_is_the_payload_as_received() -> None:
    # The map is of indefinite length here: encoding it again would give other bytes.
    assert cbor2.loads(GOOD)[2][:1] == b"\xbf"
    assert cbor2.loads(GOOD)[2] in decode_nitro(GOOD).signed


@pytest.mark.parametrize(
    ("fault", "fits"),
    [
        ("public-key-size=1024", True),
        ("public-key-size=0", False),
        ("public-key-size=1025", False),
        ("user-data-size=512", True),
        ("user-data-size=0", True),
        ("user-data-size=513", False),
        ("nonce-size=512", True),
        ("nonce-size=513", False),
        ("pcr-index=31", True),
        ("pcr-index=32", False),
        ("pcr-size=0", False),
        ("pcr-size=32", True),
        ("pcr-size=49", False),
        ("pcr-size=64", True),
        ("pcr-size=65", False),
    ],
)
def test_bounds_are_exact(fault: str, fits: bool) -> None:
    data = ENCLAVE.document(fault=fault)
    if fits:
        decode_nitro(data)
        return
    with pytest.raises(FormatError) as refused:
        decode_nitro(data)
    assert refused.value.code is Code.NITRO_MALFORMED


@pytest.mark.parametrize("key", ["module_id", "digest", "timestamp", "pcrs", "certificate", "cabundle"])
@pytest.mark.parametrize("fault", ["missing", "null"])
def test_no_mandatory_field_may_be_absent_or_null(fault: str, key: str) -> None:
    with pytest.raises(FormatError) as refused:
        decode_nitro(ENCLAVE.document(fault=f"{fault}={key}"))
    assert refused.value.code is Code.NITRO_MALFORMED


def test_the_largest_payload_fits_and_one_more_byte_does_not() -> None:
    with pytest.raises(FormatError) as refused:
        decode_nitro(bytes(DOCUMENT_MAX + 1))
    assert refused.value.code is Code.EVIDENCE_TOO_LARGE
    protected, unprotected, _, signature = cbor2.loads(GOOD)
    for size, detail in ((16384, "not CBOR that we accept"), (16385, "a byte string of 1 to 16384 bytes was expected")):
        with pytest.raises(FormatError) as refused:
            decode_nitro(cbor2.dumps([protected, unprotected, b"\x9f" * size, signature]))
        assert (refused.value.code, refused.value.detail) == (Code.NITRO_MALFORMED, detail)


def test_documents_are_told_from_other_things() -> None:
    assert looks_like_nitro(GOOD)
    assert looks_like_nitro(ENCLAVE.document(fault="tagged"))
    assert looks_like_nitro(ENCLAVE.document(fault="definite"))
    assert looks_like_nitro(ENCLAVE.document(fault="truncated"))
    for other in (b"", b"\x84", b"\x03\x00\x02\x00" + bytes(600), b"{" + GOOD, GOOD[:8]):
        assert not looks_like_nitro(other)


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=300))
def test_any_bytes_give_a_document_or_our_error(data: bytes) -> None:
    with pytest.raises(ProxyAttestationError):
        decode_nitro(data)


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_any_change_gives_a_document_or_our_error(draw: st.DataObject) -> None:
    at = draw.draw(st.integers(0, len(GOOD) - 1))
    data = GOOD[:at] + draw.draw(st.binary(max_size=4)) + GOOD[at + draw.draw(st.integers(0, 4)) :]
    try:
        decode_nitro(data)
    except ProxyAttestationError as error:
        assert error.exit_status in (3, 4)
