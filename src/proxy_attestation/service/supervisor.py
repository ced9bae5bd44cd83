"""`serve`: one authority process, workers, their restarts, the proxy's TLS certificate, signals.

Signals: SIGTERM and SIGINT drain and exit with 0. SIGHUP: the authority reads its policy again, the workers look into
STATE/endorsements. SIGUSR1: a new TLS certificate now, and workers replaced one by one.
"""

import asyncio
import fcntl
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from proxy_attestation import log
from proxy_attestation.authority.client import AuthorityClient
from proxy_attestation.authority.messages import AuthorityInfo
from proxy_attestation.codes import Code
from proxy_attestation.errors import ProxyAttestationError, UnavailableError, UsageError
from proxy_attestation.formats.csr import spki_sha256
from proxy_attestation.service.admin import Admin
from proxy_attestation.service.children import ChildEndedError, Command, Keeper
from proxy_attestation.service.config import Address, ServeConfig
from proxy_attestation.service.sockets import Reservation, reserve
from proxy_attestation.service.tls import TlsFiles, new_tls_files, remove_old, write_private

_T = TypeVar("_T")
_CLOCK_SECONDS: Final = 60.0
"""How often the wall clock is compared with the TLS certificate's: a machine may sleep."""
_RETRY_SECONDS: Final = 5.0
_ASK_SECONDS: Final = 30.0
_AGAIN_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class Started:
    """What a proxy that has started serves.

    Attributes:
        info: what its authority said.
        grpc: with the port that was chosen, and so the others.
        connect: likewise.
        admin: likewise.
        workers: how many.
    """

    info: AuthorityInfo
    grpc: Address
    connect: Address
    admin: Address
    workers: int

    @property
    def root_pin(self) -> bytes:
        """SHA-256 of the first root's SubjectPublicKeyInfo, 32 bytes."""
        root = x509.load_der_x509_certificate(self.info.roots[0])
        return spki_sha256(root.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


class Supervisor:
    """Runs one proxy. Args of `__init__`: the state directory, the configuration, what to call when it serves."""

    def __init__(self, state: Path, config: ServeConfig, started: Callable[[Started], None]) -> None:
        self._state = state
        self._run_directory = state / "run"
        self._config = config
        self._started = started
        self._names = config.certificate_names()
        self._authority = Keeper("authority", self._authority_command)
        self._workers: list[Keeper] = []
        self._slots = set(range(config.workers + 1))
        self._tls: TlsFiles | None = None
        self._tls_number = 0
        self._addresses: tuple[Reservation, Reservation] | None = None
        self._stop = asyncio.Event()
        self._renew = asyncio.Event()

    async def run(self) -> int:
        """Serve until told to stop; return the exit status.

        Raises:
            UsageError: an address that cannot be used.
            UnavailableError: another supervisor runs here, or a child cannot be started.
        """
        lock = _lock(self._run_directory)
        try:
            return await self._run()
        finally:
            os.close(lock)

    async def _run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        loop.add_signal_handler(signal.SIGUSR1, self._renew.set)
        ports = self._run_directory / "ports.json"
        ports.unlink(missing_ok=True)
        remove_old(self._run_directory)
        metrics = self._run_directory / "metrics"
        shutil.rmtree(metrics, ignore_errors=True)
        metrics.mkdir(mode=0o700)
        admin = Admin(metrics, self._healthy)
        self._addresses = (reserve(self._config.grpc), reserve(self._config.connect))
        try:
            port = await admin.start(self._config.admin)
            serving = asyncio.ensure_future(self._serve(ports, Address(self._config.admin.host, port)))
            stop = asyncio.ensure_future(self._stop.wait())
            await asyncio.wait((serving, stop), return_when=asyncio.FIRST_COMPLETED)
            if not serving.done():
                serving.cancel()
                await asyncio.wait((serving,))
            stop.cancel()
            return 0 if serving.cancelled() else serving.result()
        finally:
            await self._shut_down()
            await admin.stop()
            ports.unlink(missing_ok=True)
            if self._tls is not None:
                self._tls.remove()

    async def _serve(self, ports: Path, admin: Address) -> int:
        """Start everything, then watch it; return an exit status when a start is hopeless."""
        assert self._addresses is not None  # noqa: S101 - `_run` has set it
        grpc, connect = (reservation.address for reservation in self._addresses)
        try:
            await self._authority.start()
            await _until_failure(self._authority.watch(), self._serve_workers(ports, grpc, connect, admin))
        except ChildEndedError as error:
            return error.status
        return 0

    async def _serve_workers(self, ports: Path, grpc: Address, connect: Address, admin: Address) -> None:
        info = await self._ask_authority(AuthorityClient.hello)
        self._tls = await self._new_tls()
        names = [f"worker-{number}" for number in range(1, self._config.workers + 1)]
        self._workers = [Keeper(name, self._worker_command) for name in names]
        await asyncio.gather(*(worker.start() for worker in self._workers))
        chosen = {"grpc": grpc.port, "connect": connect.port, "admin": admin.port, "pid": os.getpid()}
        write_private(ports, json.dumps(chosen).encode() + b"\n")
        self._started(Started(info, grpc, connect, admin, self._config.workers))
        await _until_failure(self._keep_tls(), *(worker.watch() for worker in self._workers))

    async def _shut_down(self) -> None:
        """Drain the workers, then end the authority, which they need until then."""
        await asyncio.gather(*(worker.stop() for worker in self._workers))
        await self._authority.stop()
        log.info("stopped")

    async def _keep_tls(self) -> None:
        """Replace the TLS certificate at 2/3 of its life, or when asked to."""
        while True:
            assert self._tls is not None  # noqa: S101 - set before this runs
            remaining = (self._tls.renew_at - datetime.now(UTC)).total_seconds()
            if remaining > 0 and not self._renew.is_set():
                try:
                    async with asyncio.timeout(min(remaining, _CLOCK_SECONDS)):
                        await self._renew.wait()
                except TimeoutError:
                    pass
                continue
            self._renew.clear()
            try:
                await self._replace_tls()
            except (ProxyAttestationError, ChildEndedError, TimeoutError) as error:
                log.warning("TLS certificate not replaced", problem=str(error))
                await asyncio.sleep(_RETRY_SECONDS)
                self._renew.set()

    async def _replace_tls(self) -> None:
        before, self._tls = self._tls, await self._new_tls()
        for worker in self._workers:
            await worker.replace()
        if before is not None:
            before.remove()
        log.info("TLS certificate replaced", renew_at=self._tls.renew_at.isoformat())

    async def _new_tls(self) -> TlsFiles:
        self._tls_number += 1

        async def leaf(spki: bytes) -> tuple[bytes, ...]:
            return await self._ask_authority(lambda client: client.tls_leaf(spki))

        return await new_tls_files(self._run_directory, self._tls_number, leaf)

    async def _ask_authority(self, call: Callable[[AuthorityClient], Coroutine[Any, Any, _T]]) -> _T:
        """Ask the authority; while it is being restarted, ask again."""
        deadline = time.monotonic() + _ASK_SECONDS
        while True:
            try:
                client = await AuthorityClient.connect(self._run_directory / "authority.sock")
                try:
                    return await call(client)
                finally:
                    await client.close()
            except UnavailableError:
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(_AGAIN_SECONDS)

    def _authority_command(self) -> Command:
        names = [argument for name in self._names for argument in ("--tls-name", name)]
        return Command(
            [
                "proxy_attestation.authority.process",
                "--state",
                str(self._state),
                "--socket",
                str(self._run_directory / "authority.sock"),
                *names,
            ]
        )

    def _worker_command(self) -> Command:
        assert self._addresses is not None and self._tls is not None  # noqa: S101 - set before workers start
        grpc, connect = self._addresses
        slot = min(self._slots)
        self._slots.remove(slot)
        return Command(
            [
                "proxy_attestation.service.worker",
                "--state",
                str(self._state),
                "--grpc",
                str(grpc.address),
                "--connect",
                str(connect.address),
                "--tls-key",
                str(self._tls.key),
                "--tls-chain",
                str(self._tls.chain),
                "--slot",
                str(slot),
                "--in-flight",
                str(self._config.bounds.in_flight),
                "--peer-rate",
                str(self._config.bounds.peer_rate),
            ],
            ended=lambda: self._slots.add(slot),
        )

    def _reload(self) -> None:
        log.info("reloading")
        for keeper in (self._authority, *self._workers):
            if keeper.child is not None:
                keeper.child.signal(signal.SIGHUP)

    def _healthy(self) -> bool:
        return self._authority.running and any(worker.running for worker in self._workers)


async def _until_failure(*coroutines: Coroutine[Any, Any, None]) -> None:
    """Run all until the first one fails, and raise its error."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()


def _lock(directory: Path) -> int:
    """Hold run/ for this supervisor; the kernel lets go when it dies.

    Raises:
        UsageError: when STATE has no run/.
        UnavailableError: when another supervisor holds it.
    """
    try:
        descriptor = os.open(directory / "serve.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UsageError(f"{directory.parent} is no authority's directory (see `init`): {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise UnavailableError(Code.AUTHORITY_STATE, f"another `serve` runs in {directory.parent}") from error
    return descriptor
