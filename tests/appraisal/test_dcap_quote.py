"""The quote parser: where everything is, what is refused, and that no bytes whatever break it."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_attestation.appraisal.bodies import parse_body
from proxy_attestation.appraisal.claims import SgxClaims, TdxClaims
from proxy_attestation.codes import Code
from proxy_attestation.errors import AppraisalError, FormatError, ProxyAttestationError
from proxy_attestation.formats.bounds import QUOTE_MAX
from proxy_attestation.formats.dcap_quote import QE_VENDOR_INTEL, decode_quote
from proxy_attestation.formats.tee import Tee

_AUTHENTICATION = b"\xa5" * 32
_CERTIFICATES = b"certification data"


def _certification(kind: int = 5, data: bytes = _CERTIFICATES, authentication: bytes = _AUTHENTICATION) -> bytes:
    """A QE report whose fields cannot be told from anything else, and what follows it."""
    report = bytearray(384)
    report[320:384] = b"\x51" * 64
    size = struct.pack("<HI", kind, len(data))
    return bytes(report) + b"\x52" * 64 + struct.pack("<H", len(authentication)) + authentication + size + data


def _frame(version: int, tee_type: int, body: bytes, certification: bytes, outer: int = 6) -> bytes:
    header = struct.pack("<HHI", version, 2, tee_type) + bytes(4) + QE_VENDOR_INTEL + bytes(range(20))
    if version != 3:
        certification = struct.pack("<HI", outer, len(certification)) + certification
    signature_data = b"\x53" * 64 + b"\x54" * 64 + certification
    return header + body + struct.pack("<I", len(signature_data)) + signature_data


def _sgx_body() -> bytes:
    body = bytearray(range(256)) + bytearray(range(128))
    for start, end in ((20, 32), (96, 128), (160, 192), (262, 304)):
        body[start:end] = bytes(end - start)
    return bytes(body)


def _td_body(length: int) -> bytes:
    return b"".join(struct.pack("<H", index) for index in range(length // 2))


def _v5(body_type: int, body: bytes) -> bytes:
    return struct.pack("<HI", body_type, len(body)) + body


_SGX = _frame(3, 0, _sgx_body(), _certification())
_TDX_4 = _frame(4, 0x81, _td_body(584), _certification())
_TDX_5_10 = _frame(5, 0x81, _v5(2, _td_body(584)), _certification())
_TDX_5_15 = _frame(5, 0x81, _v5(3, _td_body(648)), _certification())
_SGX_4 = _frame(4, 0, _sgx_body(), _certification())
_SGX_5 = _frame(5, 0, _v5(1, _sgx_body()), _certification())
_GOOD = {
    "sgx-3": _SGX,
    "sgx-4": _SGX_4,
    "sgx-5": _SGX_5,
    "tdx-4": _TDX_4,
    "tdx-5-1.0": _TDX_5_10,
    "tdx-5-1.5": _TDX_5_15,
}


@pytest.mark.parametrize("name", _GOOD)
def test_every_part_is_found(name: str) -> None:
    data = _GOOD[name]
    quote = decode_quote(data)
    assert quote.tee is Tee(name[:3])
    assert quote.version == data[0]
    assert (quote.data, quote.user_data) == (data, bytes(range(20)))
    body_at = 54 if quote.version == 5 else 48
    assert quote.signed == data[: body_at + len(quote.body)]
    assert quote.body == {384: _sgx_body(), 584: _td_body(584), 648: _td_body(648)}[len(quote.body)]
    assert quote.report_data == (quote.body[320:384] if quote.tee is Tee.SGX else quote.body[520:584])
    assert (quote.signature, quote.attestation_key) == (b"\x53" * 64, b"\x54" * 64)
    assert quote.qe_report[320:384] == b"\x51" * 64
    assert quote.qe_report_signature == b"\x52" * 64
    assert quote.qe_authentication_data == _AUTHENTICATION
    assert (quote.certification_type, quote.certification_data, quote.has_chain) == (5, _CERTIFICATES, True)


@pytest.mark.parametrize("name", ["sgx-3", "sgx-4", "sgx-5"])
def test_the_body_of_an_enclave_by_field(name: str) -> None:
    body = parse_body(decode_quote(_GOOD[name]))
    assert isinstance(body, SgxClaims)
    raw = _sgx_body()
    assert body == SgxClaims(
        cpu_svn=raw[0:16],
        misc_select=raw[16:20],
        isv_ext_prod_id=raw[32:48],
        attributes_flags=raw[48:56],
        xfrm=raw[56:64],
        mr_enclave=raw[64:96],
        mr_signer=raw[128:160],
        config_id=raw[192:256],
        isv_prod_id=0x0100,
        isv_svn=0x0302,
        config_svn=0x0504,
        isv_family_id=raw[304:320],
    )


@pytest.mark.parametrize("name", ["tdx-4", "tdx-5-1.0", "tdx-5-1.5"])
def test_the_body_of_a_td_by_field(name: str) -> None:
    body = parse_body(decode_quote(_GOOD[name]))
    assert isinstance(body, TdxClaims)
    raw = _td_body(648)
    is_15 = name.endswith("1.5")
    assert body == TdxClaims(
        tee_tcb_svn=raw[0:16],
        mr_seam=raw[16:64],
        mr_signer_seam=raw[64:112],
        seam_attributes=raw[112:120],
        td_attributes=raw[120:128],
        xfam=raw[128:136],
        mr_td=raw[136:184],
        mr_config_id=raw[184:232],
        mr_owner=raw[232:280],
        mr_owner_config=raw[280:328],
        rtmr0=raw[328:376],
        rtmr1=raw[376:424],
        rtmr2=raw[424:472],
        rtmr3=raw[472:520],
        tee_tcb_svn_2=raw[584:600] if is_15 else None,
        mr_service_td=raw[600:648] if is_15 else None,
    )


def _changed(data: bytes, offset: int, new: bytes) -> bytes:
    return data[:offset] + new + data[offset + len(new) :]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", Code.EVIDENCE_UNKNOWN),
        (_SGX[:47], Code.EVIDENCE_UNKNOWN),
        (_changed(_SGX, 0, b"\x02\0"), Code.EVIDENCE_UNKNOWN),
        (_changed(_SGX, 0, b"\x06\0"), Code.EVIDENCE_UNKNOWN),
        (_changed(_SGX, 0, b"\x03\1"), Code.EVIDENCE_UNKNOWN),
        (_changed(_TDX_4, 4, b"\x80"), Code.EVIDENCE_UNKNOWN),
        (_changed(_TDX_4, 7, b"\x01"), Code.EVIDENCE_UNKNOWN),
        (bytes(QUOTE_MAX + 1), Code.EVIDENCE_TOO_LARGE),
        (_SGX + bytes(QUOTE_MAX + 1 - len(_SGX)), Code.EVIDENCE_TOO_LARGE),
        (_changed(_SGX, 4, b"\x81"), Code.SGX_MALFORMED),
        (_SGX[:48], Code.SGX_MALFORMED),
        (_SGX[:-1], Code.SGX_MALFORMED),
        (_SGX + b"\1", Code.SGX_MALFORMED),
        (_SGX + bytes(70) + b"\1", Code.SGX_MALFORMED),
        (_frame(3, 0, _sgx_body(), _certification() + b"\0"), Code.SGX_MALFORMED),
        (_frame(3, 0, _sgx_body(), _certification(data=b"")), Code.SGX_MALFORMED),
        (_frame(3, 0, _sgx_body(), _certification()[:448]), Code.SGX_MALFORMED),
        (_TDX_4[:-1], Code.TDX_MALFORMED),
        (_frame(4, 0x81, _td_body(584), _certification() + b"\0"), Code.TDX_MALFORMED),
        (_changed(_TDX_4, 48 + 584 + 4 + 128 + 2, b"\0\0"), Code.TDX_MALFORMED),
        (_frame(5, 0x81, _v5(2, _td_body(648)), _certification()), Code.TDX_MALFORMED),
        (_frame(5, 0x81, _v5(3, _td_body(584)), _certification()), Code.TDX_MALFORMED),
        (_frame(5, 0x81, _v5(1, _sgx_body()), _certification()), Code.TDX_MALFORMED),
        (_frame(5, 0, _v5(2, _td_body(584)), _certification()), Code.SGX_MALFORMED),
        (_frame(5, 0, _v5(3, _td_body(648)), _certification()), Code.SGX_MALFORMED),
        (_changed(_SGX_5, 50, struct.pack("<I", 383)), Code.SGX_MALFORMED),
        (_changed(_SGX_5, 50, struct.pack("<I", 385)), Code.SGX_MALFORMED),
        (_SGX_4[:-1], Code.SGX_MALFORMED),
        (_SGX_5[:-1], Code.SGX_MALFORMED),
        (_frame(4, 0, _sgx_body(), _certification() + b"\0"), Code.SGX_MALFORMED),
    ],
)
def test_what_is_malformed(data: bytes, code: Code) -> None:
    with pytest.raises(FormatError) as caught:
        decode_quote(data)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (_frame(5, 0, _v5(0, _sgx_body()), _certification()), Code.SGX_VERSION),
        (_frame(5, 0, _v5(4, _sgx_body()), _certification()), Code.SGX_VERSION),
        (_frame(5, 0x81, _v5(0, _td_body(648)), _certification()), Code.TDX_VERSION),
        (_frame(5, 0x81, _v5(4, _td_body(648)), _certification()), Code.TDX_VERSION),
        (_changed(_SGX, 2, b"\3\0"), Code.SGX_KEY_TYPE),
        (_changed(_TDX_5_15, 2, b"\0\0"), Code.TDX_KEY_TYPE),
        (_changed(_SGX, 12, b"\0"), Code.SGX_QE_VENDOR),
        (_changed(_TDX_4, 27, b"\0"), Code.TDX_QE_VENDOR),
        *[(_frame(3, 0, _sgx_body(), _certification(kind)), Code.SGX_CERTIFICATION_DATA) for kind in (0, 6, 8, 261)],
        *[(_frame(4, 0x81, _td_body(584), _certification(kind)), Code.TDX_CERTIFICATION_DATA) for kind in (0, 6, 8)],
        *[
            (_frame(4, 0x81, _td_body(584), _certification(), outer), Code.TDX_CERTIFICATION_DATA)
            for outer in (0, 5, 7, 262)
        ],
    ],
)
def test_what_is_of_a_kind_that_is_not_accepted(data: bytes, code: Code) -> None:
    with pytest.raises(AppraisalError) as caught:
        decode_quote(data)
    assert caught.value.code == code


_SGX_QE_REPORT_AT = 48 + 384 + 4 + 128
_TDX_QE_REPORT_AT = 48 + 584 + 4 + 128 + 6


@pytest.mark.parametrize(
    ("data", "start"),
    [
        (_SGX, 48),
        (_SGX, _SGX_QE_REPORT_AT),
        (_SGX_4, 48),
        (_SGX_4, _SGX_QE_REPORT_AT + 6),
        (_SGX_5, 54),
        (_SGX_5, _SGX_QE_REPORT_AT + 12),
    ],
)
@pytest.mark.parametrize("offset", [20, 31, 96, 127, 160, 191, 262, 303])
def test_reserved_bytes_of_sgx_reports_are_zero(data: bytes, start: int, offset: int) -> None:
    with pytest.raises(FormatError) as caught:
        decode_quote(_changed(data, start + offset, b"\1"))
    assert caught.value.code is Code.SGX_MALFORMED


@pytest.mark.parametrize("offset", [20, 31, 96, 127, 160, 191, 262, 303])
def test_reserved_bytes_of_a_td_quoting_enclave_are_zero(offset: int) -> None:
    with pytest.raises(FormatError) as caught:
        decode_quote(_changed(_TDX_4, _TDX_QE_REPORT_AT + offset, b"\1"))
    assert caught.value.code is Code.TDX_MALFORMED


@pytest.mark.parametrize("name", _GOOD)
@pytest.mark.parametrize("zeros", [1, 70, 3065])
def test_zero_bytes_may_follow(name: str, zeros: int) -> None:
    padded = decode_quote(_GOOD[name] + bytes(zeros))
    plain = decode_quote(_GOOD[name])
    assert (padded.signed, padded.certification_data) == (plain.signed, plain.certification_data)


_LENGTHS = {1: (34, 36), 2: (274, 276), 3: (402, 404), 4: (1, 2470), 5: (1, 3682), 7: (1, 36, 20000)}
_FRAMES = {"sgx-3": (3, 0, _sgx_body()), "sgx-4": (4, 0, _sgx_body()), "tdx-4": (4, 0x81, _td_body(584))}


@pytest.mark.parametrize("frame", _FRAMES)
@pytest.mark.parametrize(("kind", "length"), [(kind, length) for kind in _LENGTHS for length in _LENGTHS[kind]])
def test_certification_data_of_every_type(frame: str, kind: int, length: int) -> None:
    quote = decode_quote(_frame(*_FRAMES[frame], _certification(kind, b"\x55" * length)))
    assert (quote.certification_type, quote.certification_data) == (kind, b"\x55" * length)
    assert quote.has_chain == (kind in (4, 5))


@pytest.mark.parametrize("kind", [1, 2, 3])
@pytest.mark.parametrize("difference", [-3, -1, 1])
def test_what_names_a_platform_has_its_length(kind: int, difference: int) -> None:
    data = bytes(_LENGTHS[kind][1] + difference)
    with pytest.raises(FormatError) as caught:
        decode_quote(_frame(3, 0, _sgx_body(), _certification(kind, data)))
    assert caught.value.code is Code.SGX_MALFORMED


@pytest.mark.parametrize("length", [0, 1, 31, 33, 1000])
def test_authentication_data_has_any_length(length: int) -> None:
    data = _frame(3, 0, _sgx_body(), _certification(authentication=bytes(length)))
    assert decode_quote(data).qe_authentication_data == bytes(length)


@given(st.binary(max_size=6000))
@settings(deadline=None, max_examples=200)
def test_any_bytes_are_a_quote_or_refused(data: bytes) -> None:
    _decode(data)


@given(st.sampled_from(sorted(_GOOD)), st.lists(st.tuples(st.integers(0, 1400), st.integers(0, 255)), max_size=4))
@settings(deadline=None, max_examples=200)
def test_any_change_gives_a_quote_or_is_refused(name: str, changes: list[tuple[int, int]]) -> None:
    data = bytearray(_GOOD[name])
    for offset, value in changes:
        data[offset % len(data)] = value
    _decode(bytes(data))


@given(st.sampled_from(sorted(_GOOD)), st.data())
@settings(deadline=None, max_examples=100)
def test_every_prefix_is_refused(name: str, draw: st.DataObject) -> None:
    length = draw.draw(st.integers(0, len(_GOOD[name]) - 1))
    with pytest.raises(FormatError):
        decode_quote(_GOOD[name][:length])


def _decode(data: bytes) -> None:
    try:
        quote = decode_quote(data)
    except ProxyAttestationError as error:
        assert isinstance(error, FormatError | AppraisalError)
    else:
        assert data.startswith(quote.signed)
        parse_body(quote)
