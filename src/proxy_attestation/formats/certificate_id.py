"""The name of a certificate in questions about its renewal (RFC 9773, section 4.1): ``AKI.serial``.

Both parts are base64url without padding: the key identifier of the authority key identifier, and the content octets of
the serial number's DER INTEGER, a leading zero included where the first bit is set.
"""

import base64
import re
from typing import Final

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError

CERTIFICATE_ID_MAX: Final = 128
_FORM: Final = re.compile(r"[A-Za-z0-9_-]{1,86}\.[A-Za-z0-9_-]{1,40}")


def certificate_id(key_id: bytes, serial: int) -> str:
    """Return the name of a certificate.

    Args:
        key_id: the key identifier of its issuer, as in its AKI; ours has 20 bytes.
        serial: positive, at most 20 bytes.
    """
    return f"{_text(key_id)}.{_text(serial.to_bytes(serial.bit_length() // 8 + 1, 'big'))}"


def check_certificate_id(text: str) -> str:
    """Return what has the form of a name; whether there is such a certificate is another question.

    Raises:
        FormatError: `request.malformed`.
    """
    if len(text) > CERTIFICATE_ID_MAX or not _FORM.fullmatch(text):
        raise FormatError(Code.REQUEST_MALFORMED, "not a certificate's AKI and serial number (RFC 9773, section 4.1)")
    return text


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
