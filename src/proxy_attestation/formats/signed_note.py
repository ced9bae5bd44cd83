"""Signed notes (C2SP signed-note v1.0.0, tlog-cosignature v1): text that people or logs sign.

::

    <text, each line ends with a newline>
    <empty line>
    — <name> <base64 of: key id, 4 bytes || signature>

What is signed is the text with its last newline, without the empty line. A key is told as ``name+hash+key``: the name,
the key id in 8 lower-case hex digits, and base64 of a byte of key type and the public key.
"""

import hashlib
import re
from base64 import b64encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError, RefusedError
from proxy_attestation.formats.bounds import NOTE_MAX, NOTE_NAME_MAX, NOTE_SIGNATURES_MAX, TIME_MAX
from proxy_attestation.formats.csr import load_subject_key
from proxy_attestation.formats.values import as_base64, as_member

_MALFORMED: Final = Code.NOTE_MALFORMED
_KEY_MAX: Final = 128
"""Bytes of a public key. A P-384 SubjectPublicKeyInfo has 120."""
_SIGNATURE_MAX: Final = 4096
"""Bytes of one signature; ML-DSA-44, which we do not verify, has 2420."""
_CONTROL: Final = re.compile(r"[\x00-\x09\x0b-\x1f]")
_LINE: Final = re.compile("\u2014 ([^ ]+) ([^ ]+)")


class KeyType(IntEnum):
    """What a key signs, and how."""

    ED25519 = 1
    """The text. The key has 32 bytes, the signature 64."""
    ECDSA = 2
    """The text, ECDSA with SHA-256. The key is a SubjectPublicKeyInfo in DER (P-256 or P-384), so is the signature."""
    COSIGNATURE = 4
    """The text under a time. The key has 32 bytes, the signature 8 of time (seconds, big-endian) and 64 of Ed25519."""


@dataclass(frozen=True, slots=True)
class Verifier:
    """A key that signs notes.

    Attributes:
        name: of the key; no white space, no plus sign, at most 255 bytes.
        type: what it signs.
        public_key: as its type says.
    """

    name: str
    type: KeyType
    public_key: bytes

    def __post_init__(self) -> None:
        """Raise FormatError: `note.malformed`, for a name or key that cannot be."""
        _check_name(self.name)
        if self.type is KeyType.ECDSA:
            try:
                load_subject_key(self.public_key)
            except FormatError as error:
                raise FormatError(_MALFORMED, error.detail) from error
        elif len(self.public_key) != 32:
            raise FormatError(_MALFORMED, f"an Ed25519 key of {len(self.public_key)} bytes")

    @property
    def key_id(self) -> bytes:
        """Four bytes that, with the name, tell which key made a signature."""
        content = self.name.encode() + b"\n" + bytes([self.type]) + self.public_key
        return hashlib.sha256(self.public_key if self.type is KeyType.ECDSA else content).digest()[:4]

    def __str__(self) -> str:
        """Return the key as people exchange it."""
        return f"{self.name}+{self.key_id.hex()}+{b64encode(bytes([self.type]) + self.public_key).decode()}"

    def check(self, text: str, signature: bytes) -> None:
        """Check one signature over a text.

        Raises:
            RefusedError: `note.signature`.
        """
        time = int.from_bytes(signature[:8], "big")
        try:
            if self.type is KeyType.ECDSA:
                load_subject_key(self.public_key).verify(signature, text.encode(), ECDSA(SHA256()))
            else:
                skip = 8 if self.type is KeyType.COSIGNATURE else 0
                key = Ed25519PublicKey.from_public_bytes(self.public_key)
                key.verify(signature[skip:], message(self.type, text, time))
        except InvalidSignature as error:
            raise RefusedError(Code.NOTE_SIGNATURE, f"not signed by {self.name}") from error


def message(kind: KeyType, text: str, time: int = 0) -> bytes:
    """Return what a key of this type signs: the text, or for a cosignature the text under its time in seconds."""
    return (f"cosignature/v1\ntime {time}\n{text}" if kind is KeyType.COSIGNATURE else text).encode()


def parse_vkey(text: str) -> Verifier:
    """Read a key as people exchange it: ``name+hash+key``.

    Raises:
        FormatError: `note.malformed`, for anything else, an unknown key type, or a hash that is not the key's.
    """
    name, _, rest = text.partition("+")
    key_id, _, key = rest.partition("+")
    content = as_base64(key, _MALFORMED, 2, _KEY_MAX)
    verifier = Verifier(name, as_member(content[0], _MALFORMED, KeyType), content[1:])
    if verifier.key_id.hex() != key_id:
        raise FormatError(_MALFORMED, f"the key of {name} has another hash")
    return verifier


