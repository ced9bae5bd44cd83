"""The claims extension of a leaf."""

import dataclasses
from typing import Any

import cbor2
import pytest
from cryptography.hazmat import asn1
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError
from proxy_attestation.formats import cbor, cmw, ear
from proxy_attestation.formats.request import KeyOrigin
from proxy_attestation.formats.tee import Tee

GOOD = ear.LeafClaims(
    issued_at=1_800_000_000,
    expires_at=1_800_086_400,
    nonce=b"\x01" * 32,
    build="0.1.0",
    tee=Tee.SGX,
    status=2,
    vector=((0, 2), (2, 3), (4, 2)),
    policy_digest=b"\x02" * 32,
    spki=b"\x03" * 91,
    anchor=b"\x04" * 32,
    key_origin=KeyOrigin.TEE,
    measurements=(("mr_enclave", b"\x05" * 32),),
    signer=b"\x06" * 32,
    product_id=1,
    svn=2,
    debug=False,
    tcb_status="UpToDate",
    tcb_date=1_700_000_000,
    tcb_evaluation_number=18,
    advisories=("INTEL-SA-00615",),
    application_sha256=b"\x07" * 32,
    owner="shared",
    evidence_sha256=b"\x08" * 32,
    ledger_origin="example.org/ledger",
    simulated=True,
)
BARE = dataclasses.replace(GOOD, signer=None, product_id=None, svn=None, application_sha256=None, tee=Tee.TDX)


def extension(claims_set: bytes, media_type: str = ear.MEDIA_TYPE, indicator: int = 8) -> bytes:
    return asn1.encode_der(cmw.encode_cmw(cmw.CmwRecord(media_type, claims_set, indicator)))


def altered(path: tuple[object, ...], value: object) -> bytes:
    """Re-encode the good claims set with one value set, or removed where `value` is ``...``."""
    tag: Any = cbor.decode(ear.encode_claims_set(GOOD), Code.PEER_CLAIMS_MALFORMED, 4096)
    place = tag.value
    for step in path[:-1]:
        place = place[step]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return cbor.encode(tag)


@pytest.mark.parametrize("claims", [GOOD, BARE])
def test_round_trip(claims: ear.LeafClaims) -> None:
    value = ear.encode_extension(ear.encode_claims_set(claims))
    assert ear.decode_extension(value) == claims
    assert len(value) <= 2048


def test_the_frame_is_that_of_the_description() -> None:
    value = ear.encode_extension(ear.encode_claims_set(GOOD))
    record = asn1.decode_der(bytes, value)
    media_type, claims_set, indicator = cbor2.loads(record)
    assert media_type == 'application/eat-ucs+cbor; eat_profile="tag:ietf.org,2026:rats/ear#03"'
    assert indicator == 8
    assert claims_set[:3] == bytes.fromhex("d90259")  # tag 601


def test_every_field_is_in_the_bytes() -> None:
    others: dict[str, object] = {
        "issued_at": 1, "expires_at": 2, "nonce": b"\xff" * 32, "build": "x", "tee": Tee.TDX, "status": 32,
        "vector": ((1, 2),), "policy_digest": b"\xff" * 32, "spki": b"\xff" * 91, "anchor": b"\xff" * 32,
        "key_origin": KeyOrigin.SOFTWARE, "measurements": (("mr_td", b"\xff" * 48),), "signer": None,
        "product_id": 9, "svn": 9, "debug": True, "tcb_status": "OutOfDate", "tcb_date": 3,
        "tcb_evaluation_number": 19, "advisories": (), "application_sha256": None, "owner": "chip",
        "evidence_sha256": b"\xff" * 32, "ledger_origin": "x", "simulated": False,
    }  # fmt: skip
    assert set(others) == {field.name for field in dataclasses.fields(ear.LeafClaims)}
    for name, value in others.items():
        changed = dataclasses.replace(GOOD, **{name: value})  # type: ignore[arg-type] # one field each, by name
        assert ear.decode_claims_set(ear.encode_claims_set(changed)) == changed, name
        assert ear.encode_claims_set(changed) != ear.encode_claims_set(GOOD), name


