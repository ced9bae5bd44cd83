"""docs/ledger.md: its commands run as they stand, its alarms and files are those that there are."""

import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from ledger_entries import leaf
from logs import TestKey, TestLog, witness_key

from proxy_attestation.cli.ledger import command as ledger_group
from proxy_attestation.codes import Code
from proxy_attestation.formats.tlog_policy import parse_tlog_policy
from proxy_attestation_simulator.intel import Vendor

DOCUMENT = (Path(__file__).parents[2] / "docs" / "ledger.md").read_text()
COMMANDS = [
    shlex.split(line)
    for block in re.findall(r"^```sh\n(.*?)^```$", DOCUMENT, re.DOTALL | re.MULTILINE)
    for line in block.splitlines()
]
OURS = [command for command in COMMANDS if command[0] == "proxy-attestation"]
VKEY = str(TestKey().verifier)


@pytest.fixture
def place(tmp_path: Path, vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the commands name: a ledger and a copy of it, a proof, its entry and certificate, a key."""
    certificate = x509.load_der_x509_certificate(vendor.root_der)
    log = TestLog().add([leaf(0), leaf(1, tbs=certificate.tbs_certificate_bytes, begin=4_000_000_000)])
    log.write(tmp_path / "URL")
    shutil.copytree(tmp_path / "URL", tmp_path / "copy")
    (tmp_path / "leaf.tlog-proof").write_bytes(log.proof(1).encode())
    (tmp_path / "leaf.entry").write_bytes(log.entries[1])
    (tmp_path / "leaf.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def arguments(command: list[str]) -> list[str]:
    """Return a command's arguments, with this test's key; the root is for TLS, and a folder has none."""
    given = [VKEY if part == "VKEY" else part for part in command[1:]]
    if "--root" in given:
        place = given.index("--root")
        del given[place : place + 2]
    return given


@pytest.mark.parametrize("command", [c for c in OURS if c[2] in ("verify", "monitor")], ids=" ".join)
def test_its_commands_run(command: list[str], place: Path, cli: Callable[..., Any]) -> None:
    assert place.is_dir()
    ran = cli(*arguments(command))
    assert ran.status == 0, ran.err


def test_its_witness_s_commands(place: Path, cli: Callable[..., Any]) -> None:
    (genpkey,) = [command for command in COMMANDS if command[0] == "openssl"]
    assert genpkey == ["openssl", "genpkey", "-algorithm", "ed25519", "-out", "witness.pem"]
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here")
    import subprocess  # noqa: PLC0415 - here alone

    subprocess.run(genpkey, check=True, timeout=60)
    (vkey,) = [command for command in OURS if command[2] == "vkey"]
    assert cli(*arguments(vkey)).out.startswith("witness.example.org+")
    (witness,) = [command for command in OURS if command[2] == "witness"]
    # It runs for ever; tests/transparency/test_processes.py starts it. Here: that it takes these arguments.
    context = click.Context(ledger_group)
    found = ledger_group.get_command(context, "witness")
    assert found is not None
    found.make_context("witness", arguments(witness)[2:], parent=context)
    assert place.is_dir()


def test_its_policy_is_one() -> None:
    (text,) = re.findall(r"^```\n(log .*?)^```$", DOCUMENT, re.DOTALL | re.MULTILINE)
    keys = {"VKEY-OF-A-WITNESS": witness_key("a"), "VKEY-OF-ANOTHER": witness_key("b"), "VKEY": TestKey()}
    for name, key in keys.items():
        text = text.replace(name, str(key.verifier))
    policy = parse_tlog_policy(text)
    assert policy.satisfied(frozenset(policy.verifiers))
    assert not policy.satisfied(frozenset(policy.verifiers[:1]))


def test_its_alarms_are_codes() -> None:
    told = set(re.findall(r"`((?:ledger|note)\.[a-z_]+)`", DOCUMENT))
    assert told <= {str(code) for code in Code}
    assert {"ledger.fork", "ledger.rollback", "ledger.stale", "ledger.unexpected", "ledger.root"} <= told


def test_an_entry_without_its_certificate_is_refused(place: Path, cli: Callable[..., Any]) -> None:
    log = TestLog().add([leaf(0), leaf(1)])
    (place / "leaf.tlog-proof").write_bytes(replace(log.proof(0), extra=log.entries[0]).encode())
    command = ("ledger", "verify", "--key", VKEY, "--proof", "leaf.tlog-proof", "--certificate", "leaf.pem", "--json")
    assert cli(*command).json["error"]["code"] == "ledger.proof"
