"""`owner` as operators and tenants run it: exit statuses, JSON, and that a secret is shown once and logged never."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from command_line import MALFORMED, REFUSED, USAGE, call, call_json
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from proxy_attestation.authority.init import init_state, memory_issuer
from proxy_attestation.authority.issue import Issuer
from proxy_attestation.authority.operations import OPERATIONS, encode_operation, operate
from proxy_attestation.authority.owner_operations import OWNER_TOKEN, TokenOrder
from proxy_attestation.authority.owner_records import Change, Holder
from proxy_attestation.authority.state import open_authority
from proxy_attestation.errors import UsageError
from proxy_attestation.formats.owner_proof import TOKEN_LIFETIME_MAX, parse_grant, parse_token, verify_grant
from proxy_attestation.formats.request import Names
from proxy_attestation.policy.load import parse_policy

POLICY = "".join(
    f'[[workload]]\nname = "{name}"\ntee = "sgx"\nmr_enclave = ["{"e1" * 32}"]\nowner = "{owner}"\n'
    for name, owner in (("enrolled", "enrolment"), ("shared", "shared"))
)
TEXT = f'version = 1\ntrust_domain = "example.org"\n{POLICY}'
DIGEST = "ab" * 32


@pytest.fixture
def state(tmp_path: Path, vendor_root: bytes) -> Path:
    """An authority of now, since commands know no other time."""
    (tmp_path / "policy.toml").write_text(TEXT)
    made = tmp_path / "state"
    init_state(
        made, trust_domain="example.org", dns=["example.org"], policy=tmp_path / "policy.toml",
        simulated_roots=[vendor_root], now=datetime.now(UTC),
    )  # fmt: skip
    return made


def hold(state: Path, seconds: int = 3600) -> str:
    """Have somebody hold the names of `enrolled`."""
    authority = open_authority(state, lambda: datetime.now(UTC))
    until = authority.now() + seconds
    owners = Issuer(authority, Names()).owners
    held = Holder("enrolled", "enrolment", b"\x0a" * 32, b"\x0b" * 32, None, b"\x0c" * 32, 0, 0, 0)
    owners.stage(bytes(16), Change(held, renews=False), until)
    with authority.ledger.transaction():
        owners.commit([bytes(16)])
    authority.ledger.close()
    return held.holder.hex()


def test_a_token_is_shown_once(state: Path) -> None:
    assert call_json("owner", "list", state) == {"holders": [], "tokens": []}
    made = call_json("owner", "token", state, "enrolled", "--expires", "90s")
    token = parse_token(made["token"])
    assert made["token_id"] == token.token_id.hex()
    left = datetime.fromisoformat(made["expires"]) - datetime.now(UTC)
    assert timedelta(0) < left <= timedelta(seconds=90)
    shown = call("owner", "list", state)
    assert token.token_id.hex() in shown.stdout
    assert token.secret.hex() not in shown.stdout
    assert all(token.secret not in path.read_bytes() for path in state.rglob("*") if path.is_file())
    printed = call("owner", "token", state, "enrolled")
    assert parse_token(printed.stdout).token_id.hex() in call("owner", "list", state).stdout


@pytest.mark.parametrize("entry", ["shared", "nobody"])
def test_a_token_for_an_entry_that_takes_none(state: Path, entry: str) -> None:
    assert call_json("owner", "token", state, entry, status=USAGE)["error"]["code"] == "usage"


@pytest.mark.parametrize("expires", ["169h", "0s", "1d", "soon"])
def test_a_token_for_too_long(state: Path, expires: str) -> None:
    call("owner", "token", state, "enrolled", "--expires", expires, status=USAGE)


def test_names_are_released(state: Path) -> None:
    holder = hold(state)
    (shown,) = call_json("owner", "list", state)["holders"]
    assert (shown["entry"], shown["kind"], shown["holder"], shown["held"]) == ("enrolled", "enrolment", holder, True)
    assert holder in call("owner", "list", state).stdout
    refused = call_json("owner", "release", state, "enrolled", "--holder", DIGEST, status=REFUSED)
    assert refused["error"]["code"] == "owner.unheld"
    released = call_json("owner", "release", state, "enrolled", "--holder", holder)["released"]
    assert released == shown
    assert call_json("owner", "release", state, "enrolled", status=REFUSED)["error"]["code"] == "owner.unheld"
    hold(state)
    assert "valid until" in call("owner", "release", state, "enrolled").stdout


def test_there_is_no_authority(tmp_path: Path) -> None:
    assert call_json("owner", "list", tmp_path, status=MALFORMED)["error"]["code"] == "authority.state"


@pytest.mark.parametrize("entry", ["", "a/b", "UPPER"])
def test_no_name_of_an_entry(state: Path, entry: str) -> None:
    call("owner", "release", state, entry, status=USAGE)


KEYS: dict[str, ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey] = {
    "ed25519": ed25519.Ed25519PrivateKey.from_private_bytes(b"\x01" * 32),
    "p256": ec.derive_private_key(1, ec.SECP256R1()),
    "p384": ec.derive_private_key(1, ec.SECP384R1()),
}


def grant(tmp_path: Path, key: bytes, *more: str, status: int = 0) -> Any:
    path = tmp_path / "tenant.key"
    path.write_bytes(key)
    return call(
        "owner", "grant", "--key", path, "--trust-domain", "example.org", "--entry", "app", "--spki-sha256", DIGEST,
        *more, status=status,
    )  # fmt: skip


def pem(name: str) -> bytes:
    return KEYS[name].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize("name", ["ed25519", "p256"])
def test_a_tenant_grants(tmp_path: Path, name: str) -> None:
    made = parse_grant(grant(tmp_path, pem(name), "--expires", "2h").stdout)
    assert made[:3] == ("example.org", "app", bytes.fromhex(DIGEST))
    assert 0 < made.expires - datetime.now(UTC).timestamp() <= 7200
    public = KEYS[name].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert verify_grant(made, public)


@pytest.mark.parametrize("key", [pem("p384"), b"", b"-----BEGIN PRIVATE KEY-----\n"])
def test_a_key_that_grants_nothing(tmp_path: Path, key: bytes) -> None:
    grant(tmp_path, key, status=MALFORMED)


@pytest.mark.parametrize("more", [("--expires", "169h"), ("--spki-sha256", "ab"), ("--trust-domain", "Not One")])
def test_a_grant_of_another_form(tmp_path: Path, more: tuple[str, ...]) -> None:
    grant(tmp_path, pem("p256"), *more, status=USAGE)


def test_over_the_channel_a_token_crosses_whole_and_is_not_logged(
    clock: Any, vendor: Any, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = parse_policy(TEXT, Path())
    issuer = memory_issuer(policy, dns=["example.org"], anchors=[vendor.root_pin], clock=clock)
    body: Any = encode_operation(OWNER_TOKEN, TokenOrder("enrolled", TOKEN_LIFETIME_MAX))
    made = OWNER_TOKEN.answer.read(operate(issuer, body))
    captured = capsys.readouterr()
    assert made.secret.hex() not in caplog.text + captured.out + captured.err
    assert [token.token_id for token in issuer.owners.tokens()] == [made.token_id]
    with pytest.raises(UsageError):
        operate(issuer, encode_operation(OWNER_TOKEN, TokenOrder("shared", 60)))  # type: ignore[arg-type] # on purpose
    assert {"owner.list", "owner.release", "owner.token"} <= set(OPERATIONS)
