"""The request: its bytes, its names, its bounds."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError
from proxy_attestation.formats import cbor
from proxy_attestation.formats.bounds import NAMES_MAX
from proxy_attestation.formats.request import (
    ApplicationKind,
    KeyOrigin,
    Names,
    Request,
    RuntimeClaims,
    decode_request,
    encode_request,
    is_dns_name,
    is_uri_name,
    is_workload_name,
    names_from,
)
from proxy_attestation.formats.tee import Tee

GOOD = Request(
    workload="example-app",
    tee=Tee.SGX,
    names=names_from(("b.example.org", "a.example.org"), ("::1", "127.0.0.1"), ("spiffe://example.org/example-app",)),
    lifetime=3600,
    runtime=RuntimeClaims(ApplicationKind.WASM, b"\x11" * 32, KeyOrigin.TEE),
)
# Written by hand from the description: a change of the format must show here.
GOOD_HEX = (
    "a5"
    "016b6578616d706c652d617070"
    "0263736778"
    "0385"
    "447f000001"
    "5000000000000000000000000000000001"
    "6d612e6578616d706c652e6f7267"
    "6d622e6578616d706c652e6f7267"
    "78207370696666653a2f2f6578616d706c652e6f72672f6578616d706c652d617070"
    "04190e10"
    "05a30101025820" + "11" * 32 + "0301"
)


def test_the_bytes_are_those_of_the_description() -> None:
    assert encode_request(GOOD).hex() == GOOD_HEX
    assert decode_request(bytes.fromhex(GOOD_HEX)) == GOOD


def changed(**changes: object) -> bytes:
    content: dict[object, object] = {
        1: "example-app",
        2: "sgx",
        3: ["a.example.org"],
        4: 3600,
        5: {1: 0, 3: 1},
    }
    for key, value in changes.items():
        number = int(key.removeprefix("k"))
        if value is None:
            del content[number]
        else:
            content[number] = value
    return cbor.encode(content)


def test_the_unchanged_request_is_accepted() -> None:
    assert decode_request(changed()).names == Names(dns=("a.example.org",))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("no workload", changed(k1=None)),
        ("empty workload", changed(k1="")),
        ("workload with a slash", changed(k1="a/b")),
        ("workload in capitals", changed(k1="Example")),
        ("workload is two dots", changed(k1="..")),
        ("workload of another type", changed(k1=b"example-app")),
        ("unknown tee", changed(k2="sev")),
        ("tee in capitals", changed(k2="SGX")),
        ("no names", changed(k3=None)),
        ("names as text", changed(k3="a.example.org")),
        ("unsorted names", changed(k3=["b.example.org", "a.example.org"])),
        ("repeated name", changed(k3=["a.example.org", "a.example.org"])),
        ("wildcard", changed(k3=["*.example.org"])),
        ("capitals in a name", changed(k3=["A.example.org"])),
        ("final dot", changed(k3=["a.example.org."])),
        ("U-label", changed(k3=["bücher.example"])),
        ("address as text", changed(k3=["127.0.0.1"])),
        ("address of five bytes", changed(k3=[b"12345"])),
        ("too many names", changed(k3=sorted((f"n{i}.example.org" for i in range(NAMES_MAX + 1)), key=cbor.encode))),
        ("zero lifetime", changed(k4=0)),
        ("negative lifetime", changed(k4=-1)),
        ("lifetime over a year", changed(k4=400 * 24 * 3600)),
        ("boolean lifetime", changed(k4=True)),
        ("unknown runtime claim", changed(k5={1: 0, 3: 1, 4: 1})),
        ("no key origin", changed(k5={1: 0})),
        ("unknown key origin", changed(k5={1: 0, 3: 3})),
        ("unknown application kind", changed(k5={1: 4, 3: 1})),
        ("digest without application", changed(k5={1: 0, 2: b"x" * 32, 3: 1})),
        ("short digest", changed(k5={1: 1, 2: b"x" * 31, 3: 1})),
        ("unknown key", changed(k6=1)),
        ("not a map", cbor.encode([1, 2])),
        ("empty", b""),
        ("trailing byte", changed() + b"\0"),
        ("truncated", changed()[:-1]),
        ("too long", changed(k1="a" * 9000)),
    ],
)
def test_each_wrong_thing_is_refused(name: str, data: bytes) -> None:
    with pytest.raises(FormatError) as caught:
        decode_request(data)
    assert caught.value.code is Code.REQUEST_MALFORMED, name


@settings(deadline=None, max_examples=200)
@given(
    st.binary(max_size=300)
    | st.builds(lambda i, b: changed()[:i] + b + changed()[i:], st.integers(0, 60), st.binary(max_size=3))
)
def test_any_bytes_give_a_request_or_our_error(data: bytes) -> None:
    try:
        request = decode_request(data)
    except FormatError as error:
        assert error.code is Code.REQUEST_MALFORMED
    else:
        assert encode_request(request) == data


@pytest.mark.parametrize("text", ["a.b", "localhost", "xn--bcher-kva.example", "a" * 63 + ".b"])
def test_dns_names(text: str) -> None:
    assert is_dns_name(text)


@pytest.mark.parametrize(
    "text", ["", ".", "a..b", "-a.b", "a-.b", "a_b.c", "1.2.3.4", "a" * 64 + ".b", "a.b\n", "a b", "a." * 127 + "b"]
)
def test_no_dns_names(text: str) -> None:
    assert not is_dns_name(text)


@pytest.mark.parametrize("text", ["spiffe://example.org/a", "https://a.b:443/x"])
def test_uri_names(text: str) -> None:
    assert is_uri_name(text)


@pytest.mark.parametrize(
    "text",
    [
        "spiffe:",
        "spiffe://",
        "spiffe://a/",
        "spiffe://a//b",
        "spiffe://u@a/b",
        "spiffe://a/b?c",
        "spiffe://a/b#c",
        "x://a/\n",
        "spiffe://A/b",
    ],
)
def test_no_uri_names(text: str) -> None:
    assert not is_uri_name(text)


def test_workload_names_fit_a_spiffe_path_segment() -> None:
    assert is_workload_name("example-app.v2_1")
    assert not any(map(is_workload_name, ["", "..", "-a", "a-", "a" * 64, "a/b", "a\n"]))


def test_names_from_text_refuses_what_is_none() -> None:
    for arguments in [{"dns": ("*.a",)}, {"ip": ("300.1.1.1",)}, {"uri": ("nope",)}]:
        with pytest.raises(FormatError):
            names_from(**arguments)


def test_names_read_as_people_write_them() -> None:
    names = names_from(("b.org", "a.org"), ("127.0.0.1",), ("spiffe://example.org/a",))
    assert names.readable() == ("a.org", "b.org", "127.0.0.1", "spiffe://example.org/a")


def test_every_field_changes_the_bytes() -> None:
    others: dict[str, object] = {
        "workload": "other",
        "tee": Tee.TDX,
        "names": Names(),
        "lifetime": 1,
        "runtime": RuntimeClaims(ApplicationKind.NONE, None, KeyOrigin.TEE),
    }
    assert set(others) == {field.name for field in dataclasses.fields(Request)}
    for name, value in others.items():
        assert encode_request(dataclasses.replace(GOOD, **{name: value})) != encode_request(GOOD), name  # type: ignore[arg-type] # one field each, by name
