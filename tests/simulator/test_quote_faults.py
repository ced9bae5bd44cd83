"""Every fault of a quote changes the parts that it says, no others, and the oracle sees it."""

import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

import dcap_qvl
import pytest
from cryptography import x509

from proxy_attestation_simulator.body_faults import STALE_REPORT_DATA
from proxy_attestation_simulator.errors import SimulatorError
from proxy_attestation_simulator.intel import Vendor
from proxy_attestation_simulator.quote_faults import QUOTE_FAULTS
from proxy_attestation_simulator.recipes import AGE_OF_STATUS, components

Judge = Callable[[bytes, Mapping[str, bytes]], str]

REPORT_DATA = bytes(range(64))
_VERSION = {"sgx": 3, "tdx": 4}
_BODY = {("sgx", 3): (48, 384), ("tdx", 4): (48, 584), ("tdx", 5): (54, 648)}


def split(quote: bytes, tee: str, version: int) -> dict[str, bytes]:
    """Split a quote of known layout into its parts, signatures and certification data among them."""
    start, size = _BODY[tee, version]
    parts = {"header": quote[:start], "body": quote[start : start + size]}
    rest = quote[start + size + 4 :]
    parts |= {"signature": rest[:64], "key": rest[64:128]}
    rest = rest[128 if version == 3 else 134 :]
    parts |= {"qe_report": rest[:384], "qe_signature": rest[384:448]}
    (length,) = struct.unpack_from("<H", rest, 448)
    parts |= {"authentication": rest[450 : 450 + length], "certification": rest[450 + length :]}
    return parts


@dataclass(frozen=True)
class Case:
    """A fault, the parts that differ from a good quote, and what the oracle says (a regular expression)."""

    fault: str
    parts: set[str]
    oracle: str
    tees: tuple[str, ...] = ("sgx", "tdx")


_SIGNED_HEADER = {"header", "signature"}
_SIGNED_BODY = {"body", "signature"}
_QE = {"qe_report", "qe_signature"}
_TDX = ("tdx",)
_SGX = ("sgx",)
_AGE = {"certification", *_SIGNED_BODY}

CASES = [
    Case("version=7", _SIGNED_HEADER, "refused"),
    Case("tee-type=5", _SIGNED_HEADER, "refused"),
    Case("key-type", _SIGNED_HEADER, "refused.*key type"),
    Case("vendor-id", _SIGNED_HEADER, "refused.*vendor"),
    Case("cert-type=1", {"certification"}, "refused.*format: 1"),
    Case("cert-type=2", {"certification"}, "refused.*format: 2"),
    Case("cert-type=3", {"certification"}, "refused.*format: 3"),
    Case("cert-type=7", {"certification"}, "refused.*format: 7"),
    Case("qe-report-signature", {"qe_signature"}, "refused.*qe_report"),
    Case("qe-report-data", _QE, "refused.*QE report hash"),
    Case("qe-report-data-tail", _QE, "UpToDate"),  # the oracle does not look there
    Case("swapped-key", {"key", "signature"}, "refused.*QE report hash"),
    Case("wrong-key", {"signature"}, "refused.*signature"),
    Case("tampered", {"body"}, "refused.*signature"),
    Case("tampered=50", {"body"}, "refused.*signature"),
    Case("authentication", {"authentication", *_QE}, "refused.*auth data"),  # the oracle wants 32 bytes
    Case("bad-qe-identity", _QE, "refused.*MRSIGNER"),
    Case("bad-qe-identity=isvprodid", _QE, "refused.*ISVPRODID"),
    Case("bad-qe-identity=attributes", _QE, "refused.*(?i:attributes)"),
    Case("bad-qe-identity=miscselect", _QE, "refused.*(?i:miscselect)"),
    Case("bad-qe-identity=debug", _QE, "refused"),
    Case("qe-out-of-date", _QE | _SIGNED_HEADER, "OutOfDate", _SGX),  # the v3 header has the QE's SVN too
    Case("qe-out-of-date", _QE, "OutOfDate", _TDX),
    Case("qe-revoked", _QE | _SIGNED_HEADER, "refused.*Revoked", _SGX),
    Case("qe-revoked", _QE, "refused.*Revoked", _TDX),
    Case("qe-unsupported", _QE | _SIGNED_HEADER, "refused.*ISVSVN", _SGX),
    Case("qe-unsupported", _QE, "refused.*ISVSVN", _TDX),
    Case("missing-intermediate", {"certification"}, "refused.*chain"),
    Case("missing-leaf", {"certification"}, "refused.*chain"),
    Case("missing-root", {"certification"}, "UpToDate"),
    Case("chain-order", {"certification"}, "refused.*chain"),
    Case("pck-ca-signature", {"certification"}, "refused.*InvalidSignature"),
    Case("pck-signature", {"certification"}, "refused.*InvalidSignature"),
    Case("wrong-root", {"certification", "qe_signature"}, "refused.*InvalidSignature"),
    Case("pck-common-name", {"certification"}, "UpToDate"),  # the oracle does not look at names
    Case("expired-pck-ca", {"certification"}, "refused.*CertExpired"),
    Case("expired-pck", {"certification"}, "refused.*CertExpired"),
    Case("not-yet-valid", {"certification"}, "refused.*CertNotValidYet"),
    Case("pck-extension", {"certification"}, "refused.*extension"),
    Case("pck-cpu-svn", {"certification"}, "refused.*TCB level"),
    Case("no-tcb-level", _AGE, "refused.*No matching"),
    Case("revoked-tcb", _AGE, "refused.*Revoked"),
    Case("old-tcb", _AGE, "OutOfDate"),
    *(Case(f"tcb-level={status}", _AGE, status) for status in AGE_OF_STATUS if status not in {"UpToDate", "Revoked"}),
    Case("debug", _SIGNED_BODY, "refused.*Debug"),
    Case("stale", _SIGNED_BODY, "UpToDate"),
    Case("reserved-attributes", _SIGNED_BODY, "refused.*Reserved bits", _TDX),
    Case("sept-ve-disable", _SIGNED_BODY, "refused.*SEPT_VE", _TDX),
    Case("xfam", _SIGNED_BODY, "UpToDate", _TDX),  # the oracle does not look at XFAM
    Case("seam-attributes", _SIGNED_BODY, "refused.*SEAMATTRIBUTES", _TDX),
    Case("module-identity", _SIGNED_BODY, "refused.*MRSIGNER", _TDX),
    Case("module-version", _SIGNED_BODY, "refused.*TDX_07", _TDX),
    Case("module-out-of-date", _SIGNED_BODY, "OutOfDate", _TDX),
    Case("module-revoked", _SIGNED_BODY, "refused.*Revoked", _TDX),
    Case("module-unsupported", _SIGNED_BODY, "refused.*ISVSVN", _TDX),
]


