"""`policy sign`, `diff` and `log`, and `init` with signers: what they print, keep and refuse."""

import json
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from signers import KEYS, SIGNERS, key_files, sign, verifier

from proxy_attestation.authority import state as layout
from proxy_attestation.authority.settings import UNSIGNED_POLICY, decode_settings
from proxy_attestation.cli.main import group
from proxy_attestation.cli.output import run
from proxy_attestation.cli.policies.diff import Change, compare_policies
from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError
from proxy_attestation.formats.policy_note import policy_signers
from proxy_attestation.formats.request import KeyOrigin, Names
from proxy_attestation.formats.signed_note import parse_note
from proxy_attestation.policy.deny import Deny
from proxy_attestation.policy.load import load_policy_files, parse_policy
from proxy_attestation.policy.model import Owner, OwnerKind, Policy, Workload

POLICY = f"""
version = 1
trust_domain = "example.org"

[[workload]]
name = "app"
tee = "sgx"
mr_enclave = ["{"11" * 32}"]
dns = ["app.example.org"]
owner = {{ shared = true }}
"""


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def do(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["proxy-attestation", *map(str, arguments)])
        status = run(group)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return do


@pytest.fixture
def call_json(call: Callable[..., tuple[int, str, str]]) -> Callable[..., Any]:
    def do(*arguments: str | Path, status: int = 0) -> Any:
        found, out, err = call(*arguments, "--json")
        assert found == status, out + err
        return json.loads(out)

    return do


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "policy.toml"
    path.write_text(POLICY)
    return path


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, tuple[Path, Path]]:
    return key_files(tmp_path)


def error(answer: Any) -> str:
    return str(answer["error"]["code"])


# sign


def test_signatures_come_together(policy: Path, keys: Any, call_json: Any) -> None:
    text = load_policy_files(policy).text
    for number, name in enumerate(("alice", "bob"), 1):
        answer = call_json("policy", "sign", policy, "--key", keys[name][0], "--name", name)
        assert answer["text"] == text
        assert answer["signer"] == str(verifier(name))
        assert answer["signatures"] == ["alice", "bob"][:number]
    note = policy.with_name("policy.toml.note").read_bytes()
    assert policy_signers(note, text, SIGNERS, 2) == ("alice", "bob")
    # Once more: one signature each.
    assert call_json("policy", "sign", policy, "--key", keys["alice"][0], "--name", "alice")["signatures"] == [
        "bob",
        "alice",
    ]


def test_signatures_over_something_else_are_dropped_and_said_to_be(policy: Path, keys: Any, call_json: Any) -> None:
    sign(policy, "alice", "bob")
    policy.write_text(POLICY.replace("version = 1", "version = 2"))
    answer = call_json("policy", "sign", policy, "--key", keys["carol"][0], "--name", "carol")
    assert (answer["dropped"], answer["signatures"]) == (["alice", "bob"], ["carol"])


def test_a_signature_can_go_elsewhere(policy: Path, keys: Any, call_json: Any, tmp_path: Path) -> None:
    out = tmp_path / "mine.note"
    answer = call_json("policy", "sign", policy, "--key", keys["alice"][0], "--name", "alice", "--out", out)
    assert answer["note"] == str(out)
    assert not policy.with_name("policy.toml.note").exists()
    assert parse_note(out.read_bytes()).text == load_policy_files(policy).text


def test_what_is_signed_is_shown(policy: Path, keys: Any, call: Any) -> None:
    policy.write_text(f'{POLICY}[danger]\nallow_debug = ["app"]\n[deny]\nproducts = ["Milan"]\n')
    status, out, _ = call("policy", "sign", policy, "--key", keys["alice"][0], "--name", "alice")
    assert status == 0
    for line in load_policy_files(policy).text.splitlines():
        assert line in out
    assert "allow_debug app" in out
    assert "products: Milan" in out


@pytest.mark.parametrize("what", ["no key", "a public key", "another kind", "encrypted", "too long"])
def test_what_is_no_signing_key(what: str, policy: Path, keys: Any, call_json: Any, tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    key = KEYS["alice"]
    contents = {
        "no key": b"x",
        "a public key": keys["alice"][1].read_bytes(),
        "another kind": ec.generate_private_key(ec.SECP256R1()).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        ),
        "encrypted": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")),
        "too long": b"x" * 5000,
    }
    path.write_bytes(contents[what])
    answer = call_json("policy", "sign", policy, "--key", path, "--name", "alice", status=4)
    assert error(answer) == Code.CONFIGURATION_MALFORMED
    assert not policy.with_name("policy.toml.note").exists()


