"""The proxy's own TLS certificate: a key of ours, a leaf from the authority, both in run/ for the workers to load."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from proxy_attestation.authority.private_files import write_private
from proxy_attestation.formats.csr import spki_of

_PREFIX: Final = "tls-"


class TlsFiles(NamedTuple):
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
    chain = [x509.load_der_x509_certificate(der) for der in await leaf(spki_of(key.public_key()))]
    first, last = chain[0].not_valid_before_utc, chain[0].not_valid_after_utc
    name = directory / f"{_PREFIX}{number}"
    files = TlsFiles(name.with_suffix(".key"), name.with_suffix(".pem"), first + (last - first) * 2 / 3)
    write_private(files.key, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    write_private(files.chain, b"".join(certificate.public_bytes(Encoding.PEM) for certificate in chain))
    return files


def remove_old(directory: Path) -> None:
    """Delete what a supervisor that was killed left behind."""
    for path in directory.glob(f"{_PREFIX}*"):
        path.unlink(missing_ok=True)
