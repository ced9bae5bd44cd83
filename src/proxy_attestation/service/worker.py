"""A worker process: both fronts over one core, linked to the authority.

Started by the supervisor as ``python -P -m proxy_attestation.service.worker ...``. Standard input is a pipe whose other
end only the supervisor holds: at its end the worker exits at once. It writes one line, `ready`, to standard output when
it listens. SIGTERM: takes no more calls, finishes those in flight within 10 s, exits with 0. SIGHUP: looks into
STATE/endorsements and asks the authority now.
"""

import argparse
import asyncio
import os
import signal
import sys
import time
from collections.abc import Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from granian.constants import Interfaces, SSLProtocols
from granian.http import HTTP1Settings, HTTP2Settings
from granian.server.embed import Server

from proxy_attestation import log
from proxy_attestation.authority.client import AuthorityClient
from proxy_attestation.service.calls import Calls
from proxy_attestation.service.collateral import CollateralStore
from proxy_attestation.service.config import Address, parse_address
from proxy_attestation.service.connect_front import ConnectFront
from proxy_attestation.service.core import Core
from proxy_attestation.service.grpc_front import GrpcFront
from proxy_attestation.service.limits import Admission, Bounds
from proxy_attestation.service.link import AuthorityLink
from proxy_attestation.service.metrics import PrometheusMetrics
from proxy_attestation.service.upkeep import Upkeep

DRAIN_SECONDS: Final = 10.0
"""How long calls in flight may take after SIGTERM."""
_FIRST_SECONDS: Final = 10.0
_CONNECTIONS_MAX: Final = 4096
_READY: Final = b"ready\n"


class Worker:
    """One worker. Args of `__init__`: the command line, parsed."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._stop = asyncio.Event()
        bounds = Bounds(options.in_flight, max(1, options.in_flight // 2), options.peer_rate, 2 * options.peer_rate)
        state: Path = options.state
        metrics = PrometheusMetrics(state / "run" / "metrics", options.slot)
        self._link = AuthorityLink(state / "run" / "authority.sock", AuthorityClient.connect, self._authority_changed)
        core = Core(self._link, _now, metrics=metrics)
        self._calls = Calls(core, Admission(bounds, time.monotonic), metrics)
        store = CollateralStore(state / "endorsements", self._link, _now)
        self._upkeep = Upkeep(core, store, metrics, self._set_ready)
        self._first = asyncio.Event()
        self._grpc = GrpcFront(
            self._calls, bounds, options.grpc, options.tls_key.read_bytes(), options.tls_chain.read_bytes()
        )
        self._connect = ConnectFront(self._calls)
        self._http = http_server(self._connect, parse_address(options.connect), options.tls_key, options.tls_chain)

    async def run(self) -> int:
        """Serve until SIGTERM; return the exit status."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._look_again)
        loop.add_reader(sys.stdin.fileno(), _supervisor_gone)
        tasks = [_task(self._link.run()), _task(self._upkeep.run())]
        # Nobody is served before there is something to serve with, unless that takes long: then calls are UNAVAILABLE.
        await asyncio.wait([_task(self._first.wait()), *tasks], timeout=_FIRST_SECONDS, return_when="FIRST_COMPLETED")
        await self._grpc.start()
        http = _task(self._http.serve())
        await asyncio.wait([_task(self._connect.listening.wait()), http], return_when="FIRST_COMPLETED")
        if not http.done():
            os.write(sys.stdout.fileno(), _READY)
        stop = _task(self._stop.wait())
        done, _ = await asyncio.wait([stop, http, *tasks], return_when="FIRST_COMPLETED")
        if stop not in done:
            for task in done:
                error = task.exception() or RuntimeError("ended")
                log.failure("worker failed", error)
            return 70
        await self._drain(http)
        return 0

    async def _drain(self, http: "asyncio.Task[Any]") -> None:
        log.info("draining")
        self._http.stop()  # type: ignore[no-untyped-call] # granian has no annotation here
        await asyncio.gather(self._grpc.stop(DRAIN_SECONDS), asyncio.wait([http], timeout=DRAIN_SECONDS))
        log.info("drained")

    async def _authority_changed(self, info: Any) -> None:
        await self._upkeep.authority_changed(info)

    async def _set_ready(self, ready: bool) -> None:
        if ready:
            self._first.set()
        await self._grpc.set_ready(ready)

    def _look_again(self) -> None:
        self._upkeep.rescan()
        self._link.refresh()


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="proxy_attestation.service.worker")
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--grpc", required=True)
    parser.add_argument("--connect", required=True)
    parser.add_argument("--tls-key", type=Path, required=True)
    parser.add_argument("--tls-chain", type=Path, required=True)
    parser.add_argument("--slot", type=int, required=True)
    parser.add_argument("--in-flight", type=int, required=True)
    parser.add_argument("--peer-rate", type=int, required=True)
    options = parser.parse_args(arguments)
    log.configure("worker")
    return asyncio.run(_run(options))


async def _run(options: argparse.Namespace) -> int:
    return await Worker(options).run()


def http_server(front: ConnectFront, address: Address, key: Path, chain: Path) -> Server:
    """Return the HTTP server of the Connect front: TLS 1.3 only, HTTP/1.1 and HTTP/2, SO_REUSEPORT."""
    return Server(
        front,
        address=address.host,
        port=address.port,
        interface=Interfaces.RSGI,
        websockets=False,
        backlog=1024,
        backpressure=_CONNECTIONS_MAX,
        http1_settings=HTTP1Settings(header_read_timeout=30_000, max_buffer_size=64 * 1024),
        http2_settings=HTTP2Settings(
            keep_alive_interval=30_000, max_concurrent_streams=128, max_headers_size=16 * 1024
        ),
        log_enabled=False,
        ssl_cert=chain,
        ssl_key=key,
        ssl_protocol_min=SSLProtocols.tls13,
    )


def _now() -> datetime:
    return datetime.now(UTC)


def _task(coroutine: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
    return asyncio.get_running_loop().create_task(coroutine)


def _supervisor_gone() -> None:
    # The pipe is never written to: readable means that its other end has closed.
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
