"""The directory STATE of an authority: its layout, and opening what `init` made.

::

    authority.toml      what it is; fixed for life, its SHA-256 is in the ledger          settings.py
    root.pem            the root certificate, for people and clients
    policy.toml         the policy, beside or below it the files that it names, its signatures in policy.toml.note
    policies/           the versions that were in force                                   policy_directory.py
    keys/               0700: root.key, issuing-N.key, log.key, 0600; or sealed           keys.py, key_stores.py
    ledger.sqlite       0600                                                              ledger.py
    anchors/            a simulated authority's vendor roots, DER
    endorsements/       vendor collateral, the workers' business
    recovery/           0700: shares of custodians, keys in escrow, where `init` had any  escrow.py
    run/                0700: sockets, ports.json, the TLS key

Who controls this directory controls the authority, since its keys are files in it. The checks here catch mistakes, and
tampering by those who can write only some of it.
"""

import fcntl
import hashlib
import hmac
import os
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from proxy_attestation.appraisal.roots import every_pin
from proxy_attestation.authority.authority import Authority
from proxy_attestation.authority.escrow import escrow_of
from proxy_attestation.authority.key_stores import open_store
from proxy_attestation.authority.ledger import Ledger
from proxy_attestation.authority.policy_directory import PolicyDirectory
from proxy_attestation.authority.private_files import check_private, read_private
from proxy_attestation.authority.settings import SETTINGS_MAX, Settings, decode_settings
from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError, UnavailableError
from proxy_attestation.formats.bounds import CERTIFICATE_MAX
from proxy_attestation.formats.policy_note import POLICY_FILE
from proxy_attestation.policy.load import load_policy
from proxy_attestation.policy.model import Policy

SETTINGS: Final = "authority.toml"
ROOT: Final = "root.pem"
POLICY: Final = POLICY_FILE
KEYS: Final = "keys"
LEDGER: Final = "ledger.sqlite"
ANCHORS: Final = "anchors"
ENDORSEMENTS: Final = "endorsements"
RECOVERY: Final = "recovery"
RUN: Final = "run"
SOCKET: Final = "authority.sock"
OPERATOR_SOCKET: Final = "operator.sock"
BINDING: Final = "authority_sha256"
"""The name of the single value in the ledger that holds SHA-256 of authority.toml."""

LOCK_SECONDS: Final = 5.0
_LOCK_STEP: Final = 0.05
_ANCHORS_MAX: Final = 16


def lock_state(state: Path, patience: float = LOCK_SECONDS) -> int:
    """Hold STATE for this process; return the descriptor that holds it. The kernel lets go when the process ends.

    Args:
        state: the directory.
        patience: seconds to wait for another one that is ending.

    Raises:
        ConfigurationError: `authority.state`, when there is no authority in STATE.
        UnavailableError: `authority.unavailable`, when another authority runs on it.
    """
    path = state / SETTINGS
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigurationError(Code.AUTHORITY_STATE, f"{path}: {error.strerror}") from error
    end = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if time.monotonic() >= end:
                os.close(descriptor)
                raise UnavailableError(Code.AUTHORITY_UNAVAILABLE, f"another authority runs on {state}") from error
            time.sleep(_LOCK_STEP)
        else:
            return descriptor


def open_authority(state: Path, clock: Callable[[], datetime]) -> Authority:
    """Open the authority of STATE, having checked all that can be checked. `lock_state` comes first.

    Raises:
        ConfigurationError: `authority.state`, `keys.sealed`, `policy.malformed`, `policy.unsigned`, `policy.signature`
            or `policy.stale`.
        UnavailableError: `authority.clock`, `authority.unavailable` or `keys.unavailable`.
    """
    try:
        for directory in (state / KEYS, state / RUN):
            check_private(directory, directory=True)
        data = read_private(state / SETTINGS, SETTINGS_MAX)
        settings = decode_settings(data)
        check_private(state / LEDGER)
        _check_anchors(state / ANCHORS, settings)
    except OSError as error:
        raise ConfigurationError(Code.AUTHORITY_STATE, f"{error.filename}: {error.strerror}") from error
    policies = PolicyDirectory(state)
    policy = policies.read()
    ledger = Ledger.open(state / LEDGER)
    try:
        _check_binding(ledger, data)
        keys = open_store(settings.keys, state / KEYS, escrow_of(settings, state / RECOVERY))
        keys.check(data)
        authority = Authority(settings, keys, ledger, policy, clock=clock)
        _check_root(state / ROOT, authority.root.certificate)
        policies.keep(policy)
        authority.policies = policies
    except BaseException:
        ledger.close()
        raise
    return authority


def read_policy(state: Path) -> Policy:
    """Read the policy of STATE as it stands there, for whoever does not put it in force.

    Raises:
        ConfigurationError: `policy.malformed`.
    """
    return load_policy(state / POLICY)


def read_anchor(data: bytes, source: str) -> tuple[bytes, bytes]:
    """Read a vendor's root certificate, DER or PEM; return its DER and its SPKI SHA-256.

    Raises:
        ConfigurationError: `configuration.malformed`, when it is no self-signed certificate.
    """
    code = Code.CONFIGURATION_MALFORMED
    if len(data) > 2 * CERTIFICATE_MAX:
        raise ConfigurationError(code, f"{source}: {len(data)} bytes are no certificate")
    try:
        pem = data.lstrip().startswith(b"-----BEGIN ")
        certificate = x509.load_pem_x509_certificate(data) if pem else x509.load_der_x509_certificate(data)
        certificate.verify_directly_issued_by(certificate)
        spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except Exception as error:
        # Whatever `cryptography` finds wrong with it, in whichever of its ways: this is not a root.
        raise ConfigurationError(code, f"{source}: not a self-signed certificate") from error
    return certificate.public_bytes(Encoding.DER), hashlib.sha256(spki).digest()


def _check_anchors(directory: Path, settings: Settings) -> None:
    """Check that anchors/ holds what was decided at `init`: a real authority takes the pinned vendors and nobody else.

    Raises:
        ConfigurationError: `authority.state`.
        OSError: when it cannot be read.
    """
    paths = sorted(directory.iterdir())
    if len(paths) > _ANCHORS_MAX:
        raise ConfigurationError(Code.AUTHORITY_STATE, f"{directory}: {len(paths)} files")
    try:
        found = {read_anchor(path.read_bytes(), str(path))[1] for path in paths}
    except ConfigurationError as error:
        raise ConfigurationError(Code.AUTHORITY_STATE, error.detail) from error
    if settings.simulated and found != settings.anchors:
        raise ConfigurationError(Code.AUTHORITY_STATE, f"{directory}: not the anchors that authority.toml names")
    if not settings.simulated and not found <= every_pin(settings.roots):
        raise ConfigurationError(
            Code.AUTHORITY_STATE, f"{directory}: a real authority takes no anchor beyond the pinned vendors"
        )


def _check_binding(ledger: Ledger, data: bytes) -> None:
    bound = ledger.meta(BINDING)
    if bound is None or not hmac.compare_digest(bound, hashlib.sha256(data).digest()):
        raise ConfigurationError(Code.AUTHORITY_STATE, "authority.toml was changed after `init`")


def _check_root(path: Path, certificate: bytes) -> None:
    try:
        written = x509.load_pem_x509_certificate(path.read_bytes()).public_bytes(Encoding.DER)
    except (OSError, ValueError) as error:
        raise ConfigurationError(Code.AUTHORITY_STATE, f"{path}: {error}") from error
    if written != certificate:
        raise ConfigurationError(Code.AUTHORITY_STATE, f"{path}: not the root of the ledger")
