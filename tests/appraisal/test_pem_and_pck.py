"""PEM and the SGX extension of PCK certificates."""

import base64

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError
from proxy_attestation.formats.pck import SGX_EXTENSION, PckExtension, decode_pck_extension
from proxy_attestation.formats.pem import CERTIFICATE, decode_pem, is_pem
from proxy_attestation_simulator import der
from proxy_attestation_simulator.intel import Vendor


def _block(data: bytes, label: str = "CERTIFICATE", line: bytes = b"\n") -> bytes:
    body = line.join(base64.b64encode(data[i : i + 48]) for i in range(0, len(data), 48))
    return f"-----BEGIN {label}-----".encode() + line + body + line + f"-----END {label}-----".encode()


def _decode(data: bytes) -> tuple[bytes, ...]:
    return decode_pem(data, CERTIFICATE, Code.SGX_CHAIN, count=3, limit=100)


_ONE = _block(b"\x30one")
_TWO = _block(b"\x30two" * 20)


@pytest.mark.parametrize(
    "data",
    [
        _ONE + b"\n" + _TWO,
        _ONE + _TWO,
        _ONE + b"\r\n\r\n" + _TWO + b"\n",
        _ONE + b"\n" + _TWO + b"\n\0",
        _ONE + b"\n" + _TWO + b"\0",
        b"  \n" + _ONE + b"\n" + _TWO,
        _block(b"\x30one", line=b"\r\n") + b"\r\n" + _block(b"\x30two" * 20, line=b"\r\n"),
    ],
)
def test_a_chain_with_or_without_final_nul(data: bytes) -> None:
    assert is_pem(data)
    assert _decode(data) == (b"\x30one", b"\x30two" * 20)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"\n",
        b"\x30\x03\x02\x01\x01",
        _ONE + b"\n\0\0",
        _ONE + b"\0" + _TWO,
        b"text\n" + _ONE,
        _ONE + b"\ntext",
        _ONE + b"\ntext\n" + _TWO,
        _ONE[:-1],
        _ONE.replace(b"BEGIN", b"BEGUN"),
        _ONE[len("-----BEGIN CERTIFICATE-----") :],
        _block(b"\x30", "X509 CRL"),
        _block(b""),
        _block(bytes(101)),
        _block(b"\x30one").replace(b"MG", b"M*"),
        b"-----BEGIN CERTIFICATE-----\nMG9uZQ\n-----END CERTIFICATE-----",
        b"-----BEGIN CERTIFICATE-----\nMG9uZQ===\n-----END CERTIFICATE-----",
        _ONE * 4,
    ],
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError) as caught:
        _decode(data)
    assert caught.value.code is Code.SGX_CHAIN


@given(st.lists(st.one_of(st.sampled_from([_ONE, _TWO, _ONE[:20], _ONE[-20:], b"\n", b"\0"]), st.binary(max_size=40))))
@settings(deadline=None, max_examples=200)
def test_any_text_is_a_chain_or_refused(parts: list[bytes]) -> None:
    try:
        blocks = _decode(b"".join(parts))
    except FormatError:
        return
    assert 0 < len(blocks) <= 3


def _extension(vendor: Vendor, ca: str) -> bytes:
    certificate = x509.load_der_x509_certificate(vendor.platform("sgx", ca=ca).certificates[0])
    value = certificate.extensions.get_extension_for_oid(SGX_EXTENSION).value
    assert isinstance(value, x509.UnrecognizedExtension)
    return value.value


@pytest.mark.parametrize("ca", ["platform", "processor"])
def test_the_extension_by_item(ca: str, vendor: Vendor) -> None:
    pck = vendor.platform("sgx", ca=ca).pck
    assert decode_pck_extension(_extension(vendor, ca), Code.SGX_PCK) == PckExtension(
        ppid=pck.ppid,
        components=pck.svns,
        pce_svn=pck.pce_svn,
        cpu_svn=pck.cpu_svn,
        pce_id=pck.pce_id,
        fmspc=pck.fmspc,
        sgx_type=1 if ca == "platform" else 0,
        platform_instance_id=pck.platform_instance_id if ca == "platform" else None,
    )


def _item(suffix: str, value: bytes) -> bytes:
    return der.sequence((der.object_identifier(f"1.2.840.113741.1.13.1.{suffix}"), value))