@pytest.mark.parametrize("name", ["", "a b", "a+b"])
def test_names_that_cannot_be(name: str, policy: Path, keys: Any, call_json: Any) -> None:
    answer = call_json("policy", "sign", policy, "--key", keys["alice"][0], "--name", name, status=2)
    assert error(answer) == Code.USAGE


def test_a_note_that_is_none_is_not_overwritten(policy: Path, keys: Any, call_json: Any) -> None:
    note = policy.with_name("policy.toml.note")
    note.write_bytes(b"something else")
    answer = call_json("policy", "sign", policy, "--key", keys["alice"][0], "--name", "alice", status=4)
    assert error(answer) == Code.NOTE_MALFORMED
    assert note.read_bytes() == b"something else"


def test_a_policy_that_is_none_is_not_signed(policy: Path, keys: Any, call_json: Any) -> None:
    policy.write_text("version = 0")
    answer = call_json("policy", "sign", policy, "--key", keys["alice"][0], "--name", "alice", status=4)
    assert error(answer) == Code.POLICY_MALFORMED


# init


def begin(state: Path, policy: Path, *more: str | Path) -> tuple[str | Path, ...]:
    return (
        "init", state, "--trust-domain", "example.org", "--dns", "example.org", "--policy", policy, "--real", *more,
    )  # fmt: skip


def test_init_fixes_who_signs(policy: Path, keys: Any, call_json: Any, tmp_path: Path) -> None:
    sign(policy, "alice", "carol")
    signers = [option for name in ("carol", "alice", "bob") for option in ("--signer", f"{name}={keys[name][1]}")]
    made = call_json(*begin(tmp_path / "state", policy, *signers, "--threshold", "2"))
    assert made["signers"] == [str(signer) for signer in SIGNERS]
    assert (made["threshold"], made["dangers"]) == (2, [])
    settings = decode_settings((tmp_path / "state" / layout.SETTINGS).read_bytes())
    assert (settings.signers, settings.threshold) == (SIGNERS, 2)


def test_init_without_signers_says_so(policy: Path, call_json: Any, tmp_path: Path) -> None:
    made = call_json(*begin(tmp_path / "state", policy))
    assert (made["signers"], made["threshold"], made["dangers"]) == ([], 0, [UNSIGNED_POLICY])


@pytest.mark.parametrize(
    ("more", "status", "code"),
    [
        (("--threshold", "1"), 2, Code.USAGE),
        (("--signer", "alice={alice}"), 2, Code.USAGE),
        (("--signer", "alice={alice}", "--threshold", "2"), 2, Code.USAGE),
        (("--signer", "{alice}", "--threshold", "1"), 2, Code.USAGE),
        (("--signer", "alice={policy}", "--threshold", "1"), 4, Code.CONFIGURATION_MALFORMED),
        (("--signer", "alice={absent}", "--threshold", "1"), 4, Code.CONFIGURATION_MALFORMED),
        (("--signer", "alice={p256}", "--threshold", "1"), 4, Code.CONFIGURATION_MALFORMED),
        (("--signer", "alice={alice}", "--threshold", "1"), 4, Code.POLICY_UNSIGNED),
    ],
)
def test_init_with_signers_that_cannot_be(
    *, more: tuple[str, ...], status: int, code: Code, policy: Path, keys: Any, call_json: Any, tmp_path: Path
) -> None:
    p256 = tmp_path / "p256.pem"
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    p256.write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    paths = {"alice": keys["alice"][1], "policy": policy, "absent": tmp_path / "absent", "p256": p256}
    answer = call_json(*begin(tmp_path / "state", policy, *(one.format(**paths) for one in more)), status=status)
    assert error(answer) == code
    assert not (tmp_path / "state").exists()


# apply and log


@pytest.fixture
def state(policy: Path, call_json: Any, tmp_path: Path) -> Path:
    call_json(*begin(tmp_path / "state", policy))
    return tmp_path / "state"