@pytest.mark.parametrize(
    ("tee", "case"),
    [(tee, case) for case in CASES for tee in case.tees],
    ids=lambda value: getattr(value, "fault", value),
)
def test_a_fault_changes_what_it_says_and_the_oracle_sees_it(
    vendor: Vendor, judge: Judge, tee: str, case: Case
) -> None:
    platform = vendor.platform(tee)
    good = split(platform.quote(REPORT_DATA), tee, _VERSION[tee])
    quote = platform.quote(REPORT_DATA, fault=case.fault)
    bad = split(quote, tee, _VERSION[tee])
    assert {part for part in good if good[part] != bad[part]} == case.parts
    verdict = judge(quote, vendor.endorsements(tee))
    assert re.match(case.oracle + (r"\Z" if case.oracle in AGE_OF_STATUS else ""), verdict, re.DOTALL), verdict


@pytest.mark.parametrize("tee", ["sgx", "tdx"])
def test_faults_of_the_end(vendor: Vendor, judge: Judge, tee: str) -> None:
    platform, pieces = vendor.platform(tee), vendor.endorsements(tee)
    good = platform.quote(REPORT_DATA)
    assert platform.quote(REPORT_DATA, fault="truncated") == good[:-1]
    assert platform.quote(REPORT_DATA, fault="truncated=100") == good[:-100]
    assert platform.quote(REPORT_DATA, fault="trailing=0102") == good + b"\1\2"
    assert platform.quote(REPORT_DATA, fault="trailing") == good + b"\xff"
    assert platform.quote(REPORT_DATA, fault="trailing-zeros") == good + bytes(70)
    assert judge(platform.quote(REPORT_DATA, fault="truncated"), pieces).startswith("refused")
    with pytest.raises(SimulatorError):
        platform.quote(REPORT_DATA, fault=f"truncated={len(good)}")
    start, size = _BODY[tee, _VERSION[tee]]
    at = start + size
    longer = platform.quote(REPORT_DATA, fault="signature-size=2")
    assert struct.unpack_from("<I", longer, at)[0] == struct.unpack_from("<I", good, at)[0] + 2
    assert longer[:at] + longer[at + 4 :] == good[:at] + good[at + 4 :]
    assert judge(longer, pieces).startswith("refused")
    with pytest.raises(SimulatorError):
        platform.quote(REPORT_DATA, fault=f"tampered={at}")
    last = platform.quote(REPORT_DATA, fault=f"tampered={at - 1}")
    assert last == good[: at - 1] + bytes([good[at - 1] ^ 1]) + good[at:]


