"""Signed notes: C2SP's own example, every fault of form, and every way in which a signature is not good."""

from base64 import b64encode

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given, settings
from hypothesis import strategies as st
from logs import TestKey, signed, witness_key

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError, ProxyAttestationError, RefusedError
from proxy_attestation.formats.bounds import NOTE_MAX, TIME_MAX
from proxy_attestation.formats.csr import spki_of
from proxy_attestation.formats.signed_note import (
    KeyType,
    Signature,
    Verifier,
    parse_note,
    parse_vkey,
    sign_note,
    verify_note,
)

VKEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
EXAMPLE = (
    "This is an example message.\n"
    "\n"
    "— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
).encode()
TEXT = "A text.\n\nWith an empty line.\n"
KEY = TestKey("key.example.org")
GOOD = signed(TEXT, KEY)
LINE = str(KEY.sign(TEXT))
SPACE = "\u2003"


def malformed(data: bytes) -> None:
    with pytest.raises(FormatError) as caught:
        parse_note(data)
    assert caught.value.code is Code.NOTE_MALFORMED


def unsigned(data: bytes, *keys: Verifier) -> None:
    with pytest.raises(RefusedError) as caught:
        verify_note(parse_note(data), keys)
    assert caught.value.code is Code.NOTE_SIGNATURE


def test_the_example_of_the_specification() -> None:
    key = parse_vkey(VKEY)
    assert (key.name, key.type, key.key_id.hex()) == ("example.com/foo", KeyType.ED25519, "530d903a")
    assert str(key) == VKEY
    note = parse_note(EXAMPLE)
    assert note.text == "This is an example message.\n"
    assert verify_note(note, [key]) == (key,)
    assert note.encode() == EXAMPLE


def test_the_text_may_hold_empty_lines() -> None:
    note = parse_note(GOOD)
    assert note.text == TEXT
    assert note.encode() == GOOD
    assert verify_note(note, [KEY.verifier]) == (KEY.verifier,)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        TEXT.encode(),
        f"{TEXT}{LINE}".encode(),
        f"{TEXT}\n".encode(),
        f"{TEXT}\n{LINE[:-1]}".encode(),
        f"{TEXT}\n{LINE}x".encode(),
        f"{TEXT}\n{LINE}\n".encode(),
        f"{TEXT}\n{LINE}x\n".encode(),
        f"{TEXT}\n{LINE.replace('—', '-')}".encode(),
        f"{TEXT}\n{LINE.replace(' ', '  ')}".encode(),
        f"{TEXT}\n{LINE[:-1]} \n".encode(),
        f"{TEXT}\n{LINE[:-1]}\r\n".encode(),
        f"{TEXT}\r\n{LINE}".encode().replace(b"line.\n", b"line.\r\n"),
        f"a\tb\n\n{LINE}".encode(),
        f"a\0b\n\n{LINE}".encode(),
        f"\xff\n\n{LINE}".encode("latin-1", "replace"),
        f"{TEXT}\n{LINE.replace('key.example.org', 'a+b')}".encode(),
        f"{TEXT}\n{LINE.replace('key.example.org', 'a' + SPACE + 'b')}".encode(),
        f"{TEXT}\n{LINE.replace('key.example.org', 'a' * 256)}".encode(),
        f"{TEXT}\n{LINE[:-2]}\n".encode(),
        f"{TEXT}\n— a {b64encode(b'1234').decode()}\n".encode(),
        f"{TEXT}\n— a {b64encode(bytes(4101)).decode()}\n".encode(),
        f"{TEXT}\n— a AAAAAB==\n".encode(),  # spare bits
        f"{TEXT}\n— a AAAA-_AA\n".encode(),
        f"{TEXT}\n{LINE * 33}".encode(),
        b"x" * (NOTE_MAX + 1),
    ],
)
def test_malformed_notes(data: bytes) -> None:
    malformed(data)


def test_as_many_signatures_as_allowed() -> None:
    keys = [TestKey(f"key{i}") for i in range(31)]
    note = parse_note(signed(TEXT, *keys, KEY))
    assert verify_note(note, [KEY.verifier]) == (KEY.verifier,)
    assert len(verify_note(note, [key.verifier for key in keys])) == 31


def test_a_changed_text_is_not_signed() -> None:
    unsigned(GOOD.replace(b"A text", b"a text"), KEY.verifier)


@pytest.mark.exhaustive
def test_no_flipped_bit_of_the_signature_is_signed() -> None:
    good = KEY.sign(TEXT)
    for place in range(64):
        for bit in range(8):
            signature = bytearray(good.signature)
            signature[place] ^= 1 << bit
            line = Signature(good.name, good.key_id, bytes(signature))
            unsigned(f"{TEXT}\n{line}".encode(), KEY.verifier)


