"""What `serve` starts to keep STATE/endorsements fresh: `endorsements watch` as a child of the supervisor.

Started as ``python -P -m proxy_attestation.cli.endorsing.process STATE [CONFIG]``. It is the only process of a proxy
that connects to anybody, so it is none of those that hold a key or parse a peer's bytes: what it keeps, workers and
authority verify again. Standard input is a socket whose other end only the supervisor holds: at its end this exits at
once. It writes one line, `ready`, to standard output when its configuration is good. SIGTERM: ends. SIGHUP: reads the
configuration again; a malformed one is logged, and the old one goes on.

Whatever fails, a vendor's service or our own disk, is logged and tried again; what is in the directory stays.
"""

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from proxy_attestation import hardening, log
from proxy_attestation.authority.state import RUN
from proxy_attestation.cli.endorsing.early_watch import EarlyWatch
from proxy_attestation.cli.endorsing.gauges import write_gauges
from proxy_attestation.cli.endorsing.options import NO_OPTIONS, Place, getter_of, place_of, sources_of, targets_of
from proxy_attestation.cli.endorsing.report import times
from proxy_attestation.cli.endorsing.vcek_watch import VcekWatch
from proxy_attestation.endorsements.early import read_early
from proxy_attestation.endorsements.http import utc_now
from proxy_attestation.endorsements.kds import AmdTarget
from proxy_attestation.endorsements.refresh import Outcome, Refresher, Target
from proxy_attestation.endorsements.spool import SPOOLS, WANTED, PlatformSpool, VcekSpool
from proxy_attestation.errors import ProxyAttestationError
from proxy_attestation.service.metrics import REFRESH_FILE

_TROUBLE_SECONDS: Final = 60.0
"""How long to wait after a failure that is not a source's, such as a full disk."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do until told otherwise.

    Attributes:
        place: the directory, the anchors, where to ask.
        targets: what to keep fresh.
        run: STATE/run.
    """

    place: Place
    targets: tuple[Target, ...]
    run: Path


def load_plan(state: Path, config_file: Path | None) -> Plan:
    """Read STATE and the configuration.

    Raises:
        UsageError: no platform is named.
        ConfigurationError: `configuration.malformed`.
    """
    place = place_of(state, (), config_file)
    targets = targets_of(place.config, None)
    return Plan(place, targets, state / RUN)


async def keep_fresh(plan: Plan) -> None:
    """Keep the sets fresh until cancelled.

    Raises:
        ConfigurationError: `configuration.malformed`, for a CA file without certificates.
        UsageError: for a source that is no URL.
    """
    cache, place = plan.place.cache, plan.place
    due: dict[str, datetime] = {}

    def report(outcome: Outcome, again: datetime) -> None:
        due[outcome.name] = again
        _log(outcome, again)
        _show(plan, due)

    def planned(first: Mapping[str, datetime]) -> None:
        due.update(first)
        _show(plan, due)

    async def wait(seconds: float) -> bool:
        await asyncio.sleep(seconds)
        return False

    async def refresh(refresher: Refresher) -> None:
        while True:
            try:
                await refresher.watch(plan.targets, wait, report, planned)
            except ProxyAttestationError as error:
                log.warning("endorsements not refreshed", code=str(error.code), problem=error.detail)
                await asyncio.sleep(_TROUBLE_SECONDS)

    async with getter_of(place.config, NO_OPTIONS) as getter:
        sources = sources_of(getter, place, NO_OPTIONS)
        platforms, vceks = PlatformSpool(plan.run), VcekSpool(plan.run, cache.directory)
        amd = tuple(target for target in plan.targets if isinstance(target, AmdTarget))
        early = EarlyWatch(cache, sources, plan.targets, platforms, now=utc_now)
        # Another configuration may have asked for more; platforms that were noted are not noted again at once.
        for name in (WANTED,) if early.wanted else SPOOLS:
            shutil.rmtree(plan.run / name, ignore_errors=True)
        try:
            for target in amd:
                vceks.open(target.product)
            if early.wanted:
                platforms.open()
        except OSError as error:
            log.warning("workers cannot ask for anything", problem=str(error))
        async with asyncio.TaskGroup() as group:
            group.create_task(refresh(Refresher(cache, sources)))
            group.create_task(VcekWatch(cache, sources, amd, vceks, now=utc_now).run())
            group.create_task(early.run(lambda _: _show(plan, due)))


def _log(outcome: Outcome, again: datetime) -> None:
    fields = {"set": outcome.name, "source": outcome.source, "next": times(again)}
    if outcome.error is not None:
        log.warning("endorsements not refreshed", **fields, code=str(outcome.error.code), problem=outcome.error.detail)
    elif outcome.fetched is not None:
        log.info("endorsements refreshed", **fields, new=outcome.new, until=times(outcome.fetched.valid_until))


def _show(plan: Plan, due: Mapping[str, datetime]) -> None:
    cache = plan.place.cache
    try:
        write_gauges(
            plan.run / "metrics" / REFRESH_FILE, cache.held(), cache.statuses(), due, read_early(cache.directory)
        )
    except (OSError, ProxyAttestationError) as error:
        log.warning("metrics of endorsements not written", problem=str(error))


async def run(state: Path, config_file: Path | None) -> None:
    """Do all this until SIGTERM.

    Raises:
        UsageError, ConfigurationError: a configuration that cannot be used, at the start.
    """
    loop = asyncio.get_running_loop()
    stop, again = asyncio.Event(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGHUP, again.set)
    # Nothing is ever written to it: readable means that its other end has closed.
    loop.add_reader(sys.stdin.fileno(), lambda: os._exit(1))
    plan = load_plan(state, config_file)
    working = loop.create_task(keep_fresh(plan))
    await asyncio.sleep(0)  # a CA file or a URL that cannot be used shows itself before anything is said
    if working.done():
        working.result()
    os.write(sys.stdout.fileno(), b"ready\n")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # nobody reads it any more
    names = [target.name for target in plan.targets]
    log.info("keeping endorsements fresh", sets=names, directory=str(plan.place.cache.directory), at=times(utc_now()))
    stopping = loop.create_task(stop.wait())
    while not stop.is_set():
        reading = loop.create_task(again.wait())
        await asyncio.wait((stopping, reading, working), return_when="FIRST_COMPLETED")
        reading.cancel()
        if working.done():
            working.result()
        if again.is_set():
            again.clear()
            working = await _changed(working, state, config_file)
    working.cancel()
    await asyncio.wait((working,))


async def _changed(working: "asyncio.Task[None]", state: Path, config_file: Path | None) -> "asyncio.Task[None]":
    """Go on with what the configuration says now, or with the old one where it cannot be used."""
    try:
        plan = load_plan(state, config_file)
        with_it = asyncio.get_running_loop().create_task(keep_fresh(plan))
        await asyncio.sleep(0)
        if with_it.done():
            with_it.result()
    except ProxyAttestationError as error:
        log.warning("configuration of endorsements not taken", code=str(error.code), problem=error.detail)
        return working
    working.cancel()
    await asyncio.wait((working,))
    log.info("keeping endorsements fresh", sets=[target.name for target in plan.targets])
    return with_it


def main() -> int:
    """Give up what is not needed, and work."""
    log.configure("endorsements")
    if not (hardening.give_up() and hardening.end_with_parent()):
        log.warning("this system cannot forbid core dumps, debuggers and new privileges, or end us with the supervisor")
    config_file = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    try:
        asyncio.run(run(Path(sys.argv[1]), config_file))
    except ProxyAttestationError as error:
        log.warning("endorsements cannot be kept fresh", code=str(error.code), problem=error.detail)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
