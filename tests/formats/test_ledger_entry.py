"""Ledger entries: each kind has exactly its fields."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError
from proxy_attestation.formats import cbor
from proxy_attestation.formats.ledger_entry import (
    CrlReason,
    EntryKind,
    LedgerEntry,
    OwnerAction,
    decode_entry,
    encode_entry,
    names_digest,
)
from proxy_attestation.formats.request import names_from

CERTIFICATE = {
    "issuer_spki_sha256": b"\x02" * 32,
    "serial": b"\x03" * 20,
    "tbs_sha256": b"\x05" * 32,
    "not_before": 6,
    "not_after": 7,
    "spki_sha256": b"\x08" * 32,
}
LEAF = LedgerEntry(
    kind=EntryKind.LEAF,
    tee="sgx",
    evidence_sha256=b"\x0a" * 32,
    policy_digest=b"\x0b" * 32,
    status=2,
    measurements=(b"\x0d" * 32,),
    names_sha256=b"\x0e" * 32,
    tcb_evaluation_number=15,
    claims_sha256=b"\x10" * 32,
    request_sha256=b"\x11" * 32,
    **CERTIFICATE,  # type: ignore[arg-type] # a table of mixed types
)
EXAMPLES = [
    LEAF,
    LedgerEntry(
        kind=EntryKind.POLICY,
        policy_digest=b"\x0b" * 32,
        policy_version=7,
        policy_text_sha256=b"\x17" * 32,
        policy_time=24,
    ),
    LedgerEntry(kind=EntryKind.CA_EVENT, **CERTIFICATE),  # type: ignore[arg-type] # as above
    LedgerEntry(
        kind=EntryKind.OWNERSHIP,
        spki_sha256=b"\x08" * 32,
        names_sha256=b"\x0e" * 32,
        owner_action=OwnerAction.CLAIM,
        owner_kind="enrolment",
        owner_holder=b"\x15" * 32,
    ),
    LedgerEntry(
        kind=EntryKind.OWNERSHIP,
        names_sha256=b"\x0e" * 32,
        owner_action=OwnerAction.RELEASE,
        owner_kind="chip_ids",
        owner_holder=b"\x15" * 32,
    ),
    LedgerEntry(
        kind=EntryKind.PROXY_TLS,
        policy_digest=b"\x0b" * 32,
        names_sha256=b"\x0e" * 32,
        **CERTIFICATE,  # type: ignore[arg-type] # as above
    ),
    LedgerEntry(kind=EntryKind.REVOCATION, revoked=b"\x19" * 20, reason=CrlReason.KEY_COMPROMISE, revoked_at=27),
    LedgerEntry(kind=EntryKind.REVOCATION, revoked=b"\x19" * 32, reason=CrlReason.UNSPECIFIED, revoked_at=27),
]


def test_there_is_an_example_of_each_kind() -> None:
    assert {entry.kind for entry in EXAMPLES} == set(EntryKind)


@pytest.mark.parametrize("entry", EXAMPLES, ids=lambda entry: entry.kind.name)
def test_round_trip(entry: LedgerEntry) -> None:
    assert decode_entry(encode_entry(entry)) == entry


@pytest.mark.parametrize("entry", EXAMPLES[3:5], ids=["claim", "release"])
def test_a_claim_names_its_key_and_a_release_does_not(entry: LedgerEntry) -> None:
    other = None if entry.spki_sha256 else b"\x08" * 32
    with pytest.raises(FormatError) as caught:
        encode_entry(dataclasses.replace(entry, spki_sha256=other))
    assert caught.value.code is Code.AUTHORITY_PROFILE


def test_the_keys_of_a_leaf_are_those_of_the_description() -> None:
    content = cbor.decode(encode_entry(LEAF), Code.AUTHORITY_STATE, 4096)
    assert isinstance(content, dict)
    assert sorted(map(int, content)) == [1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18]
    assert {key: content[key] for key in (1, 5, 6, 9, 13, 15, 18)} == {
        1: 1,
        5: b"\x05" * 32,
        6: 6,
        9: "sgx",
        13: [b"\x0d" * 32],
        15: 15,
        18: 1,
    }


@pytest.mark.parametrize(
    "field",
    [
        f.name
        for f in dataclasses.fields(LedgerEntry)
        if f.name not in ("kind", "tcb_evaluation_number") and getattr(LEAF, f.name) is not None
    ],
)
def test_a_leaf_lacks_no_field(field: str) -> None:
    empty: object = () if field == "measurements" else None
    with pytest.raises(FormatError) as caught:
        encode_entry(dataclasses.replace(LEAF, **{field: empty}))  # type: ignore[arg-type] # one field each, by name
    assert caught.value.code is Code.AUTHORITY_PROFILE


def test_a_leaf_of_a_vendor_without_evaluation_numbers_has_none() -> None:
    """Key 15 is there or not; whoever wrote 0 would say something else."""
    without = dataclasses.replace(LEAF, tee="nitro", tcb_evaluation_number=None)
    content = cbor.decode(encode_entry(without), Code.AUTHORITY_STATE, 4096)
    assert isinstance(content, dict)
    assert sorted(map(int, content)) == [1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 16, 17, 18]
    assert decode_entry(encode_entry(without)) == without
    zero = dataclasses.replace(without, tcb_evaluation_number=0)
    assert encode_entry(zero) != encode_entry(without)
    assert decode_entry(encode_entry(zero)).tcb_evaluation_number == 0


@pytest.mark.parametrize("entry", EXAMPLES[1:], ids=lambda entry: entry.kind.name)
def test_no_other_kind_has_an_evaluation_number(entry: LedgerEntry) -> None:
    with pytest.raises(FormatError) as caught:
        encode_entry(dataclasses.replace(entry, tcb_evaluation_number=15))
    assert caught.value.code is Code.AUTHORITY_PROFILE
    content = cbor.decode(encode_entry(entry), Code.AUTHORITY_STATE, 4096)
    assert isinstance(content, dict)
    with pytest.raises(FormatError) as caught:
        decode_entry(cbor.encode(dict(content) | {15: 15}))
    assert caught.value.code is Code.AUTHORITY_STATE


@pytest.mark.parametrize("value", [None, -1, True, "15", b"\x0f", 1 << 32])
def test_an_evaluation_number_is_a_number(value: object) -> None:
    with pytest.raises(FormatError) as caught:
        decode_entry(altered(15, value))
    assert caught.value.code is Code.AUTHORITY_STATE


def test_no_kind_takes_a_field_of_another() -> None:
    with pytest.raises(FormatError):
        encode_entry(LedgerEntry(kind=EntryKind.POLICY, policy_digest=b"\x0b" * 32, tee="sgx"))


def altered(key: int, value: object) -> bytes:
    content = cbor.decode(encode_entry(LEAF), Code.AUTHORITY_STATE, 4096)
    assert isinstance(content, dict)
    return cbor.encode(dict(content) | {key: value})


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("empty", b""),
        ("not a map", cbor.encode([1])),
        ("another version", altered(1, 2)),
        ("no version", cbor.encode({18: 2, 11: b"x" * 32})),
        ("true as version", altered(1, True)),
        ("a simple value as version", encode_entry(LEAF).replace(b"\x01\x01", b"\x01\xe1", 1)),
        ("a field of another kind", altered(18, 2)),
        ("no measurements", altered(13, [])),
        ("boolean kind", altered(18, True)),
        ("unknown kind", altered(18, 6)),
        ("certificate digest", altered(4, b"x" * 32)),
        ("short serial", altered(3, b"x")),
        ("short digest", altered(5, b"x")),
        ("text as time", altered(6, "now")),
        ("no measurement list", altered(13, b"x")),
        ("empty measurement", altered(13, [b""])),
        ("trailing byte", encode_entry(LEAF) + b"\0"),
    ],
)
def test_each_wrong_thing_is_refused(name: str, data: bytes) -> None:
    with pytest.raises(FormatError) as caught:
        decode_entry(data)
    assert caught.value.code is Code.AUTHORITY_STATE, name


@settings(deadline=None, max_examples=200)
@given(
    st.binary(max_size=100) | st.builds(altered, st.integers(0, 20), st.none() | st.integers() | st.binary(max_size=40))
)
def test_any_bytes_give_an_entry_or_our_error(data: bytes) -> None:
    try:
        entry = decode_entry(data)
    except FormatError as error:
        assert error.code is Code.AUTHORITY_STATE
    else:
        assert encode_entry(entry) == data


def test_the_digest_of_names_depends_on_each_name() -> None:
    one = names_digest(names_from(("a.org",), ("127.0.0.1",)))
    assert one == names_digest(names_from(("a.org",), ("127.0.0.1",)))
    assert one != names_digest(names_from(("a.org",), ("127.0.0.2",)))
    assert one != names_digest(names_from(("a.org",)))
