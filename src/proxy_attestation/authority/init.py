"""Makes an authority in an empty directory. What is decided here is fixed for its whole life."""

import hashlib
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from proxy_attestation.appraisal.roots import VENDOR_ROOTS, every_pin
from proxy_attestation.authority import cas
from proxy_attestation.authority import settings as rules
from proxy_attestation.authority import state as layout
from proxy_attestation.authority.authority import Authority
from proxy_attestation.authority.escrow import make_escrow, share_path
from proxy_attestation.authority.issue import Issuer
from proxy_attestation.authority.key_stores import FILE, are_keys, make_store
from proxy_attestation.authority.keys import MemoryKeys
from proxy_attestation.authority.ledger import Ledger
from proxy_attestation.authority.policy_directory import check_names, write_policy
from proxy_attestation.authority.private_files import sync_directory, write_private
from proxy_attestation.authority.settings import Recovery, Settings
from proxy_attestation.codes import Code
from proxy_attestation.errors import UnavailableError, UsageError
from proxy_attestation.formats.signed_note import Verifier
from proxy_attestation.policy.load import PolicyFiles, load_policy_files
from proxy_attestation.policy.model import Policy
from proxy_attestation.policy.reference import require_current


@dataclass(frozen=True, slots=True)
class Made:
    """A new authority.

    Attributes:
        settings: what it is.
        policy: that it begins with.
        root: DER.
        ledger_key: the log's vkey.
    """

    settings: Settings
    policy: Policy
    root: bytes
    ledger_key: str

    @property
    def dangers(self) -> tuple[str, ...]:
        """Everything dangerous about it, readable, as it will tell everybody."""
        return (*self.settings.dangers, *self.policy.dangers)


def init_state(
    state: Path,
    *,
    trust_domain: str,
    dns: Sequence[str],
    policy: Path,
    simulated_roots: Sequence[bytes],
    now: datetime,
    keys: str = FILE,
    signers: Sequence[Verifier] = (),
    threshold: int = 0,
    recovery: Recovery | None = None,
    shares: Callable[[bytes], Mapping[str, bytes]] = lambda _: {},
) -> Made:
    """Make an authority.

    Args:
        state: a directory that is empty or not there.
        trust_domain: the SPIFFE trust domain.
        dns: the suffixes under which its certificates may carry DNS names.
        policy: the policy file; it is copied, with the indexes that it names.
        simulated_roots: the root certificates (DER or PEM) of the simulated vendors whose evidence it takes; none for a
            real authority.
        now: aware UTC.
        keys: where its keys shall be, as in `Settings`.
        signers: who may sign its policies; the first one, too, has its signatures beside it.
        threshold: how many of them must have; 0 without signers.
        recovery: who can bring its keys back; None for nobody.
        shares: given SHA-256 of authority.toml, returns what is kept for each custodian, by name.

    Raises:
        UsageError: for a directory that is not empty, or a trust domain, suffix or place for keys that cannot be.
        ConfigurationError: `policy.malformed`, `policy.unsigned`, `policy.signature`; `configuration.malformed`, for a
            simulated root that is none.
        UnavailableError: `authority.unavailable`, when something cannot be written. STATE is then as it was.
    """
    if not rules.is_authority_domain(trust_domain):
        limit = rules.TRUST_DOMAIN_MAX
        raise UsageError(f"--trust-domain {trust_domain!r}: at most {limit} of a-z, 0-9, '.', '-' and '_'")
    suffixes = tuple(sorted(set(dns)))
    if not rules.are_suffixes(suffixes):
        raise UsageError(f"--dns: 1 to {rules.DNS_SUFFIXES_MAX} DNS names in lower case, without a dot in front")
    if not are_keys(keys):
        raise UsageError(f"--keys {keys!r}: file, gramine, snp, tpm:0,2,4,7, or a PKCS#11 URI")
    anchors = dict(layout.read_anchor(root, "--simulated") for root in simulated_roots)
    if not every_pin(VENDOR_ROOTS).isdisjoint(anchors.values()):
        raise UsageError("--simulated: this is a real vendor's root; use --real")
    settings = Settings(
        simulated=bool(simulated_roots),
        trust_domain=trust_domain,
        keys=keys,
        dns=suffixes,
        root_spki_sha256=bytes(32),
        anchors=frozenset(anchors.values()),
        signers=tuple(sorted(signers, key=lambda signer: signer.name)),
        threshold=threshold,
        recovery=recovery,
    )
    if not rules.is_recovery(recovery, keys):
        raise UsageError(
            "--custodian: 2 to 16 names of a-z, 0-9 and ._-, each name and key once; --recovery-threshold: 2 to all of "
            "them; none where the keys are in a token"
        )
    if not rules.are_signers(settings.signers, threshold):
        raise UsageError("--signer: names of a-z, 0-9 and ._-, each name and key once; --threshold: 1 to all of them")
    found = load_policy_files(policy)
    settings.check_policy(found.policy)
    require_current(found.policy, int(now.timestamp()))
    settings.check_signatures(found)
    check_names(found.files)
    existed = state.exists()
    _require_empty(state)
    try:
        complete, root, ledger_key = _write(state, settings, found, tuple(anchors), int(now.timestamp()), shares=shares)
    except OSError as error:
        _clear(state, keep=existed)
        raise UnavailableError(Code.AUTHORITY_UNAVAILABLE, f"{error.filename or state}: {error.strerror}") from error
    except BaseException:
        _clear(state, keep=existed)
        raise
    return Made(complete, found.policy, root, ledger_key)


