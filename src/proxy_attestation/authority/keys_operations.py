"""What an operator may have done about handing the keys over to another proxy (`operations.py`; docs/keys.md).

Who gets keys is decided here, in the authority, by its own roots, floors, clock and signers. The operator's command
reads files and chooses collateral; it decides nothing. See docs/adr/0013.
"""

import os
from datetime import UTC, datetime
from typing import Annotated, Any, Final, NamedTuple

from proxy_attestation import log
from proxy_attestation.appraisal.asking_proxy import Asked, check_asking
from proxy_attestation.appraisal.endorsements import DcapEndorsements, SnpEndorsements
from proxy_attestation.appraisal.kinds import platform_of
from proxy_attestation.authority.issue import Issuer
from proxy_attestation.authority.messages import Seconds
from proxy_attestation.authority.operation import Operation
from proxy_attestation.authority.settings import Settings
from proxy_attestation.authority.state import BINDING
from proxy_attestation.codes import Code
from proxy_attestation.errors import RefusedError
from proxy_attestation.formats.arrays import Size, exactly
from proxy_attestation.formats.bounds import (
    DEPLOYMENT_NOTE_MAX,
    KEY_BUNDLE_MAX,
    KEY_REQUEST_MAX,
    TRANSFERRED_KEYS_MAX,
)
from proxy_attestation.formats.key_transfer import (
    NONCE_BYTES,
    KeyBundle,
    bundle_info,
    decode_key_request,
    encode_key_bundle,
    seal_to,
)

NONCE_LIFETIME: Final = 3600
"""Seconds: files are carried between machines by people."""
_NONCE: Final = "keys_nonce"


class Begin(NamedTuple):
    """The argument of an operation that needs none."""


class Nonce(NamedTuple):
    """What the evidence of the asking proxy has to carry.

    Attributes:
        nonce: 32 bytes; only the last one that was given out counts, and once.
        until: seconds since the epoch.
    """

    nonce: Annotated[bytes, exactly(NONCE_BYTES)]
    until: Seconds


class HandOver(NamedTuple):
    """A request for the keys, and what it is judged by.

    Attributes:
        request: `formats.key_transfer`.
        statement: the deployment statement, a signed note.
        intel: collateral for SGX and TDX.
        amd: for SEV-SNP.
    """

    request: Annotated[bytes, Size(1, KEY_REQUEST_MAX)]
    statement: Annotated[bytes, Size(1, DEPLOYMENT_NOTE_MAX)]
    intel: DcapEndorsements | None
    amd: SnpEndorsements | None


class HandedOver(NamedTuple):
    """The keys, sealed to the asking proxy.

    Attributes:
        bundle: that proxy alone can open it.
        names: of the keys that are in it.
    """

    bundle: Annotated[bytes, Size(1, KEY_BUNDLE_MAX)]
    names: Annotated[tuple[Annotated[str, Size(1, 32)], ...], Size(1, TRANSFERRED_KEYS_MAX)]


def asked_of(settings: Settings, nonce: bytes | None = None) -> Asked:
    """Return what a request for this authority's keys is held against."""
    return Asked(
        settings.trust_domain, settings.root_spki_sha256, settings.ledger_origin, settings.signers, settings.threshold,
        settings.roots, nonce,
    )  # fmt: skip


def _challenge(issuer: Issuer, _: Begin) -> Nonce:
    ledger, until = issuer.authority.ledger, issuer.authority.now() + NONCE_LIFETIME
    nonce = os.urandom(NONCE_BYTES)
    with ledger.transaction():
        ledger.set_meta(_NONCE, nonce + until.to_bytes(8, "big"))
    return Nonce(nonce, until)


def _hand_over(issuer: Issuer, order: HandOver) -> HandedOver:
    authority = issuer.authority
    ledger, now, settings = authority.ledger, authority.now(), authority.settings
    kept = ledger.meta(_NONCE) or b""
    nonce, until = kept[:NONCE_BYTES], int.from_bytes(kept[NONCE_BYTES:], "big")
    request = decode_key_request(order.request)
    if now >= until:
        raise RefusedError(Code.KEYS_ASKED_NONCE, "no nonce was given out, or it has expired")
    asked, collateral, moment = asked_of(settings, nonce), order.intel or order.amd, datetime.fromtimestamp(now, UTC)
    claims = check_asking(request, order.statement, asked, collateral, moment)
    floor = ledger.floors().get((claims.tee, platform_of(claims) or b""))
    if floor is not None and order.intel is not None:
        # Only now is it known which platform it is: once more, with the oldest collateral that is still allowed.
        check_asking(request, order.statement, asked, collateral, moment, floor=floor)
    keys = authority.take_keys()
    digest = ledger.meta(BINDING) or b""
    bundle = seal_to(request.public_key, encode_key_bundle(KeyBundle(digest, keys)), bundle_info(order.request))
    with ledger.transaction():
        ledger.set_meta(_NONCE, b"")
    log.info("keys handed over", tee=str(claims.tee), keys=len(keys), evidence=claims.evidence_sha256.hex())
    return HandedOver(bundle, tuple(key.name for key in keys))


KEYS_CHALLENGE: Final = Operation[Begin, Nonce]("keys-challenge", Begin, Nonce, _challenge)
KEYS_HAND_OVER: Final = Operation[HandOver, HandedOver]("keys-hand-over", HandOver, HandedOver, _hand_over)

KEYS_OPERATIONS: Final[tuple[Operation[Any, Any], ...]] = (KEYS_CHALLENGE, KEYS_HAND_OVER)
