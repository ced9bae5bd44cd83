"""The proxy's evidence on the wire: binder, record and deployment statement, byte by byte."""

import hashlib
from collections.abc import Callable
from dataclasses import replace

import cbor2
import pytest

from proxy_attestation.codes import Code
from proxy_attestation.errors import ProxyAttestationError
from proxy_attestation.formats import binder
from proxy_attestation.formats.bounds import EVENT_LOG_MAX, MESSAGE_MAX, ROOT_EVIDENCE_MAX, ROOT_NONCES_MAX
from proxy_attestation.formats.deployment import (
    REQUIRED,
    Deployment,
    Pin,
    encode_deployment,
    make_deployment,
    parse_deployment,
    parse_pin,
)
from proxy_attestation.formats.root_binder import LABEL, RootFacts, bind_root, root_binder
from proxy_attestation.formats.root_evidence import (
    MEDIA_TYPE,
    NoncePath,
    RootEvidence,
    decode_root_evidence,
    encode_root_evidence,
)
from proxy_attestation.formats.tee import Tee

FACTS = RootFacts(b"r" * 91, b"i" * 91, b"\x07" * 32, b"log+key", "tee")
NONCE = b"\x03" * 32
EVIDENCE = RootEvidence(Tee.SGX, b"quote", NoncePath(1, 3, (b"\x05" * 32, b"\x06" * 32)), (b"certificate",), b"log")


def refusal(call: Callable[[], object]) -> Code:
    with pytest.raises(ProxyAttestationError) as caught:
        call()
    return caught.value.code


def test_the_binder_is_that_of_the_description() -> None:
    expected = b"".join(
        [
            b"proxy-attestation/root/v1\x00",
            b"\x00\x00\x00\x5b" + b"r" * 91,
            b"\x00\x00\x00\x5b" + b"i" * 91,
            b"\x00\x00\x00\x20" + b"\x07" * 32,
            b"\x00\x00\x00\x07log+key",
            b"\x00\x00\x00\x03tee",
            b"\x00\x00\x00\x20" + NONCE,
        ]
    )
    assert root_binder(FACTS, NONCE) == expected
    bound = bind_root(FACTS, NONCE)
    assert bound.slots(Tee.SGX) == bound.slots(Tee.SNP) == (hashlib.sha512(expected).digest(),)
    assert bound.slots(Tee.NITRO) == (NONCE, FACTS.root, hashlib.sha512(expected).digest())
    assert bound.slots(Tee.TPM) == (hashlib.sha256(expected).digest(),)


def test_no_binder_of_a_certificate_is_one_of_a_proxy() -> None:
    assert not LABEL.startswith(binder.LABEL)
    assert not binder.LABEL.startswith(LABEL)


@pytest.mark.parametrize("name", ["root", "issuing", "policy_digest", "ledger_key"])
def test_the_binder_commits_to_each_part_and_its_end(name: str) -> None:
    longer = replace(FACTS, **{name: getattr(FACTS, name) + b"\x00"})
    assert root_binder(longer, NONCE) != root_binder(FACTS, NONCE)


def test_the_record_is_that_of_the_description() -> None:
    encoded = encode_root_evidence(EVIDENCE)
    media_type, value, indicator = cbor2.loads(encoded)
    assert (media_type, indicator) == (MEDIA_TYPE, 4)
    path = [1, 3, [b"\x05" * 32, b"\x06" * 32]]
    assert cbor2.loads(value) == {1: "sgx", 2: b"quote", 3: [b"certificate"], 4: b"log", 5: path}
    assert decode_root_evidence(encoded) == EVIDENCE


def test_what_need_not_be_there_is_left_out() -> None:
    short = RootEvidence(Tee.NITRO, b"document", NoncePath(0, 1, ()))
    encoded = encode_root_evidence(short)
    assert set(cbor2.loads(cbor2.loads(encoded)[1])) == {1, 2, 5}
    assert decode_root_evidence(encoded) == short


def record(changes: dict[int, object], media_type: str = MEDIA_TYPE, indicator: int = 4) -> bytes:
    value = cbor2.loads(cbor2.loads(encode_root_evidence(EVIDENCE))[1]) | changes
    kept = {key: one for key, one in sorted(value.items()) if one is not None}
    return cbor2.dumps([media_type, cbor2.dumps(kept, canonical=True), indicator], canonical=True)


