"""The pieces of TPM evidence, told apart by content, and put together."""

import json
import struct
from base64 import encodebytes
from datetime import UTC, datetime

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_attestation.appraisal.tpm import TpmEndorsements, appraise_tpm
from proxy_attestation.appraisal.tpm_chain import TpmRoots
from proxy_attestation.codes import Code
from proxy_attestation.endorsements.detect_tpm import TpmKind, TpmPiece, assemble_tpm, detect_tpm
from proxy_attestation.errors import AppraisalError, FormatError, ProxyAttestationError
from proxy_attestation.formats.bounds import EVENT_LOG_MAX
from proxy_attestation.formats.tpm_evidence import decode_tpm
from proxy_attestation_simulator.tpm import BOOT, TpmRecipe, TpmVendor, make
from proxy_attestation_simulator.tpm_structures import sized

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
MADE = make(TpmVendor.create(NOW), TpmRecipe(with_key=False))
RECORD = cbor2.loads(MADE.evidence)
VALUES = {"sha256": {str(index): value.hex() for index, value in BOOT.registers().items()}}


PRINTED = b"  sha1:\n  sha256:\n    0 : 0x" + b"AB" * 32 + b"\r\n\n    17: 0x" + b"cd" * 32 + b"\n"


def tools_values(count: int = 1, size: int = 32, lists: int = 1) -> bytes:
    """The file of `tpm2_quote -o`: register 16 of one bank."""
    selection = struct.pack("<HB4sx", 0x000B, 3, b"\0\0\x01\0").ljust(128, b"\0")
    digests = (struct.pack("<IH", 1, size) + b"v" * 32).ljust(532, b"\0")
    return struct.pack("<I", count) + selection + struct.pack("<I", lists) + digests


def pem(label: str, der: bytes) -> bytes:
    body = encodebytes(der).decode()
    return f"-----BEGIN {label}-----\n{body}-----END {label}-----\n".encode()


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (RECORD[2], TpmKind.SIGNATURE),
        (bytes(range(256)), TpmKind.SIGNATURE),
        (b"\x30\x06\x02\x01\x01\x02\x01\x01", TpmKind.SIGNATURE),
        (RECORD[3], TpmKind.AK_PUBLIC),
        (sized(RECORD[3]), TpmKind.AK_PUBLIC),
        (MADE.ak_spki, TpmKind.AK_KEY),
        (pem("PUBLIC KEY", MADE.ak_spki), TpmKind.AK_KEY),
        (MADE.certificates[0], TpmKind.CERTIFICATES),
        (b"".join(pem("CERTIFICATE", der) for der in MADE.certificates), TpmKind.CERTIFICATES),
        (json.dumps(VALUES).encode(), TpmKind.PCR_VALUES),
        (tools_values(), TpmKind.PCR_VALUES),
        (MADE.event_log, TpmKind.EVENT_LOG),
        (b"HCLA", TpmKind.HCL_REPORT),
        (b"remark\n" + pem("PUBLIC KEY", MADE.ak_spki), TpmKind.AK_KEY),
        (json.dumps({"SHA256": {"0": "0x" + "ab" * 32}}).encode(), TpmKind.PCR_VALUES),
        (PRINTED, TpmKind.PCR_VALUES),
        (RECORD[2].hex().encode(), TpmKind.SIGNATURE),
        (encodebytes(RECORD[3]), TpmKind.AK_PUBLIC),
        (MADE.event_log.hex().upper().encode() + b"\n", TpmKind.EVENT_LOG),
    ],
)
def test_pieces_are_told_apart(data: bytes, kind: TpmKind) -> None:
    piece = detect_tpm(data)
    assert piece is not None
    assert piece.kind is kind


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b'{"tcbInfo": {}}',
        b"hello",
        pem("X509 CRL", b"\x30\x00"),
        bytes(EVENT_LOG_MAX + 1),
        ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32))
        .public_key()
        .public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        tools_values(count=17),
        tools_values(lists=2),
        tools_values(size=20),
        tools_values(count=0),
    ],
)
def test_what_is_no_piece_is_none(data: bytes) -> None:
    assert detect_tpm(data) is None


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b'{"sha256": []}',
        b'{"sha256": {"32": "00"}}',
        b'{"sha256": {"0": "00"}}',
        b'{"sha256": {"0": 5}}',
        pem("PUBLIC KEY", b""),
        pem("CERTIFICATE", b"")[:-5],
    ],
)
def test_what_is_meant_as_one_and_is_none_is_malformed(data: bytes) -> None:
    with pytest.raises(FormatError) as refused:
        detect_tpm(data)
    assert refused.value.code is Code.ENDORSEMENTS_MALFORMED


