"""The proxy that asks for an authority's keys. The key that answers are sealed to lives as long as its process."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from proxy_attestation.authority.escrow import read_escrow
from proxy_attestation.authority.settings import Settings
from proxy_attestation.codes import Code
from proxy_attestation.errors import RefusedError
from proxy_attestation.formats.binder import Binding
from proxy_attestation.formats.key_transfer import (
    KeyRequest,
    Purpose,
    TransferredKey,
    approval_info,
    bind_keys,
    bundle_info,
    decode_key_bundle,
    encode_key_request,
    open_sealed,
)
from proxy_attestation.formats.tee import Tee
from proxy_attestation.recovery.shares import combine


class Quoted(NamedTuple):
    """Evidence as an attester makes it; the fields of a `KeyRequest`."""

    tee: Tee
    evidence: bytes
    platform_certificates: tuple[bytes, ...] = ()
    event_log: bytes | None = None


class Asking:
    """One request, and what opens its answers.

    Attributes:
        request: to be sent.
    """

    def __init__(
        self,
        purpose: Purpose,
        settings: Settings,
        settings_data: bytes,
        nonce: bytes,
        quote: Callable[[Binding], Quoted],
    ) -> None:
        """Make a key and a request with evidence that carries it.

        Args:
            purpose: of whom it asks.
            settings: of the authority whose keys are asked for.
            settings_data: the bytes of authority.toml.
            nonce: 32 bytes.
            quote: makes evidence.

        Raises:
            RefusedError: `recovery.none`, where recovery is asked of an authority without custodians.
            UnavailableError: `attester.unavailable`.
        """
        if purpose is Purpose.RECOVERY and settings.recovery is None:
            raise RefusedError(Code.RECOVERY_NONE)
        self._settings, self._digest = settings, hashlib.sha256(settings_data).digest()
        self._key = X25519PrivateKey.generate()
        root, public_key = settings.root_spki_sha256, self._key.public_key().public_bytes_raw()
        quoted = quote(bind_keys(purpose, root, public_key, nonce))
        self.request = encode_key_request(KeyRequest(purpose, root, public_key, nonce, *quoted))

    def open_bundle(self, data: bytes) -> tuple[TransferredKey, ...]:
        """Open the answer of a hand-over.

        Raises:
            RefusedError: `keys.transfer_sealed`; `keys.transfer_other`, for keys of another authority.
            FormatError: `keys.transfer_malformed`.
        """
        bundle = decode_key_bundle(open_sealed(self._key, data, bundle_info(self.request)))
        if bundle.settings_sha256 != self._digest:
            raise RefusedError(Code.KEYS_TRANSFER_OTHER)
        return bundle.keys

    def open_approvals(self, approvals: Sequence[bytes], recovery: Path) -> tuple[TransferredKey, ...]:
        """Put custodians' shares together and open what is in escrow.

        Args:
            approvals: of as many custodians as it takes.
            recovery: recovery/ of STATE.

        Raises:
            RefusedError: `recovery.none`; `recovery.shares`, for too few shares, or those of another recovery key;
                `keys.transfer_sealed`, for an approval of another request, or a key in escrow that does not open.
            ConfigurationError: `authority.state`, when the escrow cannot be read.
        """
        plan = self._settings.recovery
        if plan is None:
            raise RefusedError(Code.RECOVERY_NONE)
        info = approval_info(self.request, self._digest)
        shares = [open_sealed(self._key, data, info).decode("ascii", "replace") for data in approvals]
        private = X25519PrivateKey.from_private_bytes(combine(shares, plan.threshold))
        if private.public_key().public_bytes_raw() != plan.public_key:
            raise RefusedError(Code.RECOVERY_SHARES, "they give another key than this authority's recovery key")
        return read_escrow(recovery, lambda sealed, label: open_sealed(private, sealed, label))
