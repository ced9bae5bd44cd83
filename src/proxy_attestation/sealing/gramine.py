"""The sealing key of an SGX enclave under Gramine.

Gramine (its documentation, "Attestation and Secret Provisioning", `/dev/attestation/keys`) shows `_sgx_mrenclave`, 16
bytes that the processor derives for this MRENCLAVE on this machine (EGETKEY, key policy MRENCLAVE). Its sibling
`_sgx_mrsigner` would open for any enclave of the same signer, older ones too; it is not offered.
"""

from pathlib import Path
from typing import Final

from proxy_attestation.codes import Code
from proxy_attestation.errors import UnavailableError

KEY_FILE: Final = Path("/dev/attestation/keys/_sgx_mrenclave")
KEY_BYTES: Final = 16


def gramine_secret(path: Path = KEY_FILE) -> bytes:
    """Return the enclave's sealing key, 16 bytes.

    Raises:
        UnavailableError: `keys.unavailable`, when this is no enclave under Gramine, or it has no such key.
    """
    try:
        with path.open("rb", buffering=0) as file:
            secret = file.read(KEY_BYTES + 1)
    except OSError as error:
        raise UnavailableError(Code.KEYS_UNAVAILABLE, f"{path}: {error.strerror}") from error
    if len(secret) != KEY_BYTES or not any(secret):
        raise UnavailableError(Code.KEYS_UNAVAILABLE, f"{path}: {len(secret)} bytes, or zeros: not a sealing key")
    return secret
