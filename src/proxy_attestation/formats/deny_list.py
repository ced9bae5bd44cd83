"""The deny list: what was revoked and has not expired. A signed note (C2SP signed-note) under the active issuing CA.

::

    proxy-attestation/denied/v1
    origin example.org/issuance/<16 hex digits>
    sequence 12                             rises with every list of this authority
    this-update 1795000000                  seconds since the epoch
    next-update 1795086400                  until when a newer one is there
    certificate <base64 of DER>             the issuing CA that signs; then, where there are two roots, the one that
                                            leads to the other root
    serial <40 hex digits> <notAfter>       one certificate
    spki <64 hex digits> <notAfter>         every certificate of a key (SHA-256 of its SubjectPublicKeyInfo): a leaf's
                                            or an issuing CA's
                                            <- an empty line
    — <origin> <base64: key id, signature>  the first four bytes of SHA-256 of the issuing CA's SubjectPublicKeyInfo,
                                            then ecdsa-with-SHA256 over all lines above the empty one

Every line of the text ends with a line feed, the keywords come in this order, numbers are decimal without leading
zeros, hex is lower case. Anything else is refused.
"""

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NoReturn

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError, RefusedError
from proxy_attestation.formats.bounds import CERTIFICATE_MAX, DENIALS_MAX, DENY_LIST_MAX, TIME_MAX
from proxy_attestation.formats.signed_note import KeyType, Note, Verifier, parse_note, sign_note, verify_note
from proxy_attestation.formats.values import as_base64

# The same key signs certificates, whose to-be-signed bytes are a SEQUENCE and begin with 0x30, which is the digit 0.
# What is signed here begins with the letter p: neither can ever be taken for the other.
_TITLE: Final = "proxy-attestation/denied/v1"
CERTIFICATES_MAX: Final = 2
_NAMES: Final = {20: "serial", 32: "spki"}
"""By the number of bytes."""
_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,11}")
_ORIGIN: Final = re.compile(r"[!-*,-~]{1,255}")
_DENIAL: Final = re.compile(r"(serial ([0-9a-f]{40})|spki ([0-9a-f]{64})) (0|[1-9][0-9]{0,11})")


@dataclass(frozen=True, slots=True)
class Denied:
    """One line: a serial number of 20 bytes or a key's digest of 32, and until when that matters."""

    what: bytes
    not_after: int


@dataclass(frozen=True, slots=True)
class DenyList:
    """What a deny list says.

    Attributes:
        origin: the ledger's name: 1 to 255 printable ASCII characters without space and plus.
        sequence: rises with every list.
        this_update: seconds since the epoch.
        next_update: seconds since the epoch.
        certificates: DER: the issuing CA that signs, and perhaps the one that leads to the other root.
        denied: each once.
    """

    origin: str
    sequence: int
    this_update: int
    next_update: int
    certificates: tuple[bytes, ...]
    denied: tuple[Denied, ...]


@dataclass(frozen=True, slots=True)
class SignedDenyList:
    """A deny list as it was read, not verified.

    Attributes:
        content: what it says.
        note: its text and signatures.
    """

    content: DenyList
    note: Note


def encode_deny_list(content: DenyList) -> str:
    """Return the text to sign."""
    lines = [
        _TITLE,
        f"origin {content.origin}",
        f"sequence {content.sequence}",
        f"this-update {content.this_update}",
        f"next-update {content.next_update}",
        *(f"certificate {base64.b64encode(der).decode()}" for der in content.certificates),
    ]
    lines += [f"{_NAMES[len(one.what)]} {one.what.hex()} {one.not_after}" for one in content.denied]
    return "".join(f"{line}\n" for line in lines)


def sign_deny_list(content: DenyList, spki: bytes, sign: Callable[[bytes], bytes]) -> bytes:
    """Return the note.

    Args:
        content: what it says.
        spki: DER of the issuing CA's SubjectPublicKeyInfo.
        sign: returns that key's signature over bytes: DER, ecdsa-with-SHA256.
    """
    text, key = encode_deny_list(content), Verifier(content.origin, KeyType.ECDSA, spki)
    return Note(text, (sign_note(text, key, sign),)).encode()


def decode_deny_list(data: bytes) -> SignedDenyList:
    """Read a deny list of at most `DENY_LIST_MAX` bytes. Nothing of it counts before `verify_deny_list`.

    Raises:
        FormatError: `certificate.deny_list`.
    """
    try:
        note = parse_note(data, DENY_LIST_MAX)
    except FormatError as error:
        raise FormatError(Code.CERTIFICATE_DENY_LIST, error.detail) from error
    lines = note.text.removesuffix("\n").split("\n")
    if len(lines) > DENIALS_MAX + CERTIFICATES_MAX + 5 or lines[0] != _TITLE:
        _malformed("another kind of note, or too many lines")
    origin = _value(lines, 1, "origin")
    if _ORIGIN.fullmatch(origin) is None:
        _malformed("origin")
    sequence, this_update, next_update = [_number(_value(lines, position, name)) for position, name in _NUMBERS]
    certificates = _certificates(lines[5:])
    denied = tuple(map(_denied, lines[5 + len(certificates) :]))
    if len(denied) > DENIALS_MAX or len(set(denied)) != len(denied):
        _malformed("a line twice, or too many")
    return SignedDenyList(DenyList(origin, sequence, this_update, next_update, certificates, denied), note)


def verify_deny_list(signed: SignedDenyList, spki: bytes) -> DenyList:
    """Check that a key signed a list, and return what it says. Whose key that is, is for the caller to know.

    Args:
        signed: as it was read.
        spki: DER of the SubjectPublicKeyInfo.

    Raises:
        FormatError: `certificate.deny_list`.
    """
    try:
        verify_note(signed.note, (Verifier(signed.content.origin, KeyType.ECDSA, spki),))
    except (FormatError, RefusedError) as error:
        raise FormatError(Code.CERTIFICATE_DENY_LIST, error.detail) from error
    return signed.content


_NUMBERS: Final = ((2, "sequence"), (3, "this-update"), (4, "next-update"))


def _malformed(problem: str) -> NoReturn:
    raise FormatError(Code.CERTIFICATE_DENY_LIST, problem)


def _value(lines: list[str], position: int, name: str) -> str:
    line = lines[position] if position < len(lines) else ""
    if not line.startswith(f"{name} "):
        _malformed(f"line {position + 1} is not {name}")
    return line.removeprefix(f"{name} ")


def _number(text: str) -> int:
    if _NUMBER.fullmatch(text) is None or int(text) > TIME_MAX:
        _malformed("a number")
    return int(text)


def _certificates(lines: list[str]) -> tuple[bytes, ...]:
    found = []
    for line in lines[: CERTIFICATES_MAX + 1]:
        name, _, text = line.partition(" ")
        if name != "certificate":
            break
        found.append(as_base64(text, Code.CERTIFICATE_DENY_LIST, 1, CERTIFICATE_MAX))
    if not 0 < len(found) <= CERTIFICATES_MAX:
        _malformed("no certificate, or too many")
    return tuple(found)


def _denied(line: str) -> Denied:
    match = _DENIAL.fullmatch(line)
    if match is None or int(match[4]) > TIME_MAX:
        _malformed("a line that is neither serial nor spki")
    return Denied(bytes.fromhex(match[2] or match[3]), int(match[4]))
