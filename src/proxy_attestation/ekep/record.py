"""Records after the handshake: the ALTS record protocol with AES-128-GCM.

A frame is ``u32le size || u32le 6 || ciphertext and tag``, size counting all behind itself. Both directions use one
key. The nonce is a counter of 12 bytes, little-endian; the server's have the highest bit set (grpc, alts counters), and
its lower five bytes are counted up from 0 with each record: one that is lost, doubled or out of order does not open.
Nothing is sent once they have all been used.
"""

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from proxy_attestation.codes import Code
from proxy_attestation.ekep.frames import FRAME_MAX
from proxy_attestation.errors import RefusedError, UnavailableError

CONTENT_MAX: Final = FRAME_MAX - 24

_TYPE: Final = 6
_HEADER: Final = 8
_TAG: Final = 16
_COUNTER: Final = 12
_COUNTED: Final = 5


class _Counter:
    def __init__(self, *, of_server: bool, start: int = 0) -> None:
        self._value = start
        self._mark = (0x80 if of_server else 0) << 8 * (_COUNTER - 1)

    def next(self) -> bytes:
        if self._value >> 8 * _COUNTED:
            raise UnavailableError(Code.EKEP_RECORD, "the channel has carried all records that it may")
        nonce = (self._value | self._mark).to_bytes(_COUNTER, "little")
        self._value += 1
        return nonce


class Records:
    """One side of a channel."""

    def __init__(self, key: bytes, *, server: bool, start: int = 0) -> None:
        """Begin.

        Args:
            key: 16 bytes.
            server: which side this is.
            start: the first counter, for tests of the last.
        """
        self._aead = AESGCM(key)
        self._out = _Counter(of_server=server, start=start)
        self._in = _Counter(of_server=not server, start=start)

    def seal(self, content: bytes) -> bytes:
        """Return the next record.

        Raises:
            UnavailableError: `ekep.record`, for more than fits, or when no counter is left.
        """
        if len(content) > CONTENT_MAX:
            raise UnavailableError(Code.EKEP_RECORD, f"{len(content)} bytes, at most {CONTENT_MAX} in a record")
        size = _HEADER - 4 + len(content) + _TAG
        sealed = self._aead.encrypt(self._out.next(), content, None)
        return size.to_bytes(4, "little") + _TYPE.to_bytes(4, "little") + sealed

    def open(self, frame: bytes) -> bytes:
        """Return the content of the peer's next record. After an error the channel is of no more use.

        Raises:
            RefusedError: `ekep.record`: it was changed, is not the next one, or is none.
        """
        fits = _HEADER + _TAG <= len(frame) <= FRAME_MAX
        if (
            not fits
            or int.from_bytes(frame[:4], "little") != len(frame) - 4
            or frame[4:8] != _TYPE.to_bytes(4, "little")
        ):
            raise RefusedError(Code.EKEP_RECORD, f"{len(frame)} bytes are no record")
        try:
            return self._aead.decrypt(self._in.next(), frame[_HEADER:], None)
        except InvalidTag as error:
            raise RefusedError(Code.EKEP_RECORD, "a record that was changed, or is not the next one") from error