SUB = (266, "sgx")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("empty", b""),
        ("no tag", cbor.encode({1: 2})),
        ("another tag", cbor.encode(cbor2.CBORTag(61, {}))),
        ("another profile", altered((265,), "tag:ietf.org,2026:rats/ear#02")),
        ("no profile", altered((265,), ...)),
        ("no nonce", altered((10,), ...)),
        ("short nonce", altered((10,), b"x" * 31)),
        ("no expiry", altered((4,), ...)),
        ("text as expiry", altered((4,), "soon")),
        ("issued after the calendar's end", altered((6,), 253_402_300_800)),
        ("unknown claim", altered((256,), b"x")),
        ("no submodule", altered((266,), {})),
        ("unknown tee", altered((266,), {"sev": {}})),
        ("verifier without build", altered((1004,), {0: "x"})),
        ("two submodules", altered((266, "tdx"), {})),
        ("contraindicated", altered((*SUB, 1000), 96)),
        ("no status", altered((*SUB, 1000), ...)),
        ("vector out of range", altered((*SUB, 1001), {8: 2})),
        ("vector of text", altered((*SUB, 1001), {0: "2"})),
        ("no policy", altered((*SUB, 1003), [])),
        ("policy in capitals", altered((*SUB, 1003), ["SHA256:" + "00" * 32])),
        ("short policy digest", altered((*SUB, 1003), ["sha256:00"])),
        ("key of another name", altered((*SUB, -70002), {"pub": b"x"})),
        ("no key", altered((*SUB, -70002), {"akpub": b""})),
        ("short anchor", altered((*SUB, -70010), b"x")),
        ("unknown key origin", altered((*SUB, -70011), 3)),
        ("no measurements", altered((*SUB, -70012), {})),
        ("text as measurement", altered((*SUB, -70012), {"mr_enclave": "x"})),
        ("long measurement", altered((*SUB, -70012), {"mr_enclave": b"x" * 129})),
        ("short signer", altered((*SUB, -70013), b"x")),
        ("large product id", altered((*SUB, -70014), 1 << 16)),
        ("negative svn", altered((*SUB, -70015), -1)),
        ("number as debug", altered((*SUB, -70016), 0)),
        ("TCB of three", altered((*SUB, -70017), ["UpToDate", 1, 2])),
        ("TCB without status", altered((*SUB, -70017), ["", 1, 2, []])),
        ("short application digest", altered((*SUB, -70018), b"x")),
        ("no owner", altered((*SUB, -70019), ...)),
        ("short evidence digest", altered((*SUB, -70020), b"x")),
        ("no ledger", altered((*SUB, -70021), "")),
        ("text as simulated", altered((*SUB, -70022), "no")),
        ("unknown private claim", altered((*SUB, -70099), 1)),
        ("free text", altered((*SUB, 1), "trust me")),
    ],
)
def test_each_wrong_thing_is_refused(name: str, data: bytes) -> None:
    with pytest.raises(FormatError) as caught:
        ear.decode_claims_set(data)
    assert caught.value.code is Code.PEER_CLAIMS_MALFORMED, name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("another media type", extension(ear.encode_claims_set(GOOD), media_type="application/eat+cwt")),
        ("marked as evidence", extension(ear.encode_claims_set(GOOD), indicator=4)),
        ("no octet string", cmw.encode_cmw(cmw.CmwRecord(ear.MEDIA_TYPE, ear.encode_claims_set(GOOD), 8))),
        ("JSON form", asn1.encode_der("[]")),
        ("trailing byte", ear.encode_extension(ear.encode_claims_set(GOOD)) + b"\0"),
        ("over 2 KiB", ear.encode_extension(b"x" * 2048)),
    ],
)
def test_each_wrong_frame_is_refused(name: str, value: bytes) -> None:
    with pytest.raises(FormatError) as caught:
        ear.decode_extension(value)
    assert caught.value.code is Code.PEER_CLAIMS_MALFORMED, name


GOOD_SET = ear.encode_claims_set(GOOD)


@settings(deadline=None, max_examples=200)
@given(st.integers(0, len(GOOD_SET) - 1), st.integers(0, 255))
def test_any_changed_byte_gives_claims_or_our_error(position: int, value: int) -> None:
    data = GOOD_SET[:position] + bytes([value]) + GOOD_SET[position + 1 :]
    try:
        claims = ear.decode_claims_set(data)
    except FormatError as error:
        assert error.code is Code.PEER_CLAIMS_MALFORMED
    else:
        # DEVELOPER is a constant that decoding drops: every other byte must survive the round trip.
        assert ear.encode_claims_set(claims) == data or ear.DEVELOPER.encode() not in data


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=100))
def test_any_bytes_give_claims_or_our_error(data: bytes) -> None:
    with pytest.raises(FormatError):
        ear.decode_extension(data)
