"""Reports, certificate tables and AMD's extensions: what is read, what each fault gets, and any bytes at all."""

import struct
from collections.abc import Iterator
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy_attestation.codes import Code
from proxy_attestation.errors import AppraisalError, FormatError, ProxyAttestationError
from proxy_attestation.formats.bounds import CERTIFICATE_MAX, QUOTE_MAX, SNP_TABLE_ENTRIES_MAX
from proxy_attestation.formats.snp_certificates import (
    AMD_ARC,
    CertificateTable,
    decode_certificate_table,
    decode_vek_extensions,
    looks_like_certificate_table,
)
from proxy_attestation.formats.snp_report import (
    REPORT_LENGTH,
    TCB_LAYOUT,
    Product,
    decode_snp_report,
    looks_like_snp_report,
    product_of,
    tcb_components,
)
from proxy_attestation_simulator import der
from proxy_attestation_simulator.amd import TABLE_GUIDS, certificate_table

STRANGE = UUID(int=7)
GOOD = {
    "1": der.integer(0),
    "2": der.tlv(0x16, b"Milan-B0"),
    **{f"3.{n}": der.integer(n) for n in range(1, 9)},
    "4": bytes(range(64)),
}


def _report(version: int = 3, changes: dict[int, bytes] | None = None) -> bytes:
    report = bytearray(REPORT_LENGTH)
    for offset, value in {0: struct.pack("<I", version), 0x34: b"\x01", **(changes or {})}.items():
        report[offset : offset + len(value)] = value
    return bytes(report)


def _extensions(changes: dict[str, bytes | None] | None = None) -> dict[str, bytes]:
    merged: dict[str, bytes | None] = {**GOOD, **(changes or {})}
    return {f"{AMD_ARC}.1.{oid}": value for oid, value in merged.items() if value is not None}


def test_the_parts_of_a_report() -> None:
    data = _report(changes={0x50: b"\xaa" * 64, 0x48: b"\x05", 0x2A0: b"\x01", 0x2E8: b"\x02\x01"})
    report = decode_snp_report(data)
    assert report.data == data
    assert report.signed == data[:0x2A0]
    assert report.bound == (b"\xaa" * 64,)
    assert (report.version, report.signing_key) == (3, "VLEK")
    assert report.signature == der.sequence((der.integer(1), der.integer(0x102)))
    assert report.certificates == CertificateTable()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", Code.SNP_MALFORMED),
        (_report()[:-1], Code.SNP_MALFORMED),
        (_report() + bytes(QUOTE_MAX), Code.SNP_MALFORMED),
        (_report(changes={0x4C: b"\x01"}), Code.SNP_MALFORMED),
        (_report(changes={0x49F: b"\x01"}), Code.SNP_MALFORMED),
        (_report(changes={0x49: b"\x01"}), Code.SNP_MALFORMED),
        (_report(1), Code.SNP_VERSION),
        (_report(6), Code.SNP_VERSION),
        (_report(changes={0x34: b"\x00"}), Code.SNP_SIGNATURE_ALGORITHM),
        (_report(changes={0x48: b"\x02"}), Code.SNP_SIGNING_KEY),
        (_report(changes={0x48: b"\x1c"}), Code.SNP_SIGNING_KEY),
        (_report(changes={0x48: b"\x08"}), Code.SNP_SIGNING_KEY),
        (_report() + b"\x01", Code.SNP_CERTIFICATE_TABLE),
    ],
)
def test_what_is_no_report(data: bytes, code: Code) -> None:
    with pytest.raises((FormatError, AppraisalError)) as caught:
        decode_snp_report(data)
    assert caught.value.code == code


def test_a_report_is_known_by_its_look() -> None:
    assert looks_like_snp_report(_report())
    assert looks_like_snp_report(_report(9) + b"more")
    assert not looks_like_snp_report(_report()[:-1])
    assert not looks_like_snp_report(bytes(REPORT_LENGTH))
    assert not looks_like_snp_report(_report(changes={0x49F: b"\x01"}))
    # The header of a DCAP quote: version 3 and key type 2.
    assert not looks_like_snp_report(_report(0x00020003))


