"""Good quotes: the oracle takes them, and every field lies where the format says."""

import hashlib
import struct
from collections.abc import Callable, Mapping

import dcap_qvl
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from proxy_attestation_simulator.bodies import (
    SGX_BODY_SIZE,
    TD_BODY_10_SIZE,
    TD_BODY_15_SIZE,
    SgxBody,
    TdBody,
)
from proxy_attestation_simulator.errors import SimulatorError
from proxy_attestation_simulator.intel import Vendor

REPORT_DATA = bytes(range(64))

# tee, version, body type, offset of the body, its size
LAYOUTS = [
    ("sgx", 3, None, 48, SGX_BODY_SIZE),
    ("sgx", 4, None, 48, SGX_BODY_SIZE),
    ("sgx", 5, 1, 54, SGX_BODY_SIZE),
    ("tdx", 4, None, 48, TD_BODY_10_SIZE),
    ("tdx", 5, 2, 54, TD_BODY_10_SIZE),
    ("tdx", 5, 3, 54, TD_BODY_15_SIZE),
]


def _verify(point: bytes, signature: bytes, message: bytes) -> None:
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + point)
    r, s = (int.from_bytes(part, "big") for part in (signature[:32], signature[32:]))
    key.verify(utils.encode_dss_signature(r, s), message, ec.ECDSA(hashes.SHA256()))


@pytest.mark.parametrize("ca", ["platform", "processor"])
@pytest.mark.parametrize("layout", [("sgx", 3, None), ("tdx", 4, None), ("tdx", 5, 2), ("tdx", 5, 3)])
def test_the_oracle_takes_it(
    vendor: Vendor,
    judge: Callable[[bytes, Mapping[str, bytes]], str],
    layout: tuple[str, int, int | None],
    ca: str,
) -> None:
    tee, version, body_type = layout
    quote = vendor.platform(tee, ca=ca).quote(REPORT_DATA, version=version, body_type=body_type)
    assert judge(quote, vendor.endorsements(tee, ca=ca)) == "UpToDate"
    report = dcap_qvl.parse_quote(quote).report
    assert report.report_data == REPORT_DATA


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_layout_is_the_standards(vendor: Vendor, layout: tuple[str, int, int | None, int, int]) -> None:
    tee, version, body_type, start, size = layout
    platform = vendor.platform(tee)
    quote = platform.quote(REPORT_DATA, version=version, body_type=body_type)
    assert struct.unpack_from("<HHI", quote) == (version, 2, 0x81 if tee == "tdx" else 0)
    assert quote[8:12] == (struct.pack("<HH", 8, 13) if version == 3 else bytes(4))
    assert quote[12:28].hex() == "939a7233f79c4ca9940a0db3957f0607"
    if version == 5:
        assert struct.unpack_from("<HI", quote, 48) == (body_type, size)
    signed = quote[: start + size]
    (length,) = struct.unpack_from("<I", quote, start + size)
    data = quote[start + size + 4 :]
    assert len(data) == length
    signature, point, rest = data[:64], data[64:128], data[128:]
    _verify(point, signature, signed)
    if version > 3:
        outer_type, outer_size = struct.unpack_from("<HI", rest)
        assert (outer_type, outer_size) == (6, len(rest) - 6)
        rest = rest[6:]
    qe_report, qe_signature, rest = rest[:384], rest[384:448], rest[448:]
    (authentication_size,) = struct.unpack_from("<H", rest)
    authentication, rest = rest[2 : 2 + authentication_size], rest[2 + authentication_size :]
    assert authentication_size == 32
    assert qe_report[320:] == hashlib.sha256(point + authentication).digest() + bytes(32)
    chain_type, chain_size = struct.unpack_from("<HI", rest)
    assert (chain_type, chain_size) == (5, len(rest) - 6)
    assert rest[6:] == platform.certificate_chain + b"\0"
    pck = vendor.key(f"pck {tee} 0").public_key().public_numbers()
    _verify(pck.x.to_bytes(32, "big") + pck.y.to_bytes(32, "big"), qe_signature, qe_report)


