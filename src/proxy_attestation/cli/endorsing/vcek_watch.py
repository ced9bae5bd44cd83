"""VCEKs that workers ask for: fetched from KDS one at a time, verified under the held chain, kept for good.

What is asked for came from evidence that nobody could verify yet, so it is a chip id and TCB numbers, read strictly,
and put into a URL whose beginning the operator configured. A peer can make up chips: then KDS is asked at this pace
and no faster, and what it does not know or what fails is not asked for again for a while.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from proxy_attestation import log
from proxy_attestation.endorsements.amd_checks import VcekRequest
from proxy_attestation.endorsements.cache import Cache
from proxy_attestation.endorsements.fetched import stale
from proxy_attestation.endorsements.kds import AmdTarget, fetch_vcek, parse_vcek
from proxy_attestation.endorsements.refresh import Sources
from proxy_attestation.endorsements.spool import VcekSpool
from proxy_attestation.errors import ProxyAttestationError

PACE_SECONDS: Final = 2.0
"""Between two VCEKs."""
LOOK_SECONDS: Final = 0.5
FIRST_AGAIN: Final = timedelta(minutes=1)
"""After a failure; doubled with each further one."""
MOST_AGAIN: Final = timedelta(hours=1)
FAILED_MAX: Final = 1024
"""Chips whose failures are remembered; then all are forgotten."""


class VcekWatch:
    """Fetches what is asked for.

    Args of `__init__`: the sets, where they come from, the products, the spool, the time (aware, UTC).
    """

    def __init__(
        self,
        cache: Cache,
        sources: Sources,
        targets: tuple[AmdTarget, ...],
        spool: VcekSpool,
        *,
        now: Callable[[], datetime],
    ) -> None:
        self._cache, self._sources, self._targets, self._spool, self._now = cache, sources, targets, spool, now
        self._failed: dict[str, tuple[datetime, int]] = {}

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            asked = False
            for target in self._targets:
                for path, text in self._spool.wanted(target.product):
                    if await self.serve(target, path, text):
                        asked = True
                        await asyncio.sleep(PACE_SECONDS)
            if not asked:
                await asyncio.sleep(LOOK_SECONDS)

    async def serve(self, target: AmdTarget, path: Path, text: str) -> bool:
        """Serve one request and remove it; return whether KDS was asked."""
        try:
            request = parse_vcek(text, target.product)
        except ValueError:
            request = None
        name = path.name
        again, failures = self._failed.get(name, (self._now(), 0))
        if request is None or f"{name}.der" != request.file_name or again > self._now():
            self._spool.done(path)
            return False
        try:
            self._spool.keep(target.product, request, await self._fetch(target, request))
        except (OSError, ProxyAttestationError) as error:
            wait = min(FIRST_AGAIN * 2.0 ** min(failures, 16), MOST_AGAIN)
            if len(self._failed) >= FAILED_MAX:
                self._failed.clear()
            self._failed[name] = self._now() + wait, failures + 1
            code = str(error.code) if isinstance(error, ProxyAttestationError) else ""
            log.warning("VCEK not fetched", product=target.product, vcek=name, code=code, problem=str(error))
        else:
            self._failed.pop(name, None)
            log.info("VCEK fetched", product=target.product, vcek=name)
        self._spool.done(path)
        return True

    async def _fetch(self, target: AmdTarget, request: VcekRequest) -> bytes:
        held = self._cache.held().get(target.name)
        if held is None or held.valid_until <= self._now():
            raise stale(target.name, "no chain is held that a VCEK could be verified with")
        return await fetch_vcek(
            self._sources.getter,
            self._sources.kds,
            target.product,
            request,
            held_files=held.files(),
            pins=self._sources.pins,
            now=self._now(),
        )
