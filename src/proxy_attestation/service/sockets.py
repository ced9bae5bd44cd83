"""The addresses that the fronts listen on: chosen once by the supervisor, then shared by all workers (SO_REUSEPORT)."""

import errno
import socket
import time
from typing import Final, NamedTuple

from proxy_attestation.errors import UsageError
from proxy_attestation.service.config import Address

_FREE_SECONDS: Final = 5.0
_RETRY_SECONDS: Final = 0.05


class Reservation(NamedTuple):
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
        # Once without SO_REUSEPORT: with it, a second proxy would silently take half of the first one's calls.
        deadline = time.monotonic() + _FREE_SECONDS
        _bind(address, shared=False, deadline=deadline).close()
    placeholder = _bind(address, shared=True)
    return Reservation(Address(address.host, placeholder.getsockname()[1]), placeholder)


def _bind(address: Address, *, shared: bool, deadline: float = 0) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    while True:
        bound = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shared)
            bound.bind((address.host, address.port))
        except OSError as error:
            bound.close()
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                raise UsageError(f"cannot listen on {address}: {error.strerror}") from error
        else:
            return bound
        time.sleep(_RETRY_SECONDS)