def memory_issuer(
    policy: Policy,
    *,
    dns: Iterable[str],
    anchors: Iterable[bytes],
    clock: Callable[[], datetime],
    tls_names: Iterable[str] = (),
) -> Issuer:
    """Make a simulated authority that ends with the process: for benchmarks and tests.

    Args:
        policy: whose trust domain it takes.
        dns: the suffixes that the root permits.
        anchors: SPKI SHA-256 of the vendors' roots, 32 bytes each.
        clock: aware UTC.
        tls_names: host names and IP addresses of the proxy's own TLS certificate.

    Raises:
        ConfigurationError: `policy.malformed`, when the policy's names lie outside the suffixes.
        UsageError: for TLS names outside them.
    """
    settings = Settings(
        simulated=True,
        trust_domain=policy.trust_domain,
        keys=FILE,
        dns=tuple(sorted(set(dns))),
        root_spki_sha256=bytes(32),
        anchors=frozenset(anchors),
    )
    keys, ledger = MemoryKeys(), Ledger.create(None)
    complete = cas.begin(settings, keys, ledger, int(clock().timestamp()))
    authority = Authority(complete, keys, ledger, policy, clock=clock)
    return Issuer(authority, complete.server_names(tuple(tls_names)))


def _write(
    state: Path,
    settings: Settings,
    found: PolicyFiles,
    anchors: tuple[bytes, ...],
    now: int,
    *,
    shares: Callable[[bytes], Mapping[str, bytes]],
) -> tuple[Settings, bytes, str]:
    """Fill STATE, authority.toml last, without which there is no authority; return settings, root and ledger key."""
    state.mkdir(mode=0o700, exist_ok=True)
    state.chmod(0o700)
    for name in (layout.KEYS, layout.ANCHORS, layout.ENDORSEMENTS, layout.RUN):
        (state / name).mkdir(mode=0o700)
    write_policy(state, found)
    for number, anchor in enumerate(anchors, 1):
        write_private(state / layout.ANCHORS / f"simulated-root-{number}.der", anchor)
    write_private(state / layout.LEDGER, b"")
    ledger = Ledger.create(state / layout.LEDGER)
    try:
        keys = make_store(settings.keys, state / layout.KEYS, make_escrow(settings, state / layout.RECOVERY))
        complete = cas.begin(settings, keys, ledger, now)
        text = rules.encode_settings(complete).encode()
        keys.bind(text)
        for name, share in shares(hashlib.sha256(text).digest()).items():
            write_private(share_path(state / layout.RECOVERY, name), share)
        with ledger.transaction():
            ledger.set_meta(layout.BINDING, hashlib.sha256(text).digest())
        root, ledger_key = ledger.cas()[0][1], str(ledger.tree.log)
    finally:
        ledger.close()
    pem = x509.load_der_x509_certificate(root).public_bytes(Encoding.PEM)
    write_private(state / layout.ROOT, pem)
    (state / layout.ROOT).chmod(0o644)
    write_private(state / layout.SETTINGS, text)
    sync_directory(state)
    return complete, root, ledger_key


def _require_empty(state: Path) -> None:
    try:
        if any(state.iterdir()):
            raise UsageError(f"{state} is not empty: an authority is made in an empty directory")
    except FileNotFoundError:
        return
    except OSError as error:
        raise UsageError(f"{state}: {error.strerror}") from error


def _clear(state: Path, *, keep: bool) -> None:
    """Take back what was written into a directory that was empty or not there."""
    for path in state.iterdir() if keep else (state,):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
