"""What an authority is, for its whole life: `authority.toml`, its bytes bound by the ledger, and by the root's name."""

import re
import tomllib
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, NoReturn

from proxy_attestation.appraisal.roots import VENDOR_ROOTS, Roots, same_for_all
from proxy_attestation.authority.check import is_permitted_dns
from proxy_attestation.authority.key_stores import FILE, are_keys, origin_of
from proxy_attestation.authority.profile import ca_name
from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError, FormatError, UsageError
from proxy_attestation.formats.bounds import CUSTODIANS_MAX, POLICY_SIGNERS_MAX, TPM_ROOTS_MAX
from proxy_attestation.formats.policy_note import policy_signers
from proxy_attestation.formats.request import Names, is_dns_name, names_from
from proxy_attestation.formats.signed_note import KeyType, Verifier, parse_vkey
from proxy_attestation.policy.load import PolicyFiles
from proxy_attestation.policy.model import Policy
from proxy_attestation.policy.names import is_trust_domain, spiffe_id

SETTINGS_MAX: Final = 64 * 1024
TRUST_DOMAIN_MAX: Final = 38
"""Characters: with the words of our names they fill the 64 that a common name may have (RFC 5280, ub-common-name)."""
DNS_SUFFIXES_MAX: Final = 32
SERVER_ENTRY: Final = "proxy-attestation/server"
"""The path of the proxy's own SPIFFE ID."""

UNSIGNED_POLICY: Final = "unsigned_policy: whoever can edit the disk can change or loosen the policy"

_SIGNER_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_FORMAT: Final = 1
_DIGEST: Final = 32
_REAL: Final = "real"
_SIMULATED: Final = "simulated"


class Custodian(NamedTuple):
    """Somebody who has a share of the recovery key.

    Attributes:
        name: of a-z, A-Z, 0-9 and `._-`.
        public_key: X25519, 32 bytes.
    """

    name: str
    public_key: bytes

    def __str__(self) -> str:
        """Return it as authority.toml has it."""
        return f"{self.name}={self.public_key.hex()}"


@dataclass(frozen=True, slots=True)
class Recovery:
    """How an authority's keys can be brought back.

    Attributes:
        public_key: X25519, 32 bytes: what every key is sealed to when it is made.
        custodians: who have shares of its private half, sorted by name.
        threshold: how many of them it takes.
    """

    public_key: bytes
    custodians: tuple[Custodian, ...]
    threshold: int


