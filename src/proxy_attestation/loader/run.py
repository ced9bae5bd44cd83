"""The loader: application, listeners, control socket and renewal, from start to orderly end."""

import asyncio
import functools
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, TypeAlias

from proxy_attestation.attester.model import Attester
from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError, ProxyAttestationError, UnavailableError
from proxy_attestation.loader.assemble import make_application, make_sessions
from proxy_attestation.loader.config import LoaderConfig
from proxy_attestation.loader.control import Answer, ControlSocket
from proxy_attestation.loader.credential import Credential
from proxy_attestation.loader.enroll import Wanted, enroll
from proxy_attestation.loader.limits import SessionLimits
from proxy_attestation.loader.news import Advice, News, id_of, read_advice
from proxy_attestation.loader.own_certificate import LOOK_SECONDS, OwnCertificate
from proxy_attestation.loader.ownership import Ownership
from proxy_attestation.loader.proxy_client import ProxyAddress, ProxyClient, ProxyPort, Timing
from proxy_attestation.loader.renewal import Renewal
from proxy_attestation.loader.report import Report, asked_json, credential_json, error_json, time_text
from proxy_attestation.loader.termination import Listener
from proxy_attestation.loader.tls import ServerContexts

_SWEEP_S: Final = 5.0
Connect: TypeAlias = Callable[[ProxyAddress, Timing], Awaitable[ProxyPort]]


