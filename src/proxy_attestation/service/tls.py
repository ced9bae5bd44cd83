"""The proxy's own TLS certificate: a key of ours, a leaf from the authority, both in run/ for the workers to load."""

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from proxy_attestation.formats.csr import spki_of

_PREFIX: Final = "tls-"


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """One key and its certificates, on disk.

    Attributes:
        key: PKCS#8 PEM, mode 0600.
        chain: PEM, leaf first, then the issuing CA.
        renew_at: 2/3 of the leaf's life, UTC.
    """

    key: Path
    chain: Path
    renew_at: datetime

    def remove(self) -> None:
        """Delete both files."""
        self.key.unlink(missing_ok=True)
        self.chain.unlink(missing_ok=True)


async def new_tls_files(
    directory: Path, number: int, leaf: Callable[[bytes], Awaitable[tuple[bytes, ...]]]
) -> TlsFiles:
    """Make a key, get its certificate and write both; nobody loads a half-written pair, since each has its own name.

    Args:
        directory: STATE/run.
        number: not used before in this run.
        leaf: SPKI (DER) to chain (DER), as `AuthorityClient.tls_leaf`.

    Raises:
        ProxyAttestationError: whatever `leaf` raises.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    chain = await leaf(spki_of(key.public_key()))
    certificates = [x509.load_der_x509_certificate(der) for der in chain]
    pem = serialization.Encoding.PEM
    key_pem = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    first, last = certificates[0].not_valid_before_utc, certificates[0].not_valid_after_utc
    files = TlsFiles(
        directory / f"{_PREFIX}{number}.key", directory / f"{_PREFIX}{number}.pem", first + (last - first) * 2 / 3
    )
    write_private(files.key, key_pem)
    write_private(files.chain, b"".join(certificate.public_bytes(pem) for certificate in certificates))
    return files


def remove_old(directory: Path) -> None:
    """Delete what a supervisor that was killed left behind."""
    for path in directory.glob(f"{_PREFIX}*"):
        path.unlink(missing_ok=True)


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only we may read, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    temporary.replace(path)
