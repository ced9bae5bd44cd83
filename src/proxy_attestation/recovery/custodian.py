"""What is done for custodians at `init`, and what a custodian does when keys shall be brought back."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from proxy_attestation.appraisal.asking_proxy import check_asking
from proxy_attestation.appraisal.claims import Claims
from proxy_attestation.appraisal.kinds import Endorsements
from proxy_attestation.authority.keys_operations import asked_of
from proxy_attestation.authority.settings import Custodian, Recovery, decode_settings
from proxy_attestation.codes import Code
from proxy_attestation.errors import RefusedError
from proxy_attestation.formats.key_transfer import (
    KeyRequest,
    approval_info,
    decode_key_request,
    open_sealed,
    seal_to,
    share_info,
)
from proxy_attestation.recovery.shares import split


class Plan(NamedTuple):
    """How a new authority's keys can be brought back, with what `init_state` takes for it.

    Attributes:
        recovery: for authority.toml.
        shares: given SHA-256 of authority.toml, returns each custodian's share, sealed to him.
    """

    recovery: Recovery
    shares: Callable[[bytes], Mapping[str, bytes]]


def plan_recovery(custodians: Sequence[Custodian], threshold: int) -> Plan:
    """Make a recovery key and split its private half. Whether these can be custodians is `init_state`'s to check.

    Raises:
        UnavailableError: `keys.unavailable`, where the package for shares is absent.
    """
    private = X25519PrivateKey.generate()
    ordered = tuple(sorted(custodians))
    mnemonics = split(private.private_bytes_raw(), threshold, len(ordered))

    def shares(settings_sha256: bytes) -> dict[str, bytes]:
        return {
            custodian.name: seal_to(
                custodian.public_key, mnemonic.encode(), share_info(custodian.name, settings_sha256)
            )
            for custodian, mnemonic in zip(ordered, mnemonics, strict=True)
        }

    return Plan(Recovery(private.public_key().public_bytes_raw(), ordered, threshold), shares)


class Approval(NamedTuple):
    """What a custodian answers.

    Attributes:
        sealed: his share, which the asking proxy alone can open.
        custodian: his name.
        request: that he answers.
        claims: of the asking proxy.
    """

    sealed: bytes
    custodian: str
    request: KeyRequest
    claims: Claims


def approve(  # noqa: PLR0917 - what is asked, what it is judged by, and what is given
    data: bytes,
    statement: bytes,
    settings_data: bytes,
    share: bytes,
    key: X25519PrivateKey,
    endorsements: Endorsements | None,
    now: datetime,
    tcb: frozenset[str] | None = None,
) -> Approval:
    """Judge a request, as `check_asking` does, and seal a custodian's share to the proxy that asks.

    authority.toml comes from whoever asks, but the share opens only with the one that `init` wrote: signers, root and
    custodians in it cannot be others.

    Args:
        data: the request.
        statement: the deployment statement, a signed note.
        settings_data: the bytes of authority.toml.
        share: the custodian's file.
        key: the custodian's.
        endorsements: collateral for the asking platform, or None.
        now: aware, UTC.
        tcb: states of the platform that this custodian accepts; None for the default.

    Raises:
        FormatError, AppraisalError, RefusedError: as `check_asking`; `recovery.none`, `recovery.custodian`;
            `keys.transfer_sealed`, for a share of another custodian or authority.
        ConfigurationError: `authority.state`, for another authority.toml than `init` writes.
    """
    settings, digest = decode_settings(settings_data), hashlib.sha256(settings_data).digest()
    if settings.recovery is None:
        raise RefusedError(Code.RECOVERY_NONE)
    public_key = key.public_key().public_bytes_raw()
    name = next((one.name for one in settings.recovery.custodians if one.public_key == public_key), None)
    if name is None:
        raise RefusedError(Code.RECOVERY_CUSTODIAN, f"custodians: {', '.join(map(str, settings.recovery.custodians))}")
    mnemonic = open_sealed(key, share, share_info(name, digest))
    request, asked = decode_key_request(data), asked_of(settings)
    asked = asked if tcb is None else replace(asked, tcb=tcb)
    claims = check_asking(request, statement, asked, endorsements, now)
    return Approval(seal_to(request.public_key, mnemonic, approval_info(data, digest)), name, request, claims)