class Loader:
    """One run of the loader."""

    def __init__(
        self,
        config: LoaderConfig,
        attester: Attester,
        report: Report,
        timing: Timing,
        connect: Connect = ProxyClient.connect,
    ) -> None:
        """Read the application and bind every socket, so that what cannot work fails before anything is attested.

        Args:
            config: the whole configuration.
            attester: makes the evidence.
            report: is told what happens.
            timing: clock, sleep and chance.
            connect: fetches the proxy's root and makes a client for one enrolment.

        Raises:
            ConfigurationError: for an application, user or control socket that cannot be had.
            UsageError: for an address that cannot be listened on.
        """
        self._config = config
        self._attester = attester
        self._report = report
        self._timing = timing
        self._connect = connect
        self._application = make_application(config.application, report.note)
        self._contexts = ServerContexts(config.key_directory, timing.clock)
        self._renewal = Renewal(self._enroll, timing, self._issued, self._failed)
        self._own = OwnCertificate(config.proxy.url)
        self._ownership = Ownership(config.owner, report)
        self._news = News(self._ask, lambda: self._contexts.credential, timing, self._early)
        self._first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._last_error: ProxyAttestationError | None = None
        make_session = make_sessions(config.application, self._application)
        self._listeners: list[Listener] = []
        try:
            for wanted in config.listeners:
                make = functools.partial(make_session, wanted.protocol)
                self._listeners.append(
                    Listener(
                        wanted.endpoint, wanted.protocol, self._contexts, make, limits=SessionLimits(), note=report.note
                    )
                )
            self._control = ControlSocket(config.control, {"status": self._status, "renew": self._renew})
        except ProxyAttestationError:
            self._close_sockets()
            raise

    async def run(self, stop: asyncio.Event, wait_seconds: float) -> None:
        """Run until `stop` is set.

        Args:
            stop: set it, and the loader ends in order.
            wait_seconds: how long to try for the first certificate while the proxy or the attester is unavailable.

        Raises:
            ProxyAttestationError: when the first certificate is refused, or cannot be had in time; or the application
                cannot start.
        """
        tasks: list[asyncio.Task[None]] = []
        try:
            await self._application.start()
            await self._control.start()
            self._report.event("attesting", f"attesting as {self._config.workload} ({self._attester.tee})")
            tasks.append(asyncio.create_task(self._renewal.run()))
            await self._first_certificate(stop, tasks[0], wait_seconds)
            if not stop.is_set():
                tasks += [asyncio.create_task(listener.run()) for listener in self._listeners]
                tasks += [asyncio.create_task(work) for work in (self._sweep(), self._watch(), self._news.run())]
                self._ready()
                await _until(stop, tasks)
        finally:
            await self._shut_down(tasks)

    async def _first_certificate(self, stop: asyncio.Event, renewal: asyncio.Task[None], wait_seconds: float) -> None:
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait(
                (self._first, stopped, renewal), timeout=wait_seconds, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            stopped.cancel()
        if stop.is_set():
            return
        if renewal.done():
            renewal.result()
        if self._first.done():
            self._first.result()
            return
        raise self._last_error or UnavailableError(
            Code.PROXY_UNREACHABLE, f"no certificate within {wait_seconds:.0f} s"
        )

    async def _shut_down(self, tasks: list[asyncio.Task[None]]) -> None:
        self._renewal.stop()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._close_sockets()
        await asyncio.gather(*(listener.drain() for listener in self._listeners))
        await self._application.stop()
        await self._control.close()
        if self._config.ports_file is not None:
            self._config.ports_file.unlink(missing_ok=True)
        if self._first.done() and not self._first.cancelled():
            self._first.exception()

    def _close_sockets(self) -> None:
        for listener in self._listeners:
            listener.close_socket()

    async def _sweep(self) -> None:
        while True:
            await self._timing.sleep(_SWEEP_S)
            for listener in self._listeners:
                listener.expire(self._timing.clock())

    async def _watch(self) -> None:
        """Look now and then whether the certificate in use was revoked; the next one is made with another key."""
        while True:
            await self._timing.sleep(LOOK_SECONDS)
            credential = self._contexts.credential
            if credential is not None and await self._own.look(credential, self._timing.clock()):
                self._report.event(
                    "revoked",
                    f"certificate {credential.serial:x} was revoked: attesting again with a new key",
                    certificate=credential_json(credential),
                )
                await self._renewal.renew_now()

    async def _enroll(self) -> Credential:
        config, application = self._config, self._application
        wanted = Wanted(config.workload, config.names, config.lifetime, application.kind, application.sha256)
        proxy = await self._connect(config.proxy, self._timing)
        self._own.trust(proxy.root.root)
        try:
            return await enroll(proxy, self._attester, wanted, self._timing, self._ownership)
        finally:
            await proxy.close()

    async def _ask(self, credential: Credential) -> Advice:
        proxy = await self._connect(self._config.proxy, self._timing)
        try:
            return read_advice(await proxy.get_renewal_information(id_of(credential)))
        finally:
            await proxy.close()

    def _early(self, credential: Credential, advice: Advice) -> None:
        why = ", ".join(advice.codes) or "no reason given"
        self._report.event(
            "renew_early",
            f"the proxy asks for a renewal of certificate {credential.serial:x} now: {why}",
            serial=f"{credential.serial:x}",
            codes=list(advice.codes),
        )
        self._renewal.told()

    def _issued(self, credential: Credential) -> None:
        self._ownership.issued(credential)
        self._contexts.install(credential)
        first = not self._first.done()
        simulated = ", SIMULATED" if credential.simulated else ""
        self._report.event(
            "certificate" if first else "renewed",
            f"{'certificate' if first else 'renewed: certificate'} {credential.serial:x} until "
            f"{time_text(credential.not_after)} for {', '.join(credential.names)}{simulated}",
            certificate=credential_json(credential),
        )
        if first:
            self._first.set_result(None)

    def _failed(self, error: ProxyAttestationError, delay: float) -> None:
        self._last_error = error
        needed = self._ownership.needed(error, self._config.workload)
        if needed is not None:
            self._report.note(needed)
        # A verdict on the very first request will not change by asking again; what is unavailable may come.
        if not self._first.done() and not isinstance(error, UnavailableError):
            self._first.set_exception(error)
            return
        self._report.event(
            "failed", f"no new certificate: {error}; next try in {delay:.0f} s", error=error_json(error), retry_in=delay
        )

    def _ready(self) -> None:
        listeners = self._listeners_json()
        if self._config.ports_file is not None:
            _write_atomically(self._config.ports_file, {"listeners": listeners})
        credential = self._contexts.credential
        addresses = ", ".join(f"{listener.endpoint} ({listener.protocol})" for listener in self._listeners)
        self._report.event(
            "ready",
            f"ready: listening on {addresses}",
            listeners=listeners,
            control=str(self._config.control),
            certificate=credential_json(credential) if credential is not None else None,
            application=self._application.status(),
        )

    def _listeners_json(self) -> list[dict[str, object]]:
        return [
            {
                "address": str(listener.endpoint),
                "host": listener.endpoint.host,
                "port": listener.endpoint.port,
                "protocol": str(listener.protocol),
                "connections": listener.connections,
            }
            for listener in self._listeners
        ]

    async def _status(self) -> Answer:
        renewal, credential = self._renewal, self._contexts.credential
        attempt = renewal.attempt
        return {
            "ok": True,
            "state": str(renewal.state),
            "workload": self._config.workload,
            "proxy": self._config.proxy.url,
            "certificate": credential_json(credential) if credential is not None else None,
            "revoked": self._revoked(),
            "next_attempt_at": time_text(renewal.next_attempt_at) if renewal.next_attempt_at is not None else None,
            "last_attempt": None
            if attempt is None
            else {
                "at": time_text(attempt.at),
                "error": error_json(attempt.error) if attempt.error is not None else None,
            },
            "renewal_information": None if self._news.asked is None else asked_json(self._news.asked),
            "listeners": self._listeners_json(),
            "application": self._application.status(),
        }

    def _revoked(self) -> bool:
        """Tell whether the certificate in use is denied, or the proxy refused to renew it for that reason."""
        attempt, credential = self._renewal.attempt, self._contexts.credential
        refused = attempt is not None and attempt.error is not None and attempt.error.code is Code.CERTIFICATE_REVOKED
        return refused or (credential is not None and credential.serial == self._own.revoked)

    async def _renew(self) -> Answer:
        attempt = await self._renewal.renew_now()
        if attempt.error is not None:
            return {"ok": False, "error": error_json(attempt.error)}
        credential = self._contexts.credential
        return {"ok": True, "certificate": credential_json(credential) if credential is not None else None}


async def _until(stop: asyncio.Event, tasks: list[asyncio.Task[None]]) -> None:
    """Wait for `stop`; a task that ends before it has a bug, which comes out here."""
    stopped = asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait((stopped, *tasks), return_when=asyncio.FIRST_COMPLETED)
        for task in done - {stopped}:
            task.result()
    finally:
        stopped.cancel()


def _write_atomically(path: Path, value: object) -> None:
    """Write JSON so that a reader sees the whole of it or nothing.

    Raises:
        ConfigurationError: `configuration.malformed`, where the path cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary.write_text(json.dumps(value) + "\n")
        temporary.replace(path)
    except OSError as error:
        raise ConfigurationError(Code.CONFIGURATION_MALFORMED, f"ports_file {path}: {error.strerror}") from error
