"""`verify` as a process, against TLS servers over real sockets."""

import socket
import subprocess
from pathlib import Path

import pytest
from command_line import MALFORMED, PROGRAM, REFUSED, UNAVAILABLE, USAGE, call, call_json
from fake_servers import Serve, StartFront, always
from mini_authority import APPLICATION, MR_ENCLAVE, MiniAuthority

pytestmark = pytest.mark.e2e

HOST = "127.0.0.1"
Options = tuple[str | Path, ...]


def test_verify_reports(authority: MiniAuthority, serve: Serve, options: Options) -> None:
    server = serve(authority.leaf())
    target = f"{HOST}:{server.port}"
    text = call("verify", target, *options).stdout
    for word in ("accepted", "spiffe://example.org/example-app", MR_ENCLAVE.hex(), APPLICATION.hex(), "UpToDate"):
        assert word in text
    answer = call_json("verify", target, *options)
    assert answer["verdict"] == "accepted"
    peer = answer["peer"]
    assert peer["spiffe_id"] == "spiffe://example.org/example-app"
    assert peer["dns"] == ["app.example.org"]
    assert peer["measurements"] == {"mr_enclave": MR_ENCLAVE.hex()}
    assert peer["application_sha256"] == APPLICATION.hex()
    assert (peer["tee"], peer["tcb_status"], peer["debug"], peer["simulated"]) == ("sgx", "UpToDate", False, False)
    assert peer["ledger_origin"] == "example.org/ledger"
    server.finish()
    assert server.received == b""


def test_verify_refuses_with_every_mismatch(authority: MiniAuthority, serve: Serve, options: Options) -> None:
    server = serve(authority.leaf(claims={"debug": True, "status": 96, "application_sha256": None}))
    target = f"{HOST}:{server.port}"
    answer = call_json("verify", target, *options, status=REFUSED)
    assert (answer["verdict"], answer["code"]) == ("refused", "peer.claims_mismatch")
    assert [(m["code"], m["field"], m["expected"], m["actual"]) for m in answer["mismatches"]] == [
        ("policy.application", "application", APPLICATION.hex(), "absent"),
        ("sgx.debug", "debug", "false", "true"),
        ("policy.claim", "ear_status", "2", "96"),
    ]
    text = call("verify", target, *options, status=REFUSED).stdout
    for word in ("refused", "peer.claims_mismatch", "sgx.debug", "policy.application"):
        assert word in text


def test_verify_refuses_another_root(other_authority: MiniAuthority, serve: Serve, options: Options) -> None:
    target = f"{HOST}:{serve(other_authority.leaf()).port}"
    answer = call_json("verify", target, *options, status=REFUSED)
    assert (answer["code"], answer["mismatches"]) == ("peer.chain", [])
    assert "peer.chain" in call("verify", target, *options, status=REFUSED).stdout


def test_verify_by_another_name(authority: MiniAuthority, serve: Serve, options: Options) -> None:
    target = f"{HOST}:{serve(authority.leaf(ip=())).port}"
    assert call_json("verify", target, *options, status=REFUSED)["code"] == "peer.name"
    call("verify", target, *options, "--server-name", "app.example.org")


def test_verify_fetches_the_root(authority: MiniAuthority, serve: Serve, front: StartFront, expect_file: Path) -> None:
    target = f"{HOST}:{serve(authority.leaf()).port}"
    url = front(always(authority.answer()), authority.proxy_leaf()).url
    call("verify", target, "--root", url, "--expect", expect_file, status=USAGE)
    call("verify", target, "--root", url, "--pin", authority.pin.hex(), "--expect", expect_file)
    pinned = call("verify", target, "--root", url, "--pin", "11" * 32, "--expect", expect_file, status=REFUSED)
    assert "peer.root_pin" in pinned.stderr


def test_verify_holds_the_root_file_to_the_pin(authority: MiniAuthority, serve: Serve, options: Options) -> None:
    target = f"{HOST}:{serve(authority.leaf()).port}"
    call("verify", target, *options, "--pin", authority.pin.hex())
    assert "peer.root_pin" in call("verify", target, *options, "--pin", "11" * 32, status=REFUSED).stderr


def test_verify_reads_der_roots(authority: MiniAuthority, serve: Serve, tmp_path: Path, expect_file: Path) -> None:
    (tmp_path / "root.der").write_bytes(authority.root_der)
    target = f"{HOST}:{serve(authority.leaf()).port}"
    call("verify", target, "--root", tmp_path / "root.der", "--expect", expect_file)


def test_verify_without_a_server(options: Options) -> None:
    with socket.socket() as reserved:
        reserved.bind((HOST, 0))
        target = f"{HOST}:{reserved.getsockname()[1]}"
        answer = call_json("verify", target, *options, status=UNAVAILABLE)
    assert answer["error"]["code"] == "peer.unreachable"


def test_verify_of_a_silent_server(options: Options) -> None:
    with socket.create_server((HOST, 0)) as silent:
        target = f"{HOST}:{silent.getsockname()[1]}"
        more = (*options, "--timeout", "0.2")
        answer = call_json("verify", target, *more, status=UNAVAILABLE)
    assert answer["error"]["code"] == "peer.unreachable"


def test_verify_of_a_server_without_tls(options: Options) -> None:
    with socket.create_server((HOST, 0)) as plain:
        process = subprocess.Popen(
            [*PROGRAM, "verify", f"{HOST}:{plain.getsockname()[1]}", *options],
            stderr=subprocess.PIPE,
        )
        connection, _ = plain.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            _, errors = process.communicate(timeout=60)
    assert process.returncode == UNAVAILABLE
    assert b"peer.unreachable" in errors


BAD_FILES: dict[str, tuple[str, bytes]] = {
    "root that is none": ("--root", b"junk"),
    "empty root": ("--root", b""),
    "broken PEM": ("--root", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
    "large root": ("--root", b"0" * 200_000),
    "weak expectation": ("--expect", b'trust_domain = "example.org"'),
    "unknown key": ("--expect", b'trust_domain = "example.org"\nworkload = "a"\ncolour = 1'),
}


@pytest.mark.parametrize("fault", BAD_FILES)
def test_verify_with_bad_files(fault: str, root_file: Path, expect_file: Path, tmp_path: Path) -> None:
    option, content = BAD_FILES[fault]
    bad = tmp_path / "bad"
    bad.write_bytes(content)
    options = {"--root": root_file, "--expect": expect_file} | {option: bad}
    arguments = [item for pair in options.items() for item in pair]
    answer = call_json("verify", f"{HOST}:1", *arguments, status=MALFORMED)
    assert answer["error"]["code"] == "configuration.malformed"


def test_verify_with_absent_files(root_file: Path, expect_file: Path, tmp_path: Path) -> None:
    absent = tmp_path / "absent"
    call("verify", f"{HOST}:1", "--root", absent, "--expect", expect_file, status=MALFORMED)
    call("verify", f"{HOST}:1", "--root", root_file, "--expect", absent, status=MALFORMED)


@pytest.mark.parametrize("target", ["host", "host:0", "host:x"])
def test_verify_takes_host_and_port(target: str, options: Options) -> None:
    call("verify", target, *options, status=USAGE)
