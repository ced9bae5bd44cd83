"""The few DER encodings that a PCK certificate's extension needs (ITU-T X.690)."""

from collections.abc import Iterable


def tlv(tag: int, content: bytes) -> bytes:
    """Encode one element with a single-octet tag and a definite, shortest length."""
    size = len(content)
    if size < 0x80:
        length = bytes([size])
    else:
        octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
        length = bytes([0x80 | len(octets)]) + octets
    return bytes([tag]) + length + content


def integer(value: int) -> bytes:
    """Encode a non-negative INTEGER."""
    return tlv(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def boolean(value: bool) -> bytes:
    """Encode a BOOLEAN."""
    return tlv(0x01, b"\xff" if value else b"\x00")


def octet_string(value: bytes) -> bytes:
    """Encode an OCTET STRING."""
    return tlv(0x04, value)


def enumerated(value: int) -> bytes:
    """Encode a non-negative ENUMERATED."""
    return tlv(0x0A, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def sequence(elements: Iterable[bytes]) -> bytes:
    """Encode a SEQUENCE of elements that are encoded already."""
    return tlv(0x30, b"".join(elements))


def object_identifier(dotted: str) -> bytes:
    """Encode an OBJECT IDENTIFIER."""
    first, second, *rest = (int(arc) for arc in dotted.split("."))
    content = bytearray([40 * first + second])
    for arc in rest:
        groups = [arc & 0x7F]
        while arc := arc >> 7:
            groups.append(0x80 | (arc & 0x7F))
        content += bytes(reversed(groups))
    return tlv(0x06, bytes(content))
