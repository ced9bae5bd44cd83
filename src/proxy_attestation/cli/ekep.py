"""`ekep`: an optional front beside `serve` that speaks EKEP."""

import asyncio
import json
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click
import httpx

from proxy_attestation import log
from proxy_attestation.appraisal.claims import Claims
from proxy_attestation.appraisal.kinds import Appraiser, Beside, ParsedOrTpm
from proxy_attestation.attester.select import select_attester
from proxy_attestation.authority.state import LEDGER, ROOT, RUN
from proxy_attestation.cli.operator import state_argument
from proxy_attestation.cli.output import json_option, print_json
from proxy_attestation.codes import Code
from proxy_attestation.ekep.evidence import KINDS, EvidenceAssertions
from proxy_attestation.ekep.front import Front, serve_front
from proxy_attestation.errors import UnavailableError
from proxy_attestation.formats.bounds import MESSAGE_MAX
from proxy_attestation.formats.tee import Tee
from proxy_attestation.policy.load import load_policy
from proxy_attestation.reappraisal.current import CollateralReader, read_settings, roots_of
from proxy_attestation.reappraisal.ledger_view import LedgerView
from proxy_attestation.relying_party.proxy import CONTENT_TYPE, ProxyContext
from proxy_attestation.relying_party.root_file import load_root_file

DEFAULT_LISTEN: Final = "127.0.0.1:7446"

_SERVICE: Final = "/proxy_attestation.v1.ProxyAttestation/"
_FRESH_SECONDS: Final = 60.0
_TIMEOUT: Final = 15.0


@click.command("ekep")
@state_argument
@click.option("--listen", default=DEFAULT_LISTEN, show_default=True, metavar="ADDRESS:PORT", help="Where to listen.")
@click.option(
    "--attester", required=True, metavar="SPEC", help="What attests this process: gramine, configfs-tsm, nsm, ..."
)
@click.option("--tee", required=True, type=click.Choice([str(tee) for tee in KINDS]), help="The kind of its evidence.")
@click.option(
    "--accept",
    multiple=True,
    type=click.Choice([str(tee) for tee in KINDS]),
    help="Whose evidence is accepted in a handshake; repeatable.  [default: all]",
)
@click.option(
    "--proxy", metavar="URL", help="The proxy's Connect front.  [default: https://127.0.0.1 and the port of `serve`]"
)
@click.option("--server-name", metavar="NAME", help="The name in the proxy's certificate, where the URL's is another.")
@json_option
def command(
    state: Path,
    *,
    listen: str,
    attester: str,
    tee: str,
    accept: tuple[str, ...],
    proxy: str | None,
    server_name: str | None,
    as_json: bool,
) -> int:
    """Serve EKEP, the mutually attested handshake of Asylo, in front of the proxy that `serve` runs on STATE.

    Off unless it is started, and outside the trusted base: inside the attested channel GetChallenge and
    GetSignedCertificate run as on any other way in, with their own evidence. Both sides are attested before anything
    is called; a side in debug mode is refused.

    \b
    Example:
      proxy-attestation ekep STATE --attester gramine --tee sgx --listen 0.0.0.0:7446
    """
    log.configure("ekep")
    here = select_attester(attester, Tee(tee))
    judge = _Judge(state, lambda: datetime.now(UTC))
    accepted = tuple(Tee(name) for name in accept) or tuple(KINDS)
    upstream = _Proxy(state, proxy, server_name)
    front = Front(lambda: EvidenceAssertions(here, accepted, judge.appraise), upstream)

    def ready(port: int) -> None:
        address = f"{listen.rpartition(':')[0]}:{port}"
        if as_json:
            print_json({"ready": True, "ekep": address, "tee": tee, "accepts": [str(kind) for kind in accepted]})
        else:
            click.echo(f"EKEP           {address}, attested as {tee}")
            click.echo(f"accepts        {', '.join(accepted)}")
            click.echo("ready")

    async def run() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await serve_front(front, listen, ready, stop)

    asyncio.run(run())
    return 0


@dataclass(frozen=True, slots=True)
class _Current:
    appraiser: Appraiser
    until: float


class _Judge:
    """Appraises with STATE's collateral, read again once it is a minute old."""

    def __init__(self, state: Path, clock: Callable[[], datetime]) -> None:
        self._state = state
        self._clock = clock
        self._settings = read_settings(state)
        self._reader = CollateralReader(state / "endorsements")
        self._current: _Current | None = None

    def appraise(self, evidence: ParsedOrTpm, certificates: tuple[bytes, ...], beside: Beside) -> Claims:
        """Appraise evidence; raises as `Appraiser.appraise`."""
        now = self._clock()
        if self._current is None or time.monotonic() > self._current.until:
            policy = load_policy(self._state / "policy.toml")
            roots = roots_of(self._settings, policy)
            with LedgerView.open(self._state / LEDGER) as view:
                chosen = self._reader.read(roots, view.in_force(int(now.timestamp())), now)
            self._current = _Current(Appraiser(roots, chosen.in_use), time.monotonic() + _FRESH_SECONDS)
        claims, _ = self._current.appraiser.appraise(evidence, certificates, now, beside)
        return claims


class _Proxy:
    """The proxy's Connect front: on this machine, as STATE/run/ports.json says, or elsewhere; under STATE's root."""

    def __init__(self, state: Path, url: str | None, server_name: str | None) -> None:
        self._ports = state / RUN / "ports.json"
        self._url = url
        self._context = ProxyContext(
            load_root_file(state / ROOT), read_settings(state).trust_domain, server_name=server_name
        )

    async def call(self, method: str, body: bytes) -> tuple[int, bytes]:
        """Hand a call on; see `ekep.front.Upstream`."""
        headers = {"content-type": CONTENT_TYPE, "accept-encoding": "identity", "connect-protocol-version": "1"}
        try:
            url = self._url or f"https://127.0.0.1:{json.loads(self._ports.read_text())['connect']}"
            async with (
                httpx.AsyncClient(verify=self._context, trust_env=False, timeout=_TIMEOUT) as client,
                client.stream("POST", f"{url}{_SERVICE}{method}", content=body, headers=headers) as response,
            ):
                answer = bytearray()
                async for piece in response.aiter_raw():
                    answer += piece
                    if len(answer) > MESSAGE_MAX:
                        raise UnavailableError(Code.PROXY_PROTOCOL, f"an answer of more than {MESSAGE_MAX} bytes")
        except (OSError, ValueError, LookupError, httpx.HTTPError) as error:
            raise UnavailableError(Code.PROXY_UNREACHABLE, f"{type(error).__name__} {error}".rstrip()) from error
        return response.status_code, bytes(answer)
