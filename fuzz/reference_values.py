"""Harnesses for what reference values are measured from, for manifests, and for files of values that are signed."""

import io
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import cbor2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from target import Target

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "support"))

from reference_files import FIELDS, eif, sigstruct

from proxy_attestation.errors import ProxyAttestationError
from proxy_attestation.formats.signed_note import KeyType, Note, Verifier, sign_note
from proxy_attestation.formats.tee import Tee
from proxy_attestation.policy.reader import Issue, TableReader
from proxy_attestation.policy.reference import KEY, check_values, parse_values, signed_text, with_values
from proxy_attestation.reference.corim import decode_corim
from proxy_attestation.reference.corim_values import values_of
from proxy_attestation.reference.eif import measure_eif
from proxy_attestation.reference.logs import measure_log
from proxy_attestation.reference.measured import to_entry, to_json, to_lines
from proxy_attestation.reference.sigstruct import measure_sigstruct
from proxy_attestation_simulator.tpm import BOOT
from proxy_attestation_simulator.tpm_structures import LogRecipe

NOW: Final = datetime(2026, 11, 24, 12, tzinfo=UTC)
_KEY: Final = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
_SIGNER: Final = Verifier("fuzz", KeyType.ED25519, _KEY.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))
_BANKS: Final = ((0, "sha384"), (1, "sha256"))
_CONTENT: Final = f'product = "p"\nversion = 1\ntee = "sgx"\n[values]\nmr_enclave = ["{"11" * 32}"]\n'.encode()


def _sigstruct(data: bytes) -> None:
    """Read a file as it is, or sign the fields that the bytes change: no change ends at the signature."""
    if data[:1] == b"\0":
        names = sorted(FIELDS)
        name = names[data[1] % len(names)] if len(data) > 1 else names[0]
        usual = FIELDS[name][1]
        data = sigstruct(**{name: data[2 : 2 + len(usual)].ljust(len(usual), b"\0")})
    to_entry(measure_sigstruct(data, "a.sig"))


def _image(data: bytes) -> None:
    """Read an image as it is, or make one of sections: a byte of type, a byte of length, the content."""
    if data[:1] == b"\0":
        sections: list[tuple[int, bytes]] = []
        rest = data[1:]
        while len(rest) > 1 and len(sections) < 40:
            sections.append((rest[0] % 8, rest[2 : 2 + rest[1]]))
            rest = rest[2 + rest[1] :]
        data = eif(tuple(sections)) if len(sections) <= 32 else data
    to_lines(measure_eif(io.BytesIO(data), "a.eif"))


def _log(data: bytes) -> None:
    tee, bank = (Tee.TDX, "sha384") if data[:1] == b"\0" else (Tee.TPM, "sha256")
    ruled = frozenset({"rtmr2", "pcr4"})
    to_json(measure_log(data[1:], tee, bank, ruled, "log"))
    to_entry(measure_log(data[1:], tee, bank, ruled, "log"))


def _corim(data: bytes) -> None:
    tees = (None, *Tee)
    for values in values_of(
        decode_corim(data[1:], [_KEY.public_key()], NOW, unsigned=True), tees[(data or b"\0")[0] % len(tees)], "a"
    ):
        to_entry(values)


def _signed_corim(data: bytes) -> None:
    """The bytes are protected headers, behind a byte of their length, and the payload."""
    length = data[0] if data else 0
    protected, payload = data[1 : 1 + length], data[1 + length :]
    signature = _KEY.sign(cbor2.dumps(["Signature1", protected, b"", payload]))
    message = cbor2.dumps(cbor2.CBORTag(18, [protected, {}, payload, signature]))
    decode_corim(message, [_KEY.public_key()], NOW)


def _values(data: bytes) -> None:
    """Sign any content, so that a change does not end at the signature; and take the bytes for a note."""
    note = data
    with suppress(ProxyAttestationError):
        parsed = parse_values(data)
        text = signed_text(parsed.product, parsed.version, data, "v")
        note = Note(text, (sign_note(text, _SIGNER, _KEY.sign),)).encode()
        check_values(parsed)
    files = {"v": data, "v.note": note}
    issues: list[Issue] = []
    table = {KEY: {"file": "v", "signers": [str(_SIGNER)], "threshold": 1}}
    found = with_values(TableReader(table, (), "entry", issues), Tee.SGX, files.__getitem__)
    assert (found is None) == bool(issues)
    parse_values(data)


def _manifest(tag: int = 501) -> bytes:
    digest = [[1, bytes(range(32))]]
    triple = [{0: {1: "a"}}, [{0: "mr_enclave", 1: {2: digest}}, {0: "isv_svn", 1: {1: cbor2.CBORTag(553, 1)}}]]
    comid = cbor2.CBORTag(506, cbor2.dumps({1: {0: "a"}, 4: {0: [triple]}}))
    return cbor2.dumps(cbor2.CBORTag(tag, {0: "a", 1: [comid], 4: {1: cbor2.CBORTag(1, 4_000_000_000)}}))


def _headers() -> bytes:
    protected = cbor2.dumps({1: -8, 15: {4: 4_000_000_000}})
    return bytes([len(protected)]) + protected


REFERENCE: Final[dict[str, Target]] = {
    "sigstruct": Target(_sigstruct, 2048, lambda: [sigstruct(), *(bytes([0, index]) for index in range(len(FIELDS)))]),
    "enclave-image": Target(_image, 8192, lambda: [eif(((1, b"k"), (2, b"c"), (3, b"r"))), b"\0\1\1k\2\1c\3\1r"]),
    "reference-log": Target(
        _log, 32768, lambda: [bytes([index]) + LogRecipe(BOOT.events, (bank,)).encode() for index, bank in _BANKS]
    ),
    "corim": Target(_corim, 4096, lambda: [b"\1" + _manifest()]),
    "signed-corim": Target(_signed_corim, 4096, lambda: [_headers() + _manifest()]),
    "reference-values": Target(_values, 4096, lambda: [_CONTENT]),
}
