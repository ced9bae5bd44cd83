"""Signatures by keys that a TPM made, over a connection of their own."""

import threading
from typing import Any

from proxy_attestation.attester.model import unavailable
from proxy_attestation.attester.tss import DEVICE, KeyBlob, binding, parent_of_keys, sign_with


class TpmSigner:
    """Signs with keys that a TPM made, for as long as the process needs them; from any thread, one at a time.

    The key that signed last stays loaded, one object of a resource manager's three. A TPM that answers with an error is
    opened anew once: its resource manager may have been restarted, or the machine have slept.
    """

    def __init__(self, tcti: str = DEVICE) -> None:
        """Open nothing yet.

        Args:
            tcti: how the TSS reaches the TPM.
        """
        self._tcti = tcti
        self._lock = threading.Lock()
        self._esys: Any = None
        self._loaded: tuple[KeyBlob, Any] | None = None

    def sign(self, key: KeyBlob, digest: bytes) -> bytes:
        """Sign 32 bytes, a SHA-256 digest: ECDSA, DER.

        Raises:
            UnavailableError: `attester.unavailable`.
        """
        tss, _ = binding()
        with self._lock:
            try:
                try:
                    return self._signature(tss, key, digest)
                except tss.TSS2_Exception:
                    self._close()
                    return self._signature(tss, key, digest)
            except tss.TSS2_Exception as error:
                self._close()
                raise unavailable(f"the TPM does not sign: {error}") from error

    def close(self) -> None:
        """Close the TPM; a later call opens it again."""
        with self._lock:
            self._close()

    def _signature(self, tss: Any, key: KeyBlob, digest: bytes) -> bytes:
        if self._esys is None:
            self._esys = tss.ESAPI(self._tcti)
        if self._loaded is None or self._loaded[0] is not key:
            if self._loaded is not None:
                handle, self._loaded = self._loaded[1], None
                self._esys.flush_context(handle)
            with parent_of_keys(tss, self._esys) as parent:
                self._loaded = key, self._esys.load(parent, key.private, key.public)
        return sign_with(tss, self._esys, self._loaded[1], key, digest)

    def _close(self) -> None:
        esys, self._esys, self._loaded = self._esys, None, None
        if esys is not None:
            esys.close()
