"""`root` as a process, against a front over real sockets."""

import socket
import ssl
import stat
from pathlib import Path

import pytest
from attested_proxy import Signer
from command_line import MALFORMED, REFUSED, UNAVAILABLE, USAGE, call, call_json
from fake_servers import StartFront, always
from mini_authority import MiniAuthority

pytestmark = pytest.mark.e2e

HOST = "127.0.0.1"


@pytest.fixture
def proxy_url(authority: MiniAuthority, front: StartFront) -> str:
    return front(always(authority.answer()), authority.proxy_leaf()).url


def test_root_prints_the_root(authority: MiniAuthority, proxy_url: str) -> None:
    done = call("root", proxy_url, "--pin", authority.pin.hex().upper())
    assert ssl.PEM_cert_to_DER_cert(done.stdout) == authority.root_der
    assert "SIMULATED" in done.stderr
    assert "allow_debug example-app" in done.stderr


def test_root_writes_the_root(authority: MiniAuthority, proxy_url: str, tmp_path: Path) -> None:
    out = tmp_path / "out" / "root.pem"
    out.parent.mkdir()
    done = call("root", proxy_url, "--pin", authority.pin.hex(), "--out", out)
    assert ssl.PEM_cert_to_DER_cert(out.read_text()) == authority.root_der
    assert "BEGIN" not in done.stdout
    assert stat.S_IMODE(out.stat().st_mode) == 0o644
    assert list(out.parent.iterdir()) == [out]


def test_root_prints_json(authority: MiniAuthority, proxy_url: str) -> None:
    answer = call_json("root", proxy_url, "--pin", authority.pin.hex())
    assert ssl.PEM_cert_to_DER_cert(answer["root_pem"]) == authority.root_der
    assert answer["pin"] == authority.pin.hex()
    assert answer["trust_domain"] == "example.org"
    assert answer["simulated"] is True
    assert answer["dangers"] == ["allow_debug example-app"]


def test_root_refuses_a_wrong_pin(proxy_url: str, tmp_path: Path) -> None:
    out = tmp_path / "root.pem"
    answer = call_json("root", proxy_url, "--pin", "11" * 32, "--out", out, status=REFUSED)
    assert answer["error"]["code"] == "peer.root_pin"
    assert not out.exists()


@pytest.mark.parametrize("arguments", [(), ("--pin", "11"), ("--pin", "zz" * 32)])
def test_root_takes_a_pin(arguments: tuple[str, ...], proxy_url: str) -> None:
    assert call_json("root", proxy_url, *arguments, status=USAGE)["error"]["code"] == "usage"


def test_root_cannot_write(authority: MiniAuthority, proxy_url: str, tmp_path: Path) -> None:
    out = tmp_path / "absent" / "root.pem"
    call("root", proxy_url, "--pin", authority.pin.hex(), "--out", out, status=USAGE)


def test_root_without_a_proxy(authority: MiniAuthority) -> None:
    with socket.socket() as reserved:
        reserved.bind((HOST, 0))
        url = f"https://{HOST}:{reserved.getsockname()[1]}"
        answer = call_json("root", url, "--pin", authority.pin.hex(), status=UNAVAILABLE)
    assert answer["error"]["code"] == "proxy.unreachable"


def test_root_of_something_else(authority: MiniAuthority, front: StartFront) -> None:
    fake = front(lambda _n, _r: (404, {}, b""), authority.proxy_leaf())
    answer = call_json("root", fake.url, "--pin", authority.pin.hex(), status=MALFORMED)
    assert answer["error"]["code"] == "proxy.protocol"


ABOUT_PROXY = 'trust_domain = "example.org"\nroot_pin = "{pin}"\nsimulated = true\n[danger]\nany_workload = true\n'


def test_root_as_expected(authority: MiniAuthority, proxy_url: str, tmp_path: Path) -> None:
    expect = tmp_path / "proxy.toml"
    expect.write_text(ABOUT_PROXY.format(pin=authority.pin.hex()))
    assert call_json("root", proxy_url, "--expect", expect)["pin"] == authority.pin.hex()


PROXY_FAULTS: dict[str, tuple[str, str, str]] = {
    "trust domain": ('"example.org"', '"other.test"', "peer.trust_domain"),
    "simulated": ("simulated = true", "simulated = false", "peer.claims_mismatch"),
    "policy": ("simulated = true", f'simulated = true\npolicy_digest = ["{"11" * 32}"]', "peer.claims_mismatch"),
    "measurement without evidence": (
        "simulated = true",
        f'simulated = true\ntee = "sgx"\nmr_enclave = ["{"11" * 32}"]\nsigners = ["{Signer("alice").verifier}"]',
        "proxy.no_evidence",
    ),
}


@pytest.mark.parametrize("fault", PROXY_FAULTS)
def test_root_is_not_as_expected(fault: str, authority: MiniAuthority, proxy_url: str, tmp_path: Path) -> None:
    old, new, code = PROXY_FAULTS[fault]
    expect = tmp_path / "proxy.toml"
    expect.write_text(ABOUT_PROXY.format(pin=authority.pin.hex()).replace(old, new))
    assert call_json("root", proxy_url, "--expect", expect, status=REFUSED)["error"]["code"] == code


def test_two_pins_that_differ(authority: MiniAuthority, proxy_url: str, tmp_path: Path) -> None:
    expect = tmp_path / "proxy.toml"
    expect.write_text(ABOUT_PROXY.format(pin=authority.pin.hex()))
    call("root", proxy_url, "--expect", expect, "--pin", "11" * 32, status=USAGE)
