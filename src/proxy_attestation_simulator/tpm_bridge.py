"""Carry TPM commands from standard input to a Unix socket, and the responses back: what the TSS calls a `cmd` TCTI."""

import os
import socket
import sys
from collections.abc import Callable


def whole(read: Callable[[int], bytes]) -> bytes:
    """Return one command or response; its length stands at byte 2, in four bytes. Empty where the other side ended."""
    data = b""
    while len(data) < 6 or len(data) < int.from_bytes(data[2:6]):
        piece = read(4096)
        if not piece:
            return b""
        data += piece
    return data


def main() -> None:
    """Bridge until either side ends."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(sys.argv[1])
    while command := whole(lambda count: os.read(0, count)):
        connection.sendall(command)
        response = whole(connection.recv)
        if not response:
            return
        os.write(1, response)


if __name__ == "__main__":
    main()
