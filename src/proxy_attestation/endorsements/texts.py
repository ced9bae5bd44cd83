"""Texts that tools write around what counts, so that the strict readers see only that. Nothing here is believed."""

import json
import re
from typing import Final

# No dash inside a block: that keeps the search linear, whatever the text.
_BLOCK: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,32})-----[^-]*-----END \1-----")
_CONTROLS: Final = frozenset(range(32)) - frozenset(b"\t\n\r")
_MARK: Final = b"\xef\xbb\xbf"
_TEXT: Final = frozenset(
    bytes([code]) for code in b"{-+/0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
) - {b"0"}
_THIM: Final = ("vcekCert", "certificateChain")


def without_marks(data: bytes) -> bytes:
    """Return a text without a byte order mark before it and the final NUL that programs in C write.

    Binary data are returned as they are: DER never begins with a mark, and only what begins like text loses a NUL.
    """
    text = data.removeprefix(_MARK)
    return text.removesuffix(b"\0") if text[:1] in _TEXT else text


def without_remarks(data: bytes) -> bytes:
    """Return the PEM blocks of a text, without the explanations that may stand around them (RFC 7468, section 2).

    OpenSSL writes such (`Bag Attributes`, subject and issuer). Bytes that are no text, or hold no block, are returned
    as they are: a quote holds PEM too, and is none.
    """
    if b"-----BEGIN " not in data or _CONTROLS.intersection(data.rstrip(b"\0")):
        return data
    blocks = [match[0] for match in _BLOCK.finditer(data)]
    return b"\n".join(blocks) or data


def thim_chain(data: bytes) -> bytes | None:
    """Return the PEM of the certificates that Azure's host serves to a guest (THIM), or None for anything else.

    The answer of `http://169.254.169.254/metadata/THIM/amd/certification`: JSON with `vcekCert` and `certificateChain`.
    """
    if data.lstrip()[:1] != b"{":
        return None
    try:
        value = json.loads(data.decode())
    except (ValueError, RecursionError):
        return None
    texts = [value.get(name) for name in _THIM] if isinstance(value, dict) else []
    found = [text.encode("utf-8", "replace") for text in texts if isinstance(text, str)]
    return b"\n".join(found) if found and len(found) == len(texts) else None
