"""The deny list's form: what is written is read again, and nothing else is read."""

import base64
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from deny_lists import deny_list, spki_of
from hypothesis import given, settings
from hypothesis import strategies as st
from mini_authority import MiniAuthority

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError
from proxy_attestation.formats.bounds import DENIALS_MAX, DENY_LIST_MAX
from proxy_attestation.formats.deny_list import (
    Denied,
    DenyList,
    decode_deny_list,
    encode_deny_list,
    verify_deny_list,
)

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
AUTHORITY = MiniAuthority(NOW)
SERIAL, SPKI = b"\x11" * 20, b"\x22" * 32
NOTE = deny_list(AUTHORITY, SERIAL, SPKI)
KEY = spki_of(AUTHORITY.issuing_key)


def code_of(call: Callable[[], object]) -> Code:
    with pytest.raises(FormatError) as caught:
        call()
    return caught.value.code


def test_the_form_is_the_described_one() -> None:
    seconds = int(NOW.timestamp())
    text, _, signatures = NOTE.partition(b"\n\n")
    assert text.decode().split("\n") == [
        "proxy-attestation/denied/v1",
        "origin example.org/issuance/0123456789abcdef",
        "sequence 1",
        f"this-update {seconds}",
        f"next-update {seconds + 86400}",
        f"certificate {base64.b64encode(AUTHORITY.issuing_der).decode()}",
        f"serial {'11' * 20} {seconds + 86400}",
        f"spki {'22' * 32} {seconds + 86400}",
    ]
    assert signatures.decode().startswith("— example.org/issuance/0123456789abcdef ")


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.builds(
            Denied,
            st.binary(min_size=20, max_size=20) | st.binary(min_size=32, max_size=32),
            st.integers(0, 253402300799),
        ),
        max_size=20,
        unique=True,
    ),
    st.integers(0, 253402300799),
)
def test_what_is_written_is_read_again(denied: list[Denied], number: int) -> None:
    content = DenyList("o", number, number, number, (b"\x30", b"\x31"), tuple(denied))
    text = encode_deny_list(content)
    signed = decode_deny_list(f"{text}\n\u2014 o AAAAAAA=\n".encode())
    assert (signed.content, signed.note.text) == (content, text)


def test_a_signature_of_this_key_is_verified() -> None:
    signed = decode_deny_list(NOTE)
    assert verify_deny_list(signed, KEY) == signed.content


def test_the_largest_list_fits() -> None:
    denied = [index.to_bytes(32, "big") for index in range(DENIALS_MAX)]
    certificates = (AUTHORITY.issuing_der, AUTHORITY.root_der)
    note = deny_list(AUTHORITY, *denied, certificates=certificates)
    assert len(note) < DENY_LIST_MAX
    assert len(decode_deny_list(note).content.denied) == DENIALS_MAX
    assert code_of(lambda: decode_deny_list(deny_list(AUTHORITY, *denied, SPKI))) is Code.CERTIFICATE_DENY_LIST


FAULTS: dict[str, tuple[bytes, bytes]] = {
    "another title": (b"denied/v1", b"denied/v2"),
    "no origin": (b"origin example", b"origins example"),
    "a space in the origin": (b"origin example.org/", b"origin example.org /"),
    "no sequence": (b"sequence 1\n", b""),
    "a leading zero": (b"sequence 1", b"sequence 01"),
    "a sign": (b"sequence 1", b"sequence +1"),
    "other digits": (b"sequence 1", b"sequence \xd9\xa1"),
    "a number too large": (b"sequence 1", b"sequence 253402300800"),
    "another order": (b"this-update", b"next-update"),
    "no certificate": (b"certificate ", b"certificates "),
    "base64 of another spelling": (b"\nserial", b"=\nserial"),
    "a short serial": (b"serial 11", b"serial "),
    "upper case": (b"spki 22", b"spki 2A"),
    "a line of another kind": (b"spki", b"name"),
    "a line twice": (b"spki " + b"22" * 32, b"serial " + b"11" * 20),
    "carriage returns": (b"\nserial", b"\r\nserial"),
    "an empty line": (b"\nserial", b"\n\nserial"),
    "no signature": ("— ".encode(), b""),
    "another dash": ("— ".encode(), b"\xe2\x80\x93 "),
    "not UTF-8": (b"\nserial", b"\xff\nserial"),
    "no end": (b"", b""),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_another_form_is_refused(fault: str) -> None:
    old, new = FAULTS[fault]
    spoiled = NOTE.replace(old, new, 1) if old else NOTE[:-1]
    assert spoiled != NOTE
    assert code_of(lambda: decode_deny_list(spoiled)) is Code.CERTIFICATE_DENY_LIST


@pytest.mark.parametrize("size", [0, 1, DENY_LIST_MAX + 1])
def test_other_sizes_are_refused(size: int) -> None:
    assert code_of(lambda: decode_deny_list(b"p" * size)) is Code.CERTIFICATE_DENY_LIST


def test_a_signature_of_another_key_or_text_is_refused() -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    changed = NOTE.replace(b"serial 11", b"serial 12")
    with_another = NOTE + NOTE.split(b"\n\n")[1].replace(b"A", b"B", 1)
    for note, key in ((NOTE, spki_of(other)), (deny_list(AUTHORITY, signer=other), KEY), (changed, KEY)):
        signed = decode_deny_list(note)
        assert code_of(partial(verify_deny_list, signed, key)) is Code.CERTIFICATE_DENY_LIST
    assert decode_deny_list(with_another).content == decode_deny_list(NOTE).content


@pytest.mark.parametrize(
    "spki",
    [b"", b"junk", spki_of(ec.generate_private_key(ec.SECP384R1())), KEY[:-1]],
    ids=["empty", "junk", "P-384", "cut"],
)
def test_a_key_of_another_kind_verifies_nothing(spki: bytes) -> None:
    assert code_of(lambda: verify_deny_list(decode_deny_list(NOTE), spki)) is Code.CERTIFICATE_DENY_LIST


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(NOTE) - 1), st.integers(0, 255))
def test_a_changed_byte_is_refused_or_not_signed(position: int, value: int) -> None:
    changed = NOTE[:position] + bytes([value]) + NOTE[position + 1 :]
    try:
        signed = decode_deny_list(changed)
        verify_deny_list(signed, KEY)
    except FormatError as error:
        assert error.code is Code.CERTIFICATE_DENY_LIST
    else:
        assert signed.note.text == decode_deny_list(NOTE).note.text