SGX_FIELDS = {
    "cpu_svn": (0, 16),
    "misc_select": (16, 4),
    "isv_ext_prod_id": (32, 16),
    "attributes_flags": (48, 8),
    "xfrm": (56, 8),
    "mr_enclave": (64, 32),
    "mr_signer": (128, 32),
    "config_id": (192, 64),
    "isv_prod_id": (256, 2),
    "isv_svn": (258, 2),
    "config_svn": (260, 2),
    "isv_family_id": (304, 16),
    "report_data": (320, 64),
}
TDX_FIELDS = {
    "tee_tcb_svn": (0, 16),
    "mr_seam": (16, 48),
    "mr_signer_seam": (64, 48),
    "seam_attributes": (112, 8),
    "td_attributes": (120, 8),
    "xfam": (128, 8),
    "mr_td": (136, 48),
    "mr_config_id": (184, 48),
    "mr_owner": (232, 48),
    "mr_owner_config": (280, 48),
    "rtmr0": (328, 48),
    "rtmr1": (376, 48),
    "rtmr2": (424, 48),
    "rtmr3": (472, 48),
    "report_data": (520, 64),
    "tee_tcb_svn_2": (584, 16),
    "mr_service_td": (600, 48),
}


@pytest.mark.parametrize("field", [*SGX_FIELDS])
def test_each_field_of_an_enclave_lies_at_its_offset(field: str) -> None:
    offset, size = SGX_FIELDS[field]
    plain = SgxBody().encode()
    value: bytes | int = 0xA5A5 if size == 2 else b"\xa5" * size
    marked = SgxBody(**{field: value}).encode()  # type: ignore[arg-type]  # one field of several types
    assert len(plain) == len(marked) == SGX_BODY_SIZE
    assert marked == plain[:offset] + b"\xa5" * size + plain[offset + size :]


@pytest.mark.parametrize("field", [*TDX_FIELDS])
def test_each_field_of_a_td_lies_at_its_offset(field: str) -> None:
    offset, size = TDX_FIELDS[field]
    plain = TdBody().encode_15()
    marked = TdBody(**{field: b"\xa5" * size}).encode_15()
    assert len(plain) == len(marked) == TD_BODY_15_SIZE
    assert marked == plain[:offset] + b"\xa5" * size + plain[offset + size :]
    assert TdBody().encode_10() == plain[:TD_BODY_10_SIZE]


def test_a_field_given_by_name_is_the_only_change_in_the_signed_bytes(vendor: Vendor) -> None:
    platform = vendor.platform("sgx")
    plain = platform.quote(REPORT_DATA)
    changed = platform.quote(REPORT_DATA, mr_enclave=b"\xa5" * 32, isv_svn=0x0102)
    expected = bytearray(plain[:432])
    expected[48 + 64 : 48 + 96] = b"\xa5" * 32
    expected[48 + 258 : 48 + 260] = b"\x02\x01"
    assert changed[:432] == expected
    assert changed[436 + 64 :] == plain[436 + 64 :]


def test_the_same_vendor_makes_the_same_quote(vendor: Vendor) -> None:
    again = Vendor.create(vendor.created_at, secret=vendor.secret)
    for tee in ("sgx", "tdx"):
        assert again.platform(tee).quote(REPORT_DATA) == vendor.platform(tee).quote(REPORT_DATA)


def test_seeds_tell_machines_apart(vendor: Vendor) -> None:
    first, second = vendor.platform("sgx"), vendor.platform("sgx", seed="other")
    assert first.serial != second.serial
    assert first.pck.ppid != second.pck.ppid
    assert first.certificates[0] != second.certificates[0]
    assert first.certificates[1:] == second.certificates[1:]


@pytest.mark.parametrize(
    ("tee", "version", "body_type"), [("sgx", 2, None), ("sgx", 5, 2), ("tdx", 3, None), ("tdx", 4, 3), ("tdx", 5, 1)]
)
def test_quotes_that_cannot_be_are_refused(vendor: Vendor, tee: str, version: int, body_type: int | None) -> None:
    with pytest.raises(SimulatorError):
        vendor.platform(tee).quote(REPORT_DATA, version=version, body_type=body_type)


@pytest.mark.parametrize(
    "fields",
    [{"mr_td": bytes(48)}, {"mr_enclave": bytes(31)}, {"mr_enclave": 1}, {"isv_svn": b"\0\0"}, {"isv_svn": 65536}],
)
def test_fields_that_cannot_be_are_refused(vendor: Vendor, fields: dict[str, bytes | int]) -> None:
    platform = vendor.platform("sgx")
    with pytest.raises(SimulatorError):
        platform.quote(REPORT_DATA, **fields)  # type: ignore[arg-type]  # none is called version or body_type


@pytest.mark.parametrize("size", [0, 63, 65])
def test_report_data_is_64_bytes(vendor: Vendor, size: int) -> None:
    with pytest.raises(SimulatorError):
        vendor.platform("sgx").quote(bytes(size))