@pytest.mark.parametrize(
    ("family", "model", "line"),
    [
        (0x19, 0x00, Product.MILAN), (0x19, 0x0F, Product.MILAN), (0x19, 0x10, Product.GENOA),
        (0x19, 0x1F, Product.GENOA), (0x19, 0xA0, Product.GENOA), (0x19, 0xAF, Product.GENOA),
        (0x1A, 0x00, Product.TURIN), (0x1A, 0x11, Product.TURIN), (0x19, 0x20, None), (0x19, 0x9F, None),
        (0x19, 0xB0, None), (0x1A, 0x12, None), (0x1A, 0x50, None), (0x18, 0x00, None), (0x17, 0x31, None),
    ],
)  # fmt: skip
def test_processor_lines(family: int, model: int, line: Product | None) -> None:
    assert product_of(bytes((family, model, 1))) is line


def test_layouts() -> None:
    tcb = bytes(range(1, 9))
    old = {"blSPL": 1, "teeSPL": 2, "snpSPL": 7, "ucodeSPL": 8}
    assert tcb_components(Product.MILAN, tcb) == tcb_components(Product.GENOA, tcb) == old
    assert tcb_components(Product.TURIN, tcb) == {"fmcSPL": 1, "blSPL": 2, "teeSPL": 3, "snpSPL": 4, "ucodeSPL": 8}
    assert all(len(set(layout)) == 8 for layout in TCB_LAYOUT.values())


def test_certificate_table() -> None:
    guids = TABLE_GUIDS
    table = certificate_table(
        {guids["ark"]: b"ark", STRANGE: b"?", guids["issuer"]: b"ask", guids["VCEK"]: b"vcek", guids["crl"]: b"crl"}
    )
    assert decode_certificate_table(table) == CertificateTable((b"vcek", b"ask", b"ark"), b"crl")
    assert decode_certificate_table(b"") == decode_certificate_table(bytes(24)) == CertificateTable()
    # Entries of length zero hold nothing.
    assert decode_certificate_table(certificate_table({guids["VLEK"]: b"", guids["crl"]: b""})) == CertificateTable()
    assert decode_snp_report(_report() + table).certificates.certificates == (b"vcek", b"ask", b"ark")
    assert looks_like_certificate_table(table)
    assert not looks_like_certificate_table(_report())


def test_certificates_in_pem() -> None:
    text = b"-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n"
    table = certificate_table({TABLE_GUIDS["VCEK"]: text})
    assert decode_certificate_table(table).certificates == (b"\x01\x02\x03",)


def _entry(offset: int, length: int, guid: UUID = STRANGE) -> bytes:
    return guid.bytes + struct.pack("<II", offset, length)


@pytest.mark.parametrize(
    "table",
    [
        bytes(23),
        _entry(48, 1),
        _entry(48, 1) + bytes(23),
        _entry(48, 1) + bytes(24),
        _entry(48, 2) + bytes(24) + b"x",
        _entry(47, 1) + bytes(24) + b"x",
        _entry(0, 24) + bytes(24),
        _entry(24, 24) + bytes(24),
        # The sum would be small in 32 bits.
        _entry(48, 0xFFFFFFFF) + bytes(24) + b"x",
        _entry(0xFFFFFFFF, 49) + bytes(24) + b"x",
        _entry(0xFFFFFFFF, 0xFFFFFFFF) + bytes(24) + b"x",
        _entry(72, 1) * 2 + bytes(24) + b"x",
        b"".join(_entry(1000, 1, UUID(int=n + 1)) for n in range(SNP_TABLE_ENTRIES_MAX + 1)) + bytes(2000),
        certificate_table({TABLE_GUIDS["VCEK"]: bytes([0x30]) * (CERTIFICATE_MAX + 1)}),
        certificate_table({TABLE_GUIDS["VCEK"]: b"-----BEGIN CERTIFICATE-----\n"}),
    ],
)
def test_what_is_no_certificate_table(table: bytes) -> None:
    with pytest.raises(FormatError) as caught:
        decode_certificate_table(table)
    assert caught.value.code == Code.SNP_CERTIFICATE_TABLE


