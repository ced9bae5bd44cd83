"""How commands that change an authority reach it: through its operator's socket, or in this process where none runs."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from proxy_attestation.authority import operator_client
from proxy_attestation.authority.operation import Operation

_F = TypeVar("_F", bound=Callable[..., Any])
_Argument = TypeVar("_Argument")
_Answer = TypeVar("_Answer")


def state_argument(function: _F) -> _F:
    """Add the argument STATE: the directory that `init` made."""
    kind = click.Path(exists=True, file_okay=False, path_type=Path)
    return click.argument("state", type=kind)(function)


def operate(state: Path, operation: Operation[_Argument, _Answer], argument: _Argument) -> _Answer:
    """Do one operation on the authority of STATE, running or not; see `operator_client.operate`."""
    return operator_client.operate(state, operation, argument, lambda: datetime.now(UTC))