def test_values_of_the_tools_are_by_register() -> None:
    piece = detect_tpm(tools_values())
    assert piece is not None
    assert piece.banks == {"sha256": {16: b"v" * 32}}


def test_printed_values_are_by_bank_and_register() -> None:
    piece = detect_tpm(PRINTED)
    assert piece is not None
    assert piece.banks == {"sha1": {}, "sha256": {0: b"\xab" * 32, 17: b"\xcd" * 32}}


@pytest.mark.parametrize(
    "text",
    [
        PRINTED + b"what",
        PRINTED.replace(b"sha256", b"md5"),
        PRINTED.replace(b"17", b"32"),
        PRINTED.replace(b"AB", b"A"),
        b" 0 : 0x" + b"AB" * 32,
        b"sha256:\n",
    ],
)
def test_other_text_is_no_printed_value(text: bytes) -> None:
    assert detect_tpm(text) is None


def test_the_pieces_make_evidence() -> None:
    files = (RECORD[2], RECORD[3], json.dumps(VALUES).encode(), MADE.event_log, MADE.certificates[0])
    pieces = [piece for piece in map(detect_tpm, files) if piece is not None]
    evidence, beside = assemble_tpm(decode_tpm(RECORD[1]), pieces)
    assert (beside.certificates, beside.event_log) == ((MADE.certificates[0],), MADE.event_log)
    named = TpmEndorsements(ak_anchors=(MADE.ak_spki,), event_log=beside.event_log)
    body = appraise_tpm(evidence, named, TpmRoots(frozenset()), NOW).body
    assert body.pcrs["sha256"] == {index: BOOT.registers()[index] for index in range(8)}
    assert [layer.register for layer in body.layers] == [0, 4, 7]


def test_what_the_record_holds_is_not_replaced() -> None:
    other = TpmPiece(TpmKind.SIGNATURE, b"another")
    evidence, _ = assemble_tpm(decode_tpm(MADE.evidence), (other,))
    assert evidence.signature == RECORD[2]


def test_two_of_a_kind_and_values_that_are_absent_are_refused() -> None:
    piece = TpmPiece(TpmKind.SIGNATURE, b"one")
    with pytest.raises(FormatError) as malformed:
        assemble_tpm(decode_tpm(RECORD[1]), (piece, TpmPiece(TpmKind.SIGNATURE, b"two")))
    assert malformed.value.code is Code.ENDORSEMENTS_MALFORMED
    with pytest.raises(AppraisalError) as refused:
        assemble_tpm(decode_tpm(RECORD[1]), (TpmPiece(TpmKind.PCR_VALUES, banks={"sha256": {0: bytes(32)}}),))
    assert refused.value.code is Code.TPM_PCR_VALUES


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=700), st.integers(0, 700))
def test_any_bytes_are_a_piece_or_none_or_our_error(data: bytes, cut: int) -> None:
    for whole in (data, RECORD[3][:cut] + data, tools_values()[:cut] + data, b"\x30" + data, b"{" + data):
        try:
            piece = detect_tpm(whole)
        except ProxyAttestationError as error:
            assert error.code is Code.ENDORSEMENTS_MALFORMED
        else:
            assert piece is None or isinstance(piece, TpmPiece)


def test_an_rsa_public_area_is_found_too() -> None:
    key = rsa.generate_private_key(65537, 2048).public_key()
    piece = detect_tpm(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    assert piece is not None
    assert piece.kind is TpmKind.AK_KEY
