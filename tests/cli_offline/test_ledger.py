"""`ledger verify`, `monitor --once`, `vkey`: what they say and how they end."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from ledger_entries import MEASUREMENT, POLICY, leaf, proxy_tls
from logs import TestKey, TestLog, witness_key

from proxy_attestation.formats.signed_note import KeyType, Verifier, parse_vkey
from proxy_attestation_simulator.intel import Vendor

Cli = Callable[..., Any]
VKEY = str(TestKey().verifier)


@pytest.fixture
def log() -> TestLog:
    return TestLog().add([proxy_tls(0), *(leaf(number) for number in range(1, 300))])


@pytest.fixture
def files(log: TestLog, tmp_path: Path) -> Path:
    return log.write(tmp_path / "log")


class TestVerify:
    """`ledger verify`."""

    def test_a_good_ledger(self, cli: Cli, files: Path, log: TestLog) -> None:
        ran = cli("ledger", "verify", files, "--key", VKEY, "--json")
        assert ran.status == 0
        assert ran.json["verdict"] == "good"
        assert (ran.json["origin"], ran.json["size"]) == (log.key.verifier.name, 300)
        assert ran.json["entries"] == {"proxy_tls": 1, "leaf": 299}
        assert ran.json["newest"] == "1970-01-01T00:21:39Z"
        assert cli("ledger", "verify", files, "--key", VKEY, "--full", "--json").out == ran.out
        text = cli("ledger", "verify", files, "--key", VKEY).out
        assert "leaf 299" in text

    def test_the_edge_alone(self, cli: Cli, files: Path) -> None:
        (files / "tile" / "entries" / "000").unlink()
        ran = cli("ledger", "verify", files, "--key", VKEY, "--quick", "--json")
        assert (ran.status, "entries" in ran.json) == (0, False)
        assert cli("ledger", "verify", files, "--key", VKEY, "--json").json["error"]["code"] == "ledger.unreachable"

    def code(self, ran: Any) -> tuple[int, str]:
        return ran.status, ran.json["error"]["code"]

    def test_changed_files(self, cli: Cli, files: Path) -> None:
        path = files / "tile" / "entries" / "000"
        path.write_bytes(path.read_bytes().replace(MEASUREMENT, b"x" * 32))
        assert self.code(cli("ledger", "verify", files, "--key", VKEY, "--json")) == (3, "ledger.root")

    def test_another_key(self, cli: Cli, files: Path) -> None:
        key = TestKey(secret="another").verifier
        assert self.code(cli("ledger", "verify", files, "--key", str(key), "--json")) == (3, "note.signature")

    def test_witnesses(self, cli: Cli, files: Path, log: TestLog, tmp_path: Path) -> None:
        (tmp_path / "policy").write_text(f"witness w {witness_key().verifier}\nquorum w\n")
        arguments = ("ledger", "verify", files, "--key", VKEY, "--policy", tmp_path / "policy", "--json")
        assert self.code(cli(*arguments)) == (3, "ledger.witnesses")
        log.write(files, witness_key())
        assert cli(*arguments).status == 0

    def test_a_malformed_policy(self, cli: Cli, files: Path, tmp_path: Path) -> None:
        for data, code in ((b"quorum w\n", "ledger.malformed"), (b"\xff", "configuration.malformed")):
            (tmp_path / "policy").write_bytes(data)
            ran = cli("ledger", "verify", files, "--key", VKEY, "--policy", tmp_path / "policy", "--json")
            assert self.code(ran) == (4, code)
        ran = cli("ledger", "verify", files, "--key", VKEY, "--policy", tmp_path / "absent", "--json")
        assert self.code(ran) == (4, "configuration.malformed")

    def test_a_policy_of_another_log(self, cli: Cli, files: Path, tmp_path: Path) -> None:
        arguments = ("ledger", "verify", files, "--key", VKEY, "--policy", tmp_path / "policy", "--json")
        (tmp_path / "policy").write_text(f"log {TestKey('other').verifier}\nquorum none\n")
        assert self.code(cli(*arguments)) == (4, "configuration.malformed")
        (tmp_path / "policy").write_text(f"log {TestKey('other').verifier}\nlog {VKEY}\nquorum none\n")
        assert cli(*arguments).status == 0

    @pytest.mark.parametrize(
        "arguments",
        [
            (),
            ("absent",),
            ("http://log.example.org",),
            (".", "--root", "root.pem"),
            (".", "--server-name", "a"),
            (".", "--entry", "e"),
            (".", "--certificate", "c"),
            (".", "--key", "nonsense"),
        ],
    )
    def test_usage(self, cli: Cli, arguments: tuple[str, ...]) -> None:
        assert cli("ledger", "verify", "--key", VKEY, *arguments).status == 2


class TestProof:
    """`ledger verify --proof`."""

    @pytest.fixture
    def proof(self, log: TestLog, tmp_path: Path) -> Path:
        path = tmp_path / "leaf.tlog-proof"
        path.write_bytes(replace(log.proof(7), extra=log.entries[7]).encode())
        return path

    def test_off_line(self, cli: Cli, proof: Path) -> None:
        ran = cli("ledger", "verify", "--key", VKEY, "--proof", proof, "--json")
        assert ran.status == 0
        assert (ran.json["proof"]["index"], ran.json["proof"]["kind"]) == (7, "leaf")
        assert ran.json["proof"]["tree"]["size"] == 300

    def test_an_entry_beside_it(self, cli: Cli, log: TestLog, tmp_path: Path) -> None:
        (tmp_path / "p").write_bytes(log.proof(7).encode())
        arguments = ("ledger", "verify", "--key", VKEY, "--proof", tmp_path / "p", "--json")
        assert cli(*arguments).status == 2
        files = log.write(tmp_path / "log")
        found = cli("ledger", "verify", files, *arguments[2:], "--quick").json
        assert (found["proof"]["index"], found["proof"]["serial"]) == (7, f"{7:040x}")
        for number, status in ((7, 0), (8, 3)):
            (tmp_path / "e").write_bytes(log.entries[number])
            assert cli(*arguments, "--entry", tmp_path / "e").status == status

    def test_a_certificate(self, cli: Cli, vendor: Vendor, tmp_path: Path) -> None:
        certificate = x509.load_der_x509_certificate(vendor.root_der)
        log = TestLog().add([leaf(0), leaf(1, tbs=certificate.tbs_certificate_bytes)])
        for number, status in ((1, 0), (0, 3)):
            (tmp_path / "p").write_bytes(replace(log.proof(number), extra=log.entries[number]).encode())
            for encoding in (Encoding.DER, Encoding.PEM):
                (tmp_path / "c").write_bytes(certificate.public_bytes(encoding))
                ran = cli("ledger", "verify", "--key", VKEY, "--proof", tmp_path / "p", "--certificate", tmp_path / "c")
                assert ran.status == status
        (tmp_path / "c").write_bytes(b"none")
        ran = cli(
            "ledger", "verify", "--key", VKEY, "--proof", tmp_path / "p", "--certificate", tmp_path / "c", "--json"
        )
        assert (ran.status, ran.json["error"]["code"]) == (4, "ledger.malformed")

    def test_the_ledger_must_continue_the_proof_s_tree(
        self, cli: Cli, log: TestLog, proof: Path, files: Path, tmp_path: Path
    ) -> None:
        def code(folder: Path) -> Any:
            return cli("ledger", "verify", folder, "--key", VKEY, "--proof", proof, "--quick", "--json").json

        assert code(files)["verdict"] == "good"
        log.add([leaf(300)]).write(files)
        assert code(files)["verdict"] == "good"
        fork = TestLog().add([leaf(1000)]).add(log.entries[1:])
        assert code(fork.write(tmp_path / "fork"))["error"]["code"] == "ledger.fork"
        old = TestLog().add(log.entries[:9])
        assert code(old.write(tmp_path / "old"))["error"]["code"] == "ledger.rollback"

    def test_a_malformed_proof(self, cli: Cli, tmp_path: Path) -> None:
        (tmp_path / "p").write_bytes(b"none")
        ran = cli("ledger", "verify", "--key", VKEY, "--proof", tmp_path / "p", "--json")
        assert (ran.status, ran.json["error"]["code"]) == (4, "ledger.malformed")


class TestMonitor:
    """`ledger monitor --once`."""

    def look(self, cli: Cli, files: Path, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
        ran = cli(
            "ledger", "monitor", files, "--key", VKEY, "--state", files.parent / "seen", "--once", "--max-age", "0",
            "--json", *arguments,
        )  # fmt: skip
        return ran.status, [json.loads(line) for line in ran.out.splitlines()]

    def test_new_entries(self, cli: Cli, files: Path, log: TestLog) -> None:
        status, events = self.look(cli, files)
        assert status == 0
        assert [event["index"] for event in events[:-1]] == list(range(1, 300))
        assert events[0]["measurements"] == [MEASUREMENT.hex()]
        assert (events[-1]["event"], events[-1]["old_size"], events[-1]["size"]) == ("checkpoint", 0, 300)
        assert self.look(cli, files) == (0, [])
        log.add([leaf(300)]).write(files)
        assert [event["event"] for event in self.look(cli, files)[1]] == ["entry", "checkpoint"]

    def test_alarms(self, cli: Cli, files: Path, log: TestLog) -> None:
        self.look(cli, files)
        TestLog().add(log.entries[:5]).write(files)
        status, events = self.look(cli, files)
        assert status == 3
        assert [(event["event"], event["code"]) for event in events] == [("alarm", "ledger.rollback")]
        assert events[0]["fix"]

    def test_expectations(self, cli: Cli, files: Path) -> None:
        good = ("--expect-measurement", MEASUREMENT.hex(), "--expect-policy", POLICY.hex())
        assert self.look(cli, files, *good)[0] == 0
        (files.parent / "seen" / "checkpoint").unlink()
        status, events = self.look(cli, files, "--expect-measurement", "ab" * 32)
        assert status == 3
        assert {event["code"] for event in events if event["event"] == "alarm"} == {"ledger.unexpected"}

    def test_lines_for_people(self, cli: Cli, files: Path) -> None:
        ran = cli("ledger", "monitor", files, "--key", VKEY, "--state", files.parent / "seen", "--once")
        assert ran.status == 3
        assert ran.err.startswith("ALARM ledger.stale")
        assert f"measurements={MEASUREMENT.hex()}" in ran.out

    def test_nothing_there(self, cli: Cli, tmp_path: Path) -> None:
        ran = cli("ledger", "monitor", tmp_path, "--key", VKEY, "--state", tmp_path / "seen", "--once")
        assert ran.status == 5

    def test_a_state_that_cannot_be_made(self, cli: Cli, files: Path) -> None:
        state = files / "checkpoint" / "seen"
        assert cli("ledger", "monitor", files, "--key", VKEY, "--state", state, "--once").status == 4

    @pytest.mark.parametrize("value", ["", "x", "ab" * 65])
    def test_no_digest(self, cli: Cli, files: Path, value: str) -> None:
        ran = cli("ledger", "monitor", files, "--key", VKEY, "--state", "s", "--expect-policy", value)
        assert ran.status == 2


class TestVkey:
    """`ledger vkey`."""

    def test_of_either_half(self, cli: Cli, tmp_path: Path) -> None:
        key = Ed25519PrivateKey.generate()
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        for pem in (private, public):
            (tmp_path / "k").write_bytes(pem)
            for kind, number in (("witness", KeyType.COSIGNATURE), ("signer", KeyType.ED25519)):
                ran = cli("ledger", "vkey", tmp_path / "k", "--name", "w.example.org", "--kind", kind)
                expected = Verifier("w.example.org", number, key.public_key().public_bytes_raw())
                assert parse_vkey(ran.out.strip()) == expected
        ran = cli("ledger", "vkey", tmp_path / "k", "--name", "w.example.org", "--json")
        assert parse_vkey(ran.json["vkey"]).type is KeyType.COSIGNATURE

    def test_a_name_that_no_key_can_have(self, cli: Cli, tmp_path: Path) -> None:
        pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (tmp_path / "k").write_bytes(pem)
        assert cli("ledger", "vkey", tmp_path / "k", "--name", "a b").status == 2

    def test_what_is_no_key(self, cli: Cli, tmp_path: Path, vendor: Vendor) -> None:
        locked = Ed25519PrivateKey.generate().private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
        )
        ecdsa = x509.load_der_x509_certificate(vendor.root_der).public_key()
        public = ecdsa.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        for data in (b"", b"none", locked, public, b"-----BEGIN PUBLIC KEY-----\n", b"x" * 5000):
            (tmp_path / "k").write_bytes(data)
            assert cli("ledger", "vkey", tmp_path / "k", "--name", "a").status == 4
        assert cli("ledger", "vkey", tmp_path / "absent", "--name", "a").status == 4