def test_apply_and_log(state: Path, policy: Path, call_json: Any, call: Any) -> None:
    call_json("status", state)
    policy.write_text(POLICY.replace("version = 1", "version = 3"))
    applied = call_json("policy", "apply", state, policy)
    assert (applied["changed"], applied["version"], applied["signers"]) == (True, 3, [])
    log = call_json("policy", "log", state)
    assert [(one["version"], one["kept"], one["signers"]) for one in log["versions"]] == [(1, True, []), (3, True, [])]
    assert log["versions"][-1]["policy_digest"] == applied["policy_digest"]
    assert datetime.fromisoformat(log["versions"][0]["time"]) <= datetime.now(UTC)
    # Files that are gone or changed vouch for nobody.
    (state / "policies" / "1" / "policy.toml").unlink()
    (state / "policies" / "3" / "policy.toml").write_text(POLICY.replace("version = 1", "version = 3 # changed"))
    log = call_json("policy", "log", state)
    assert [(one["kept"], one["signers"]) for one in log["versions"]] == [(False, None), (False, None)]
    assert call("policy", "log", state)[0] == 0
    again = call_json("policy", "apply", state, policy)
    assert (again["changed"], again["policy_digest"]) == (False, applied["policy_digest"])
    assert not list((state / "policies").glob("staged-*"))


def test_apply_refuses_and_leaves_nothing_behind(state: Path, policy: Path, call_json: Any) -> None:
    policy.write_text(POLICY.replace("example.org", "example.com"))
    assert error(call_json("policy", "apply", state, policy, status=4)) == Code.POLICY_MALFORMED
    policy.write_text("version = 0")
    assert error(call_json("policy", "apply", state, policy, status=4)) == Code.POLICY_MALFORMED
    assert not list((state / "policies").glob("staged-*"))


def test_log_says_where_signatures_are_not_enough(policy: Path, keys: Any, call_json: Any, tmp_path: Path) -> None:
    sign(policy, "alice")
    state = tmp_path / "state"
    call_json(*begin(state, policy, "--signer", f"alice={keys['alice'][1]}", "--threshold", "1"))
    call_json("status", state)
    log = call_json("policy", "log", state)
    assert (log["signers"], log["threshold"]) == ([str(SIGNERS[0])], 1)
    assert [(one["kept"], one["signers"]) for one in log["versions"]] == [(True, ["alice"])]
    sign(state / "policies" / "1" / "policy.toml", "mallory")
    log = call_json("policy", "log", state)
    assert [(one["kept"], one["signers"]) for one in log["versions"]] == [(True, None)]


# diff


def parse(text: str) -> Policy:
    return parse_policy(text, Path("/nonexistent"))


def test_equal_policies(policy: Path, state: Path, call_json: Any, call: Any) -> None:
    call_json("status", state)
    policy.write_text(f"# a comment\n{POLICY}")
    answer = call_json("policy", "diff", policy, state / "policy.toml")
    assert answer["same"] is True
    assert call_json("policy", "diff", "1", policy, "--state", state)["same"] is True
    assert call("policy", "diff", policy, policy)[0] == 0