@pytest.mark.parametrize("length", [1, 63, 65, 4096])
@pytest.mark.parametrize("kind", KeyType)
def test_a_signature_of_another_length_is_none(length: int, kind: KeyType) -> None:
    public = TestKey().verifier.public_key
    if kind is KeyType.ECDSA:
        public = spki_of(ec.derive_private_key(5, ec.SECP256R1()).public_key())
    key = Verifier("a", kind, public)
    unsigned(f"{TEXT}\n{Signature('a', key.key_id, bytes(length))}".encode(), key)


def test_a_bad_signature_of_a_known_key_spoils_the_note() -> None:
    other = TestKey("other")
    bad = Signature(other.verifier.name, other.verifier.key_id, KEY.sign(TEXT).signature)
    note = f"{TEXT}\n{LINE}{bad}".encode()
    unsigned(note, KEY.verifier, other.verifier)
    unsigned(note, other.verifier)
    assert verify_note(parse_note(note), [KEY.verifier]) == (KEY.verifier,)


def test_an_unknown_name_or_hash_does_not_count() -> None:
    unsigned(GOOD)
    unsigned(GOOD, TestKey("other").verifier)
    unsigned(GOOD, TestKey("key.example.org", secret="another").verifier)
    unsigned(GOOD, TestKey("key.example.org", KeyType.COSIGNATURE).verifier)


def test_a_key_counts_once() -> None:
    note = parse_note(f"{TEXT}\n{LINE}{LINE}".encode())
    assert verify_note(note, [KEY.verifier, KEY.verifier]) == (KEY.verifier,)


def test_two_keys_of_one_name_count_twice() -> None:
    keys = [KEY, TestKey("key.example.org", secret="another")]
    verifiers = [key.verifier for key in keys]
    assert verify_note(parse_note(signed(TEXT, *keys)), verifiers) == tuple(verifiers)


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1()], ids=lambda curve: curve.name)
def test_ecdsa(curve: ec.EllipticCurve) -> None:
    private = ec.derive_private_key(5, curve)
    key = Verifier("a", KeyType.ECDSA, spki_of(private.public_key()))
    assert parse_vkey(str(key)) == key
    line = sign_note(TEXT, key, lambda data: private.sign(data, ec.ECDSA(SHA256())))
    note = f"{TEXT}\n{line}".encode()
    assert verify_note(parse_note(note), [key]) == (key,)
    unsigned(note.replace(b"A text", b"a text"), key)


def test_a_cosignature_covers_its_time() -> None:
    witness = witness_key()
    line = witness.sign(TEXT, 1679315147)
    assert line.time == 1679315147
    assert verify_note(parse_note(f"{TEXT}\n{line}".encode()), [witness.verifier]) == (witness.verifier,)
    later = Signature(line.name, line.key_id, (1679315148).to_bytes(8, "big") + line.signature[8:])
    unsigned(f"{TEXT}\n{later}".encode(), witness.verifier)
    assert Signature("a", bytes(4), b"\xff" * 72).time == TIME_MAX


def test_the_key_id_of_a_cosignature_key_is_its_own() -> None:
    public = KEY.verifier.public_key
    ids = {Verifier("a", kind, public).key_id for kind in (KeyType.ED25519, KeyType.COSIGNATURE)}
    assert len(ids) == 2


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a+530d903a",
        VKEY.replace("530d903a", "530d903b"),
        VKEY.replace("530d903a", "530D903A"),
        VKEY.replace("example.com/foo", "example.com/bar"),
        VKEY.replace("example.com/foo", ""),
        VKEY.replace("example.com/foo", "a b"),
        VKEY[:-4],
        VKEY + "\n",
        "a+00000000+",
        "a+00000000+Aw==",
        f"a+00000000+{b64encode(bytes([3]) + bytes(32)).decode()}",
        f"a+00000000+{b64encode(bytes([2]) + bytes(32)).decode()}",
        f"a+00000000+{b64encode(bytes([1]) + bytes(31)).decode()}",
        f"a+00000000+{b64encode(bytes([1]) + bytes(200)).decode()}",
    ],
)
def test_malformed_keys(text: str) -> None:
    with pytest.raises(FormatError) as caught:
        parse_vkey(text)
    assert caught.value.code is Code.NOTE_MALFORMED


@pytest.mark.parametrize("text", ["", "no newline", "a\rb\n", "\ud800\n"])
def test_a_text_that_no_note_can_hold_is_not_signed(text: str) -> None:
    with pytest.raises(FormatError) as caught:
        KEY.sign(text)
    assert caught.value.code is Code.NOTE_MALFORMED


@settings(deadline=None)
@given(st.binary(max_size=300) | st.text().map(lambda t: f"{TEXT}\n— {t}\n".encode("utf-8", "replace")))
def test_any_bytes_give_a_note_or_our_error(data: bytes) -> None:
    try:
        note = parse_note(data)
        verify_note(note, [KEY.verifier, witness_key().verifier])
    except ProxyAttestationError:
        return
    assert parse_note(note.encode()) == note