@dataclass(frozen=True, slots=True)
class Settings:
    """What was decided at `init`.

    Attributes:
        simulated: whether it takes simulated evidence; never both kinds.
        trust_domain: the SPIFFE trust domain.
        keys: where its keys are: `file`; a PKCS#11 URI; or what seals them: `gramine`, `snp`, `tpm:0,2,4,7`
            (`key_stores.py`).
        dns: the suffixes that the root permits, sorted.
        root_spki_sha256: 32 bytes, of the first root; its successors are in the ledger.
        anchors: SPKI SHA-256 of the simulated vendors' roots, 32 bytes each; none in a real authority, which trusts
            the pinned vendors.
        signers: who may sign its policies, sorted by name; none, and then whoever edits the disk can change them.
        threshold: how many of them must have signed each; 0 without signers.
        recovery: who can bring its keys back; None for nobody.
    """

    simulated: bool
    trust_domain: str
    keys: str
    dns: tuple[str, ...]
    root_spki_sha256: bytes
    anchors: frozenset[bytes]
    signers: tuple[Verifier, ...] = ()
    threshold: int = 0
    recovery: Recovery | None = None

    @property
    def roots(self) -> Roots:
        """What evidence may chain to."""
        return same_for_all(self.anchors) if self.simulated else VENDOR_ROOTS

    @property
    def key_origin(self) -> str:
        """`file`, `pkcs11` or `tee`: what everybody is told."""
        return origin_of(self.keys)

    @property
    def organization(self) -> str | None:
        """The O of the CA names: what everybody should see."""
        if self.simulated:
            return "SIMULATED"
        if self.key_origin == FILE:
            return "FILE KEYS"
        return None if self.signers else "UNSIGNED POLICY"

    @property
    def dangers(self) -> tuple[str, ...]:
        """What weakens its certificates whatever the policy says, readable."""
        return () if self.signers else (UNSIGNED_POLICY,)

    def root_name(self, generation: int) -> bytes:
        """Return the DER of a root's name; the first is generation 1."""
        return ca_name(self.trust_domain, f"Root G{generation}", self.organization)

    def issuing_name(self, number: int) -> bytes:
        """Return the DER of an issuing CA's name."""
        return ca_name(self.trust_domain, f"CA {number}", self.organization)

    @property
    def ledger_origin(self) -> str:
        """The ledger's name, by the first root: no two authorities share one, and a successor of the root keeps it."""
        return f"{self.trust_domain}/issuance/{self.root_spki_sha256.hex()[:16]}"

    @property
    def server_id(self) -> str:
        """The proxy's own SPIFFE ID."""
        return spiffe_id(self.trust_domain, SERVER_ENTRY)

    def check_policy(self, policy: Policy) -> None:
        """Check that a policy is one for this authority.

        Raises:
            ConfigurationError: `policy.malformed`.
        """
        if policy.trust_domain != self.trust_domain:
            _malformed(f"trust_domain is {policy.trust_domain!r}; this authority's is {self.trust_domain!r}")
        if len(policy.tpm_roots) > TPM_ROOTS_MAX:
            _malformed(f"{len(policy.tpm_roots)} CAs of TPMs, at most {TPM_ROOTS_MAX} allowed")
        for workload in policy.workloads.values():
            for name in workload.names.dns:
                if not is_permitted_dns(name, self.dns):
                    suffixes = ", ".join(self.dns)
                    _malformed(f"[[workload]] {workload.name!r}: dns {name!r} lies outside the root's {suffixes}")

    def check_signatures(self, found: PolicyFiles) -> tuple[str, ...]:
        """Check that enough signers have signed a policy; return their names, none where there are no signers.

        Raises:
            ConfigurationError: `policy.unsigned` or `policy.signature`, see `formats.policy_note`.
        """
        return policy_signers(found.note, found.text, self.signers, self.threshold) if self.signers else ()

    def server_names(self, names: tuple[str, ...]) -> Names:
        """Return the names of the proxy's own TLS certificate.

        Args:
            names: DNS names and IP addresses, as text.

        Raises:
            UsageError: for a name that the root does not permit, or that is none.
        """
        addresses = tuple(name for name in names if ":" in name or name.replace(".", "").isdigit())
        hosts = tuple(name for name in names if name not in addresses)
        for host in hosts:
            if not is_dns_name(host) or not is_permitted_dns(host, self.dns):
                suffixes = ", ".join(self.dns)
                raise UsageError(f"{host!r} cannot be in a certificate: the root permits {suffixes} and IP addresses")
        try:
            return names_from(hosts, addresses, (self.server_id,))
        except FormatError as error:
            raise UsageError(error.detail) from error


def encode_settings(settings: Settings) -> str:
    """Return the text of authority.toml."""
    dns = ", ".join(f'"{suffix}"' for suffix in settings.dns)
    anchors = ", ".join(f'"{anchor.hex()}"' for anchor in sorted(settings.anchors))
    signers = ", ".join(f'"{signer}"' for signer in settings.signers)
    return (
        "# What this authority is. Written by `proxy-attestation init`; fixed for life: a change refuses the start.\n"
        f"format = {_FORMAT}\n"
        f'kind = "{_SIMULATED if settings.simulated else _REAL}"\n'
        f'trust_domain = "{settings.trust_domain}"\n'
        f'keys = "{settings.keys}"\n'
        f"dns = [{dns}]\n"
        f'root_spki_sha256 = "{settings.root_spki_sha256.hex()}"\n'
        f"anchors = [{anchors}]\n"
        f"signers = [{signers}]\n"
        f"threshold = {settings.threshold}\n"
        f"{_encode_recovery(settings.recovery)}"
    )


def _encode_recovery(recovery: Recovery | None) -> str:
    if recovery is None:
        return ""
    custodians = ", ".join(f'"{custodian}"' for custodian in recovery.custodians)
    return (
        f'recovery_key = "{recovery.public_key.hex()}"\n'
        f"recovery_threshold = {recovery.threshold}\n"
        f"custodians = [{custodians}]\n"
    )


