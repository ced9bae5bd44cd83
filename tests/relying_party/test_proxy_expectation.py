"""An expectation of a proxy: strict, and never weaker than it looks."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from attested_proxy import Signer

from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError
from proxy_attestation.formats.tee import Tee
from proxy_attestation.relying_party.proxy_expectation import load_proxy_expectation, parse_proxy_expectation

KEYS = [str(Signer(name).verifier) for name in ("alice", "bob")]
GOOD: Mapping[str, str] = {
    "trust_domain": '"example.org"',
    "tee": '"sgx"',
    "mr_enclave": json.dumps(["0e" * 32]),
    "signers": json.dumps(KEYS),
}


def text(**changes: str | None) -> bytes:
    values = {**GOOD, **changes}
    return "".join(f"{key} = {value}\n" for key, value in values.items() if value is not None).encode()


def test_a_file_that_names_a_measurement(tmp_path: Path) -> None:
    (tmp_path / "proxy.toml").write_bytes(text(threshold="1"))
    expectation = load_proxy_expectation(tmp_path / "proxy.toml")
    assert expectation.attested
    assert [str(signer) for signer in expectation.signers] == KEYS
    assert (expectation.threshold, expectation.key_origins, expectation.code.tee) == (1, ("tee",), Tee.SGX)


def test_all_signers_must_have_signed_unless_it_says_less() -> None:
    assert parse_proxy_expectation(text(), lambda _: b"").threshold == 2


def test_a_file_with_a_pin_alone() -> None:
    pinned = text(tee=None, mr_enclave=None, signers=None, root_pin=f'"{"0a" * 32}"', danger="{ any_workload = true }")
    expectation = parse_proxy_expectation(pinned, lambda _: b"")
    assert not expectation.attested
    assert expectation.code.root_pin == b"\x0a" * 32


@pytest.mark.parametrize(
    "changes",
    [
        {"signers": None}, {"signers": "[]"}, {"signers": '["alice"]'}, {"signers": "[1]"},
        {"signers": json.dumps([KEYS[0], KEYS[0]])}, {"threshold": "0"}, {"threshold": "3"}, {"threshold": "true"},
        {"key_origin": "[]"}, {"key_origin": '["disk"]'}, {"key_origin": '"tee"'}, {"workload": '"example-app"'},
        {"dns": '["app.example.org"]'}, {"application_sha256": json.dumps(["0e" * 32])}, {"tee": '"snp"'},
        {"mr_enclave": None}, {"unknown": "1"}, {"tee": None},
        {"mr_enclave": None, "tee": '"tdx"', "mr_td": json.dumps(["0e" * 48])},
        {"mr_enclave": None, "tee": '"tpm"', "pcr4": json.dumps(["0e" * 32])},
    ],
)  # fmt: skip
def test_one_thing_is_wrong(changes: dict[str, str | None]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_proxy_expectation(text(**changes), lambda _: b"")
    assert caught.value.code is Code.CONFIGURATION_MALFORMED


@pytest.mark.parametrize("data", [b"\xff", b"= 1", b"#" * 70_000])
def test_what_is_no_file_of_ours(data: bytes) -> None:
    with pytest.raises(ConfigurationError):
        parse_proxy_expectation(data, lambda _: b"")
