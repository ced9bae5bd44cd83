"""`serve`: one authority process, workers, what keeps collateral fresh, their restarts, the TLS certificate, signals.

Signals: SIGTERM and SIGINT drain and exit with 0. SIGHUP: the authority reads its policy again, the workers look into
STATE/endorsements, and what keeps that fresh reads its configuration again. SIGUSR1: a new TLS certificate now, and
workers replaced one by one.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, Final, NamedTuple, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from proxy_attestation import hardening, log
from proxy_attestation.authority.client import AuthorityClient
from proxy_attestation.authority.messages import AuthorityInfo
from proxy_attestation.authority.private_files import write_private
from proxy_attestation.codes import Code
from proxy_attestation.endorsements.spool import SPOOLS
from proxy_attestation.errors import ProxyAttestationError, UnavailableError, UsageError
from proxy_attestation.formats.csr import spki_sha256
from proxy_attestation.service.admin import Admin
from proxy_attestation.service.children import Child, ChildEndedError, Command, Keeper
from proxy_attestation.service.config import Address, ServeConfig, WorkerOptions
from proxy_attestation.service.quoting import Quoting
from proxy_attestation.service.sockets import Reservation, reserve
from proxy_attestation.service.tls import TlsFiles, new_tls_files, remove_old

_T = TypeVar("_T")
_CLOCK_SECONDS: Final = 60.0
"""How often the wall clock is compared with the TLS certificate's: a machine may sleep."""
_RETRY_SECONDS: Final = 5.0
_ASK_SECONDS: Final = 30.0
_AGAIN_SECONDS: Final = 0.05