def test_every_difference_is_listed(policy: Path, call_json: Any, call: Any, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    more = f'[[workload]]\nname = "new"\ntee = "sgx"\nmr_enclave = ["{"33" * 32}"]\nowner = {{ shared = true }}\n'
    text = (
        POLICY.replace("version = 1", "version = 2").replace("app.example", "www.example").replace("11" * 32, "22" * 32)
    )
    other.write_text(f'{text}{more}[danger]\nallow_debug = ["app"]\n[deny]\nproducts = ["Milan"]\n')
    answer = call_json("policy", "diff", policy, other, status=3)
    assert answer["same"] is False
    assert answer["whole"] == {"version": {"removed": ["1"], "added": ["2"]}}
    assert (answer["added"], answer["removed"]) == (["new"], [])
    assert answer["deny"] == {"products": {"removed": [], "added": ["Milan"]}}
    assert len(answer["dangers"]["added"]) == 1
    assert answer["changed"]["app"] == {
        "names": {"removed": ["app.example.org"], "added": ["www.example.org"]},
        "mr_enclave": {"removed": ["11" * 32], "added": ["22" * 32]},
        "debug": {"removed": ["refused"], "added": ["ALLOWED"]},
    }
    status, out, _ = call("policy", "diff", policy, other)
    assert status == 3
    assert "+ entry new" in out.splitlines()
    assert f"-   mr_enclave {'11' * 32}" in out.splitlines()
    assert call("policy", "diff", other, policy)[0] == 3


def test_no_change_of_an_entry_goes_unseen() -> None:
    """Whatever field of an entry changes, and whatever field there will be, the difference shows it."""
    before = parse(POLICY)
    entry = before.workloads["app"]
    others: dict[str, Any] = {
        "name": None,
        "tee": None,
        "pins": {**entry.pins, "mr_enclave": (b"\x12" * 32,)},
        "tcb": ("OutOfDate",),
        "advisories": ("INTEL-SA-00615",),
        "application": (b"\x0a" * 32,),
        "key_origins": (KeyOrigin.SOFTWARE, KeyOrigin.TEE),
        "names": Names(dns=("www.example.org",)),
        "owner": Owner(OwnerKind.CHIP_IDS, chips=(b"\x0c" * 32,)),
        "max_lifetime": 3600,
        "allow_debug": True,
        "events": _events(),
        "hardware": _hardware(),
        "not_after": 1_800_000_000,
    }
    assert others.keys() == {field.name for field in fields(Workload)}
    for name, value in others.items():
        if value is not None:
            changed = replace(entry, **{name: value})
            after = replace(before, workloads=MappingProxyType({"app": changed}))
            assert compare_policies(before, after).changed.keys() == {"app"}, name
    chips = [replace(entry, owner=Owner(OwnerKind.CHIP_IDS, chips=(bytes([n] * 32),))) for n in (1, 2)]
    old, new = (replace(before, workloads=MappingProxyType({"app": one})) for one in chips)
    assert not compare_policies(old, new).same


def _events() -> Any:
    from proxy_attestation.policy.events import EventRule  # noqa: PLC0415 - only here

    return (EventRule("rtmr1", 4, (), (), anything=True, optional=False),)


def _hardware() -> Any:
    from proxy_attestation.formats.tee import Tee  # noqa: PLC0415 - only here
    from proxy_attestation.policy.model import Hardware  # noqa: PLC0415 - likewise

    return Hardware(Tee.SNP, {}, (), ())


def test_no_change_of_the_whole_goes_unseen() -> None:
    before = parse(POLICY)
    others: dict[str, Any] = {
        "version": 2,
        "trust_domain": "example.com",
        "min_lifetime": 1000,
        "max_lifetime": 3600,
        "workloads": MappingProxyType({}),
        "dangers": ("allow_debug app",),
        "deny": Deny(spkis=(b"\x5b" * 32,)),
    }
    assert others.keys() == {field.name for field in fields(Policy)}
    for name, value in others.items():
        assert not compare_policies(before, replace(before, **{name: value})).same, name
    assert compare_policies(before, replace(before, version=2)).whole == {"version": Change(("1",), ("2",))}


@pytest.mark.parametrize("arguments", [("1", "{policy}"), ("{policy}", "{policy}.absent")])
def test_what_cannot_be_compared(arguments: tuple[str, ...], policy: Path, call_json: Any) -> None:
    answer = call_json("policy", "diff", *(one.format(policy=policy) for one in arguments), status=2)
    assert error(answer) == Code.USAGE


def test_a_version_that_is_not_kept(state: Path, policy: Path, call_json: Any) -> None:
    answer = call_json("policy", "diff", "4", policy, "--state", state, status=4)
    assert error(answer) == Code.POLICY_MALFORMED


def test_settings_of_somebody_else_are_refused(state: Path, call_json: Any) -> None:
    (state / layout.SETTINGS).write_text("format = 1\n")
    assert error(call_json("policy", "log", state, status=4)) == Code.AUTHORITY_STATE


def test_a_fresh_key_is_no_signer(policy: Path) -> None:
    sign(policy, "mallory")
    found = load_policy_files(policy)
    with pytest.raises(ConfigurationError):
        policy_signers(found.note, found.text, SIGNERS, 1)
    assert isinstance(KEYS["mallory"], Ed25519PrivateKey)