@dataclass(frozen=True, slots=True)
class Signature:
    """One line under a note.

    Attributes:
        name: of the key.
        key_id: 4 bytes.
        signature: 1 to 4096 bytes.
    """

    name: str
    key_id: bytes
    signature: bytes

    @property
    def time(self) -> int:
        """Of a cosignature: when it was made, in seconds since the epoch, at most TIME_MAX."""
        return min(int.from_bytes(self.signature[:8], "big"), TIME_MAX)

    def __str__(self) -> str:
        """Return the line, with its newline."""
        return f"\u2014 {self.name} {b64encode(self.key_id + self.signature).decode()}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A text and the signatures under it, of which nothing is said yet.

    Attributes:
        text: ends with a newline; no control character but that.
        signatures: in their order.
    """

    text: str
    signatures: tuple[Signature, ...]

    def encode(self) -> bytes:
        """Return the note's bytes."""
        return f"{self.text}\n{''.join(map(str, self.signatures))}".encode()


def parse_note(data: bytes, limit: int = NOTE_MAX) -> Note:
    """Read a note with 1 to 32 signatures. It verifies none of them.

    Args:
        data: the note.
        limit: in bytes; 64 KiB for all but deny lists.

    Raises:
        FormatError: `note.malformed`.
    """
    if len(data) > limit:
        raise FormatError(_MALFORMED, f"a note of {len(data)} bytes, at most {limit} allowed")
    try:
        head, blank, lines = data.decode().rpartition("\n\n")
    except UnicodeDecodeError as error:
        raise FormatError(_MALFORMED, "not UTF-8") from error
    if not blank:
        raise FormatError(_MALFORMED, "no empty line between text and signatures")
    check_text(head + "\n")
    return Note(head + "\n", parse_signatures(lines))


def parse_signatures(lines: str) -> tuple[Signature, ...]:
    """Read 1 to 32 lines of signatures, as they stand under a note or as a witness answers them.

    Raises:
        FormatError: `note.malformed`.
    """
    rows = lines.removesuffix("\n").split("\n")
    if not lines.endswith("\n") or len(rows) > NOTE_SIGNATURES_MAX:
        raise FormatError(_MALFORMED, f"a cut line of signature, or more than {NOTE_SIGNATURES_MAX}")
    return tuple(map(_parse_signature, rows))


def _parse_signature(row: str) -> Signature:
    match = _LINE.fullmatch(row)
    if match is None:
        raise FormatError(_MALFORMED, "a line that is no signature")
    _check_name(match[1])
    content = as_base64(match[2], _MALFORMED, 5, 4 + _SIGNATURE_MAX)
    return Signature(match[1], content[:4], content[4:])


def verify_note(note: Note, verifiers: Iterable[Verifier]) -> tuple[Verifier, ...]:
    """Return whose signatures a note carries, each key once, in the order of `verifiers`. Unknown ones do not count.

    Raises:
        RefusedError: `note.signature`, where no known key signed, or a signature of a known key is not good.
    """
    known = {(verifier.name, verifier.key_id): verifier for verifier in verifiers}
    good = set()
    for signature in note.signatures:
        pair = (signature.name, signature.key_id)
        if pair in known:
            known[pair].check(note.text, signature.signature)
            good.add(pair)
    if not good:
        raise RefusedError(Code.NOTE_SIGNATURE, "not signed by any key that is trusted for it")
    return tuple(verifier for pair, verifier in known.items() if pair in good)


def sign_note(text: str, key: Verifier, sign: Callable[[bytes], bytes], time: int = 0) -> Signature:
    """Sign a text.

    Args:
        text: ends with a newline.
        key: the public half.
        sign: returns the private half's signature over bytes (64 of Ed25519; DER of ECDSA with SHA-256).
        time: of a cosignature, in seconds since the epoch.

    Raises:
        FormatError: `note.malformed`, for a text that no note can hold.
    """
    check_text(text)
    stamp = time.to_bytes(8, "big") if key.type is KeyType.COSIGNATURE else b""
    return Signature(key.name, key.key_id, stamp + sign(message(key.type, text, time)))


def check_text(text: str) -> None:
    """Raise FormatError: `note.malformed`, for a text that no note can hold."""
    if not text.endswith("\n") or _CONTROL.search(text) or any("\ud800" <= c <= "\udfff" for c in text):
        raise FormatError(_MALFORMED, "a text without final newline, with a control character or not UTF-8")


def _check_name(name: str) -> None:
    if not name or "+" in name or any(c.isspace() or c < " " or "\ud800" <= c <= "\udfff" for c in name):
        raise FormatError(_MALFORMED, "a key name that is empty, or holds white space, a plus sign or a control")
    if len(name.encode()) > NOTE_NAME_MAX:
        raise FormatError(_MALFORMED, f"a key name of more than {NOTE_NAME_MAX} bytes")
