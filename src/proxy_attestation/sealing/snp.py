"""The derived key of a SEV-SNP guest.

SEV-SNP firmware ABI (AMD 56860), MSG_KEY_REQ: the processor derives 32 bytes from its VCEK and the guest's own
measurement and policy; Linux hands the request on (`SNP_GET_DERIVED_KEY` of `/dev/sev-guest`,
include/uapi/linux/sev-guest.h). The VCEK changes with the TCB of the platform: after a firmware update the key is
another one, and what was sealed comes back by hand-over or recovery only.
"""

import ctypes
import fcntl
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final

from proxy_attestation.codes import Code
from proxy_attestation.errors import UnavailableError

DEVICE: Final = Path("/dev/sev-guest")
SNP_GET_DERIVED_KEY: Final = 0xC0205301
"""_IOWR('S', 1, struct snp_guest_request_ioctl), which has 32 bytes."""

_REQUEST: Final = struct.Struct("=IIQIIQ")
_MESSAGE: Final = struct.Struct("=B7xQQQ")
_MESSAGE_VERSION: Final = 1
_ROOT_VCEK: Final = 0
# GUEST_FIELD_SELECT: bit 0 the guest's policy, bit 3 its measurement.
_FIELDS: Final = 1 << 0 | 1 << 3
_RESPONSE: Final = 64
_STATUS: Final = slice(0, 4)
_KEY: Final = slice(32, 64)


def snp_secret(path: Path = DEVICE, ioctl: Callable[[int, int, bytearray, bool], int] = fcntl.ioctl) -> bytes:
    """Return the guest's derived key, 32 bytes, the same for this measurement and policy on this platform's TCB.

    Raises:
        UnavailableError: `keys.unavailable`, when this is no such guest, or the firmware refuses.
    """
    request = ctypes.create_string_buffer(_REQUEST.pack(_ROOT_VCEK, 0, _FIELDS, 0, 0, 0), _REQUEST.size)
    response = ctypes.create_string_buffer(_RESPONSE)
    message = bytearray(_MESSAGE.pack(_MESSAGE_VERSION, ctypes.addressof(request), ctypes.addressof(response), 0))
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            ioctl(descriptor, SNP_GET_DERIVED_KEY, message, True)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise UnavailableError(Code.KEYS_UNAVAILABLE, f"{path}: {error.strerror}") from error
    status, key = int.from_bytes(response.raw[_STATUS], "little"), response.raw[_KEY]
    if status or not any(key):
        raise UnavailableError(Code.KEYS_UNAVAILABLE, f"{path}: status {status}, or a key of zeros")
    return key