def test_body_size_is_a_v5_quote_that_declares_too_much(vendor: Vendor, judge: Judge) -> None:
    quote = vendor.platform("tdx").quote(REPORT_DATA, version=5, fault="body-size")
    good = vendor.platform("tdx").quote(REPORT_DATA, version=5)
    assert struct.unpack_from("<HHI", quote) == (5, 2, 0x81)
    assert struct.unpack_from("<HI", quote, 48) == (3, 649)
    assert quote[54 : 54 + 648] == good[54 : 54 + 648]
    assert judge(quote, vendor.endorsements("tdx")).startswith("refused")


@pytest.mark.parametrize(("tee", "version"), [("sgx", 3), ("sgx", 4), ("sgx", 5), ("tdx", 4), ("tdx", 5)])
def test_quote_version_is_the_layout_of_that_version(vendor: Vendor, tee: str, version: int) -> None:
    platform = vendor.platform(tee)
    made = platform.quote(REPORT_DATA, fault=f"quote-version={version}")
    asked = platform.quote(REPORT_DATA, version=version, body_type=2 if (tee, version) == ("tdx", 5) else None)
    size = len(asked) - len(platform.certificate_chain) - 1
    head = {3: 432, 4: 432 if tee == "sgx" else 632, 5: 438 if tee == "sgx" else 638}[version]
    assert (len(made), made[:head], made[size:]) == (len(asked), asked[:head], asked[size:])


def test_body_type_is_what_a_v5_quote_says(vendor: Vendor) -> None:
    quote = vendor.platform("sgx").quote(REPORT_DATA, fault="body-type=9")
    assert struct.unpack_from("<HHI", quote) == (5, 2, 0)
    assert struct.unpack_from("<HI", quote, 48) == (9, 384)


@pytest.mark.parametrize(
    "case",
    [
        ("service-td", slice(600, 648), b"\x5d" * 48, "refused.*service TD"),
        ("mr_service_td=" + "01" * 48, slice(600, 648), b"\1" * 48, "refused.*service TD"),
        ("tee_tcb_svn_2=" + "00" * 16, slice(584, 600), bytes(16), "refused.*TEE_TCB_SVN2"),
        ("relaunch-advised", slice(0, 3), b"\2\1\3", "TDRelaunchAdvised"),
    ],
)
def test_faults_of_the_newer_body_make_a_v5_quote(
    vendor: Vendor, judge: Judge, case: tuple[str, slice, bytes, str]
) -> None:
    fault, field, value, oracle = case
    quote = vendor.platform("tdx").quote(REPORT_DATA, fault=fault)
    good = split(vendor.platform("tdx").quote(REPORT_DATA, version=5), "tdx", 5)
    bad = split(quote, "tdx", 5)
    assert {part for part in good if good[part] != bad[part]} == _SIGNED_BODY
    expected = bytearray(good["body"])
    expected[field] = value
    assert bad["body"] == expected
    assert re.match(oracle, judge(quote, vendor.endorsements("tdx")))


@pytest.mark.parametrize(
    ("tee", "fault", "offset", "value"),
    [
        ("sgx", "debug", 48, b"\x07"),
        ("tdx", "debug", 120, b"\x01"),
        ("sgx", "stale", 320, STALE_REPORT_DATA),
        ("tdx", "stale", 520, STALE_REPORT_DATA),
        ("sgx", "mr_enclave=" + "ab" * 32, 64, b"\xab" * 32),
        ("sgx", "mr-signer=" + "ab" * 32, 128, b"\xab" * 32),
        ("sgx", "isv_svn=0x1234", 258, b"\x34\x12"),
        ("sgx", "report_data=" + "00" * 64, 320, bytes(64)),
        ("tdx", "report_data=" + "00" * 64, 520, bytes(64)),
        ("tdx", "mr_td=" + "ab" * 48, 136, b"\xab" * 48),
        ("tdx", "rtmr3=" + "ab" * 48, 472, b"\xab" * 48),
        ("tdx", "sept-ve-disable=0", 123, b"\x00"),
        ("tdx", "sept-ve-disable=1", 123, b"\x10"),
        ("tdx", "reserved-attributes=39", 124, b"\x80"),
        ("tdx", "xfam", 128, b"\xe6"),
        ("tdx", "seam-attributes", 112, b"\x01"),
        ("tdx", "module-revoked", 16 - 16, b"\x01\x01\x07"),
    ],
)
def test_faults_of_the_body_change_one_field(vendor: Vendor, tee: str, fault: str, offset: int, value: bytes) -> None:
    good = split(vendor.platform(tee).quote(REPORT_DATA), tee, _VERSION[tee])["body"]
    bad = split(vendor.platform(tee).quote(REPORT_DATA, fault=fault), tee, _VERSION[tee])["body"]
    assert bad == good[:offset] + value + good[offset + len(value) :]


