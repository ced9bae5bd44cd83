"""serve.toml and flags: strict, flags win, what is dangerous has no default."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError, ProxyAttestationError, UsageError
from proxy_attestation.formats.signed_note import KeyType, Verifier
from proxy_attestation.service.config import Address, load_config, parse_address

WITNESS = str(Verifier("w.example", KeyType.COSIGNATURE, b"w" * 32))


def load(directory: Path, text: str | None = None, flags: Mapping[str, Any] | None = None) -> Any:
    if text is not None:
        (directory / "serve.toml").write_text(text)
    return load_config(directory, flags or {})


def test_the_defaults_listen_on_loopback(tmp_path: Path) -> None:
    config = load(tmp_path)
    assert [str(address) for address in (config.grpc, config.connect, config.admin)] == [
        "127.0.0.1:7443",
        "127.0.0.1:7444",
        "127.0.0.1:7445",
    ]
    assert config.workers >= 1
    assert config.certificate_names() == ("127.0.0.1",)


def test_the_file_and_then_the_flags(tmp_path: Path) -> None:
    text = 'grpc = "127.0.0.2:1"\nworkers = 3\ntls_name = ["a.example.org"]\nin_flight = 10\npeer_rate = 7\n'
    config = load(tmp_path, text, {"workers": 5, "grpc": None, "tls_name": (), "connect": "[::1]:0"})
    assert (config.grpc, config.connect) == (Address("127.0.0.2", 1), Address("::1", 0))
    assert config.workers == 5
    assert config.certificate_names() == ("127.0.0.2", "::1", "a.example.org")
    bounds = config.bounds
    assert (bounds.in_flight, bounds.peer_in_flight, bounds.peer_rate, bounds.peer_burst) == (10, 5, 7, 14)


def test_witnesses(tmp_path: Path) -> None:
    assert (load(tmp_path).witness, load(tmp_path).witness_quorum) == ((), None)
    table = f"[[witness]]\nvkey = '{WITNESS}'\nurl = 'https://w.example'"
    for quorum in (0, 1):
        config = load(tmp_path, f"witness_quorum = {quorum}\n{table}")
        assert (config.witness, config.witness_quorum) == (((WITNESS, "https://w.example"),), quorum)


def test_the_table_of_endorsements_is_only_seen(tmp_path: Path) -> None:
    assert load(tmp_path).endorsements is False
    assert load(tmp_path, "[endorsements]\n").endorsements is False
    assert load(tmp_path, "[endorsements]\nother = 1\n").endorsements is True


@pytest.mark.parametrize(
    "text",
    [
        "unknown = 1",
        "endorsements = true",
        "[[endorsements]]\nother = 1",
        "grpc = 7443",
        'grpc = "localhost:1"',
        "workers = 0",
        "workers = true",
        "workers = 257",
        'workers = "2"',
        "in_flight = 0",
        "peer_rate = 0",
        "peer_rate = 1.5",
        'tls_name = "one"',
        "tls_name = [1]",
        'tls_name = [""]',
        "witness_quorum = 1",
        "witness_quorum = -1",
        "witness_quorum = true",
        'witness_quorum = "1"',
        "witness = 1",
        "[witness]\nvkey = 'x'\nurl = 'y'",
        f"[[witness]]\nvkey = '{WITNESS}'\nurl = 'https://w.example'",
        f"witness_quorum = 2\n[[witness]]\nvkey = '{WITNESS}'\nurl = 'https://w.example'",
        f"witness_quorum = 1\n[[witness]]\nvkey = '{WITNESS}'",
        f"witness_quorum = 1\n[[witness]]\nvkey = '{WITNESS}'\nurl = 'https://w.example'\nname = 'w'",
        f"witness_quorum = 1\n[[witness]]\nvkey = '{WITNESS[:-1]}'\nurl = 'https://w.example'",
        f"witness_quorum = 1\n[[witness]]\nvkey = '{WITNESS}'\nurl = 1",
        "not toml",
        "\udcff",
        "workers = " + "[" * 60_000,
    ],
)
def test_a_file_that_cannot_be_used(tmp_path: Path, text: str) -> None:
    (tmp_path / "serve.toml").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path)
    assert caught.value.code is Code.CONFIGURATION_MALFORMED


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        load(tmp_path, "#" * 70_000)


def test_a_file_that_is_a_directory(tmp_path: Path) -> None:
    (tmp_path / "serve.toml").mkdir()
    with pytest.raises(ConfigurationError):
        load(tmp_path)


@pytest.mark.parametrize(
    "flags", [{"workers": 0}, {"unknown": 1}, {"grpc": "nowhere"}, {"peer_rate": -1}, {"in_flight": 1 << 20}]
)
def test_a_flag_that_cannot_be_obeyed(tmp_path: Path, flags: Mapping[str, Any]) -> None:
    with pytest.raises(UsageError):
        load(tmp_path, None, flags)


def test_a_bad_file_is_told_even_where_a_flag_would_win(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        load(tmp_path, "workers = 0", {"workers": 1})


def test_listening_everywhere_needs_a_name(tmp_path: Path) -> None:
    everywhere = {"grpc": "0.0.0.0:1", "connect": "[::]:1"}
    with pytest.raises(UsageError):
        load(tmp_path, None, everywhere).certificate_names()
    named = load(tmp_path, None, {**everywhere, "tls_name": ("proxy.example.org",)})
    assert named.certificate_names() == ("proxy.example.org",)


@pytest.mark.parametrize("text", ["127.0.0.1", "127.0.0.1:", ":1", "::1:1", "[127.0.0.1]:1", "127.0.0.1:65536", "a:1"])
def test_an_address_that_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_address(text)


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=200))
def test_any_bytes_in_the_file_give_an_error_of_ours(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    directory = tmp_path_factory.mktemp("state")
    (directory / "serve.toml").write_bytes(data)
    try:
        load(directory)
    except ProxyAttestationError as error:
        assert error.code is Code.CONFIGURATION_MALFORMED
