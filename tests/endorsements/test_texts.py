"""What tools write around PEM, and what is left where nothing counts."""

import json
import ssl
import time

import pytest
from fake_vendors import NOW
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_attestation.endorsements.detect import Bundle, Kind, detect
from proxy_attestation.endorsements.detect_snp import SnpKind, detect_snp
from proxy_attestation.endorsements.texts import thim_chain, without_marks, without_remarks
from proxy_attestation.errors import FormatError
from proxy_attestation_simulator.amd import AmdVendor
from proxy_attestation_simulator.intel import Vendor

BLOCK = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"
OTHER = BLOCK.replace(b"AAAA", b"BBBB")


@pytest.mark.parametrize(
    "text",
    [
        b"Bag Attributes\n  friendlyName: x\n" + BLOCK + b"\n",
        BLOCK + b"\n# the end",
        "Gerät\n".encode() + BLOCK,
        BLOCK + b"\0",
    ],
)
def test_remarks_are_left_out(text: bytes) -> None:
    assert without_remarks(text) == BLOCK


def test_blocks_stay_in_order_and_whole() -> None:
    assert without_remarks(b"a\n" + OTHER + b"\nb\n" + BLOCK) == OTHER + b"\n" + BLOCK


@pytest.mark.parametrize(
    "data",
    [b"", b"no block", b"\x03\x00" + BLOCK, b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END X509 CRL-----", BLOCK[:-1]],
)
def test_what_is_no_text_with_blocks_is_left_alone(data: bytes) -> None:
    assert without_remarks(data) == data


def test_many_beginnings_take_no_time() -> None:
    started = time.process_time()
    without_remarks(b"-----BEGIN CERTIFICATE-----\n" * 18_000)
    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    ("data", "text"),
    [(b"\xef\xbb\xbf{}", b"{}"), (b"{}\0", b"{}"), (b"3081\0", b"3081"), (b"0\x81\0", b"0\x81\0"), (b"", b"")],
)
def test_marks_are_those_of_texts(data: bytes, text: bytes) -> None:
    assert without_marks(data) == text


@pytest.mark.parametrize(
    "value",
    [
        [],
        {},
        {"vcekCert": "a"},
        {"vcekCert": "a", "certificateChain": 1},
        {"vcekCert": None, "certificateChain": "b"},
    ],
)
def test_other_json_is_no_answer_of_azures_host(value: object) -> None:
    assert thim_chain(json.dumps(value).encode()) is None


def test_what_azures_host_answers() -> None:
    made = AmdVendor.fixed(NOW).platform("Milan").evidence(bytes(64))
    leaf, issuer, ark = (ssl.DER_cert_to_PEM_cert(der) for der in made.certificates)
    answer = {"vcekCert": leaf, "tcbm": "00", "certificateChain": issuer + ark, "cacheControl": "1"}
    found = detect_snp(json.dumps(answer).encode(), "thim.json")
    assert found is not None
    assert [piece.kind for piece in found] == [SnpKind.VEK, SnpKind.ISSUER, SnpKind.ARK]


@pytest.mark.parametrize("numbers", [[256], [-1], [True], ["1"], []])
def test_numbers_that_are_no_bytes(numbers: list[object]) -> None:
    with pytest.raises(FormatError):
        detect(json.dumps({"pck_crl": numbers}).encode(), "bundle.json")


def test_bytes_as_numbers(vendor: Vendor) -> None:
    root_crl = vendor.endorsements("sgx")["root_ca_crl"]
    found = detect(json.dumps({"root_ca_crl": list(root_crl)}).encode(), "bundle.json")
    assert isinstance(found, Bundle)
    assert [(piece.kind, piece.data) for piece in found.pieces] == [(Kind.ROOT_CA_CRL, root_crl)]


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_give_bytes(data: bytes) -> None:
    for candidate in (data, BLOCK + data, data + BLOCK):
        assert isinstance(without_remarks(candidate), bytes)
        assert isinstance(without_marks(candidate), bytes)
        thim_chain(candidate)