def test_extensions() -> None:
    vek = decode_vek_extensions(_extensions())
    assert (vek.struct_version, vek.product_name, vek.csp_id) == (0, "Milan-B0", None)
    assert vek.hw_id == bytes(range(64))
    assert vek.spls == {
        "blSPL": 1, "teeSPL": 2, "snpSPL": 3, "spl4": 4, "spl5": 5, "spl6": 6, "spl7": 7, "ucodeSPL": 8
    }  # fmt: skip
    for size in (8, 64):
        chip = bytes([4, size - 2]).ljust(size, b"\x07")
        for value in (chip, der.octet_string(chip)):
            assert decode_vek_extensions(_extensions({"4": value})).hw_id == chip
    assert decode_vek_extensions(_extensions({"4": None, "5": der.tlv(0x16, b"CN=x")})).csp_id == "CN=x"


@pytest.mark.parametrize(
    "changes",
    [
        {"1": None},
        {"2": None},
        {"9": b"\x02\x01\x00"},
        {"3.10": b"\x02\x01\x00"},
        {"1": der.integer(2)},
        {"1": b""},
        {"1": b"\x02\x02\x00\x01"},
        {"2": der.tlv(0x0C, b"Milan")},
        {"2": der.tlv(0x16, b"")},
        {"2": der.tlv(0x16, b"M" * 129)},
        {"2": der.tlv(0x16, b"\xff")},
        {"3.1": der.integer(256)},
        {"3.1": b"\x02\x01\xff"},
        {"3.1": b"\x02\x01\x00\x00"},
        {"4": bytes(16)},
        {"4": der.octet_string(bytes(16))},
        {"4": b""},
        {"5": der.octet_string(b"x")},
    ],
)
def test_what_is_no_extension_of_amds(changes: dict[str, bytes | None]) -> None:
    with pytest.raises(FormatError) as caught:
        decode_vek_extensions(_extensions(changes))
    assert caught.value.code == Code.SNP_VEK


def test_another_arc_below_amds() -> None:
    with pytest.raises(FormatError) as caught:
        decode_vek_extensions(_extensions() | {f"{AMD_ARC}.2.1": b"\x02\x01\x00"})
    assert caught.value.code == Code.SNP_VEK


def _mutated() -> Iterator[st.SearchStrategy[bytes]]:
    yield st.binary(max_size=1500)
    good = st.just(_report() + certificate_table({TABLE_GUIDS["VCEK"]: b"x"}))
    patches = st.tuples(st.integers(0, REPORT_LENGTH + 80), st.binary(min_size=1, max_size=8))
    yield st.tuples(good, patches).map(lambda pair: pair[0][: pair[1][0]] + pair[1][1] + pair[0][pair[1][0] + 1 :])


@given(st.one_of(*_mutated()))
def test_any_bytes_are_a_report_or_our_error(data: bytes) -> None:
    looks_like_snp_report(data)
    try:
        decode_snp_report(data)
    except ProxyAttestationError as error:
        assert error.code.startswith("snp.")


@given(st.binary(max_size=400))
def test_any_bytes_are_a_table_or_our_error(data: bytes) -> None:
    try:
        decode_certificate_table(data)
    except ProxyAttestationError as error:
        assert error.code == Code.SNP_CERTIFICATE_TABLE


@given(st.sampled_from([*GOOD, "5", "3.9", "7"]), st.binary(max_size=70))
def test_any_extension_is_read_or_our_error(oid: str, value: bytes) -> None:
    try:
        decode_vek_extensions(_extensions({oid: value}))
    except ProxyAttestationError as error:
        assert error.code == Code.SNP_VEK
