"""Azure's vTPM below its hardware: both layers, or a refusal, with one thing wrong at a time."""

import hashlib
import json
import struct
from base64 import urlsafe_b64encode
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_attestation.appraisal.azure import HardwareLayer, Verify, appraise_hcl, hardware_layer
from proxy_attestation.appraisal.claims import Claims
from proxy_attestation.appraisal.nitro_claims import NitroClaims, Register
from proxy_attestation.appraisal.tpm import TpmEndorsements, TpmResult, appraise_tpm
from proxy_attestation.appraisal.tpm_chain import TpmRoots
from proxy_attestation.appraisal.tpm_claims import tpm_to_json
from proxy_attestation.codes import Code
from proxy_attestation.errors import AppraisalError, FormatError
from proxy_attestation.formats.azure_hcl import HCL_MAX, HclReport, decode_hcl, looks_like_hcl
from proxy_attestation.formats.tee import Tee
from proxy_attestation.formats.tpm_evidence import decode_tpm
from proxy_attestation_simulator.tpm import TpmRecipe, TpmVendor, make

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
NO_ROOTS = TpmRoots(frozenset())
VENDOR = TpmVendor.create(NOW)
SNP, TDX = 2, 4


@cache
def ak() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def jwk(key: rsa.RSAPrivateKey, kid: str = "HCLAkPub") -> dict[str, Any]:
    modulus = key.public_key().public_numbers().n.to_bytes(256, "big")
    return {
        "kid": kid,
        "key_ops": ["sign"],
        "kty": "RSA",
        "e": "AQAB",
        "n": urlsafe_b64encode(modulus).decode().rstrip("="),
    }


def runtime(**more: Any) -> bytes:
    value = {"keys": [jwk(ak())], "vm-configuration": {"secure-boot": True}, "user-data": "00"} | more
    return json.dumps(value).encode()


def hcl(data: bytes | None = None, kind: int = SNP, *, digest: bytes | None = None, tail: bytes = bytes(32)) -> bytes:
    data = runtime() if data is None else data
    digest = hashlib.sha256(data).digest().ljust(64, b"\0") if digest is None else digest
    at = 0x50 if kind == SNP else 0x80
    report = (bytes(at) + digest).ljust(1184, b"\0")
    header = struct.pack("<4s4I12s", b"HCLA", 2, 0x4D4 + len(data), 2, 0, bytes(12))
    return header + report + struct.pack("<5I", 20 + len(data), 1, kind, 1, len(data)) + data + tail


def verify(kind: str = "SNP", vmpl: int | None = 0, data: bytes | None = None) -> Verify:
    def walk(asked: str, evidence: bytes) -> HardwareLayer:
        at = 0x50 if asked == "SNP" else 0
        found = evidence[at : at + 64] if data is None else data
        return HardwareLayer(kind, found, vmpl, b"\xaa" * 32, b"\x1d" * 32, NOW, None)

    return walk


def appraise(report: bytes, hardware: Verify | None, *, td_quote: bytes | None = None, **more: Any) -> TpmResult:
    parts = {8: report} | ({9: td_quote} if td_quote else {})
    made = make(VENDOR, TpmRecipe(with_key=False, parts=parts), ak_key=ak())
    return appraise_tpm(decode_tpm(made.evidence), TpmEndorsements(hardware=hardware, **more), NO_ROOTS, NOW)


def code_of(*arguments: Any, **more: Any) -> Code:
    with pytest.raises((AppraisalError, FormatError)) as refused:
        appraise(*arguments, **more)
    return refused.value.code


def test_both_layers_hold() -> None:
    result = appraise(hcl(), verify())
    assert (result.body.ak_trust, result.anchor, result.instance_id) == ("hardware", b"\xaa" * 32, b"\x1d" * 32)
    assert result.hardware is not None
    assert (result.hardware.report_type, result.valid_until) == ("SNP", NOW)
    shown = tpm_to_json(result.body)["hcl"]
    assert isinstance(shown, dict)
    assert (shown["report_type"], shown["vm_configuration"]) == ("SNP", {"secure-boot": True})


def test_a_td_brings_its_quote() -> None:
    report = hcl(kind=TDX)
    data = decode_hcl(report).report_data
    result = appraise(report, verify("TDX", None), td_quote=data)
    assert result.body.hcl is not None
    assert result.body.hcl.report_type == "TDX"
    assert code_of(report, verify("TDX", None)) is Code.TPM_HCL_LAYER


@pytest.mark.parametrize(
    ("name", "report", "hardware", "code"),
    [
        ("no hardware walk", hcl, None, Code.TPM_HCL_LAYER),
        ("a report at VMPL 2, the guest's own", hcl, verify(vmpl=2), Code.TPM_HCL_LAYER),
        ("an SNP layer without VMPL", hcl, verify(vmpl=None), Code.TPM_HCL_LAYER),
        ("a layer of another kind", hcl, verify("TDX", None), Code.TPM_HCL_LAYER),
        ("the hardware said something else", hcl, verify(data=bytes(64)), Code.TPM_HCL_REPORT_DATA),
        ("another hash in the report", lambda: hcl(digest=bytes(64)), verify(), Code.TPM_HCL_REPORT_DATA),
        (
            "more than the hash in the report",
            lambda: hcl(digest=hashlib.sha256(runtime()).digest() + b"\x01" * 32),
            verify(),
            Code.TPM_HCL_REPORT_DATA,
        ),
        (
            "another AK in the runtime data",
            lambda: hcl(runtime(keys=[jwk(rsa.generate_private_key(65537, 2048))])),
            verify(),
            Code.TPM_HCL_KEY,
        ),
        ("no HCL report at all", lambda: b"HCLA", verify(), Code.TPM_HCL_MALFORMED),
    ],
)
def test_one_layer_is_none(name: str, report: Any, hardware: Verify | None, code: Code) -> None:
    assert code_of(report(), hardware) is code, name


