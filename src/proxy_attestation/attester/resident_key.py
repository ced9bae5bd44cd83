"""A private key that never leaves its TPM, in the shape in which `cryptography` takes private keys."""

import hashlib
from collections.abc import Callable
from typing import NoReturn

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.utils import Buffer


class ResidentKey(ec.EllipticCurvePrivateKey):
    """A P-256 key in a TPM: it signs ECDSA with SHA-256, and nothing else."""

    def __init__(self, public: ec.EllipticCurvePublicKey, sign_digest: Callable[[bytes], bytes]) -> None:
        """Describe a key.

        Args:
            public: its public half.
            sign_digest: signs a SHA-256 digest with ECDSA, DER; raises `attester.unavailable` where the TPM does not.
        """
        self.sign_digest = sign_digest
        self._public = public

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """Return the public half."""
        return self._public

    @property
    def curve(self) -> ec.EllipticCurve:
        """P-256."""
        return self._public.curve

    @property
    def key_size(self) -> int:
        """256."""
        return self._public.key_size

    def sign(self, data: Buffer, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        """Sign in the TPM.

        Raises:
            UnsupportedAlgorithm: for anything but ECDSA with SHA-256 over the data itself.
            UnavailableError: `attester.unavailable`.
        """
        if not isinstance(signature_algorithm, ec.ECDSA) or not isinstance(
            signature_algorithm.algorithm, hashes.SHA256
        ):
            raise UnsupportedAlgorithm("this key signs ECDSA with SHA-256")
        return self.sign_digest(hashlib.sha256(data).digest())

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> NoReturn:
        """Refuse: it is a signing key."""
        del algorithm, peer_public_key
        raise UnsupportedAlgorithm("a signing key agrees on no other key")

    def private_numbers(self) -> NoReturn:
        """Refuse: no one has them but the TPM."""
        raise UnsupportedAlgorithm("the key is in a TPM")

    def private_bytes(
        self,
        encoding: serialization.Encoding,
        format: serialization.PrivateFormat,  # noqa: A002 - the name in the base class
        encryption_algorithm: serialization.KeySerializationEncryption,
    ) -> NoReturn:
        """Refuse: no one has them but the TPM."""
        del encoding, format, encryption_algorithm
        raise UnsupportedAlgorithm("the key is in a TPM")

    def __copy__(self) -> "ResidentKey":
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> "ResidentKey":
        return self
