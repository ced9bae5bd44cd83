"""Reference values count where the policy's signers signed them, and only for the file, version and TEE they say."""

import hashlib
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from reference_files import HEAD, Cli, eif

from proxy_attestation.appraisal.roots import VENDOR_ROOTS
from proxy_attestation.authority.init import init_state
from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError
from proxy_attestation.formats.signed_note import KeyType, Note, Signature, Verifier, parse_note, sign_note
from proxy_attestation.policy.digest import policy_digest
from proxy_attestation.policy.load import PolicyFileError, load_policy, load_policy_files, parse_policy
from proxy_attestation.policy.model import Policy
from proxy_attestation.policy.reference import HEADER, note_file, require_current, signed_text

NOW = datetime(2026, 11, 24, tzinfo=UTC)
VALUES: Mapping[str, str] = {
    "product": '"example"',
    "version": "3",
    "tee": '"sgx"',
    "comment": '"built on Monday"',
}
PINS: Mapping[str, str] = {"mr_enclave": f'["{"11" * 32}"]', "min_isv_svn": "2"}


@dataclass
class Person:
    name: str
    seed: int = 1

    @property
    def key(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(f"{self.name} {self.seed}".encode()).digest())

    @property
    def verifier(self) -> Verifier:
        return Verifier(self.name, KeyType.ED25519, self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))

    def sign(self, text: str) -> Signature:
        return sign_note(text, self.verifier, self.key.sign)


PEOPLE = [Person("alice"), Person("bob"), Person("carol")]
ALICE, BOB, CAROL = PEOPLE


def content(changes: Mapping[str, str | None] | None = None, pins: Mapping[str, str] = PINS) -> bytes:
    head = {key: value for key, value in {**VALUES, **(changes or {})}.items() if value is not None}
    lines = [f"{key} = {value}" for key, value in head.items()]
    return "\n".join([*lines, "[values]", *(f"{key} = {value}" for key, value in pins.items())]).encode() + b"\n"


def entry(threshold: int = 2, people: list[Person] = PEOPLE, **changes: Any) -> str:
    keys = ", ".join(f'"{person.verifier}"' for person in people)
    said = {"file": '"values.toml"', "signers": f"[{keys}]", "threshold": str(threshold), **changes}
    table = ", ".join(f"{key} = {value}" for key, value in said.items() if value is not None)
    return f'[[workload]]\nname = "app"\ntee = "sgx"\nowner = {{ shared = true }}\nreference_values = {{ {table} }}\n'


def write(
    directory: Path,
    data: bytes,
    people: list[Person] = PEOPLE[:2],
    text: str | None = None,
    name: str = "values.toml",
) -> None:
    text = text if text is not None else signed_text("example", 3, data, name)
    (directory / name).write_bytes(data)
    (directory / note_file(name)).write_bytes(Note(text, tuple(person.sign(text) for person in people)).encode())


def load(directory: Path, text: str) -> Policy:
    return parse_policy(HEAD + text, directory)


def code(directory: Path, text: str | None = None) -> Code:
    """The one code that loading refuses with."""
    with pytest.raises(PolicyFileError) as caught:
        load(directory, entry() if text is None else text)
    (problem,) = caught.value.problems
    assert problem.line > 2
    return problem.code


def test_values_stand_in_the_entry_as_if_they_were_written_there(tmp_path: Path) -> None:
    write(tmp_path, content())
    signed = load(tmp_path, entry())
    inline = entry().split("reference_values")[0] + "".join(f"{key} = {value}\n" for key, value in PINS.items())
    assert signed == load(tmp_path, inline)
    assert signed.workloads["app"].pins["mr_enclave"] == (bytes([0x11] * 32),)
    digests = [policy_digest(policy, VENDOR_ROOTS, {}, "1") for policy in (signed, load(tmp_path, inline))]
    assert digests[0] == digests[1]


def test_the_digest_covers_the_values(tmp_path: Path) -> None:
    write(tmp_path, content())
    first = policy_digest(load(tmp_path, entry()), VENDOR_ROOTS, {}, "1")
    write(tmp_path, content(pins={**PINS, "min_isv_svn": "3"}))
    assert policy_digest(load(tmp_path, entry()), VENDOR_ROOTS, {}, "1") != first


def test_what_is_signed_is_four_lines(tmp_path: Path) -> None:
    data = content()
    digest = hashlib.sha256(data).hexdigest()
    expected = f"proxy-attestation/reference-values/v1\nexample\n3\nfile {digest} values.toml\n"
    assert signed_text("example", 3, data, "deep/values.toml") == expected
    write(tmp_path, data, text=expected)
    assert load(tmp_path, entry())