class Started(NamedTuple):
    """What a proxy that has started serves.

    Attributes:
        info: what its authority said.
        grpc: with the port that was chosen, and so the others.
        connect: likewise.
        admin: likewise.
        workers: how many.
        endorsements: where it is written what keeps collateral fresh; empty where nothing does.
        attester: what quotes the proxy itself; empty where nothing does.
    """

    info: AuthorityInfo
    grpc: Address
    connect: Address
    admin: Address
    workers: int
    endorsements: str = ""
    attester: str = ""

    @property
    def root_pin(self) -> bytes:
        """SHA-256 of the first root's SubjectPublicKeyInfo, 32 bytes."""
        root = x509.load_der_x509_certificate(self.info.roots[0])
        return spki_sha256(root.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


class Refresh(NamedTuple):
    """What keeps collateral fresh: a process of its own, since it faces the network and holds no key.

    Attributes:
        where: its configuration, for people.
        arguments: after `python -P -m`: module first. The module is none of this package's: nothing here fetches.
    """

    where: str
    arguments: Sequence[str]


class Quoter(NamedTuple):
    """What has the proxy itself quoted: a process of its own, since it holds the device, which may be slow or fail.

    Attributes:
        arguments: after `python -P -m`: module first. The module is none of this package's, as with `Refresh`.
        descriptors: that it inherits.
    """

    arguments: Sequence[str]
    descriptors: tuple[int, ...] = ()


class Supervisor:
    """Runs one proxy.

    Args of `__init__`: the state directory, the configuration, what to call when it serves, what keeps collateral
    fresh or None, what else runs beside the workers (arguments after `python -P -m`, by its name in the log), and what
    has the proxy itself quoted or None.
    """

    def __init__(
        self,
        state: Path,
        config: ServeConfig,
        started: Callable[[Started], None],
        refresh: Refresh | None = None,
        beside: Mapping[str, Sequence[str]] = MappingProxyType({}),
        *,
        quoter: Quoter | None = None,
    ) -> None:
        self._state = state
        self._directory = state / "run"
        self._config = config
        self._started = started
        self._names = config.certificate_names()
        self._authority = Keeper("authority", self._authority_command)
        self._refresh = refresh
        self._refreshers = (
            [] if refresh is None else [Keeper("endorsements", lambda: Command(refresh.arguments), patient=True)]
        )
        self._refreshers += [Keeper(name, partial(Command, line), patient=True) for name, line in beside.items()]
        self._quoters = [] if quoter is None else [Quoting(quoter.arguments, quoter.descriptors)]
        self._asked: tuple[Child, AuthorityClient] | None = None
        self._asking = asyncio.Lock()
        self._workers: list[Keeper] = []
        self._slots = set(range(config.workers + 1))
        self._tls: TlsFiles | None = None
        self._tls_number = 0
        self._reserved: list[Reservation] = []
        self._stop = asyncio.Event()
        self._renew = asyncio.Event()

    async def run(self) -> int:
        """Serve until told to stop; return the exit status.

        Raises:
            UsageError: an address that cannot be used.
            UnavailableError: another supervisor runs here, or a child cannot be started.
        """
        if not hardening.give_up():
            log.warning("this system cannot forbid core dumps, debuggers and new privileges")
        with _lock(self._directory):
            return await self._run()

    async def _run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        loop.add_signal_handler(signal.SIGUSR1, self._renew.set)
        ports, metrics = self._directory / "ports.json", self._directory / "metrics"
        ports.unlink(missing_ok=True)
        remove_old(self._directory)
        for left in (metrics, *(self._directory / name for name in SPOOLS)):
            shutil.rmtree(left, ignore_errors=True)
        metrics.mkdir(mode=0o700)
        admin = Admin(metrics, self._healthy)
        self._reserved = [reserve(self._config.grpc), reserve(self._config.connect)]
        try:
            address = Address(self._config.admin.host, await admin.start(self._config.admin))
            await _until_first(self._stop.wait(), self._serve(ports, address))
        except ChildEndedError as error:
            return error.status
        else:
            return 0
        finally:
            # Drain the workers, then end the authority, which they need until then.
            helpers = (*self._refreshers, *(quoting.keeper for quoting in self._quoters))
            await asyncio.gather(*(keeper.stop() for keeper in (*self._workers, *helpers)))
            await self._authority.stop()
            log.info("stopped")
            await admin.stop()
            ports.unlink(missing_ok=True)
            if self._tls is not None:
                self._tls.remove()

    async def _serve(self, ports: Path, admin: Address) -> None:
        """Start everything, then watch it, until something fails for good."""
        await self._authority.start()
        await _until_first(self._authority.watch(), self._serve_workers(ports, admin))

    async def _serve_workers(self, ports: Path, admin: Address) -> None:
        info = await self._ask(AuthorityClient.hello)
        self._tls = await self._new_tls()
        self._workers = [Keeper(f"worker-{n + 1}", self._worker_command) for n in range(self._config.workers)]
        helpers = (*self._refreshers, *(quoting.keeper for quoting in self._quoters))
        await asyncio.gather(*(keeper.start() for keeper in (*self._workers, *helpers)))
        grpc, connect = (reservation.address for reservation in self._reserved)
        chosen = {"grpc": grpc.port, "connect": connect.port, "admin": admin.port, "pid": os.getpid()}
        write_private(ports, json.dumps(chosen).encode() + b"\n")
        where = "" if self._refresh is None else self._refresh.where
        self._started(Started(info, grpc, connect, admin, self._config.workers, where, self._config.attester))
        watched = (*self._workers, *self._refreshers, *(quoting.keeper for quoting in self._quoters))
        relays = (quoting.relay(self._ask) for quoting in self._quoters)
        await _until_first(self._keep_tls(), *(keeper.watch() for keeper in watched), *relays)

    async def _keep_tls(self) -> None:
        """Replace the TLS certificate at 2/3 of its life, or when asked to; the workers then, one by one."""
        while (before := self._tls) is not None:
            remaining = (before.renew_at - datetime.now(UTC)).total_seconds()
            if remaining > 0 and not self._renew.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._renew.wait(), min(remaining, _CLOCK_SECONDS))
                continue
            self._renew.clear()
            try:
                self._tls = await self._new_tls()
                for worker in self._workers:
                    await worker.replace()
                before.remove()
                log.info("TLS certificate replaced", renew_at=self._tls.renew_at.isoformat())
            except (ProxyAttestationError, ChildEndedError, TimeoutError) as error:
                log.warning("TLS certificate not replaced", problem=str(error))
                await asyncio.sleep(_RETRY_SECONDS)
                self._renew.set()

    async def _new_tls(self) -> TlsFiles:
        self._tls_number += 1
        return await new_tls_files(
            self._directory, self._tls_number, lambda spki: self._ask(lambda client: client.tls_leaf(spki))
        )

    async def _ask(self, call: Callable[[AuthorityClient], Coroutine[Any, Any, _T]]) -> _T:
        """Ask the authority on our own connection; while it is being restarted, ask again on the new one."""
        deadline = time.monotonic() + _ASK_SECONDS
        while True:
            child = self._authority.child
            assert child is not None  # noqa: S101 - nobody asks before it was started
            async with self._asking:  # two readers of one connection would take each other's answers
                if self._asked is None or self._asked[0] is not child:
                    self._asked = child, await AuthorityClient.adopt(child.line.dup())
            try:
                return await call(self._asked[1])
            except UnavailableError as error:
                if error.code is not Code.AUTHORITY_UNAVAILABLE or time.monotonic() > deadline:
                    raise
            await asyncio.sleep(_AGAIN_SECONDS)

    def _authority_command(self) -> Command:
        names = [argument for name in self._names for argument in ("--tls-name", name)]
        attested = ["--attested"] if self._quoters else []
        witnesses = [argument for witness in self._config.witness for argument in ("--witness", witness.vkey)]
        witnesses += ["--witness-quorum", str(self._config.witness_quorum or 0)]
        module = "proxy_attestation.authority.process"
        return Command([module, "--state", str(self._state), *names, *attested, *witnesses])

    def _worker_command(self) -> Command:
        assert self._tls is not None  # noqa: S101 - set before workers start
        grpc, connect = (str(reservation.address) for reservation in self._reserved)
        slot = min(self._slots)
        self._slots.remove(slot)
        key, chain = str(self._tls.key), str(self._tls.chain)
        options = WorkerOptions(str(self._state), grpc, connect, key, chain, slot, self._config.bounds)
        return Command(["proxy_attestation.service.worker", json.dumps(options)], lambda: self._slots.add(slot))

    def _reload(self) -> None:
        log.info("reloading")
        for keeper in (self._authority, *self._workers, *self._refreshers):
            if keeper.child is not None:
                keeper.child.signal(signal.SIGHUP)

    def _healthy(self) -> bool:
        return self._authority.running and any(worker.running for worker in self._workers)


async def _until_first(*coroutines: Coroutine[Any, Any, object]) -> None:
    """Run all until the first one ends; raise its error, if it has one, and leave none of the others running."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def _lock(directory: Path) -> IO[bytes]:
    """Hold run/ for this supervisor, as long as what is returned stays open.

    Raises:
        UsageError: when STATE has no run/.
        UnavailableError: when another supervisor holds it.
    """
    try:
        file = os.fdopen(os.open(directory / "serve.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "rb")
    except OSError as error:
        raise UsageError(f"{directory.parent} is no authority's directory (see `init`): {error.strerror}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise UnavailableError(Code.AUTHORITY_STATE, f"another `serve` runs in {directory.parent}") from error
    return file
