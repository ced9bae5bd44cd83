"""The last check refuses a leaf in which exactly one thing is wrong, whoever made it so."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cbor2
import pytest
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_attestation.authority import profile
from proxy_attestation.authority.check import (
    Expected,
    ExpectedClaims,
    check_leaf,
    is_permitted_dns,
    is_usual_key,
)
from proxy_attestation.codes import Code
from proxy_attestation.errors import UnavailableError
from proxy_attestation.formats import cbor, cmw
from proxy_attestation.formats.csr import spki_of
from proxy_attestation.formats.ear import MEDIA_TYPE, UCCS_TAG
from proxy_attestation.formats.request import Names, names_from

NOW = 1_800_000_000
SPKI = spki_of(ec.generate_private_key(ec.SECP256R1()).public_key())
OTHER = spki_of(ec.generate_private_key(ec.SECP256R1()).public_key())
NAMES = names_from(("app.example.org",), ("192.0.2.7",), ("spiffe://example.org/app",))


def claims_extension(indicator: int = 8, **changes: Any) -> bytes:
    """Claims by hand, so that each member can be made wrong."""
    sub: dict[Any, Any] = {
        -70002: {"akpub": changes.get("akpub", SPKI)},
        1003: changes.get("policies", ["sha256:" + "0d" * 32]),
        -70016: changes.get("debug", False),
        -70022: changes.get("simulated", True),
    }
    application = changes.get("application", b"\x0a" * 32)
    if application is not None:
        sub[-70018] = application
    submods = {changes.get("tee", "sgx"): sub, **changes.get("more", {})}
    top = {4: changes.get("exp", NOW + 3600), 10: changes.get("nonce", b"\x0e" * 32), 266: submods}
    claims_set = cbor.encode(cbor2.CBORTag(changes.get("tag", UCCS_TAG), top))
    record = cmw.CmwRecord(changes.get("media_type", MEDIA_TYPE), claims_set, indicator)
    return asn1.encode_der(cmw.encode_cmw(record))


LEAF: dict[str, Any] = {
    "serial": b"\x01" * 20,
    "issuer": profile.ca_name("example.org", "CA 1", "FILE KEYS"),
    "authority_key_id": b"\x02" * 20,
    "validity": (NOW - 60, NOW + 3600),
    "spki": SPKI,
    "names": NAMES,
    "extension": claims_extension(),
}
CLAIMS = ExpectedClaims(
    tee="sgx", nonce=b"\x0e" * 32, policy_digest=b"\x0d" * 32, debug=False, application_sha256=b"\x0a" * 32,
    simulated=True,
)  # fmt: skip
EXPECTED = Expected(
    issuer=LEAF["issuer"],
    authority_key_id=LEAF["authority_key_id"],
    issuer_not_before=NOW - 1000,
    now=NOW,
    not_after_limits=(NOW + 3600, NOW + 7200),
    spki=SPKI,
    names=NAMES,
    spiffe_id="spiffe://example.org/app",
    permitted_dns=("example.org",),
    claims=CLAIMS,
)


def tbs(**changes: Any) -> bytes:
    return profile.leaf_tbs(**(LEAF | changes))


def refused(data: bytes, expected: Expected = EXPECTED) -> None:
    with pytest.raises(UnavailableError) as caught:
        check_leaf(data, expected)
    assert caught.value.code is Code.AUTHORITY_PROFILE


def swapped(old: bytes, new: bytes) -> bytes:
    """The good leaf with one piece exchanged for another of the same length."""
    data = tbs()
    assert data.count(old) == 1 and len(old) == len(new)
    return data.replace(old, new)


def test_a_good_leaf_passes() -> None:
    check_leaf(tbs(), EXPECTED)
    check_leaf(tbs(extension=None), replace(EXPECTED, claims=None))


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("a serial of zero", {"serial": bytes(20)}),
        ("a serial of 160 bits", {"serial": b"\xff" * 20}),
        ("another issuer", {"issuer": profile.ca_name("example.com", "CA 1", "FILE KEYS")}),
        ("another authority key", {"authority_key_id": b"\x03" * 20}),
        ("another key", {"spki": OTHER}),
        ("before the backdating", {"validity": (NOW - 61, NOW + 3600)}),
        ("from the future", {"validity": (NOW + 1, NOW + 3600)}),
        ("over already", {"validity": (NOW - 60, NOW)}),
        ("beyond a limit", {"validity": (NOW - 60, NOW + 3601)}),
        ("a name more", {"names": names_from(("app.example.org", "b.example.org"), ("192.0.2.7",), NAMES.uri)}),
        ("a name less", {"names": names_from((), ("192.0.2.7",), NAMES.uri)}),
        ("another address", {"names": names_from(NAMES.dns, ("192.0.2.8",), NAMES.uri)}),
        ("another URI", {"names": names_from(NAMES.dns, ("192.0.2.7",), ("spiffe://example.org/other",))}),
        ("two URIs", {"names": names_from(NAMES.dns, ("192.0.2.7",), (*NAMES.uri, "spiffe://example.org/b"))}),
        ("no URI", {"names": names_from(NAMES.dns, ("192.0.2.7",))}),
        ("no names", {"names": Names()}),
        ("no claims", {"extension": None}),
        ("claims that are none", {"extension": b"\x04\x01\x00"}),
        ("claims of no DER", {"extension": b"claims"}),
        ("claims beyond 2 KiB", {"extension": claims_extension(more={"x": b"\0" * 2000})}),
        ("claims of another type", {"extension": claims_extension(media_type="application/eat-ucs+cbor")}),
        ("claims in another tag", {"extension": claims_extension(tag=UCCS_TAG + 1)}),
        ("claims marked as evidence", {"extension": claims_extension(indicator=4)}),
        ("claims of another TEE", {"extension": claims_extension(tee="tdx")}),
        ("claims of two TEEs", {"extension": claims_extension(more={"tdx": {}})}),
        ("claims about another key", {"extension": claims_extension(akpub=OTHER)}),
        ("claims under another policy", {"extension": claims_extension(policies=["sha256:" + "0c" * 32])}),
        ("claims under two policies", {"extension": claims_extension(policies=["sha256:" + "0d" * 32, "x"])}),
        ("claims that hide debug", {"extension": claims_extension(debug=True)}),
        ("claims of another application", {"extension": claims_extension(application=b"\x0b" * 32)}),
        ("claims of no application", {"extension": claims_extension(application=None)}),
        ("claims of a real proxy", {"extension": claims_extension(simulated=False)}),
        ("claims with another nonce", {"extension": claims_extension(nonce=b"\x0f" * 32)}),
        ("claims that outlive the leaf", {"extension": claims_extension(exp=NOW + 3601)}),
    ],
)
def test_each_wrong_field_is_refused(name: str, changes: dict[str, Any]) -> None:
    del name
    refused(tbs(**changes))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("nothing", b""),
        ("a byte behind", tbs() + b"\0"),
        ("version 2", swapped(b"\xa0\x03\x02\x01\x02\x02\x14", b"\xa0\x03\x02\x01\x01\x02\x14")),
        ("ecdsa-with-SHA384", swapped(bytes.fromhex("2a8648ce3d040302"), bytes.fromhex("2a8648ce3d040303"))),
        ("a CA", swapped(bytes.fromhex("0603551d130101ff04023000"), bytes.fromhex("0603551d130101ff0402300a"))),
        ("another key usage", swapped(bytes.fromhex("03020780"), bytes.fromhex("03020204"))),
        ("another extended usage", swapped(bytes.fromhex("2b06010505070302"), bytes.fromhex("2b06010505070303"))),
        ("critical claims, as FALSE", swapped(bytes.fromhex("0603551d110101ff"), bytes.fromhex("0603551d11010100"))),
        ("another name type", swapped(b"\x82\x0fapp.example.org", b"\x81\x0fapp.example.org")),
        ("a name beyond ASCII", swapped(b"\x82\x0fapp.example.org", b"\x82\x0f\xe4pp.example.org")),
        ("another extension", swapped(bytes.fromhex("06082b06010505070123"), bytes.fromhex("06082b06010505070122"))),
    ],
)
def test_each_wrong_byte_is_refused(name: str, data: bytes) -> None:
    del name
    refused(data)


def test_a_subject_is_refused() -> None:
    data = tbs()
    empty = b"Z\x30\x00\x30\x59"
    assert data.count(empty) == 1
    subject = profile.ca_name("a", "b", "c")
    body = data[4:].replace(empty, b"Z" + subject + b"\x30\x59")
    refused(b"\x30\x82" + len(body).to_bytes(2, "big") + body)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("a name outside the constraints", {"permitted_dns": ("example.com",)}),
        ("no constraints", {"permitted_dns": ()}),
        ("begins before its issuer", {"issuer_not_before": NOW - 59}),
        ("outlives its issuer", {"not_after_limits": (NOW + 3600, NOW + 3599)}),
        ("claims where there may be none", {"claims": None}),
    ],
)
def test_each_other_decision_is_refused(name: str, changes: dict[str, Any]) -> None:
    del name
    refused(tbs(), replace(EXPECTED, **changes))


def test_more_than_24_hours_are_refused_whatever_the_limits() -> None:
    day = 24 * 3600
    limits = replace(EXPECTED, not_after_limits=(NOW + 2 * day,))
    for end, fine in ((NOW - 60 + day, True), (NOW - 60 + day + 1, False)):
        data = tbs(validity=(NOW - 60, end), extension=claims_extension(exp=end))
        check: Callable[[bytes, Expected], None] = check_leaf if fine else refused
        check(data, limits)


@pytest.mark.parametrize(
    ("name", "spki"),
    [
        ("empty", b""),
        ("compressed", SPKI[:26] + b"\x02" + SPKI[27:59]),
        ("another curve", SPKI.replace(bytes.fromhex("2a8648ce3d030107"), bytes.fromhex("2a8648ce3d030106"))),
        ("a byte less", SPKI[:-1]),
        ("a byte more", SPKI + b"\0"),
    ],
)
def test_an_unusual_key_is_none(name: str, spki: bytes) -> None:
    del name
    assert not is_usual_key(spki)


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1()])
def test_usual_keys(curve: ec.EllipticCurve) -> None:
    assert is_usual_key(spki_of(ec.generate_private_key(curve).public_key()))


def test_a_suffix_permits_itself_and_what_is_below_it() -> None:
    permitted = ("example.org",)
    assert is_permitted_dns("example.org", permitted)
    assert is_permitted_dns("a.b.example.org", permitted)
    for name in ("badexample.org", "example.org.evil.com", "org", "example.com"):
        assert not is_permitted_dns(name, permitted)


GOOD = tbs()


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=300) | st.integers(0, len(GOOD) - 1).flatmap(
    lambda at: st.integers(0, 255).map(lambda byte: GOOD[:at] + bytes((byte,)) + GOOD[at + 1 :])
))  # fmt: skip
def test_any_bytes_pass_or_are_refused(data: bytes) -> None:
    try:
        check_leaf(data, EXPECTED)
    except UnavailableError as error:
        assert error.code is Code.AUTHORITY_PROFILE


@pytest.mark.parametrize("count", [3, 8, 20, 60])
def test_names_of_any_length_of_length_pass(count: int) -> None:
    """The lengths of the list take one, two and three bytes."""
    names = names_from(tuple(f"name-{number}.example.org" for number in range(count)), (), NAMES.uri)
    check_leaf(tbs(names=names), replace(EXPECTED, names=names))


def rebuilt(*path: int, header: Callable[[int, int], bytes]) -> bytes:
    """The good leaf with the header of one element written differently, and every length around it adapted."""

    def cut(data: bytes) -> list[tuple[int, bytes]]:
        found, at = [], 0
        while at < len(data):
            start, length = at + 2, data[at + 1]
            if length >= 0x80:
                start += length - 0x80
                length = int.from_bytes(data[at + 2 : start], "big")
            found.append((data[at], data[start : start + length]))
            at = start + length
        return found

    def put(data: bytes, path: tuple[int, ...]) -> bytes:
        elements = cut(data)
        tag, content = elements[path[0]]
        changed = put(content, path[1:]) if path[1:] else content
        pieces = [profile.tlv(*element) for element in elements]
        pieces[path[0]] = profile.tlv(tag, changed) if path[1:] else header(tag, len(changed)) + changed
        return b"".join(pieces)

    return put(GOOD, path)


@pytest.mark.parametrize(
    "path",
    [
        (0,), (0, 0), (0, 0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (0, 4, 0), (0, 4, 1), (0, 5), (0, 6), (0, 7),
        (0, 7, 0), (0, 7, 0, 0), (0, 7, 0, 3), (0, 7, 0, 4), (0, 7, 0, 4, 2), (0, 7, 0, 4, 2, 0),
        (0, 7, 0, 4, 2, 0, 0), (0, 7, 0, 4, 2, 0, 2), (0, 7, 0, 5), (0, 7, 0, 5, 0), (0, 7, 0, 5, 1),
        (0, 7, 0, 5, 1, 0),
    ],
)  # fmt: skip
def test_each_element_has_one_encoding(path: tuple[int, ...]) -> None:
    assert rebuilt(*path, header=lambda tag, size: profile.tlv(tag, bytes(size))[: -size or None]) == GOOD
    refused(rebuilt(*path, header=lambda tag, size: bytes((tag, 0x83)) + size.to_bytes(3, "big")))
    refused(rebuilt(*path, header=lambda tag, size: bytes((tag, 0x80 + 9)) + size.to_bytes(9, "big")))


def test_every_byte_but_a_few_has_one_value() -> None:
    """Of all bytes only the serial's, and some digits of notBefore, may differ."""
    passed = set()
    for at in range(len(GOOD)):
        for flip in (1, 0x10, 0x80):
            try:
                check_leaf(GOOD[:at] + bytes((GOOD[at] ^ flip,)) + GOOD[at + 1 :], EXPECTED)
            except UnavailableError:
                continue
            passed.add(at)
    serial, begin = GOOD.index(LEAF["serial"]), GOOD.index(b"Z") - 12
    assert passed <= {*range(serial, serial + 20), *range(begin, begin + 12)}
    assert passed >= set(range(serial + 1, serial + 20))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"270115075900Z", b"270115075960Z"),
        (b"270115075900Z", b"271315075900Z"),
        (b"270115075900Z", b"270115075900z"),
        (b"270115075900Z", b"2701150759 0Z"),
        (b"270115075900Z", b"27011507+900Z"),
    ],
)
def test_a_time_has_one_form(old: bytes, new: bytes) -> None:
    refused(swapped(old, new))


def test_times_from_2050_on_are_generalized_and_no_others() -> None:
    turn = 2_524_608_000
    for now in (turn - 1000, turn):
        expected = replace(EXPECTED, now=now, not_after_limits=(now + 3600,), claims=None)
        check_leaf(tbs(validity=(now, now + 3600), extension=None), expected)
    data = tbs(validity=(turn, turn + 60), extension=None)
    assert data.count(b"20500101000000Z") == 1
    year = 365 * 24 * 3600
    earlier = replace(EXPECTED, now=turn - year, not_after_limits=(turn + 60,), claims=None)
    refused(data.replace(b"20500101", b"20490101"), earlier)