_OCTETS, _INTEGER, _TRUE = der.octet_string, der.integer, der.boolean(True)
_WRONG = {
    "another item first": (_item("1", _OCTETS(b"P" * 16)), _item("9", _OCTETS(b"P" * 16))),
    "a short PPID": (_item("1", _OCTETS(b"P" * 16)), _item("1", _OCTETS(b"P" * 15))),
    "a long FMSPC": (_item("4", _OCTETS(b"F" * 6)), _item("4", _OCTETS(b"F" * 7))),
    "a short PCEID": (_item("3", _OCTETS(b"C" * 2)), _item("3", _OCTETS(b"C"))),
    "a component of 256": (_item("2.1", _INTEGER(7)), _item("2.1", _INTEGER(256))),
    "a negative component": (_item("2.1", _INTEGER(7)), _item("2.1", b"\x02\x01\x80")),
    "a component twice": (_item("2.1", _INTEGER(7)), _item("2.2", _INTEGER(7))),
    "a component that is no integer": (_item("2.1", _INTEGER(7)), _item("2.1", _OCTETS(b"\7"))),
    "a PCESVN of 65536": (_item("2.17", _INTEGER(13)), _item("2.17", _INTEGER(65536))),
    "a short CPUSVN": (_item("2.18", _OCTETS(b"V" * 16)), _item("2.18", _OCTETS(b"V" * 15))),
    "an SGX type that is no enumeration": (_item("5", der.enumerated(1)), _item("5", _INTEGER(1))),
    "an SGX type of two bytes": (_item("5", der.enumerated(1)), _item("5", b"\x0a\x02\x01\x00")),
    "a configuration that is no boolean": (_item("7.1", _TRUE), _item("7.1", _INTEGER(1))),
    "configuration items out of order": (_item("7.1", _TRUE), _item("7.2", _TRUE)),
}


def _whole(replace: tuple[bytes, bytes] = (b"", b""), *, drop: int = 0) -> bytes:
    def changed(items: list[bytes]) -> list[bytes]:
        return [replace[1] if item == replace[0] else item for item in items]

    components = [_item("2.1", _INTEGER(7)), *(_item(f"2.{n}", _INTEGER(0)) for n in range(2, 17))]
    tcb = [*components, _item("2.17", _INTEGER(13)), _item("2.18", _OCTETS(b"V" * 16))]
    configuration = [_item("7.1", _TRUE), _item("7.2", der.boolean(False)), _item("7.3", _TRUE)]
    items = [
        _item("1", _OCTETS(b"P" * 16)),
        _item("2", der.sequence(changed(tcb))),
        _item("3", _OCTETS(b"C" * 2)),
        _item("4", _OCTETS(b"F" * 6)),
        _item("5", der.enumerated(1)),
        _item("6", _OCTETS(b"I" * 16)),
        _item("7", der.sequence(changed(configuration))),
    ]
    return der.sequence(changed(items)[: len(items) - drop])


def test_the_hand_made_extension_is_good() -> None:
    extension = decode_pck_extension(_whole(), Code.SGX_PCK)
    assert (extension.components[0], extension.pce_svn, extension.fmspc) == (7, 13, b"F" * 6)
    assert decode_pck_extension(_whole(drop=2), Code.SGX_PCK).platform_instance_id is None


@pytest.mark.parametrize("case", _WRONG)
def test_one_item_wrong(case: str) -> None:
    assert _whole(_WRONG[case]) != _whole()
    with pytest.raises(FormatError) as caught:
        decode_pck_extension(_whole(_WRONG[case]), Code.SGX_PCK)
    assert caught.value.code is Code.SGX_PCK


@pytest.mark.parametrize("drop", [1, 3, 4, 7])
def test_five_or_seven_items(drop: int) -> None:
    with pytest.raises(FormatError):
        decode_pck_extension(_whole(drop=drop), Code.SGX_PCK)


@given(st.binary(max_size=600))
@settings(deadline=None, max_examples=200)
def test_any_bytes_are_an_extension_or_refused(value: bytes) -> None:
    with pytest.raises(FormatError):
        decode_pck_extension(value, Code.SGX_PCK)


@given(st.integers(0, 600), st.integers(1, 255))
@settings(deadline=None, max_examples=200)
def test_any_changed_byte_gives_an_extension_or_is_refused(offset: int, change: int) -> None:
    value = bytearray(_whole())
    value[offset % len(value)] ^= change
    try:
        extension = decode_pck_extension(bytes(value), Code.SGX_PCK)
    except FormatError as error:
        assert error.code is Code.SGX_PCK
    else:
        assert len(extension.components) == 16
