"""The vendor's keys and the certificates above the platforms: root, two PCK CAs, TCB signer."""

from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from proxy_attestation_simulator.certificates import Authority, issue
from proxy_attestation_simulator.errors import SimulatorError
from proxy_attestation_simulator.keys import derive, derive_key

_DAY: Final = timedelta(days=1)
_PROFILES: Final = {
    # Label: common name, path length, life in years.
    "root": ("Simulated Intel SGX Root CA", 1, 20),
    "platform ca": ("Simulated Intel SGX PCK Platform CA", 0, 10),
    "processor ca": ("Simulated Intel SGX PCK Processor CA", 0, 10),
    "tcb signer": ("Simulated Intel SGX TCB Signing", None, 10),
}


class Hierarchy:
    """The keys and certificates of one vendor. Everything follows from a secret and the time it was made.

    Attributes:
        secret: 32 bytes.
        created_at: UTC, whole seconds.
        root: the anchor.
    """

    def __init__(self, secret: bytes, created_at: datetime) -> None:
        if created_at.tzinfo is None:
            raise SimulatorError("a time needs a time zone")
        self.secret = secret
        self.created_at = created_at.astimezone(UTC).replace(microsecond=0)
        self._made: dict[tuple[str, str], Authority] = {}
        self.root = self._make("root", None, "good")

    def key(self, label: str) -> ec.EllipticCurvePrivateKey:
        """Return the key with this label."""
        return derive_key(self.secret, label)

    def serial(self, label: str) -> int:
        """Return the serial number that goes with a label: positive, at most 20 bytes."""
        return int.from_bytes(b"\x40" + derive(self.secret, f"serial {label}", 19), "big")

    def authority(self, label: str, kind: str = "good") -> Authority:
        """Return a key and certificate below the root, as it should be or with a fault.

        Args:
            label: "platform ca", "processor ca" or "tcb signer".
            kind: "good"; "expired", a certificate that ended before the vendor's time; or "other", one that a key
                other than the root's has signed.
        """
        if (label, kind) not in self._made:
            self._made[label, kind] = self._make(label, self.root, kind)
        return self._made[label, kind]

    def _make(self, label: str, issuer: Authority | None, kind: str) -> Authority:
        common_name, path_length, years = _PROFILES[label]
        key = self.key(label)
        end = self.created_at - _DAY if kind == "expired" else self.created_at + years * 365 * _DAY
        certificate: x509.Certificate = issue(
            common_name,
            key,
            self.serial(label),
            self.created_at - 30 * _DAY,
            end,
            issuer=issuer,
            signing_key=self.key("other") if kind == "other" else None,
            path_length=path_length,
        )
        return Authority(key, certificate)