def test_a_file_below_the_policy_and_keys_on_p_256(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    verifier = Verifier("device", KeyType.ECDSA, spki)
    text = signed_text("example", 3, content(), "values.toml")
    signature = sign_note(text, verifier, lambda data: key.sign(data, ec.ECDSA(hashes.SHA256())))
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "values.toml").write_bytes(content())
    (tmp_path / "deep" / "values.toml.note").write_bytes(Note(text, (signature,)).encode())
    assert load(tmp_path, entry(1, file='"deep/values.toml"', signers=f'["{verifier}"]'))


# One fault each.


def test_too_few_signatures(tmp_path: Path) -> None:
    write(tmp_path, content(), [ALICE])
    assert code(tmp_path) is Code.REFERENCE_SIGNERS


def test_one_signer_twice_counts_once(tmp_path: Path) -> None:
    write(tmp_path, content(), [ALICE, ALICE])
    assert code(tmp_path) is Code.REFERENCE_SIGNERS


def test_an_unknown_signer_does_not_count(tmp_path: Path) -> None:
    write(tmp_path, content(), [ALICE, Person("mallory")])
    assert code(tmp_path) is Code.REFERENCE_SIGNERS
    write(tmp_path, content(), [Person("alice", 2), Person("bob", 2)])
    assert code(tmp_path) is Code.REFERENCE_SIGNERS


def test_a_known_signature_that_is_not_good_refuses_whatever_else_there_is(tmp_path: Path) -> None:
    write(tmp_path, content(), PEOPLE)
    path = tmp_path / "values.toml.note"
    note = parse_note(path.read_bytes())
    bad = Signature(ALICE.name, ALICE.verifier.key_id, bytes(64))
    path.write_bytes(Note(note.text, (bad, *note.signatures[1:])).encode())
    assert code(tmp_path) is Code.REFERENCE_SIGNATURE


def test_an_edited_file(tmp_path: Path) -> None:
    write(tmp_path, content())
    (tmp_path / "values.toml").write_bytes(content() + b"# more\n")
    assert code(tmp_path) is Code.REFERENCE_SIGNATURE


def test_a_file_under_another_name(tmp_path: Path) -> None:
    """Values of one product cannot be put in the place of another's that the same people signed."""
    write(tmp_path, content(), name="other.toml")
    (tmp_path / "values.toml").write_bytes((tmp_path / "other.toml").read_bytes())
    (tmp_path / "values.toml.note").write_bytes((tmp_path / "other.toml.note").read_bytes())
    assert code(tmp_path) is Code.REFERENCE_SIGNATURE


@pytest.mark.parametrize(
    "text", ["{header}\nother\n3\n{file}", "{header}\nexample\n4\n{file}", "{header}\nexample\n03\n{file}"]
)
def test_another_product_or_version_was_signed(tmp_path: Path, text: str) -> None:
    file = signed_text("", 1, content(), "values.toml").split("\n", 3)[3]
    write(tmp_path, content(), text=text.format(header=HEADER, file=file))
    assert code(tmp_path) is Code.REFERENCE_SIGNATURE


@pytest.mark.parametrize(
    "text",
    [
        "other/v1\nexample\n3\n{file}",
        "{header}\nexample\n3\nmore\n{file}",
        "{header}\nexample\n3\n{file}more\n",
        "{header}\n",
    ],
)
def test_another_text_was_signed(tmp_path: Path, text: str) -> None:
    file = signed_text("", 1, content(), "values.toml").split("\n", 3)[3]
    write(tmp_path, content(), text=text.format(header=HEADER, file=file))
    assert code(tmp_path) is Code.REFERENCE_SIGNATURE


@pytest.mark.parametrize("missing", ["values.toml", "values.toml.note"])
def test_a_missing_file(tmp_path: Path, missing: str) -> None:
    write(tmp_path, content())
    (tmp_path / missing).unlink()
    assert code(tmp_path) is Code.REFERENCE_FILE


def test_a_note_that_is_none(tmp_path: Path) -> None:
    write(tmp_path, content())
    (tmp_path / "values.toml.note").write_bytes(b"no note\n")
    assert code(tmp_path) is Code.REFERENCE_SIGNATURE


