"""Integers and byte strings out of binary structures, one after the other, never past the end."""

from typing import Literal

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError


class Reader:
    """Reads a structure from its start. Each method raises FormatError with the reader's code where bytes are short."""

    def __init__(self, data: bytes, code: Code, order: Literal["big", "little"] = "big") -> None:
        """Begin at the first byte of `data`; integers are unsigned, in the given byte order."""
        self._data, self._code, self._order = data, code, order
        self.position = 0

    @property
    def rest(self) -> int:
        """How many bytes are left."""
        return len(self._data) - self.position

    def fail(self, detail: str) -> FormatError:
        """Return the error of this reader at its position."""
        return FormatError(self._code, f"at byte {self.position}: {detail}")

    def take(self, count: int) -> bytes:
        """Return the next `count` bytes."""
        if count > self.rest:
            raise self.fail(f"{count} bytes expected, {self.rest} are left")
        self.position += count
        return self._data[self.position - count : self.position]

    def uint(self, size: int) -> int:
        """Return the next integer of `size` bytes."""
        return int.from_bytes(self.take(size), self._order)

    def sized(self, maximum: int, size: int = 2) -> bytes:
        """Return a byte string behind its length, an integer of `size` bytes: a TPM2B where that is two."""
        length = self.uint(size)
        if length > maximum:
            raise self.fail(f"a length of {length}, at most {maximum} allowed")
        return self.take(length)

    def end(self) -> None:
        """Refuse bytes that are left."""
        if self.rest:
            raise self.fail(f"{self.rest} bytes too many")
