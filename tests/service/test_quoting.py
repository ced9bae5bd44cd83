"""The process that quotes the proxy itself, what starts it, and the supervisor's part in between."""

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from proxy_attestation.attester.simulator import SimulatorAttester
from proxy_attestation.authority.client import AuthorityClient
from proxy_attestation.authority.messages import Quoted, ToQuote
from proxy_attestation.cli import quoting
from proxy_attestation.cli.serve import quoter_for
from proxy_attestation.codes import Code
from proxy_attestation.errors import ProxyAttestationError, UnavailableError, UsageError
from proxy_attestation.formats.dcap_quote import decode_quote
from proxy_attestation.formats.tee import Tee
from proxy_attestation.service.quoting import Quoting
from proxy_attestation_simulator import quoting as simulated
from proxy_attestation_simulator.intel import Vendor

WANTED = ToQuote(7, b"r" * 64, b"d" * 32, b"n" * 32, b"s" * 91)


@pytest.fixture
def device() -> Iterator[socket.socket]:
    """The other end of a simulated platform's quoting socket."""
    ours, theirs = socket.socketpair()
    platform = Vendor.create(datetime.now(UTC)).platform("sgx")
    thread = threading.Thread(target=simulated.serve, args=(theirs, lambda data, _n, _k: platform.quote(data)))
    thread.start()
    yield ours
    ours.close()
    thread.join()
    theirs.close()


def test_a_call_is_answered_with_a_quote_over_what_was_composed(device: socket.socket) -> None:
    attester = SimulatorAttester(os.dup(device.fileno()), Tee.SGX)
    line, theirs = socket.socketpair()
    line.setblocking(False)
    thread = threading.Thread(target=quoting.serve, args=(attester, theirs))
    thread.start()

    async def main() -> None:
        client = await AuthorityClient.adopt(line)
        quote = await client.quote(WANTED)
        assert quote.tee is Tee.SGX
        assert decode_quote(quote.evidence).bound == (WANTED.report_data,)
        attester.close()
        with pytest.raises(UnavailableError) as caught:
            await client.quote(WANTED)
        assert caught.value.code is Code.ATTESTER_UNAVAILABLE
        with pytest.raises(ProxyAttestationError):
            await client.hello()
        await client.close()

    asyncio.run(main())
    thread.join()
    theirs.close()


def test_the_process_as_the_supervisor_starts_it(device: socket.socket) -> None:
    """Only this child inherits the descriptor, and a second quote comes over the same line."""

    async def main() -> None:
        relayed = Quoting((quoting.__name__, f"simulator:{device.fileno()}", "sgx"), (device.fileno(),))
        await relayed.keeper.start()
        orders: list[Quoted | None] = []
        done = asyncio.Event()

        class Authority:
            async def next_quote(self, made: Quoted | None) -> ToQuote | None:
                orders.append(made)
                if len(orders) == 3:
                    done.set()
                    await asyncio.Event().wait()
                return WANTED

        async def ask(call: Callable[[Any], Coroutine[Any, Any, ToQuote | None]]) -> ToQuote | None:
            return await call(Authority())

        relaying = asyncio.create_task(relayed.relay(ask))
        await asyncio.wait_for(done.wait(), 60)
        relaying.cancel()
        await relayed.keeper.stop()
        assert orders[0] is None
        for made in orders[1:]:
            assert made is not None
            assert made.number == WANTED.number
            assert made.quote is not None
            assert decode_quote(made.quote.evidence).bound == (WANTED.report_data,)

    asyncio.run(main())


def test_without_the_process_nothing_is_quoted() -> None:
    async def main() -> None:
        assert await Quoting((quoting.__name__, "simulator:9", "sgx"), ())._quote(WANTED) is None

    asyncio.run(main())


@pytest.mark.parametrize(
    ("spec", "tee", "arguments", "descriptors"),
    [
        ("gramine", "", ("gramine", "sgx"), ()),
        ("nsm", "", ("nsm", "nitro"), ()),
        ("configfs-tsm", "snp", ("configfs-tsm", "snp"), ()),
        ("simulator:5", "", ("simulator:5", "sgx"), (5,)),
        ("simulator:5", "tdx", ("simulator:5", "tdx"), (5,)),
    ],
)
def test_what_quotes(spec: str, tee: str, arguments: tuple[str, str], descriptors: tuple[int, ...]) -> None:
    quoter = quoter_for(spec, tee)
    assert quoter is not None
    assert (tuple(quoter.arguments), quoter.descriptors) == ((quoting.__name__, *arguments), descriptors)


def test_nothing_quotes_by_default() -> None:
    assert quoter_for("", "") is None


@pytest.mark.parametrize(
    ("spec", "tee"),
    [
        ("", "sgx"), ("sgx", ""), ("gramine", "tdx"), ("gramine:1", ""), ("configfs-tsm", ""), ("configfs-tsm", "sgx"),
        ("simulator", ""), ("simulator:", ""), ("simulator:x", ""), ("simulator:5", "tpm"), ("tpm", ""), ("nsm:1", ""),
    ],
)  # fmt: skip
def test_what_cannot_quote(spec: str, tee: str) -> None:
    with pytest.raises(UsageError):
        quoter_for(spec, tee)
