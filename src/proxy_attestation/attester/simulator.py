"""Evidence from the simulator's quoting socket.

`proxy-attestation-simulator run` measures a program and starts it with one end of a stream socket, which only that
process inherits. On it: u32 big-endian length, then deterministic CBOR; ``{1: report data of 64 bytes}`` is answered
with ``{1: quote}``, or with ``{2: text}``, the reason why there is none. This attester is used only when it is named
(`simulator:DESCRIPTOR`), never found by itself, and only an authority that was made simulated accepts its evidence.
"""

import os
import socket
import threading
from typing import Final

from proxy_attestation.attester.model import InMemory, require_report_data, unavailable
from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError
from proxy_attestation.formats import cbor
from proxy_attestation.formats.binder import Binding
from proxy_attestation.formats.bounds import QUOTE_MAX
from proxy_attestation.formats.evidence import Evidence
from proxy_attestation.formats.tee import Tee

REPLY_MAX: Final = QUOTE_MAX + 16
TEXT_MAX: Final = 1024
TIMEOUT_S: Final = 30.0


class SimulatorAttester(InMemory):
    """A simulated platform behind an inherited descriptor."""

    def __init__(self, descriptor: int, tee: Tee, timeout: float = TIMEOUT_S) -> None:
        """Take over the descriptor.

        Args:
            descriptor: of a connected stream socket; closed by `close`, and never inherited further.
            tee: the kind of TEE that the simulator was started as.
            timeout: in seconds, for one quote.

        Raises:
            UnavailableError: `attester.unavailable`, where it is not such a socket.
        """
        self.tee: Final = tee
        self._lock = threading.Lock()
        try:
            os.set_inheritable(descriptor, False)
            connection = socket.socket(fileno=descriptor)
        except OSError as error:
            raise unavailable(f"descriptor {descriptor} is no socket: {error}") from error
        self._socket: socket.socket | None = connection
        if connection.type != socket.SOCK_STREAM:
            self.close()
            raise unavailable(f"descriptor {descriptor} is no stream socket")
        connection.settimeout(timeout)

    def attest(self, binding: Binding) -> Evidence:
        """Ask for one quote.

        Raises:
            UnavailableError: `attester.unavailable`. After an answer that is none the stream's position is unknown, so
                every later call fails too.
        """
        require_report_data(binding)
        with self._lock:
            if self._socket is None:
                raise unavailable("the quoting socket is closed")
            try:
                reply = self._exchange(self._socket, binding)
            except (OSError, FormatError) as error:
                self.close()
                raise unavailable(f"the simulator did not answer with a quote: {error}") from error
        if isinstance(reply, str):
            raise unavailable(f"the simulator makes no quote: {reply!r}")
        return Evidence(self.tee, reply)

    def close(self) -> None:
        """Close the socket; later calls fail."""
        connection, self._socket = self._socket, None
        if connection is not None:
            connection.close()

    def _exchange(self, connection: socket.socket, binding: Binding) -> bytes | str:
        code = Code.ATTESTER_UNAVAILABLE
        asked = {1: binding.report_data}
        if self.tee is Tee.NITRO:
            asked |= {2: binding.nonce, 3: binding.spki}
        message = cbor.encode(asked)
        connection.sendall(len(message).to_bytes(4, "big") + message)
        length = int.from_bytes(self._receive(connection, 4), "big")
        if not 0 < length <= REPLY_MAX:
            raise FormatError(code, f"a reply of {length} bytes")
        reply = cbor.decode(self._receive(connection, length), code, REPLY_MAX)
        answer = cbor.as_map(reply, code, frozenset(), frozenset({1, 2}))
        if len(answer) != 1:
            raise FormatError(code, "a quote or a reason was expected")
        return cbor.as_text(answer[2], code, TEXT_MAX) if 2 in answer else cbor.as_bytes(answer[1], code, 1, QUOTE_MAX)

    @staticmethod
    def _receive(connection: socket.socket, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = connection.recv(count - len(data))
            if not piece:
                raise OSError("the simulator closed the socket")
            data += piece
        return data
