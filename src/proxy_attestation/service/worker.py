"""A worker process: both fronts over one core, linked to the authority.

Started by the supervisor as ``python -P -m proxy_attestation.service.worker OPTIONS`` (`config.WorkerOptions`).
Standard input is a socket whose other end only the supervisor holds: at its end the worker exits at once. It writes one
line, `ready`, to standard output when it listens. SIGTERM: takes no more calls, finishes those in flight within 10 s,
exits with 0. SIGHUP: looks into STATE/endorsements and asks the authority now.
"""

import asyncio
import json
import os
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from granian.constants import Interfaces, SSLProtocols
from granian.http import HTTP1Settings, HTTP2Settings
from granian.server.embed import Server

from proxy_attestation import hardening, log
from proxy_attestation.authority.client import AuthorityClient
from proxy_attestation.service.calls import Calls
from proxy_attestation.service.collateral import CollateralStore
from proxy_attestation.service.config import Address, WorkerOptions, parse_address
from proxy_attestation.service.connect_front import ConnectFront
from proxy_attestation.service.core import Core
from proxy_attestation.service.early import EarlyRenewals
from proxy_attestation.service.grpc_front import GrpcFront
from proxy_attestation.service.limits import Admission, Bounds
from proxy_attestation.service.link import AuthorityLink
from proxy_attestation.service.metrics import PrometheusMetrics
from proxy_attestation.service.platforms import Platforms
from proxy_attestation.service.published import LedgerFiles, PublishedLedger
from proxy_attestation.service.upkeep import Upkeep

DRAIN_SECONDS: Final = 10.0
"""How long calls in flight may take after SIGTERM."""
_FIRST_SECONDS: Final = 10.0
_CONNECTIONS_MAX: Final = 4096


async def serve(options: WorkerOptions, key_pem: bytes, chain_pem: bytes) -> int:
    """Serve with a TLS key and its chain until SIGTERM; return the exit status."""
    state = Path(options.state)
    bounds = Bounds(*options.bounds)
    metrics = PrometheusMetrics(state / "run" / "metrics", options.slot)
    link = AuthorityLink(state / "run" / "authority.sock", AuthorityClient.connect)
    platforms = Platforms(state / "run", state / "endorsements")
    ledger = LedgerFiles(PublishedLedger(state / "ledger.sqlite"))
    early = EarlyRenewals(state / "run")
    core = Core(link, _now, metrics=metrics, platforms=platforms, early=early, ledger=ledger)
    calls = Calls(core, Admission(bounds, time.monotonic), metrics)
    grpc = GrpcFront(calls, bounds, options.grpc, key_pem, chain_pem)
    connect = ConnectFront(calls)
    http = http_server(connect, parse_address(options.connect), Path(options.key), Path(options.chain))
    upkeep = Upkeep(core, CollateralStore(state / "endorsements", link, _now), metrics, grpc.set_ready)

    def look_again() -> None:
        upkeep.rescan()
        link.refresh()

    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGHUP, look_again)
    # Nothing is ever written to it: readable means that its other end has closed.
    loop.add_reader(sys.stdin.fileno(), lambda: os._exit(1))
    tasks = [loop.create_task(link.run(upkeep.authority_changed)), loop.create_task(upkeep.run())]
    # Nobody is served before there is something to serve with, unless that takes long: then calls are UNAVAILABLE.
    first = loop.create_task(upkeep.first.wait())
    await asyncio.wait([first, *tasks], timeout=_FIRST_SECONDS, return_when="FIRST_COMPLETED")
    await grpc.start()
    serving = loop.create_task(http.serve())
    listening = loop.create_task(connect.listening.wait())
    await asyncio.wait([listening, serving], return_when="FIRST_COMPLETED")
    if not serving.done():
        os.write(sys.stdout.fileno(), b"ready\n")
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # nobody reads it any more
    stopping = loop.create_task(stop.wait())
    done, _ = await asyncio.wait([stopping, serving, *tasks], return_when="FIRST_COMPLETED")
    if stopping not in done:
        for task in done:
            log.failure("worker failed", task.exception() or RuntimeError("ended"))
        return 70
    log.info("draining")
    http.stop()  # type: ignore[no-untyped-call] # granian has no annotation here
    await asyncio.gather(grpc.stop(DRAIN_SECONDS), asyncio.wait([serving], timeout=DRAIN_SECONDS))
    log.info("drained")
    return 0


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


def main() -> int:
    """Give up what a process that reads a key gives up, and serve."""
    log.configure("worker")
    if not (hardening.give_up() and hardening.end_with_parent()):
        log.warning("this system cannot forbid core dumps, debuggers and new privileges, or end us with the supervisor")
    options = WorkerOptions(*json.loads(sys.argv[1]))
    return asyncio.run(serve(options, Path(options.key).read_bytes(), Path(options.chain).read_bytes()))


if __name__ == "__main__":
    sys.exit(main())