def _decode_recovery(table: dict[str, Any]) -> Recovery | None:
    if "recovery_key" not in table:
        return None
    pairs = (text.partition("=") for text in table["custodians"])
    custodians = tuple(Custodian(name, bytes.fromhex(key)) for name, _, key in pairs)
    return Recovery(bytes.fromhex(table["recovery_key"]), custodians, table["recovery_threshold"])


def decode_settings(data: bytes) -> Settings:
    """Read authority.toml.

    Raises:
        ConfigurationError: `authority.state`, for anything that `encode_settings` would not have written of settings
            that an authority can have.
    """
    try:
        table = tomllib.loads(data.decode())
        settings = Settings(
            simulated=table["kind"] == _SIMULATED,
            trust_domain=table["trust_domain"],
            keys=table["keys"],
            dns=tuple(table["dns"]),
            root_spki_sha256=bytes.fromhex(table["root_spki_sha256"]),
            anchors=frozenset(map(bytes.fromhex, table["anchors"])),
            signers=tuple(map(parse_vkey, table["signers"])),
            threshold=table["threshold"],
            recovery=_decode_recovery(table),
        )
        # Byte for byte what it would be: that covers unknown keys, types, another kind or format, other spellings.
        same = encode_settings(settings).encode() == data
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError, FormatError) as error:
        raise ConfigurationError(Code.AUTHORITY_STATE, f"authority.toml: {error}") from error
    digests = (settings.root_spki_sha256, *settings.anchors)
    possible = (
        same
        and are_keys(settings.keys)
        and is_authority_domain(settings.trust_domain)
        and are_suffixes(settings.dns)
        and settings.simulated == bool(settings.anchors)
        and all(len(digest) == _DIGEST for digest in digests)
        and are_signers(settings.signers, settings.threshold)
        and is_recovery(settings.recovery, settings.keys)
    )
    if not possible:
        raise ConfigurationError(Code.AUTHORITY_STATE, "authority.toml: not as it was written, or no authority's")
    return settings


def is_authority_domain(text: str) -> bool:
    """Tell whether an authority can be made for a trust domain."""
    return len(text) <= TRUST_DOMAIN_MAX and is_trust_domain(text)


def are_signers(signers: tuple[Verifier, ...], threshold: int) -> bool:
    """Tell whether these can be who signs an authority's policies, and how many must: at most all of them, or nobody.

    Sorted by name, each name and key once; names of a-z, A-Z, 0-9 and `._-`; Ed25519.
    """
    names, keys = [signer.name for signer in signers], {signer.public_key for signer in signers}
    return (
        names == sorted(set(names))
        and len(keys) == len(signers) <= POLICY_SIGNERS_MAX
        and all(_SIGNER_NAME.match(signer.name) and signer.type is KeyType.ED25519 for signer in signers)
        and min(1, len(signers)) <= threshold <= len(signers)
    )


def is_recovery(recovery: Recovery | None, keys: str) -> bool:
    """Tell whether this can be how keys are brought back: 2 to all of 2 to 16 custodians, sorted by name, each once.

    Keys in a token never leave it, so nothing of them can be in escrow.
    """
    if recovery is None:
        return True
    names = [custodian.name for custodian in recovery.custodians]
    public = [recovery.public_key, *(custodian.public_key for custodian in recovery.custodians)]
    return (
        origin_of(keys) != "pkcs11"
        and names == sorted(set(names))
        and all(map(_SIGNER_NAME.match, names))
        and len(set(public)) == len(public)
        and {len(key) for key in public} == {_DIGEST}
        and 2 <= recovery.threshold <= len(names) <= CUSTODIANS_MAX
    )


def are_suffixes(suffixes: tuple[str, ...]) -> bool:
    """Tell whether these can be a root's permitted DNS suffixes: some, valid, sorted, each once."""
    return (
        0 < len(suffixes) <= DNS_SUFFIXES_MAX
        and all(is_dns_name(suffix) for suffix in suffixes)
        and tuple(sorted(set(suffixes))) == suffixes
    )


def _malformed(what: str) -> NoReturn:
    raise ConfigurationError(Code.POLICY_MALFORMED, what)
