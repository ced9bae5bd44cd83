"""How a refusal travels through other people's code: as an `ssl.SSLCertVerificationError` with our error inside.

TLS clients know what to do with that class: close the connection, never fall back, never retry in clear. asyncio turns
any other exception out of a handshake into a fatal transport error that hides its cause.
"""

import ssl
from typing import Final

from proxy_attestation.codes import Code
from proxy_attestation.errors import PeerError, ProxyAttestationError

# X509_V_ERR_* of OpenSSL 3.0 (include/openssl/x509_vfy.h), as far as they have a code of their own.
_EXPIRED: Final = frozenset({9, 10, 13, 14})
_NAME: Final = frozenset({62, 63, 64})
_DEPTH_MAX: Final = 16


class AttestationVerificationError(ssl.SSLCertVerificationError):
    """The peer was refused during the handshake, before any byte of the application was sent or read.

    Attributes:
        code: the stable code of the refusal.
        error: our error; also the `__cause__`.
    """

    def __init__(self, error: ProxyAttestationError) -> None:
        super().__init__(1, f"[SSL: CERTIFICATE_VERIFY_FAILED] {error}")
        self.reason = "CERTIFICATE_VERIFY_FAILED"
        self.library = "SSL"
        self.verify_code = 50  # X509_V_ERR_APPLICATION_VERIFICATION
        self.verify_message = str(error.code)
        self.error = error
        self.code: Code = error.code


def from_openssl(error: ssl.SSLCertVerificationError) -> PeerError:
    """Translate a refusal by OpenSSL's own path validation, which becomes the cause of ours."""
    number = getattr(error, "verify_code", 0)
    code = Code.PEER_EXPIRED if number in _EXPIRED else Code.PEER_NAME if number in _NAME else Code.PEER_CHAIN
    refused = PeerError(code, str(getattr(error, "verify_message", error)))
    refused.__cause__ = error
    return refused


def attestation_error(error: BaseException | None) -> ProxyAttestationError | None:
    """Find our error in what a client raised: along causes, contexts and `reason`s, at most 16 steps; else None."""
    for _ in range(_DEPTH_MAX):
        if error is None or isinstance(error, ProxyAttestationError):
            return error
        if isinstance(error, AttestationVerificationError):
            return error.error
        # urllib's URLError keeps the socket's error in `reason`.
        reason = getattr(error, "reason", None)
        error = reason if isinstance(reason, BaseException) else error.__cause__ or error.__context__
    return None
