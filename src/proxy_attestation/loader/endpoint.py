"""Addresses on this machine: the plaintext side of the loader never leaves it."""

import asyncio
import ipaddress
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proxy_attestation.loader.streams import SocketStream

_UNIX: Final = "unix:"
_SUN_PATH_MAX: Final = 107
"""unix(7): 108 bytes with the final NUL."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to connect or listen.

    Attributes:
        path: of a Unix socket, or None.
        host: an IP address, where there is no path.
        port: 0 to 65535, where there is no path.
    """

    path: Path | None = None
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        if self.path is not None:
            return f"{_UNIX}{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def family(self) -> socket.AddressFamily:
        """The address family."""
        if self.path is not None:
            return socket.AF_UNIX
        return socket.AF_INET6 if ":" in self.host else socket.AF_INET

    @property
    def sockaddr(self) -> str | tuple[str, int]:
        """The address as `socket` takes it."""
        return str(self.path) if self.path is not None else (self.host, self.port)

    async def connect(self) -> SocketStream:
        """Connect.

        Raises:
            OSError: as the system reports it.
        """
        connection = socket.socket(self.family, socket.SOCK_STREAM)
        try:
            connection.setblocking(False)
            await asyncio.get_running_loop().sock_connect(connection, self.sockaddr)
            return SocketStream(connection)
        except BaseException:
            connection.close()
            raise


def parse_address(text: str) -> Endpoint:
    """Parse `IP:PORT` or `[IPv6]:PORT`; `localhost` stands for 127.0.0.1 and is not looked up.

    Raises:
        ValueError: with a sentence for the operator.
    """
    host, separator, port = text.rpartition(":")
    if not separator or not (port.isascii() and port.isdigit()) or len(port) > 5 or int(port) > 65535:
        raise ValueError(f"{text!r} is not IP:PORT")
    bracketed = host.startswith("[") and host.endswith("]")
    literal = "127.0.0.1" if host == "localhost" else host.removeprefix("[").removesuffix("]")
    try:
        address = ipaddress.ip_address(literal)
    except ValueError as error:
        raise ValueError(f"{host!r} is not an IP address") from error
    if (address.version == 6) is not bracketed:
        raise ValueError(f"{text!r}: an IPv6 address, and only that, stands in brackets")
    return Endpoint(host=str(address), port=int(port))


def parse_local(text: str, base: Path) -> Endpoint:
    """Parse `unix:PATH` (relative to `base`) or a loopback address with a port.

    Raises:
        ValueError: with a sentence for the operator, for anything that could leave this machine.
    """
    if text.startswith(_UNIX):
        name = text.removeprefix(_UNIX)
        path = base / name
        if not name or len(str(path).encode()) > _SUN_PATH_MAX:
            raise ValueError(f"a Unix socket's path has 1 to {_SUN_PATH_MAX} bytes")
        return Endpoint(path=path)
    endpoint = parse_address(text)
    address = ipaddress.ip_address(endpoint.host)
    # Of IPv6 exactly ::1: whether an IPv4-mapped loopback address is one differs between versions of Python.
    loopback = address.is_loopback if address.version == 4 else endpoint.host == "::1"
    if not loopback:
        raise ValueError(f"{text!r} leads off this machine: plaintext stays on loopback or a Unix socket")
    if endpoint.port == 0:
        raise ValueError("a port to connect to is never 0")
    return endpoint
