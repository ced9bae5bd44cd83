"""The process that runs a Wasm application: `python -m proxy_attestation.loader.wasm_host DESCRIPTOR`.

It is started by the loader with an empty environment and one descriptor, a Unix stream socket. It holds no key and no
quoting device; as root's child it becomes nobody once the module is compiled. When the loader goes away, it ends.
"""

import os
import socket
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

from proxy_attestation import hardening
from proxy_attestation.errors import FormatError
from proxy_attestation.loader.applications import frames
from proxy_attestation.loader.applications.model import CallResult, Outcome
from proxy_attestation.loader.wasm_engine import Engine, ModuleError


class _Link:
    """Frames on the socket; replies come from several threads."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._sending = threading.Lock()

    def receive(self) -> bytes | None:
        """Return the next body, or None when the loader has gone."""
        prefix = self._exactly(4)
        return None if prefix is None else self._exactly(frames.frame_length(prefix))

    def send(self, body: bytes) -> None:
        with self._sending:
            self._socket.sendall(frames.frame(body))

    def _exactly(self, count: int) -> bytes | None:
        data = bytearray()
        while len(data) < count:
            piece = self._socket.recv(min(count - len(data), 1 << 20))
            if not piece:
                return None
            data += piece
        return bytes(data)


def serve(link: _Link) -> None:
    """Answer calls until the loader goes.

    Raises:
        FormatError: `application.failed`, when the loader says something else than `frames` knows.
        OSError: when the loader went in the middle of a frame.
    """
    first = link.receive()
    if first is None:
        return
    setup = frames.decode_setup(first)
    try:
        engine = Engine(setup)
    except ModuleError as error:
        link.send(frames.encode_ready(frames.Ready(str(error) or "not a module", other_user=False)))
        return
    link.send(frames.encode_ready(frames.Ready("", hardening.become_nobody())))

    def run(call: frames.Call, end: float) -> None:
        left = end - time.monotonic()
        if left <= 0:  # its time went by while other calls ran
            result, errors = CallResult(Outcome.TIME), b""
        else:
            result, errors = engine.call(call.arguments, call.message, left)
        link.send(frames.encode_done(frames.Done(call.call_id, result, errors)))

    with ThreadPoolExecutor(setup.threads) as pool:
        while (body := link.receive()) is not None:
            call = frames.decode_call(body)
            end = time.monotonic() + call.milliseconds / 1000
            pool.submit(run, call, end).add_done_callback(_end_on_bug)
        os._exit(0)  # calls that still run have nobody to answer to


def _end_on_bug(future: Future[None]) -> None:
    # An exception here is a bug or a lost loader, and its caller would wait in vain: end, and be started anew.
    if future.exception() is not None:
        os._exit(70)


def main() -> None:
    """Run until the loader closes its end."""
    hardening.forbid_dumps()
    hardening.forbid_new_privileges()
    try:
        serve(_Link(socket.socket(fileno=int(sys.argv[1]))))
    except (FormatError, OSError):
        os._exit(1)


if __name__ == "__main__":
    main()
