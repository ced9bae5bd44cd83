"""What the signers of a policy sign, and whose signatures under it count."""

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError
from proxy_attestation.formats.policy_note import policy_signers, policy_text
from proxy_attestation.formats.signed_note import KeyType, Note, Verifier, sign_note

FILES = {"z.index": b"z", "policy.toml": b"policy", "below/a.index": b"a"}
KEYS = {name: Ed25519PrivateKey.from_private_bytes(bytes([number] * 32)) for number, name in enumerate("abcd", 1)}
SIGNERS = tuple(Verifier(name, KeyType.ED25519, key.public_key().public_bytes_raw()) for name, key in KEYS.items())
TEXT = policy_text("example.org", 7, FILES)


def note(*names: str, text: str = TEXT) -> bytes:
    lines = [sign_note(text, signer, KEYS[signer.name].sign) for signer in SIGNERS if signer.name in names]
    return Note(text, tuple(lines)).encode()


def refused(data: bytes | None, threshold: int = 2, signers: tuple[Verifier, ...] = SIGNERS[:3]) -> Code:
    with pytest.raises(ConfigurationError) as caught:
        policy_signers(data, TEXT, signers, threshold)
    return caught.value.code


def test_the_policy_comes_first_and_the_rest_by_name() -> None:
    def line(name: str) -> str:
        return f"file {hashlib.sha256(FILES[name]).hexdigest()} {name}"

    lines = ["proxy-attestation/policy/v1", "example.org", "7", *map(line, ("policy.toml", "below/a.index", "z.index"))]
    assert "".join(f"{row}\n" for row in lines) == TEXT


@pytest.mark.parametrize("names", ["ab", "ac", "bc", "abc", "abd"])
def test_enough_signers(names: str) -> None:
    assert policy_signers(note(*names), TEXT, SIGNERS[:3], 2) == tuple(name for name in names if name != "d")


def test_too_few_are_refused() -> None:
    assert refused(note("a")) is Code.POLICY_SIGNATURE
    assert refused(note("a", "b"), threshold=3) is Code.POLICY_SIGNATURE


def test_a_stranger_does_not_count() -> None:
    assert refused(note("a", "d")) is Code.POLICY_SIGNATURE
    assert refused(note("d"), threshold=1) is Code.POLICY_SIGNATURE


def test_a_signature_of_the_same_name_under_another_key_does_not_count() -> None:
    other = Ed25519PrivateKey.from_private_bytes(b"\x55" * 32)
    stranger = Verifier("b", KeyType.ED25519, other.public_key().public_bytes_raw())
    lines = (sign_note(TEXT, SIGNERS[0], KEYS["a"].sign), sign_note(TEXT, stranger, other.sign))
    assert refused(Note(TEXT, lines).encode()) is Code.POLICY_SIGNATURE


def test_one_signer_does_not_count_twice() -> None:
    once = sign_note(TEXT, SIGNERS[0], KEYS["a"].sign)
    assert refused(Note(TEXT, (once, once)).encode()) is Code.POLICY_SIGNATURE


def test_a_bad_signature_of_a_signer_refuses_the_whole_note() -> None:
    lines = (
        sign_note(TEXT, SIGNERS[0], KEYS["a"].sign),
        sign_note(TEXT, SIGNERS[1], KEYS["b"].sign),
        sign_note(TEXT, SIGNERS[2], KEYS["d"].sign),
    )
    assert refused(Note(TEXT, lines).encode()) is Code.POLICY_SIGNATURE


@pytest.mark.parametrize(
    "text",
    [
        policy_text("example.com", 7, FILES),
        policy_text("example.org", 8, FILES),
        policy_text("example.org", 7, {**FILES, "policy.toml": b"policY"}),
        policy_text("example.org", 7, {**FILES, "z.index": b"Z"}),
        policy_text("example.org", 7, {"policy.toml": b"policy"}),
    ],
    ids=["trust domain", "version", "policy", "index", "files"],
)
def test_signatures_over_anything_else_are_refused(text: str) -> None:
    assert refused(note("a", "b", "c", text=text)) is Code.POLICY_SIGNATURE


def test_without_a_note_it_is_unsigned() -> None:
    assert refused(None) is Code.POLICY_UNSIGNED


@pytest.mark.parametrize("data", [b"", b"\xff", TEXT.encode(), b"x" * 70_000, note("a", "b").replace(b"\n\n", b"\n")])
def test_what_is_no_note_is_refused(data: bytes) -> None:
    assert refused(data) is Code.POLICY_SIGNATURE
