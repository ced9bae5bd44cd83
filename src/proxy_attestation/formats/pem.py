"""PEM (RFC 7468), read strictly: nothing but blocks of one label, white space between them, and at most one final NUL.

Intel's quoting library ends the chain inside a quote with a NUL on some platforms and not on others.
"""

import binascii
from typing import Final

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError

CERTIFICATE: Final = b"CERTIFICATE"
CRL: Final = b"X509 CRL"


def is_pem(data: bytes) -> bool:
    """Tell whether the bytes start like PEM; DER never does."""
    return data.lstrip()[:11] == b"-----BEGIN "


def decode_pem(data: bytes, label: bytes, code: Code, *, count: int, limit: int) -> tuple[bytes, ...]:
    """Decode 1 to `count` PEM blocks with this label, in the order in which they stand.

    Args:
        data: the text.
        label: what each block must be called, such as `CERTIFICATE`.
        code: the code of the error.
        count: the largest number of blocks.
        limit: the largest accepted length of one block's DER, in bytes.

    Raises:
        FormatError: with `code`.
    """
    begin, end = b"-----BEGIN " + label + b"-----", b"-----END " + label + b"-----"
    rest = data.removesuffix(b"\0").strip()
    blocks: list[bytes] = []
    while rest:
        if not rest.startswith(begin):
            raise FormatError(code, f"PEM: something other than a block called {label.decode()}")
        body, separator, rest = rest[len(begin) :].partition(end)
        if not separator or len(body) > 2 * limit or len(blocks) == count:
            raise FormatError(code, "PEM: a block without end, too large, or one too many")
        try:
            der = binascii.a2b_base64(b"".join(body.split()), strict_mode=True)
        except ValueError as error:
            raise FormatError(code, "PEM: not base64") from error
        if not 0 < len(der) <= limit:
            raise FormatError(code, f"PEM: a block of {len(der)} bytes, 1 to {limit} allowed")
        blocks.append(der)
        rest = rest.lstrip()
    if not blocks:
        raise FormatError(code, "PEM: no block")
    return tuple(blocks)
