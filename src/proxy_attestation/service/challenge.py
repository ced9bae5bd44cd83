"""A challenge: what evidence has to be bound to. Asking for one stores nothing; the token carries it all.

A TPM that shows the certificate of its EK gets the nonce inside a credential, which it alone can open, and only for the
AK that was named: whoever answers with that nonce has both (`formats.tpm_credential`). A TPM whose AK somebody else
vouches for, by a certificate or by the hardware below, gets it in clear like any TEE.
"""

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from proxy_attestation.appraisal.tpm import Activation
from proxy_attestation.appraisal.tpm_chain import Purpose, TpmRoots, verify_tpm_chain
from proxy_attestation.appraisal.tpm_steps import check_ak
from proxy_attestation.authority.messages import AuthorityInfo
from proxy_attestation.authority.token import CHALLENGE_LIFETIME, make_token, token_nonce
from proxy_attestation.codes import Code
from proxy_attestation.errors import AppraisalError, FormatError, UnavailableError
from proxy_attestation.formats.bounds import CERTIFICATE_MAX, PLATFORM_CERTIFICATES_MAX
from proxy_attestation.formats.tee import Tee
from proxy_attestation.formats.tpm import PublicKey, decode_public, spki_of
from proxy_attestation.formats.tpm_credential import RANDOM_BYTES, make_credential

SESSION_ID_BYTES: Final = 16
_AK_PUBLIC_MAX: Final = 800


@dataclass(frozen=True, slots=True)
class Challenge:
    """One challenge.

    Attributes:
        session_id: 16 random bytes.
        token: opaque to the peer; comes back with the evidence.
        nonce: 32 bytes; empty where a credential holds it.
        ca_id: 32 bytes, of the issuing CA that is active now.
        expires_at: seconds since the epoch.
        credential: TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET, or empty.
    """

    session_id: bytes
    token: bytes
    nonce: bytes
    ca_id: bytes
    expires_at: int
    credential: bytes = b""


@dataclass(frozen=True, slots=True)
class TpmIdentity:
    """What a TPM says of itself, judged.

    Attributes:
        ek: that a pinned CA vouches for.
        ak_name: of the AK that has to live beside it.
    """

    ek: PublicKey
    ak_name: bytes

    @property
    def activation(self) -> Activation:
        """What the session's token says of the two."""
        return Activation(self.ak_name, hashlib.sha256(spki_of(self.ek)).digest())


def read_tpm_identity(
    certificates: tuple[bytes, ...], ak_public: bytes, pins: frozenset[bytes], now: datetime
) -> TpmIdentity:
    """Judge the EK's certificate and the AK's form, before anything is encrypted to the one for the other.

    Args:
        certificates: DER; the EK's, then its issuers in any order.
        ak_public: TPMT_PUBLIC.
        pins: SHA-256 of the SubjectPublicKeyInfo of CAs of TPMs, 32 bytes each.
        now: aware UTC.

    Raises:
        FormatError: `request.malformed`, for too many or too large parts; `tpm.malformed`.
        AppraisalError: `tpm.not_restricted`, `tpm.ak_attributes`, `tpm.hash`, `tpm.algorithm`, and what
            `verify_tpm_chain` says of the certificate.
    """
    sizes = [len(certificate) for certificate in certificates]
    if len(sizes) > PLATFORM_CERTIFICATES_MAX or not all(0 < size <= CERTIFICATE_MAX for size in sizes):
        raise FormatError(Code.REQUEST_MALFORMED, f"certificates of {sizes[:PLATFORM_CERTIFICATES_MAX]} bytes")
    if len(ak_public) > _AK_PUBLIC_MAX:
        raise FormatError(Code.REQUEST_MALFORMED, f"an AK's public area of {len(ak_public)} bytes")
    ak = decode_public(ak_public)
    check_ak(ak)
    if ak.name_alg == "sha1":
        raise AppraisalError(Code.TPM_HASH, "an AK named by a SHA-1 digest")
    return TpmIdentity(verify_tpm_chain(certificates, Purpose.EK, TpmRoots(pins), now).key, ak.name)


def new_challenge(
    info: AuthorityInfo,
    tee: Tee,
    now: datetime,
    random: Callable[[int], bytes] = secrets.token_bytes,
    tpm: TpmIdentity | None = None,
) -> Challenge:
    """Make a challenge under the authority's newest token key.

    Args:
        info: what the authority said when it was asked last.
        tee: the kind of evidence that will come.
        now: aware UTC.
        random: gives that many random bytes.
        tpm: of the TPM that alone shall read the nonce, or None.

    Raises:
        UnavailableError: `authority.unavailable`, when no token key outlives the challenge.
        AppraisalError: `tpm.credential`, for an EK that nothing can be encrypted to.
    """
    expires_at = int(now.timestamp()) + CHALLENGE_LIFETIME
    key = next((key for key in info.token_keys if key.not_after >= expires_at), None)
    if key is None:
        raise UnavailableError(Code.AUTHORITY_UNAVAILABLE, "no token key is valid for another two minutes")
    session_id = random(SESSION_ID_BYTES)
    activation = None if tpm is None else tpm.activation
    token = make_token(
        key, session_id=session_id, tee=tee, ca_id=info.ca_id, expires_at=expires_at, activation=activation
    )
    nonce = token_nonce(key, token)
    if tpm is None:
        return Challenge(session_id, token, nonce, info.ca_id, expires_at)
    credential = make_credential(tpm.ek, tpm.ak_name, nonce, random(RANDOM_BYTES))
    return Challenge(session_id, token, b"", info.ca_id, expires_at, credential)
