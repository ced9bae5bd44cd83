"""Signed JSON documents, TCB info and QE identity: exact bytes, strict types, our own order."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_attestation.appraisal.endorsements import DcapEndorsements
from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError
from proxy_attestation.formats.bounds import COLLATERAL_DOCUMENT_MAX
from proxy_attestation.formats.dcap_collateral import (
    TcbStatus,
    declared_tee,
    decode_qe_identity,
    decode_tcb_info,
)
from proxy_attestation.formats.signed_json import decode_signed_document
from proxy_attestation.formats.tee import Tee

_CODE = Code.TDX_ENDORSEMENTS_MALFORMED
_SIGNATURE = "ab" * 64
_INNER = '{"id": "TDX",  "n":[1,{"tcbInfo":{}}],"text":"\\u00e4 \u00e4 \\" }"}'


def _document(inner: str = _INNER, signature: str = _SIGNATURE) -> str:
    return f'{{"tcbInfo":{inner},"signature":"{signature}"}}'


@pytest.mark.parametrize(
    "text",
    [
        _document(),
        _document() + "\n",
        " \n" + _document(),
        f'{{ "signature" : "{_SIGNATURE.upper()}" ,\t"tcbInfo" :  {_INNER} }}',
        f'{{"new":[1,{{"signature":"x"}}],"tcbInfo":{_INNER},"signature":"{_SIGNATURE}"}}',
    ],
)
def test_the_inner_bytes_are_cut_out_exactly(text: str) -> None:
    document = decode_signed_document(text.encode(), "tcbInfo", _CODE)
    assert document.content == _INNER.encode()
    assert document.signature == bytes.fromhex(_SIGNATURE)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "{}",
        "[]",
        '"tcbInfo"',
        _INNER,
        _document()[:-1],
        _document() + "x",
        _document() + "\0",
        _document() + _document(),
        "[" + _document() + "]",
        _document(signature=_SIGNATURE[2:]),
        _document(signature=_SIGNATURE[2:] + "  "),
        _document(signature="zz" * 64),
        f'{{"tcbInfo":{_INNER},"signature":1}}',
        f'{{"tcbInfo":{_INNER}}}',
        f'{{"signature":"{_SIGNATURE}"}}',
        f'{{"tcbInfo":{_INNER},"tcbInfo":{_INNER},"signature":"{_SIGNATURE}"}}',
        f'{{"tcbInfo":{_INNER},"signature":"{_SIGNATURE}","signature":"{_SIGNATURE}"}}',
        f'{{"enclaveIdentity":{_INNER},"signature":"{_SIGNATURE}"}}',
        f'{{"tcbInfo":{_INNER};"signature":"{_SIGNATURE}"}}',
        f'{{"tcbInfo"={_INNER},"signature":"{_SIGNATURE}"}}',
        f'{{"tcbInfo":{_INNER},"signature":"{_SIGNATURE}",}}',
        f'{{,"tcbInfo":{_INNER},"signature":"{_SIGNATURE}"}}',
        f'{{tcbInfo:{_INNER},"signature":"{_SIGNATURE}"}}',
        _document('{"a":1,"a":2}'),
        _document('{"a":{"b":1,"b":1}}'),
        _document('{"a":1.5}'),
        _document('{"a":1e3}'),
        _document('{"a":NaN}'),
        _document('{"a":-Infinity}'),
        _document("[" * 100000 + "]" * 100000),
        _document('{"a":' + "9" * 5000 + "}"),
        "\ufeff" + _document(),
        _document() + " " * COLLATERAL_DOCUMENT_MAX,
    ],
)
def test_what_is_no_signed_document(text: str) -> None:
    with pytest.raises(FormatError) as caught:
        decode_signed_document(text.encode(), "tcbInfo", _CODE)
    assert caught.value.code is _CODE


def test_a_document_is_utf_8() -> None:
    with pytest.raises(FormatError):
        decode_signed_document(_document().encode("utf-16"), "tcbInfo", _CODE)
    with pytest.raises(FormatError):
        decode_signed_document(_document().encode().replace(b"id", b"\xff\xfe"), "tcbInfo", _CODE)


@given(st.binary(max_size=300))
@settings(deadline=None, max_examples=200)
def test_any_bytes_are_a_document_or_refused(data: bytes) -> None:
    for mutated in (data, b'{"tcbInfo":' + data + b',"signature":"' + _SIGNATURE.encode() + b'"}'):
        try:
            document = decode_signed_document(mutated, "tcbInfo", _CODE)
        except FormatError:
            continue
        assert document.content in mutated


_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.text(max_size=30)),
    lambda children: st.one_of(st.lists(children, max_size=4), st.dictionaries(st.text(max_size=8), children)),
    max_leaves=12,
)


@given(value=_JSON)
@settings(deadline=None, max_examples=200)
def test_any_json_is_collateral_or_refused(value: object) -> None:
    content = json.dumps(value).encode()
    for decode in (decode_tcb_info, decode_qe_identity, declared_tee):
        with pytest.raises(FormatError):
            decode(content, _CODE)


@pytest.fixture(scope="module")
def tcb_info(endorsements: Callable[..., DcapEndorsements]) -> dict[str, Any]:
    return _inner(endorsements("tdx").tcb_info, "tcbInfo")


@pytest.fixture(scope="module")
def qe_identity(endorsements: Callable[..., DcapEndorsements]) -> dict[str, Any]:
    return _inner(endorsements("tdx").qe_identity, "enclaveIdentity")


def _inner(document: bytes | None, member: str) -> dict[str, Any]:
    assert document is not None
    inner: dict[str, Any] = json.loads(document)[member]
    return inner


def _copy(document: dict[str, Any]) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(document))
    return copy


def test_tcb_info_by_field(tcb_info: dict[str, Any]) -> None:
    info = decode_tcb_info(json.dumps(tcb_info).encode(), _CODE)
    assert (info.tee, info.fmspc, info.pce_id, info.evaluation_number) == (Tee.TDX, b"SIM\0\0\2", b"\0\0", 17)
    assert info.issue_date == datetime(2026, 11, 23, 12, tzinfo=UTC)
    assert info.next_update == datetime(2026, 12, 23, 12, tzinfo=UTC)
    assert [level.status for level in info.levels] == [level["tcbStatus"] for level in tcb_info["tcbLevels"]]
    newest = info.levels[0]
    assert newest.sgx == (7, 7, 2, 2, 3, 1, 0, 3, *[0] * 8)
    assert newest.tdx == (4, 0, 7, *[0] * 13)
    assert (newest.pce_svn, newest.status, newest.advisories) == (13, TcbStatus.UP_TO_DATE, ())
    assert info.module is not None
    assert info.module.mr_signer == bytes(48)
    assert sorted(info.module_identities) == [1, 3]
    assert [level.isv_svn for level in info.module_identities[1].levels] == [4, 2, 1]


@given(st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=30)
def test_the_order_of_levels_decides_nothing(tcb_info: dict[str, Any], random: Any) -> None:
    shuffled = _copy(tcb_info)
    random.shuffle(shuffled["tcbLevels"])
    random.shuffle(shuffled["tdxModuleIdentities"])
    for identity in shuffled["tdxModuleIdentities"]:
        random.shuffle(identity["tcbLevels"])
    assert decode_tcb_info(json.dumps(shuffled).encode(), _CODE) == decode_tcb_info(
        json.dumps(tcb_info).encode(), _CODE
    )


def test_unknown_names_are_left_alone(tcb_info: dict[str, Any], qe_identity: dict[str, Any]) -> None:
    for document, decode in ((tcb_info, decode_tcb_info), (qe_identity, decode_qe_identity)):
        more = _copy(document) | {"new": {"a": [1]}}
        more["tcbLevels"][0]["new"] = 1
        assert decode(json.dumps(more).encode(), _CODE) == decode(json.dumps(document).encode(), _CODE)


def _set(path: str, value: object) -> Callable[[dict[str, Any]], None]:
    """Return a change of one member: `a.0.b`; `...` as the value removes it."""

    def change(document: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        target: Any = document
        for name in parents:
            target = target[int(name)] if name.isdigit() else target[name]
        key: Any = int(last) if last.isdigit() else last
        if value is ...:
            del target[key]
        else:
            target[key] = value

    return change


_BAD_TCB_INFO = [
    ("id", ...), ("id", "SGX2"), ("id", 1), ("version", ...), ("version", 1), ("version", 2), ("version", 4),
    ("version", "3"), ("version", True), ("issueDate", ...), ("issueDate", "2026-11-23"),
    ("issueDate", "2026-11-23T12:00:00+00:00"), ("issueDate", "2026-11-23T12:00:00.0Z"),
    ("issueDate", "2026-1-23T12:00:000Z"), ("issueDate", "2026-13-23T12:00:00Z"), ("issueDate", 0),
    ("nextUpdate", ...), ("fmspc", ...), ("fmspc", "00"), ("fmspc", "zz" * 6), ("fmspc", " 53494d000002"),
    ("pceId", ...), ("pceId", "00000"), ("tcbType", ...), ("tcbType", 1), ("tcbEvaluationDataNumber", ...),
    ("tcbEvaluationDataNumber", -1), ("tcbEvaluationDataNumber", 2**32), ("tcbEvaluationDataNumber", "17"),
    ("tcbLevels", ...), ("tcbLevels", []), ("tcbLevels", {}), ("tcbLevels", [1]),
    ("tcbLevels.0.tcb", ...), ("tcbLevels.0.tcb.pcesvn", ...), ("tcbLevels.0.tcb.pcesvn", 65536),
    ("tcbLevels.0.tcb.sgxtcbcomponents", ...), ("tcbLevels.0.tcb.sgxtcbcomponents.15", ...),
    ("tcbLevels.0.tcb.sgxtcbcomponents.3", 7), ("tcbLevels.0.tcb.sgxtcbcomponents.3.svn", None),
    ("tcbLevels.0.tcb.sgxtcbcomponents.3.svn", 65536), ("tcbLevels.0.tcb.tdxtcbcomponents", ...),
    ("tcbLevels.0.tcb.tdxtcbcomponents.0", ...), ("tcbLevels.0.tcbDate", ...), ("tcbLevels.0.tcbStatus", ...),
    ("tcbLevels.0.tcbStatus", "uptodate"), ("tcbLevels.0.tcbStatus", "TDRelaunchAdvised"), ("tcbLevels.0.tcbStatus", 1),
    ("tcbLevels.0.advisoryIDs", "INTEL-SA-00615"), ("tcbLevels.0.advisoryIDs", [1]),
    ("tcbLevels.0.advisoryIDs", ["x" * 33]), ("tcbLevels.0.advisoryIDs", ["x"] * 257), ("tdxModule", ...),
    ("tdxModule", []), ("tdxModule.mrsigner", "00" * 47), ("tdxModule.attributes", ...),
    ("tdxModule.attributesMask", "FF"), ("tdxModuleIdentities", {}), ("tdxModuleIdentities.0.id", ...),
    ("tdxModuleIdentities.0.id", "TDX_1"), ("tdxModuleIdentities.0.id", "03"), ("tdxModuleIdentities.0.id", "TDX_01"),
    ("tdxModuleIdentities.0.tcbLevels", []), ("tdxModuleIdentities.0.tcbLevels.0.tcb.isvsvn", ...),
    ("tdxModuleIdentities.0.tcbLevels.0.tcb.isvsvn", -1),
    ("tdxModuleIdentities.0.tcbLevels.0.tcbStatus", "SWHardeningNeeded"),
    ("tdxModuleIdentities.1.tcbLevels.1.tcb.isvsvn", 4),
]  # fmt: skip
_BAD_QE_IDENTITY = [
    ("id", ...), ("version", ...), ("version", 1), ("version", 3), ("issueDate", ...), ("nextUpdate", "never"),
    ("miscselect", "000000"), ("miscselectMask", ...), ("attributes", ...), ("attributesMask", "FF" * 15),
    ("mrsigner", "00" * 33), ("mrsigner", 0), ("isvprodid", ...), ("isvprodid", 65536), ("tcbLevels", []),
    ("tcbLevels.0.tcb.isvsvn", "8"), ("tcbLevels.0.tcbStatus", "ConfigurationNeeded"), ("tcbLevels.0.tcbDate", ...),
    ("tcbLevels.1.tcb.isvsvn", 8),
]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "value"), _BAD_TCB_INFO, ids=[f"{path}={value}"[:60] for path, value in _BAD_TCB_INFO]
)
def test_a_tcb_info_with_one_member_wrong(path: str, value: object, tcb_info: dict[str, Any]) -> None:
    bad = _copy(tcb_info)
    _set(path, value)(bad)
    with pytest.raises(FormatError) as caught:
        decode_tcb_info(json.dumps(bad).encode(), _CODE)
    assert caught.value.code is _CODE


@pytest.mark.parametrize(
    ("path", "value"), _BAD_QE_IDENTITY, ids=[f"{path}={value}"[:60] for path, value in _BAD_QE_IDENTITY]
)
def test_a_qe_identity_with_one_member_wrong(path: str, value: object, qe_identity: dict[str, Any]) -> None:
    bad = _copy(qe_identity)
    _set(path, value)(bad)
    with pytest.raises(FormatError) as caught:
        decode_qe_identity(json.dumps(bad).encode(), _CODE)
    assert caught.value.code is _CODE


def test_a_level_that_occurs_twice(tcb_info: dict[str, Any]) -> None:
    bad = _copy(tcb_info)
    bad["tcbLevels"].append(bad["tcbLevels"][0] | {"tcbStatus": "OutOfDate"})
    with pytest.raises(FormatError):
        decode_tcb_info(json.dumps(bad).encode(), _CODE)


def test_version_2_is_for_sgx_and_has_flat_components(endorsements: Callable[..., DcapEndorsements]) -> None:
    flat = _inner(endorsements("sgx", tcb_info_version=2).tcb_info, "tcbInfo")
    nested = _inner(endorsements("sgx").tcb_info, "tcbInfo")
    assert "sgxtcbcomp16svn" in flat["tcbLevels"][0]["tcb"]
    del flat["id"]
    assert declared_tee(json.dumps(flat).encode(), _CODE) is Tee.SGX
    assert decode_tcb_info(json.dumps(flat).encode(), _CODE) == decode_tcb_info(json.dumps(nested).encode(), _CODE)
    del flat["tcbLevels"][0]["tcb"]["sgxtcbcomp16svn"]
    with pytest.raises(FormatError):
        decode_tcb_info(json.dumps(flat).encode(), _CODE)
