"""Claims of TEEs whose vendor judges the platform."""

from proxy_attestation.appraisal.claims import Claims, TcbClaims


def tcb_of(claims: Claims) -> TcbClaims:
    """Return the platform's state."""
    assert claims.tcb is not None
    return claims.tcb
