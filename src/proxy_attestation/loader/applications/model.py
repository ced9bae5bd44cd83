"""The two shapes of an application: one that is asked message by message, one that is connected to."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from proxy_attestation.formats.request import ApplicationKind
from proxy_attestation.loader.streams import Stream


class Outcome(IntEnum):
    """How one call of a message application ended; the numbers travel between loader and host."""

    EXITED = 0
    TRAPPED = 1
    TIME = 2
    FUEL = 3
    OUTPUT = 4
    LOST = 5
    """The host died, or could not be reached in time."""
    REFUSED = 6
    """Too many calls wait already; the loader says so, never a host."""


@dataclass(frozen=True, slots=True)
class CallResult:
    """The end of one call.

    Attributes:
        outcome: how it ended.
        exit_code: what the program exited with, where it exited.
        output: what it wrote to stdout.
    """

    outcome: Outcome
    exit_code: int = 0
    output: bytes = b""


class Application(Protocol):
    """What both shapes have."""

    @property
    def kind(self) -> ApplicationKind:
        """The kind that the request names."""

    @property
    def sha256(self) -> bytes | None:
        """The digest that the request claims, 32 bytes, or None where this kind may claim none."""

    async def start(self) -> None:
        """Make the application ready.

        Raises:
            ConfigurationError: `application.failed`, where it can never run.
            UnavailableError: `application.failed`, where it does not run now.
        """

    async def stop(self) -> None:
        """End it."""

    def status(self) -> dict[str, object]:
        """Return what `load status` prints of it."""


class MessageApplication(Application, Protocol):
    """An application that answers one message with one message."""

    async def call(self, arguments: tuple[str, ...], message: bytes, seconds: float) -> CallResult:
        """Run one instance. A cancelled call ends when nobody holds its message any more, not before.

        Args:
            arguments: argv after the program's name.
            message: its stdin.
            seconds: how long the caller waits; the application's own limit may be shorter.
        """


class StreamApplication(Application, Protocol):
    """An application that listens for plaintext connections on this machine."""

    async def connect(self) -> Stream:
        """Open a connection to it.

        Raises:
            OSError: when it does not listen now.
        """
