"""`proxy-attestation policy check`: what it prints and how it exits."""

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from proxy_attestation import __version__
from proxy_attestation.appraisal.roots import VENDOR_ROOTS, same_for_all
from proxy_attestation.cli.main import group
from proxy_attestation.cli.output import run
from proxy_attestation.policy.digest import policy_digest
from proxy_attestation.policy.load import parse_policy


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["proxy-attestation", "policy", "check", *arguments])
        status = run(group)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


@pytest.fixture
def root_certificate() -> tuple[bytes, bytes, bytes]:
    """Return a self-signed certificate as DER and PEM, and the SHA-256 of its SPKI."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Simulated Root")])
    start = datetime(2026, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, start, start + timedelta(days=1))
    certificate = builder.sign(key, hashes.SHA256())
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return (
        certificate.public_bytes(Encoding.DER),
        certificate.public_bytes(Encoding.PEM),
        hashlib.sha256(spki).digest(),
    )


@pytest.fixture
def file(render: Callable[..., str], tmp_path: Path) -> Path:
    path = tmp_path / "policy.toml"
    path.write_text(render("signer", danger={"allow_debug": '["app"]', "software_keys": '["app"]'}))
    return path


def test_a_good_policy_is_summed_up(check: Callable[..., tuple[int, str, str]], file: Path) -> None:
    status, out, err = check(str(file))
    assert (status, err) == (0, "")
    policy = parse_policy(file.read_text(), file.parent)
    expected = ["policy version 1 for example.org", "DANGER allow_debug app", "spiffe://example.org/app", "22" * 32]
    expected += ["at least 3", "ALLOWED", policy_digest(policy, VENDOR_ROOTS, {}, __version__).hex()]
    assert [text for text in expected if text not in out] == []


def test_json_says_the_same(check: Callable[..., tuple[int, str, str]], file: Path) -> None:
    status, out, _ = check(str(file), "--json")
    value: dict[str, Any] = json.loads(out)
    assert status == 0
    policy = parse_policy(file.read_text(), file.parent)
    assert value["dangers"] == list(policy.dangers)
    assert value["policy_digest"] == policy_digest(policy, VENDOR_ROOTS, {}, __version__).hex()
    (workload,) = value["workloads"]
    assert workload["pins"]["mr_signer"] == ["22" * 32]
    assert workload["key_origins"] == ["software", "tee"]
    assert workload["spiffe_id"] == "spiffe://example.org/app"


def test_every_problem_of_a_bad_policy_is_printed_with_line_and_fix(
    check: Callable[..., tuple[int, str, str]], render: Callable[..., str], tmp_path: Path
) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(render("sgx", {"tcb": '["Revoked"]', "owner": None}, top={"version": "0"}))
    status, out, err = check(str(path))
    assert (status, out) == (4, "")
    assert err.count("fix: ") == 3
    assert "policy.malformed" in err
    status, out, err = check(str(path), "--json")
    error = json.loads(out)["error"]
    assert (status, err, error["code"], error["file"]) == (4, "", "policy.malformed", str(path))
    assert [problem["line"] for problem in error["problems"]] == [1, 3, 9]


def test_a_file_that_is_not_there_is_a_matter_of_usage(
    check: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    assert check(str(tmp_path / "none.toml"))[0] == 2
    assert check()[0] == 2


def test_other_roots_give_another_digest(
    check: Callable[..., tuple[int, str, str]], file: Path, tmp_path: Path, root_certificate: tuple[bytes, bytes, bytes]
) -> None:
    der, pem, spki_sha256 = root_certificate
    policy = parse_policy(file.read_text(), file.parent)
    for name, data in (("root.der", der), ("root.pem", pem)):
        (tmp_path / name).write_bytes(data)
        out = check(str(file), "--json", "--roots", str(tmp_path / name))[1]
        expected = policy_digest(policy, same_for_all({spki_sha256}), {}, __version__)
        assert json.loads(out)["policy_digest"] == expected.hex()


@pytest.mark.parametrize("content", [b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\n", bytes(10_000)])
def test_a_root_that_is_no_certificate_is_malformed(
    content: bytes, check: Callable[..., tuple[int, str, str]], file: Path, tmp_path: Path
) -> None:
    (tmp_path / "root").write_bytes(content)
    status, _, err = check(str(file), "--roots", str(tmp_path / "root"))
    assert status == 4
    assert "configuration.malformed" in err
