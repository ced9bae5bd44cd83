"""One file of collateral: bundles in both writings, nonsense, and any bytes at all."""

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import dcap_qvl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_attestation.appraisal.endorsements import DcapEndorsements
from proxy_attestation.codes import Code
from proxy_attestation.endorsements.detect import Bundle, Kind, detect
from proxy_attestation.endorsements.load import load_endorsements
from proxy_attestation.errors import FormatError
from proxy_attestation.formats.signed_json import decode_signed_document
from proxy_attestation_simulator.intel import Vendor

VENDOR = Vendor.create(datetime(2026, 11, 24, tzinfo=UTC), secret=bytes(32))
PIECES = VENDOR.endorsements("sgx")
EXPECTED = DcapEndorsements(**PIECES)


def _whole() -> dict[str, object]:
    """Return the bundle with whole documents, CRLs in hex and base64."""
    fields: dict[str, object] = {name: data.decode() for name, data in PIECES.items() if not name.endswith("crl")}
    return {
        **fields,
        "pck_crl": PIECES["pck_crl"].hex(),
        "root_ca_crl": base64.b64encode(PIECES["root_ca_crl"]).decode(),
    }


def _inner() -> dict[str, object]:
    """Return the bundle with inner objects and their signatures, as dcap-qvl writes it."""
    documents = {
        name: decode_signed_document(PIECES[name], member, Code.INTERNAL)
        for name, member in (("tcb_info", "tcbInfo"), ("qe_identity", "enclaveIdentity"))
    }
    collateral = dcap_qvl.QuoteCollateralV3(
        pck_crl_issuer_chain=PIECES["pck_crl_issuer_chain"].decode(),
        root_ca_crl=PIECES["root_ca_crl"],
        pck_crl=PIECES["pck_crl"],
        tcb_info_issuer_chain=PIECES["tcb_info_issuer_chain"].decode(),
        tcb_info=documents["tcb_info"].content.decode(),
        tcb_info_signature=documents["tcb_info"].signature,
        qe_identity_issuer_chain=PIECES["qe_identity_issuer_chain"].decode(),
        qe_identity=documents["qe_identity"].content.decode(),
        qe_identity_signature=documents["qe_identity"].signature,
    )
    fields: dict[str, object] = json.loads(collateral.to_json())
    return fields


def _load(directory: Path, fields: Mapping[str, object], name: str = "bundle") -> tuple[DcapEndorsements, ...]:
    (directory / name).write_text(json.dumps(fields))
    return load_endorsements([directory])


def test_a_bundle_of_whole_documents_is_a_set(tmp_path: Path) -> None:
    assert _load(tmp_path, _whole()) == (EXPECTED,)
    assert load_endorsements([tmp_path / "bundle"]) == (EXPECTED,)


def test_a_bundle_of_inner_objects_and_signatures_is_the_same_set(tmp_path: Path) -> None:
    (loaded,) = _load(tmp_path, _inner())
    for name, member in (("tcb_info", "tcbInfo"), ("qe_identity", "enclaveIdentity")):
        found, expected = (
            decode_signed_document(getattr(item, name), member, Code.INTERNAL) for item in (loaded, EXPECTED)
        )
        assert found == expected
    for name in ("tcb_info_issuer_chain", "pck_crl", "root_ca_crl", "pck_crl_issuer_chain"):
        assert getattr(loaded, name) == getattr(EXPECTED, name)


def test_remarks_and_absent_fields_are_allowed(tmp_path: Path) -> None:
    fields = {**_whole(), "version": 3, "tee_type": 0, "pck_certificate_chain": None}
    assert _load(tmp_path, fields) == (EXPECTED,)


