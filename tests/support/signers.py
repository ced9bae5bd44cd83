"""People who sign policies, and what they sign."""

from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from proxy_attestation.formats.signed_note import KeyType, Note, Verifier, sign_note
from proxy_attestation.policy.load import load_policy_files, note_path

KEYS = {
    name: Ed25519PrivateKey.from_private_bytes(bytes([number] * 32))
    for number, name in enumerate(("alice", "bob", "carol", "mallory"), 1)
}
"""Mallory signs for nobody."""


def verifier(name: str) -> Verifier:
    return Verifier(name, KeyType.ED25519, KEYS[name].public_key().public_bytes_raw())


SIGNERS = tuple(map(verifier, ("alice", "bob", "carol")))


def note_over(text: str, *names: str) -> bytes:
    return Note(text, tuple(sign_note(text, verifier(name), KEYS[name].sign) for name in names)).encode()


def sign(policy: Path, *names: str) -> None:
    """Put the signatures of these people beside a policy file."""
    note_path(policy).write_bytes(note_over(load_policy_files(policy).text, *names))


def key_files(directory: Path, names: Sequence[str] = tuple(KEYS)) -> dict[str, tuple[Path, Path]]:
    """Write private and public keys as `openssl` does; return their paths by name."""
    paths = {}
    for name in names:
        private, public = directory / f"{name}.pem", directory / f"{name}.pub.pem"
        private.write_bytes(KEYS[name].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        public.write_bytes(KEYS[name].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        paths[name] = private, public
    return paths
