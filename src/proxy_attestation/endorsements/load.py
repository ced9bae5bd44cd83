"""Endorsements and trust anchors from files: the I/O beside `appraisal`.

A path is a file or a directory. The files of one directory make a set, a directory of directories makes several, and
files that are named one by one make one set together; `detect.py` tells by content what each is, `assemble.py` puts
them together. Names that begin with a dot are skipped; anything else that is no endorsement is refused by name.
"""

import hashlib
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from proxy_attestation.appraisal.endorsements import DcapEndorsements
from proxy_attestation.appraisal.roots import Roots, same_for_all
from proxy_attestation.codes import Code
from proxy_attestation.endorsements.assemble import assemble
from proxy_attestation.endorsements.detect import CHAIN_MAX, Bundle, Piece, detect, load_certificate
from proxy_attestation.endorsements.detect_nitro import nitro_root
from proxy_attestation.endorsements.detect_snp import SnpPiece, detect_snp
from proxy_attestation.errors import ConfigurationError, FormatError, ProxyAttestationError, UnavailableError
from proxy_attestation.formats import pem
from proxy_attestation.formats.bounds import (
    CERTIFICATE_MAX,
    ENDORSEMENT_BUNDLE_MAX,
    ENDORSEMENT_DEPTH_MAX,
    ENDORSEMENT_FILES_MAX,
    ENDORSEMENT_TOTAL_MAX,
)
from proxy_attestation.formats.event_log import looks_like_event_log


@dataclass(slots=True)
class _Found:
    """What has been read so far."""

    pools: list[Sequence[Piece]] = field(default_factory=list)
    amd: list[SnpPiece] = field(default_factory=list)
    logs: list[bytes] = field(default_factory=list)
    files: int = 0
    size: int = 0

    def read(self, path: Path) -> bytes:
        self.files += 1
        data = _read(path, ENDORSEMENT_BUNDLE_MAX)
        self.size += len(data)
        if self.files > ENDORSEMENT_FILES_MAX or self.size > ENDORSEMENT_TOTAL_MAX:
            raise _malformed(path, f"more than {ENDORSEMENT_FILES_MAX} files or {ENDORSEMENT_TOTAL_MAX} bytes in all")
        return data


@dataclass(frozen=True, slots=True)
class Material:
    """Everything that some paths hold.

    Attributes:
        dcap: sets of Intel collateral, in the order of the paths and, within a directory, of names. Pieces that no path
            holds are None.
        amd: AMD's certificates and revocation lists, in the same order.
        event_logs: crypto-agile logs of measured boot, in the same order: these lie beside evidence.
    """

    dcap: tuple[DcapEndorsements, ...] = ()
    amd: tuple[SnpPiece, ...] = ()
    event_logs: tuple[bytes, ...] = ()


def load_material(paths: Sequence[Path]) -> Material:
    """Read every vendor's endorsements under the given paths. Nothing is verified here.

    Raises:
        FormatError: `endorsements.malformed`, for content that is no endorsement, a directory nested deeper than 3,
            more than 1,000 files, 64 MiB or 1,024 sets, or a file that is too large.
        UnavailableError: `endorsements.unavailable`, for what cannot be read.
    """
    found = _Found()
    loose: list[Piece] = []
    for path in paths:
        if _is_directory(path):
            _walk(path, 0, found)
        else:
            loose.extend(_file(path, found))
    return Material(assemble(found.pools, loose), tuple(found.amd), tuple(found.logs))


def load_endorsements(paths: Sequence[Path]) -> tuple[DcapEndorsements, ...]:
    """Read the sets of Intel collateral alone; see `load_material`."""
    return load_material(paths).dcap


def load_roots(paths: Sequence[Path]) -> Roots:
    """Read root certificates (DER, or PEM with one or more) as anchors for any kind of evidence, by their keys.

    Raises:
        ConfigurationError: `configuration.malformed`, for a file that is anything but self-signed certificates.
        UnavailableError: `endorsements.unavailable`, for a file that cannot be read.
    """
    return same_for_all(pin for path in paths for pin in _pins(path))


def _walk(directory: Path, depth: int, found: _Found) -> None:
    if depth > ENDORSEMENT_DEPTH_MAX:
        raise _malformed(directory, f"directories nested deeper than {ENDORSEMENT_DEPTH_MAX}")
    try:
        entries = sorted(entry for entry in directory.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise _unavailable(directory, error) from error
    pool: list[Piece] = []
    directories: list[Path] = []
    for entry in entries:
        if _is_directory(entry):
            directories.append(entry)
        else:
            pool.extend(_file(entry, found))
    found.pools.append(pool)
    for entry in directories:
        _walk(entry, depth + 1, found)


def _file(path: Path, found: _Found) -> tuple[Piece, ...]:
    """Return a file's pieces of Intel's. A bundle is a pool of its own and so leaves none."""
    data = found.read(path)
    if looks_like_event_log(data):
        found.logs.append(data)
        return ()
    amd = detect_snp(data, str(path))
    if amd is not None:
        found.amd.extend(amd)
        return ()
    if nitro_root(data) is not None:
        return ()  # a Nitro document brings its chain, and its root is pinned
    held = detect(data, str(path))
    if isinstance(held, Bundle):
        found.pools.append(held.pieces)
        return ()
    return held


def _pins(path: Path) -> list[bytes]:
    data = _read(path, CHAIN_MAX * 2 * CERTIFICATE_MAX)
    try:
        ders: Sequence[bytes] = (data,)
        if pem.is_pem(data):
            code = Code.CONFIGURATION_MALFORMED
            ders = pem.decode_pem(data, pem.CERTIFICATE, code, count=CHAIN_MAX, limit=CERTIFICATE_MAX)
        return [_pin(der) for der in ders]
    except FormatError as error:
        raise ConfigurationError(Code.CONFIGURATION_MALFORMED, f"{path}: {error.detail}") from error


def _pin(der: bytes) -> bytes:
    certificate = load_certificate(der)
    if certificate is None:
        raise FormatError(Code.CONFIGURATION_MALFORMED, "not a certificate in DER or PEM")
    try:
        # An intermediate that became an anchor by mistake would outlive its revocation.
        certificate.verify_directly_issued_by(certificate)
        spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm) as error:
        raise FormatError(Code.CONFIGURATION_MALFORMED, "not a self-signed root certificate") from error
    return hashlib.sha256(spki).digest()


def _read(path: Path, limit: int) -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise _malformed(path, "not a file")
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise _unavailable(path, error) from error
    if len(data) > limit:
        raise _malformed(path, f"larger than {limit} bytes")
    return data


def _is_directory(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except OSError as error:
        raise _unavailable(path, error) from error


def _malformed(path: Path, detail: str) -> ProxyAttestationError:
    return FormatError(Code.ENDORSEMENTS_MALFORMED, f"{path}: {detail}")


def _unavailable(path: Path, error: OSError) -> ProxyAttestationError:
    return UnavailableError(Code.ENDORSEMENTS_UNAVAILABLE, f"{path}: {error.strerror}")