def test_each_bundle_is_a_set_of_its_own(tmp_path: Path) -> None:
    _load(tmp_path, _whole(), "one")
    other = VENDOR.endorsements("sgx", evaluation_number=99)["tcb_info"]
    loaded = _load(tmp_path, {**_whole(), "tcb_info": other.decode()}, "two")
    assert [item.tcb_info for item in loaded] == [PIECES["tcb_info"], other]


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("surprise", "x"),
        ("pck_crl", 7),
        ("pck_crl", ""),
        ("pck_crl", "zz"),
        ("tcb_info", "not json"),
        ("tcb_info", "[]"),
        ("tcb_info", {}),
        ("tcb_info_signature", "ab"),
        ("tcb_info_issuer_chain", "-----BEGIN CERTIFICATE-----\nAAAA"),
        ("tcb_info_signature", None),
        ("tcb_info", None),
    ],
)
def test_a_bundle_with_one_fault_is_refused(change: str, value: object) -> None:
    fields = _inner()
    assert isinstance(detect(json.dumps(fields).encode(), "bundle"), Bundle)
    fields[change] = value
    with pytest.raises(FormatError) as caught:
        detect(json.dumps(fields).encode(), "bundle")
    assert caught.value.code is Code.ENDORSEMENTS_MALFORMED


def test_a_signature_that_differs_from_the_one_in_its_document_is_refused() -> None:
    signature = json.loads(PIECES["tcb_info"])["signature"]
    assert isinstance(detect(json.dumps({**_whole(), "tcb_info_signature": signature}).encode(), "bundle"), Bundle)
    with pytest.raises(FormatError) as caught:
        detect(json.dumps({**_whole(), "tcb_info_signature": "ff" * 64}).encode(), "bundle")
    assert caught.value.code is Code.ENDORSEMENTS_MALFORMED


_NONSENSE = [b"", b"read me", b"{", b"{}", b"[]", b'{"version":3}', b"\x30\x03\x02\x01\x00", b"3003020100"]
_HOSTILE = [b"\xff" * 100, b"{" * 100_000, b'{"a":' * 50_000, b'{"a":' + b"1" * 5000 + b"}"]


@pytest.mark.parametrize("data", _NONSENSE + _HOSTILE, ids=lambda data: repr(data[:12]))
def test_nonsense_is_refused_by_name(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "strange").write_bytes(data)
    with pytest.raises(FormatError) as caught:
        load_endorsements([tmp_path])
    assert (caught.value.code, caught.value.exit_status) == (Code.ENDORSEMENTS_MALFORMED, 4)
    assert "strange" in caught.value.detail


def _detect(data: bytes) -> None:
    try:
        held = detect(data, "any")
    except FormatError as error:
        assert error.code is Code.ENDORSEMENTS_MALFORMED
    else:
        pieces = held.pieces if isinstance(held, Bundle) else held
        assert {piece.kind for piece in pieces} <= set(Kind)


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=400))
def test_any_bytes_give_pieces_or_our_error(data: bytes) -> None:
    _detect(data)


@settings(deadline=None, max_examples=200)
@given(
    st.dictionaries(
        st.sampled_from(
            ["tcb_info", "tcb_info_signature", "qe_identity", "pck_crl", "pck_crl_issuer_chain", "version", "other"]
        ),
        st.recursive(
            st.none() | st.integers() | st.text() | st.sampled_from(["{}", "3003020100", '{"tcbInfo":{}}', "ab" * 64]),
            lambda inner: st.lists(inner, max_size=3),
            max_leaves=4,
        ),
    )
)
def test_any_bundle_gives_pieces_or_our_error(fields: dict[str, object]) -> None:
    _detect(json.dumps(fields).encode())


_SEEDS = {"certificate": VENDOR.root_der, "crl": PIECES["pck_crl"], "document": PIECES["qe_identity"]}


@settings(deadline=None, max_examples=200)
@given(st.sampled_from(sorted(_SEEDS)), st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1))
def test_a_damaged_piece_gives_a_piece_or_our_error(name: str, changes: list[tuple[int, int]]) -> None:
    data = bytearray(_SEEDS[name])
    for position, value in changes:
        data[position % len(data)] = value
    _detect(bytes(data))
