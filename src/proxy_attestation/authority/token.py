r"""Session tokens: a challenge that costs the proxy no storage (docs/protocol.md, "Session token").

``body = 01 || key id (4) || session id (16) || ca id (32) || expiry (u64, seconds) || tee (1)``, all big-endian;
``token = body || HMAC-SHA256(key, "proxy-attestation/token/v1\0" || body)``, 94 bytes. The nonce is never in it:
``nonce = HMAC-SHA256(key, "proxy-attestation/nonce/v1\0" || body)``. Pure functions; the keys are the authority's.

For a TPM whose AK is to be activated, the body goes on with ``AK's name (34, 50 or 66) || SHA-256(EK's SPKI) (32)``:
the credential that holds the nonce was made for that AK beside that EK, and for no other.
"""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final

from proxy_attestation.appraisal.tpm import Activation
from proxy_attestation.authority.messages import TokenKey
from proxy_attestation.codes import Code
from proxy_attestation.errors import InternalError, RequestError, UnavailableError
from proxy_attestation.formats.tee import Tee

CHALLENGE_LIFETIME: Final = 120
"""Seconds that a challenge lives at most."""
TOKEN_LENGTH: Final = 94
_NAME_LENGTHS: Final = (34, 50, 66)
"""Of a TPM object's name, by SHA-256, SHA-384 or SHA-512: two bytes and the hash. SHA-1 names nothing."""
_EK_LENGTH: Final = 32
TOKEN_LENGTH_MAX: Final = TOKEN_LENGTH + _NAME_LENGTHS[-1] + _EK_LENGTH

_VERSION: Final = b"\x01"
_MAC_LABEL: Final = b"proxy-attestation/token/v1\0"
_NONCE_LABEL: Final = b"proxy-attestation/nonce/v1\0"
_TEE_CODES: Final = {Tee.SGX: 1, Tee.TDX: 2, Tee.SNP: 3, Tee.NITRO: 4, Tee.TPM: 5}
_TEES: Final = {code: tee for tee, code in _TEE_CODES.items()}
_MAC_LENGTH: Final = 32
_BODY_LENGTH: Final = TOKEN_LENGTH - _MAC_LENGTH


@dataclass(frozen=True, slots=True)
class Token:
    """What a valid token says.

    Attributes:
        session_id: 16 bytes.
        nonce: 32 bytes, derived.
        ca_id: 32 bytes, SHA-256 of the issuing CA's SPKI.
        tee: the kind of evidence that the challenge was asked for.
        expires_at: seconds since the epoch.
        activation: for whom the nonce was put into a credential, or None where it was handed out in clear.
    """

    session_id: bytes
    nonce: bytes
    ca_id: bytes
    tee: Tee
    expires_at: int
    activation: Activation | None = None


def make_token(
    key: TokenKey,
    *,
    session_id: bytes,
    tee: Tee,
    ca_id: bytes,
    expires_at: int,
    activation: Activation | None = None,
) -> bytes:
    """Make a token.

    Args:
        key: the newest of the authority's keys.
        session_id: 16 random bytes, never used before.
        tee: the kind of evidence that the challenge is for.
        ca_id: 32 bytes, SHA-256 of the active issuing CA's SPKI.
        expires_at: seconds since the epoch, at most `CHALLENGE_LIFETIME` ahead.
        activation: for a TPM, whose credential holds the nonce; or None.

    Returns:
        94 bytes, 160 to 192 with an activation; `token_nonce` gives the nonce that goes with them.

    Raises:
        UnavailableError: `authority.unavailable`, when the key is retired before the token would expire: the caller
            has to ask the authority for its keys again.
        InternalError: when a part has another length than the format gives it.
    """
    if expires_at > key.not_after:
        raise UnavailableError(Code.AUTHORITY_UNAVAILABLE, "the token key is too old")
    body = _VERSION + key.key_id + session_id + ca_id + expires_at.to_bytes(8, "big") + bytes((_TEE_CODES[tee],))
    more = b"" if activation is None else activation.ak_name + activation.ek_spki_sha256
    lengths = (len(key.key_id), len(session_id), len(ca_id))
    if lengths != (4, 16, 32) or (activation is not None and len(more) - _EK_LENGTH not in _NAME_LENGTHS):
        raise InternalError("a part of a session token has the wrong length")
    body += more
    return body + _mac(key, _MAC_LABEL, body)


def token_nonce(key: TokenKey, token: bytes) -> bytes:
    """Return the 32 bytes of nonce that belong to a token made with `key`."""
    return _mac(key, _NONCE_LABEL, token[:-_MAC_LENGTH])


def open_token(keys: Sequence[TokenKey], token: bytes, now: datetime) -> Token:
    """Check a token as a peer returned it, and read it.

    Args:
        keys: the keys that may have made it.
        token: the peer's bytes.
        now: aware UTC.

    Raises:
        RequestError: `challenge.invalid` for anything that was not made with one of the keys, or that would live
            longer than a challenge may; `challenge.expired`.
    """
    if not TOKEN_LENGTH <= len(token) <= TOKEN_LENGTH_MAX or token[:1] != _VERSION:
        raise RequestError(Code.CHALLENGE_INVALID, "not a session token")
    body, mac = token[:-_MAC_LENGTH], token[-_MAC_LENGTH:]
    key = next((candidate for candidate in keys if candidate.key_id == body[1:5]), None)
    if key is None or not hmac.compare_digest(mac, _mac(key, _MAC_LABEL, body)):
        raise RequestError(Code.CHALLENGE_INVALID, "made by somebody else, or with a retired key")
    tee = _TEES.get(body[61])
    expires_at = int.from_bytes(body[53:61], "big")
    seconds = now.timestamp()
    # Whoever holds a key could make a token that never ends; the ledger's session ids would then be spent for nothing.
    if tee is None or expires_at > seconds + CHALLENGE_LIFETIME:
        raise RequestError(Code.CHALLENGE_INVALID, "a token that should not have been made")
    if expires_at <= seconds:
        raise RequestError(Code.CHALLENGE_EXPIRED, f"expired at {expires_at}")
    nonce = token_nonce(key, token)
    activation = Activation(body[_BODY_LENGTH:-_EK_LENGTH], body[-_EK_LENGTH:]) if len(body) > _BODY_LENGTH else None
    return Token(body[5:21], nonce, body[21:53], tee, expires_at, activation)


def _mac(key: TokenKey, label: bytes, body: bytes) -> bytes:
    context = _keyed(key.key, label).copy()
    context.update(body)
    return context.digest()


@lru_cache(maxsize=16)
def _keyed(key: bytes, label: bytes) -> hmac.HMAC:
    # OpenSSL looks its HMAC up anew for every one-shot call, at several times the cost of the HMAC.
    return hmac.new(key, label, "sha256")