def test_an_older_version_than_the_policy_demands(tmp_path: Path) -> None:
    write(tmp_path, content())
    assert load(tmp_path, entry(min_version="3"))
    assert code(tmp_path, entry(min_version="4")) is Code.REFERENCE_VERSION


def test_values_that_have_ended(tmp_path: Path) -> None:
    write(tmp_path, content({"not_after": NOW.strftime("%Y-%m-%dT%H:%M:%SZ")}))
    end, policy = int(NOW.timestamp()), load(tmp_path, entry())
    assert policy.workloads["app"].not_after == end
    require_current(policy, end - 1)
    with pytest.raises(ConfigurationError) as caught:
        require_current(policy, end)
    assert caught.value.code is Code.REFERENCE_EXPIRED


def test_a_policy_with_values_that_have_ended_is_not_checked_or_begun_with(cli: Cli, tmp_path: Path) -> None:
    write(tmp_path, content({"not_after": "2020-01-01T00:00:00+01:00"}))
    (tmp_path / "policy.toml").write_text(HEAD + entry())
    ran = cli("policy", "check", tmp_path / "policy.toml", "--json")
    assert (ran.status, ran.code) == (4, Code.REFERENCE_EXPIRED)


@pytest.mark.parametrize(
    "data",
    [
        content({"tee": '"tdx"'}, {"mr_td": f'["{"11" * 48}"]'}),
        content(pins={**PINS, "mr_td": f'["{"11" * 48}"]'}),
        content(pins={**PINS, "dns": '["stolen.example.org"]'}),
        content(pins={**PINS, "owner": "{ shared = true }"}),
        content(pins={**PINS, "tcb": '["OutOfDate"]'}),
        content(pins={}),
        content({"tee": '"vm"'}),
        content({"more": "1"}),
        content({"product": None}),
        content({"product": '""'}),
        content({"product": "3"}),
        content({"comment": "3"}),
        content({"version": "0"}),
        content({"version": "true"}),
        content({"version": "4294967296"}),
        content({"not_after": "2027-01-01"}),
        content({"not_after": "2027-01-01T00:00:00"}),
        content({"not_after": '"2027"'}),
        b"no TOML",
        b"\xff",
        b"x = " + b"[" * 100_000,
        b"#" * (64 * 1024 + 1),
    ],
    ids=[f"{number}" for number in range(22)],
)
def test_values_that_the_entry_cannot_have(tmp_path: Path, data: bytes) -> None:
    write(tmp_path, data)
    assert code(tmp_path) is Code.REFERENCE_VALUES


def test_values_that_stand_in_the_entry_too(tmp_path: Path) -> None:
    write(tmp_path, content())
    assert code(tmp_path, entry() + "min_isv_svn = 2\n") is Code.REFERENCE_VALUES


def test_values_below_the_minimum_and_values_that_are_none_are_the_entrys_problem(tmp_path: Path) -> None:
    write(tmp_path, content(pins={"min_isv_svn": "2"}))
    assert code(tmp_path) is Code.POLICY_MALFORMED
    write(tmp_path, content(pins={"mr_enclave": '["11"]'}))
    assert code(tmp_path) is Code.POLICY_MALFORMED


@pytest.mark.parametrize(
    "changes",
    [
        {"file": None},
        {"signers": None},
        {"threshold": None},
        {"threshold": "0"},
        {"threshold": "4"},
        {"signers": "[]"},
        {"signers": '["alice"]', "threshold": "1"},
        {"signers": f'["{ALICE.verifier}", "{Verifier("other", KeyType.ED25519, ALICE.verifier.public_key)}"]'},
        {"signers": f'["{Verifier("w", KeyType.COSIGNATURE, ALICE.verifier.public_key)}"]', "threshold": "1"},
        {"min_version": "0"},
        {"file": '"../values.toml"'},
        {"file": '"/values.toml"'},
        {"more": "1"},
    ],
    ids=str,
)
def test_a_table_that_says_too_little_or_too_much(tmp_path: Path, changes: dict[str, Any]) -> None:
    write(tmp_path, content())
    with pytest.raises(PolicyFileError) as caught:
        load(tmp_path, entry(**changes))
    assert {problem.code for problem in caught.value.problems} == {Code.POLICY_MALFORMED}


# The commands.


@pytest.fixture
def pem(tmp_path: Path) -> Callable[[str], Path]:
    def make(name: str) -> Path:
        path = tmp_path / f"{name}.pem"
        subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", path], check=True, capture_output=True)
        return path

    return make


