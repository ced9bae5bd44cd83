"""The operator's channel: the running authority does it, or this process where none runs; nobody else may."""

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pytest

from proxy_attestation.authority import operations
from proxy_attestation.authority import state as layout
from proxy_attestation.authority.client import AuthorityClient
from proxy_attestation.authority.issue import Issuer
from proxy_attestation.authority.operation import Operation
from proxy_attestation.authority.operations import STATUS, Nothing, Status, encode_operation
from proxy_attestation.authority.operator_client import operate
from proxy_attestation.authority.server import OPERATOR_CALLS, Server, bind
from proxy_attestation.authority.wire import Method
from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError, FormatError, RefusedError, UnavailableError
from proxy_attestation.formats.arrays import Size


def _served(issuer: Issuer, path: Path, ask: Callable[[], Any]) -> Any:
    """Run `ask` in another thread while the issuer serves operators at a path."""

    async def main() -> Any:
        server = Server(issuer)
        listening = await server.listen(bind(path), OPERATOR_CALLS)
        try:
            return await asyncio.to_thread(ask)
        finally:
            listening.close()
            await server.drain()

    return asyncio.run(main())


def test_a_running_authority_is_asked(issuer: Issuer, tmp_path: Path, clock: Any) -> None:
    (tmp_path / layout.RUN).mkdir()
    path = tmp_path / layout.RUN / layout.OPERATOR_SOCKET

    def ask() -> Status:
        return operate(tmp_path, STATUS, Nothing(), clock)

    status = _served(issuer, path, ask)

    assert status.entries == issuer.authority.ledger.size()
    assert status.policy_digest == issuer.authority.policy_digest
    assert [ca.number for ca in status.cas] == [0, 1]
    assert status.now == issuer.authority.now()


def test_where_none_runs_state_is_opened_and_closed_again(make_state: Callable[..., Path], clock: Any) -> None:
    state = make_state()

    first, second = (operate(state, STATUS, Nothing(), clock) for _ in range(2))

    assert first == second
    assert (first.simulated, first.key_origin, first.policy_version) == (True, "file", 7)


def test_one_that_holds_state_and_does_not_listen_is_waited_for(make_state: Callable[..., Path], clock: Any) -> None:
    state = make_state()
    lock = layout.lock_state(state)
    timer = threading.Timer(0.2, os.close, [lock])
    timer.start()

    assert operate(state, STATUS, Nothing(), clock, patience=60).policy_version == 7
    timer.join()


def test_one_that_never_listens_is_unavailable(make_state: Callable[..., Path], clock: Any) -> None:
    state = make_state()
    lock = layout.lock_state(state)
    try:
        with pytest.raises(UnavailableError) as caught:
            operate(state, STATUS, Nothing(), clock, patience=0)
    finally:
        os.close(lock)

    assert caught.value.code is Code.AUTHORITY_UNAVAILABLE


def test_a_directory_without_an_authority_is_refused(tmp_path: Path, clock: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        operate(tmp_path, STATUS, Nothing(), clock)

    assert caught.value.code is Code.AUTHORITY_STATE


def test_a_worker_may_not(issuer: Issuer, tmp_path: Path) -> None:
    path = tmp_path / "authority.sock"

    async def main() -> None:
        server = Server(issuer)
        listening = await server.listen(bind(path))
        client = await AuthorityClient.connect(path)
        try:
            with pytest.raises(RefusedError) as caught:
                await client.operate(STATUS, Nothing())
            assert caught.value.code is Code.AUTHORITY_CALLER
        finally:
            await client.close()
            listening.close()
            await server.drain()

    asyncio.run(main())


def test_an_operator_gets_no_worker_s_calls() -> None:
    assert frozenset({Method.OPERATE}) == OPERATOR_CALLS


@pytest.mark.parametrize("body", [None, [], ["status"], [1, []], ["", []], ["status", [1]], ["unknown", []]])
def test_what_is_no_operation_is_refused(issuer: Issuer, body: Any) -> None:
    with pytest.raises(FormatError) as caught:
        operations.operate(issuer, body)

    assert caught.value.code is Code.PROXY_PROTOCOL


def test_what_an_operation_refuses_with_arrives(
    issuer: Issuer, tmp_path: Path, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Issuer, text: str) -> str:
        raise RefusedError(Code.POLICY_STALE, text)

    text = Annotated[str, Size(0, 8)]
    refusing = Operation[str, str]("refuse", text, text, refuse)
    monkeypatch.setattr(operations, "OPERATIONS", {"refuse": refusing})
    (tmp_path / layout.RUN).mkdir()

    def ask() -> RefusedError:
        with pytest.raises(RefusedError) as caught:
            operate(tmp_path, refusing, "no", clock)
        return caught.value

    error = _served(issuer, tmp_path / layout.RUN / layout.OPERATOR_SOCKET, ask)
    assert (error.code, error.detail) == (Code.POLICY_STALE, "no")


def test_every_operation_has_its_own_name() -> None:
    assert all(operation.name == name for name, operation in operations.OPERATIONS.items())
    assert encode_operation(STATUS, Nothing()) == ["status", []]