def test_under_a_named_ak_the_report_must_fit_and_claims_nothing() -> None:
    made = make(VENDOR, TpmRecipe(with_key=False), ak_key=ak())
    result = appraise(hcl(), None, ak_anchors=(made.ak_spki,))
    assert (result.body.ak_trust, result.body.hcl) == ("anchor", None)
    assert code_of(hcl(digest=bytes(64)), None, ak_anchors=(made.ak_spki,)) is Code.TPM_HCL_REPORT_DATA


def test_a_tdreport_alone_proves_nothing() -> None:
    report = decode_hcl(hcl(kind=TDX))
    with pytest.raises(AppraisalError) as refused:
        appraise_hcl(report, None, ak().public_key(), verify("TDX", None))
    assert refused.value.code is Code.TPM_HCL_LAYER


def test_claims_of_another_tee_make_no_layer() -> None:
    body = NitroClaims("i-1", "SHA384", 1, (Register(0, bytes(48)),), None, None, None)
    claims = Claims(Tee.NITRO, body, (bytes(64),), False, None, None, bytes(32), bytes(32), NOW)
    with pytest.raises(AppraisalError) as refused:
        hardware_layer(claims)
    assert refused.value.code is Code.TPM_HCL_LAYER


def _changed(at: int, value: bytes) -> bytes:
    data = hcl()
    return data[:at] + value + data[at + len(value) :]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("another signature", lambda: _changed(0, b"HCLB")),
        ("an unknown version", lambda: _changed(4, b"\x03")),
        ("a size of another report", lambda: _changed(8, b"\0\0")),
        ("reserved bytes", lambda: _changed(31, b"\x01")),
        ("an unknown type", lambda: _changed(0x4C8, b"\x03")),
        ("an unknown hash", lambda: _changed(0x4CC, b"\x04")),
        ("a length past the end", lambda: _changed(0x4D0, b"\xff\xff")),
        ("bytes behind the runtime data", lambda: hcl(tail=b"\0\x01")),
        ("too large", lambda: hcl(tail=bytes(HCL_MAX))),
        ("not JSON", lambda: hcl(b"{")),
        ("not UTF-8", lambda: hcl(b"\xff")),
        ("no object", lambda: hcl(b"[]")),
        ("a key of the object twice", lambda: hcl(b'{"keys":[],"keys":[]}')),
        ("deep nesting", lambda: hcl(b"[" * 9000)),
        ("no keys", lambda: hcl(runtime(keys=[]))),
        ("keys that are no objects", lambda: hcl(runtime(keys=["a"]))),
        ("no AK", lambda: hcl(runtime(keys=[jwk(ak(), "HCLEkPub")]))),
        ("two keys of one name", lambda: hcl(runtime(keys=[jwk(ak())] * 2))),
        ("an EC key", lambda: hcl(runtime(keys=[jwk(ak()) | {"kty": "EC"}]))),
        ("a small key", lambda: hcl(runtime(keys=[jwk(ak()) | {"n": "AQAB"}]))),
        ("not base64", lambda: hcl(runtime(keys=[jwk(ak()) | {"n": "+/" * 171}]))),
        ("no text", lambda: hcl(runtime(keys=[jwk(ak()) | {"n": 5}]))),
        ("a configuration that is none", lambda: hcl(runtime(**{"vm-configuration": []}))),
        ("user data that is no text", lambda: hcl(runtime(**{"user-data": 5}))),
    ],
)
def test_a_malformed_report_is_refused(name: str, data: Any) -> None:
    with pytest.raises(FormatError) as refused:
        decode_hcl(data())
    assert refused.value.code is Code.TPM_HCL_MALFORMED, name


def test_the_unused_part_of_a_tdreport_must_be_zero() -> None:
    data = bytearray(hcl(kind=TDX))
    data[0x20 + 1024] = 1
    with pytest.raises(FormatError) as refused:
        decode_hcl(bytes(data))
    assert refused.value.code is Code.TPM_HCL_MALFORMED


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 2600))
def test_any_bytes_give_a_report_or_our_error(data: bytes, cut: int) -> None:
    good = hcl()
    for candidate in (data, good[:cut] + data, good[:cut] + data + good[cut + len(data) :]):
        try:
            assert isinstance(decode_hcl(candidate), HclReport)
        except FormatError as error:
            assert error.code is Code.TPM_HCL_MALFORMED
    assert looks_like_hcl(good)
    assert not looks_like_hcl(good[1:])


def test_every_byte_of_the_runtime_data_counts() -> None:
    good = hcl()
    made = make(VENDOR, TpmRecipe(with_key=False), ak_key=ak())
    evidence = replace(decode_tpm(made.evidence), hcl_report=good)
    assert appraise_tpm(evidence, TpmEndorsements(hardware=verify()), NO_ROOTS, NOW)
    for at in range(0x4D4, 0x4D4 + len(runtime()), 7):
        flipped = bytearray(good)
        flipped[at] ^= 0x02
        with pytest.raises((AppraisalError, FormatError)):
            changed = replace(evidence, hcl_report=bytes(flipped))
            appraise_tpm(changed, TpmEndorsements(hardware=verify()), NO_ROOTS, NOW)
