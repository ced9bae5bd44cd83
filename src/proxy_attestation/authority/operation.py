"""One thing that an operator may have the authority do: its name, what goes in and out, and who does it."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from proxy_attestation.authority.issue import Issuer
from proxy_attestation.authority.wire import MALFORMED
from proxy_attestation.formats.arrays import Array

_Argument = TypeVar("_Argument")
_Answer = TypeVar("_Answer")


class Operation(Generic[_Argument, _Answer]):
    """An operation. Its argument and answer cross the private socket as arrays (`formats.arrays`), bounded by type.

    Attributes:
        name: unique among `operations.OPERATIONS`, and what the log says.
        argument: the form of what goes in.
        answer: the form of what comes out.
        run: does it, on the authority that is open; synchronous, since nothing is issued meanwhile.
    """

    def __init__(self, name: str, argument: Any, answer: Any, run: Callable[[Issuer, _Argument], _Answer]) -> None:
        """Compile the forms of argument and answer.

        Raises:
            TypeError: for a form without its bounds.
        """
        self.name = name
        self.argument = Array[_Argument](argument, MALFORMED)
        self.answer = Array[_Answer](answer, MALFORMED)
        self.run = run