def _pck(quote: bytes) -> x509.Certificate:
    chain = dcap_qvl.parse_quote(quote).cert_chain_pem_bytes()
    return x509.load_pem_x509_certificates(chain)[0]


def test_certificates_with_faults_are_otherwise_the_same(vendor: Vendor, now: datetime) -> None:
    platform = vendor.platform("sgx")
    good = _pck(platform.quote(REPORT_DATA))
    expired = _pck(platform.quote(REPORT_DATA, fault="expired-pck"))
    future = _pck(platform.quote(REPORT_DATA, fault="not-yet-valid"))
    renamed = _pck(platform.quote(REPORT_DATA, fault="pck-common-name"))
    assert good.not_valid_before_utc < now < good.not_valid_after_utc
    assert expired.not_valid_after_utc < now
    assert future.not_valid_before_utc > now
    for certificate in (expired, future, renamed):
        assert certificate.public_key() == good.public_key()
        assert certificate.serial_number == good.serial_number
        assert list(certificate.extensions) == list(good.extensions)
    assert "O=SIMULATED" in renamed.subject.rfc4514_string()


@pytest.mark.parametrize("kind", ["short", "trailing"])
def test_extensions_with_faults_are_not_the_good_one(vendor: Vendor, kind: str) -> None:
    oid = x509.ObjectIdentifier("1.2.840.113741.1.13.1")
    platform = vendor.platform("sgx")
    good = _pck(platform.quote(REPORT_DATA)).extensions.get_extension_for_oid(oid).value
    bad = _pck(platform.quote(REPORT_DATA, fault=f"pck-extension={kind}")).extensions.get_extension_for_oid(oid).value
    assert isinstance(good, x509.UnrecognizedExtension)
    assert isinstance(bad, x509.UnrecognizedExtension)
    assert (bad.value == good.value + b"\5\0") == (kind == "trailing")
    assert (len(bad.value) < len(good.value)) == (kind == "short")


def test_an_old_platform_is_old_everywhere(vendor: Vendor) -> None:
    quote = vendor.platform("sgx").quote(REPORT_DATA, fault="old-tcb")
    svns = components(AGE_OF_STATUS["OutOfDate"])
    extension = dcap_qvl.parse_quote(quote).pck_extension()
    assert extension.cpu_svn == bytes(svns) == quote[48:64]
    assert extension.get_value("1.2.840.113741.1.13.1.2.1") == bytes([svns[0]])


def test_faults_add_up_in_order(vendor: Vendor) -> None:
    platform = vendor.platform("sgx")
    quote = platform.quote(REPORT_DATA, fault=["debug", "attributes_flags=" + "05" + "00" * 7, "trailing=aa"])
    assert quote == platform.quote(REPORT_DATA) + b"\xaa"
    assert platform.quote(REPORT_DATA, fault="") == platform.quote(REPORT_DATA)


@pytest.mark.parametrize(
    "fault",
    [
        "unknown",
        "debug=1",
        "version",
        "version=x",
        "version=-1",
        "version=65536",
        "quote-version=2",
        "quote-version=6",
        "body-type=65536",
        "mr_enclave",
        "mr_enclave=zz",
        "mr_enclave=00",
        "tcb-level=Splendid",
        "vendor-id=00",
        "bad-qe-identity=svn",
        "pck-extension=good",
        "service-td",
        "mr_td=" + "00" * 48,
    ],
)
def test_faults_that_cannot_be_are_refused(vendor: Vendor, fault: str) -> None:
    with pytest.raises(SimulatorError):
        vendor.platform("sgx").quote(REPORT_DATA, fault=fault)


def test_no_fault_is_left_out_of_these_tests() -> None:
    told = {case.fault.partition("=")[0] for case in CASES}
    told |= {"quote-version", "body-type"}
    told |= {"truncated", "trailing", "trailing-zeros", "signature-size", "body-size", "service-td", "relaunch-advised"}
    fields = {name for name in QUOTE_FAULTS if name == name.replace("-", "_")} - told
    assert set(QUOTE_FAULTS) - told - fields == set()
