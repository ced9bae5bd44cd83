"""The addresses that the fronts listen on: chosen once by the supervisor, then shared by all workers (SO_REUSEPORT)."""

import errno
import socket
import time
from dataclasses import dataclass, replace
from typing import Final

from proxy_attestation.errors import UsageError
from proxy_attestation.service.config import Address

_FREE_SECONDS: Final = 5.0
_RETRY_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class Reservation:
    """A port held by a bound socket that does not listen, so that connections reach the workers only.

    Attributes:
        address: with the port that was chosen.
        placeholder: keep it open as long as workers may be started.
    """

    address: Address
    placeholder: socket.socket


def reserve(address: Address) -> Reservation:
    """Reserve an address for the workers.

    Raises:
        UsageError: when it cannot be bound, or somebody else listens there. The workers of a supervisor that was
            killed take a moment to go; so this waits up to 5 s.
    """
    if address.port:
        _require_free(address)
    placeholder = _socket(address)
    try:
        placeholder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        placeholder.bind((address.host, address.port))
    except OSError as error:
        placeholder.close()
        raise UsageError(f"cannot listen on {address}: {error.strerror}") from error
    return Reservation(replace(address, port=placeholder.getsockname()[1]), placeholder)


def _require_free(address: Address) -> None:
    """Bind once without SO_REUSEPORT: with it, a second proxy would silently take half of the first one's calls."""
    deadline = time.monotonic() + _FREE_SECONDS
    while True:
        with _socket(address) as probe:
            try:
                probe.bind((address.host, address.port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                    raise UsageError(f"cannot listen on {address}: {error.strerror}") from error
            else:
                return
        time.sleep(_RETRY_SECONDS)


def _socket(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return sock