def test_two_people_sign_what_was_measured_and_a_policy_takes_it(
    cli: Cli, tmp_path: Path, pem: Callable[[str], Path]
) -> None:
    (tmp_path / "example.eif").write_bytes(eif())
    values = tmp_path / "values.toml"
    values.write_text(cli("index", "--measure", "nitro", tmp_path / "example.eif", "--values", "example").out)
    keys = []
    for name in ("alice", "bob"):
        ran = cli("reference", "sign", values, "--key", pem(name), "--name", f"{name}.example.org", "--json")
        assert ran.status == 0, ran.err
        keys.append(ran.json["signer"])
    assert ran.json["signed_by"] == ["alice.example.org", "bob.example.org"]
    policy = tmp_path / "policy.toml"
    listed = ", ".join(f'"{key}"' for key in keys)
    text = entry(2, signers=f"[{listed}]").replace('"sgx"', '"nitro"')
    policy.write_text(HEAD + text)
    said = cli("policy", "check", policy, "--json")
    assert said.status == 0, said.err
    assert set(said.json["workloads"][0]["pins"]) >= {"pcr0", "pcr1", "pcr2"}
    assert sorted(load_policy_files(policy).files) == ["policy.toml", "values.toml", "values.toml.note"]
    values.write_text(values.read_text() + "# edited\n")
    refused = cli("policy", "check", policy, "--json")
    assert refused.status == 4
    assert [problem["code"] for problem in refused.json["error"]["problems"]] == [Code.REFERENCE_SIGNATURE]


def test_signing_again_replaces_and_an_edited_file_loses_old_signatures(
    cli: Cli, tmp_path: Path, pem: Callable[[str], Path]
) -> None:
    values = tmp_path / "values.toml"
    values.write_bytes(content())
    alice, bob = pem("alice"), pem("bob")

    def sign(key: Path, name: str) -> list[str]:
        ran = cli("reference", "sign", values, "--key", key, "--name", name, "--json")
        assert ran.status == 0, ran.err
        signed: list[str] = ran.json["signed_by"]
        return signed

    assert sign(alice, "alice") == ["alice"]
    assert sign(alice, "alice") == ["alice"]
    assert sign(bob, "bob") == ["alice", "bob"]
    values.write_bytes(content() + b"# edited\n")
    assert sign(bob, "bob") == ["bob"]


@pytest.mark.parametrize(
    "data", [content({"tee": '"tdx"'}), content(pins={"mr_enclave": '["11"]'}), content(pins={"dns": '["a"]'}), b"x"]
)
def test_nothing_is_signed_that_no_entry_could_take(
    cli: Cli, tmp_path: Path, pem: Callable[[str], Path], data: bytes
) -> None:
    values = tmp_path / "values.toml"
    values.write_bytes(data)
    ran = cli("reference", "sign", values, "--key", pem("a"), "--name", "a", "--json")
    assert (ran.status, ran.code) == (4, Code.REFERENCE_VALUES)
    assert not (tmp_path / "values.toml.note").exists()


def test_keys_that_cannot_sign(cli: Cli, tmp_path: Path, pem: Callable[[str], Path]) -> None:
    values = tmp_path / "values.toml"
    values.write_bytes(content())
    other = tmp_path / "p256.pem"
    p256 = ec.generate_private_key(ec.SECP256R1())
    other.write_bytes(p256.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    assert cli("reference", "sign", values, "--key", other, "--name", "a").status == 4
    assert cli("reference", "sign", values, "--key", values, "--name", "a").status == 4
    assert cli("reference", "sign", values, "--key", pem("a"), "--name", "a b").status == 2
    assert cli("reference", "sign", values, "--key", pem("a"), "--name", "").status == 2


def test_an_authority_copies_the_files_that_its_policy_names(tmp_path: Path) -> None:
    write(tmp_path, content({"not_after": (NOW + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")}))
    policy = tmp_path / "policy.toml"
    policy.write_text(HEAD + entry())
    made: dict[str, Any] = {"trust_domain": "example.org", "dns": ("example.org",), "policy": policy}
    state = tmp_path / "state"
    init_state(state, **made, simulated_roots=(), now=NOW)
    (tmp_path / "values.toml").unlink()
    assert load_policy(state / "policy.toml").workloads["app"].pins["min_isv_svn"] == 2
    assert (state / "values.toml.note").is_file()
    write(tmp_path, content({"not_after": (NOW + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")}))
    with pytest.raises(ConfigurationError):
        init_state(tmp_path / "late", **made, simulated_roots=(), now=NOW + timedelta(days=1))
