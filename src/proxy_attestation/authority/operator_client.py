"""The operator's side: have the authority of STATE do something, whether it runs or not."""

import asyncio
import os
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final, Generic, TypeVar

from proxy_attestation.authority import state as layout
from proxy_attestation.authority.client import AuthorityClient
from proxy_attestation.authority.issue import Issuer
from proxy_attestation.authority.operation import Operation
from proxy_attestation.errors import UnavailableError
from proxy_attestation.formats.request import Names

CALL_SECONDS: Final = 30.0
_STEP_SECONDS: Final = 0.05

_Argument = TypeVar("_Argument")
_Answer = TypeVar("_Answer")


def operate(
    state: Path,
    operation: Operation[_Argument, _Answer],
    argument: _Argument,
    clock: Callable[[], datetime],
    patience: float = layout.LOCK_SECONDS,
) -> _Answer:
    """Do one operation on the authority of STATE: the running one does it, or else this process under STATE's lock.

    Args:
        state: made by `init`.
        operation: one of `operations.OPERATIONS`.
        argument: what goes in.
        clock: aware UTC, where no authority runs.
        patience: seconds to wait for an authority that is just starting or ending.

    Raises:
        ConfigurationError: `authority.state`, when there is no authority in STATE; and see `state.open_authority`.
        UnavailableError: `authority.unavailable`, when one holds STATE and does not answer.
        ProxyAttestationError: whatever the operation refuses with.
    """
    end = time.monotonic() + patience
    while True:
        # The running authority first: whoever holds STATE without listening is starting or ending.
        answer = asyncio.run(_ask(state / layout.RUN / layout.OPERATOR_SOCKET, operation, argument))
        if answer is not None:
            return answer.value
        try:
            lock = layout.lock_state(state, patience=0)
        except UnavailableError:
            if time.monotonic() >= end:
                raise
            time.sleep(_STEP_SECONDS)
        else:
            break
    try:
        return _do(state, operation, argument, clock)
    finally:
        os.close(lock)


class _Answered(Generic[_Answer]):
    """An answer, which may itself be None."""

    def __init__(self, value: _Answer) -> None:
        self.value = value


async def _ask(path: Path, operation: Operation[_Argument, _Answer], argument: _Argument) -> _Answered[_Answer] | None:
    try:
        client = await AuthorityClient.connect(path, call_timeout=CALL_SECONDS)
    except UnavailableError:
        return None
    try:
        return _Answered(await client.operate(operation, argument))
    finally:
        await client.close()


def _do(
    state: Path, operation: Operation[_Argument, _Answer], argument: _Argument, clock: Callable[[], datetime]
) -> _Answer:
    authority = layout.open_authority(state, clock)
    try:
        # The proxy's own names are only needed for its TLS certificate, which no operation makes.
        return operation.run(Issuer(authority, Names()), argument)
    finally:
        authority.ledger.close()
