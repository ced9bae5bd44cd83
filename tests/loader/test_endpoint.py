import socket
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_attestation.loader.endpoint import Endpoint, parse_address, parse_local

BASE = Path("/etc/app")


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("127.0.0.1:80", Endpoint(host="127.0.0.1", port=80)),
        ("192.0.2.1:0", Endpoint(host="192.0.2.1", port=0)),
        ("[::1]:443", Endpoint(host="::1", port=443)),
        ("localhost:1", Endpoint(host="127.0.0.1", port=1)),
    ],
)
def test_addresses(text: str, endpoint: Endpoint) -> None:
    assert parse_address(text) == endpoint


@pytest.mark.parametrize(
    "text",
    ["", ":", "80", "a:80", "::1:80", "[127.0.0.1]:80", "1.2.3.4:-1", "1.2.3.4:65536", "1.2.3.4:\uff11", "1.2.3.4:"],
)
def test_texts_that_are_no_address(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_address(text)


def test_local_endpoints() -> None:
    assert parse_local("unix:run/app.sock", BASE) == Endpoint(path=BASE / "run/app.sock")
    assert parse_local("unix:/run/app.sock", BASE) == Endpoint(path=Path("/run/app.sock"))
    assert parse_local("127.9.9.9:80", BASE).host == "127.9.9.9"
    assert parse_local("[::1]:80", BASE).family is socket.AF_INET6


@given(st.one_of(st.text(max_size=30), st.from_regex(r"[0-9.:\[\]a-f]{1,20}:[0-9]{1,6}", fullmatch=True)))
@settings(deadline=None, max_examples=200)
def test_any_text_is_an_endpoint_or_a_value_error(text: str) -> None:
    try:
        endpoint = parse_local(text, BASE)
    except ValueError:
        return
    assert endpoint.path is not None or endpoint.host.startswith(("127.", "::1"))


def test_texts_and_families() -> None:
    assert str(Endpoint(host="::1", port=5)) == "[::1]:5"
    assert str(Endpoint(host="127.0.0.1", port=5)) == "127.0.0.1:5"
    assert str(Endpoint(path=Path("/a"))) == "unix:/a"
    assert Endpoint(path=Path("/a")).family is socket.AF_UNIX
    assert Endpoint(host="127.0.0.1", port=5).sockaddr == ("127.0.0.1", 5)