@pytest.mark.parametrize(
    "changes",
    [
        {1: "sev"}, {1: None}, {2: b""}, {2: None}, {3: []}, {3: [b""]}, {4: b""}, {4: bytes(EVENT_LOG_MAX + 1)},
        {5: None}, {5: [0, 0, []]}, {5: [0, ROOT_NONCES_MAX + 1, []]}, {5: [-1, 1, []]}, {5: [0, 1, [b"x"]]},
        {5: [0, 1]}, {6: 1},
    ],
)  # fmt: skip
def test_what_is_no_record_is_refused(changes: dict[int, object]) -> None:
    assert refusal(lambda: decode_root_evidence(record(changes))) is Code.PROXY_EVIDENCE_MALFORMED


@pytest.mark.parametrize(
    ("media_type", "indicator"), [("application/vnd.proxy-attestation.sgx-evidence+cbor", 4), (MEDIA_TYPE, 8)]
)
def test_a_record_of_another_kind_is_refused(media_type: str, indicator: int) -> None:
    assert refusal(lambda: decode_root_evidence(record({}, media_type, indicator))) is Code.PROXY_EVIDENCE_KIND


def test_the_largest_record_fits_into_a_message() -> None:
    assert ROOT_EVIDENCE_MAX + 96 * 1024 <= MESSAGE_MAX


STATEMENT = Deployment("example.org", b"\x0a" * 32, "log+0a0b0c0d+AQ==", (Pin(Tee.SGX, "mr_enclave", b"\x0e" * 32),))
TEXT = (
    "proxy-attestation/deployment/v1\nexample.org\n"
    f"root {'0a' * 32}\nledger log+0a0b0c0d+AQ==\npin sgx mr_enclave {'0e' * 32}\n"
)


def test_the_statement_is_that_of_the_description() -> None:
    assert encode_deployment(STATEMENT).decode() == TEXT
    assert parse_deployment(TEXT.encode()) == STATEMENT


def test_values_of_a_field_are_alternatives() -> None:
    pins = [parse_pin(f"sgx mr_enclave {value * 32}") for value in ("0e", "0d")]
    made = make_deployment("example.org", bytes(31) + b"1", "k", pins)
    assert made.accepted(Tee.SGX) == {"mr_enclave": (b"\x0d" * 32, b"\x0e" * 32)}
    assert made.accepted(Tee.SNP) == {}


PIN = f"pin sgx mr_enclave {'0e' * 32}\n"
MALFORMED = {
    "header": TEXT.replace("v1", "v2"),
    "domain": TEXT.replace("example.org", "Example.org"),
    "root": TEXT.replace("root 0a", "root 0A"),
    "short root": TEXT.replace("root 0a", "root "),
    "word": TEXT.replace("ledger ", "log "),
    "key": TEXT.replace("log+", "log +"),
    "no pin": TEXT.replace(PIN, ""),
    "no end": TEXT.removesuffix("\n"),
    "line more": TEXT + "\n",
    "twice": TEXT + PIN,
    "order": TEXT + PIN.replace("0e", "0d"),
    "tee": TEXT.replace("pin sgx", "pin sev"),
    "field": TEXT.replace("mr_enclave", "mr_td"),
    "masked field": TEXT + "pin sgx xfrm 0300000000000000\n",
    "length": TEXT.replace("0e" * 32, "0e" * 31),
    "zero": TEXT.replace("0e", "00"),
    "case": TEXT.replace("0e", "0E"),
    "signer alone": TEXT.replace("mr_enclave", "mr_signer"),
    "not ASCII": TEXT.replace("example", "ex\u00e4mple"),
    "return": TEXT.replace("\n", "\r\n"),
    "long": TEXT + PIN * 1000,
    "nothing": "",
}


@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED.keys())
def test_what_is_no_statement_is_refused(text: str) -> None:
    assert refusal(lambda: parse_deployment(text.encode())) is Code.PROXY_STATEMENT_MALFORMED


@pytest.mark.parametrize("tee", [Tee.TDX, Tee.NITRO])
def test_a_tee_that_is_named_is_named_whole(tee: Tee) -> None:
    pins = [Pin(tee, field, b"\x01" * 48) for field in REQUIRED[tee]]
    make_deployment("example.org", b"\x01" * 32, "k", pins)
    assert refusal(lambda: make_deployment("example.org", b"\x01" * 32, "k", pins[1:])) is (
        Code.PROXY_STATEMENT_MALFORMED
    )
