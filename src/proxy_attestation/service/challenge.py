"""A challenge: what evidence has to be bound to. Asking for one stores nothing; the token carries it all."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from proxy_attestation.authority.messages import AuthorityInfo
from proxy_attestation.authority.token import CHALLENGE_LIFETIME, make_token, token_nonce
from proxy_attestation.codes import Code
from proxy_attestation.errors import UnavailableError
from proxy_attestation.formats.tee import Tee

SESSION_ID_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Challenge:
    """One challenge.

    Attributes:
        session_id: 16 random bytes.
        token: opaque to the peer; comes back with the evidence.
        nonce: 32 bytes.
        ca_id: 32 bytes, of the issuing CA that is active now.
        expires_at: seconds since the epoch.
    """

    session_id: bytes
    token: bytes
    nonce: bytes
    ca_id: bytes
    expires_at: int


def new_challenge(
    info: AuthorityInfo, tee: Tee, now: datetime, random: Callable[[int], bytes] = secrets.token_bytes
) -> Challenge:
    """Make a challenge under the authority's newest token key.

    Args:
        info: what the authority said when it was asked last.
        tee: the kind of evidence that will come.
        now: aware UTC.
        random: gives that many random bytes.

    Raises:
        UnavailableError: `authority.unavailable`, when no token key outlives the challenge.
    """
    expires_at = int(now.timestamp()) + CHALLENGE_LIFETIME
    key = next((key for key in info.token_keys if key.not_after >= expires_at), None)
    if key is None:
        raise UnavailableError(Code.AUTHORITY_UNAVAILABLE, "no token key is valid for another two minutes")
    session_id = random(SESSION_ID_BYTES)
    token = make_token(key, session_id=session_id, tee=tee, ca_id=info.ca_id, expires_at=expires_at)
    return Challenge(session_id, token, token_nonce(key, token), info.ca_id, expires_at)
