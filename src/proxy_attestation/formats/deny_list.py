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
import binascii
import hashlib
import re
from dataclasses import dataclass
from typing import Final, NoReturn

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError
from proxy_attestation.formats.bounds import CERTIFICATE_MAX, DENIALS_MAX, DENY_LIST_MAX, TIME_MAX

# The same key signs certificates, whose to-be-signed bytes are a SEQUENCE and begin with 0x30, which is the digit 0.
# What is signed here begins with the letter p: neither can ever be taken for the other.
_TITLE: Final = "proxy-attestation/denied/v1"
CERTIFICATES_MAX: Final = 2
ORIGIN_MAX: Final = 255
_KEY_ID: Final = 4
_SIGNATURES_MAX: Final = 8
_SIGNATURE_MAX: Final = 128
_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,18}\Z")
_ORIGIN: Final = re.compile(r"[!-*,-~]{1,255}\Z")
_DENIAL: Final = re.compile(r"(serial ([0-9a-f]{40})|spki ([0-9a-f]{64})) (0|[1-9][0-9]{0,11})\Z")
_SIGNATURE: Final = re.compile(r"— ([!-*,-~]{1,255}) ([A-Za-z0-9+/]{1,512}={0,2})\Z")


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
        text: the bytes that are signed.
        signatures: (key id of 4 bytes, DER) of each signature in its origin's name.
    """

    content: DenyList
    text: bytes
    signatures: tuple[tuple[bytes, bytes], ...]


def encode_deny_list(content: DenyList) -> bytes:
    """Return the text to sign."""
    lines = [
        _TITLE,
        f"origin {content.origin}",
        f"sequence {content.sequence}",
        f"this-update {content.this_update}",
        f"next-update {content.next_update}",
        *(f"certificate {base64.b64encode(der).decode()}" for der in content.certificates),
    ]
    # A serial number has 20 bytes.
    lines += [
        f"{'serial' if len(one.what) == 20 else 'spki'} {one.what.hex()} {one.not_after}" for one in content.denied
    ]
    return "".join(f"{line}\n" for line in lines).encode()


def seal_deny_list(text: bytes, origin: str, spki: bytes, signature: bytes) -> bytes:
    """Return the note.

    Args:
        text: as `encode_deny_list` returned it.
        origin: the same as in the text.
        spki: DER of the signing key's SubjectPublicKeyInfo.
        signature: DER, ecdsa-with-SHA256 over the text.
    """
    return text + f"\n— {origin} {base64.b64encode(key_id(spki) + signature).decode()}\n".encode()


def key_id(spki: bytes) -> bytes:
    """Return the four bytes that name a P-256 key in a signed note (its type 02)."""
    return hashlib.sha256(spki).digest()[:_KEY_ID]


def decode_deny_list(data: bytes) -> SignedDenyList:
    """Read a deny list of at most `DENY_LIST_MAX` bytes. Nothing of it counts before `verify_deny_list`.

    Raises:
        FormatError: `certificate.deny_list`.
    """
    if len(data) > DENY_LIST_MAX:
        _malformed(f"{len(data)} bytes, at most {DENY_LIST_MAX} allowed")
    try:
        head, separator, tail = data.decode("utf-8").rpartition("\n\n")
    except UnicodeDecodeError as error:
        raise FormatError(Code.CERTIFICATE_DENY_LIST, "not UTF-8") from error
    if not separator:
        _malformed("no signature")
    lines = head.split("\n")
    if len(lines) > DENIALS_MAX + CERTIFICATES_MAX + 5 or lines[0] != _TITLE:
        _malformed("another kind of note, or too many lines")
    origin = _value(lines, 1, "origin")
    if _ORIGIN.match(origin) is None:
        _malformed("origin")
    sequence, this_update, next_update = [_number(_value(lines, position, name)) for position, name in _NUMBERS]
    certificates = _certificates(lines[5:])
    denied = tuple(_denied(line) for line in lines[5 + len(certificates) :])
    if len(denied) > DENIALS_MAX or len(set(denied)) != len(denied):
        _malformed("a line twice, or too many")
    content = DenyList(origin, sequence, this_update, next_update, certificates, denied)
    return SignedDenyList(content, f"{head}\n".encode(), _signatures(tail, origin))


def verify_deny_list(signed: SignedDenyList, spki: bytes) -> DenyList:
    """Check that a P-256 key signed a list, and return what it says. Whose key that is, is for the caller to know.

    Args:
        signed: as it was read.
        spki: DER of the SubjectPublicKeyInfo.

    Raises:
        FormatError: `certificate.deny_list`.
    """
    wanted = key_id(spki)
    found = [signature for name, signature in signed.signatures if name == wanted]
    try:
        key = serialization.load_der_public_key(spki)
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1) or not found:
            _malformed("not signed by this key")
        for signature in found:
            key.verify(signature, signed.text, ec.ECDSA(hashes.SHA256()))
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise FormatError(Code.CERTIFICATE_DENY_LIST, "the signature does not fit") from error
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
        der = _base64(text)
        if not 0 < len(der) <= CERTIFICATE_MAX:
            _malformed("a certificate's size")
        found.append(der)
    if not 0 < len(found) <= CERTIFICATES_MAX:
        _malformed("no certificate, or too many")
    return tuple(found)


def _denied(line: str) -> Denied:
    match = _DENIAL.fullmatch(line)
    if match is None or int(match[4]) > TIME_MAX:
        _malformed("a line that is neither serial nor spki")
    return Denied(bytes.fromhex(match[2] or match[3]), int(match[4]))


def _signatures(tail: str, origin: str) -> tuple[tuple[bytes, bytes], ...]:
    lines = tail.split("\n")
    if lines[-1] or not 0 < len(lines) - 1 <= _SIGNATURES_MAX:
        _malformed("no signature, or too many")
    found = []
    for line in lines[:-1]:
        match = _SIGNATURE.fullmatch(line)
        if match is None:
            _malformed("a signature line")
        # Of other names: witnesses, who have nothing to say here.
        if match[1] == origin:
            data = _base64(match[2])
            if not _KEY_ID < len(data) <= _KEY_ID + _SIGNATURE_MAX:
                _malformed("a signature's size")
            found.append((data[:_KEY_ID], data[_KEY_ID:]))
    return tuple(found)


def _base64(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise FormatError(Code.CERTIFICATE_DENY_LIST, "base64") from error
    if base64.b64encode(data).decode() != text:
        _malformed("base64 of another spelling")
    return data
