"""Keeps `Core.serving` right: what the authority says, and the collateral to appraise with."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

from proxy_attestation import log
from proxy_attestation.appraisal.kinds import Appraiser
from proxy_attestation.appraisal.roots import VENDOR_ROOTS, same_for_all
from proxy_attestation.authority.messages import AuthorityInfo
from proxy_attestation.errors import ProxyAttestationError
from proxy_attestation.service.collateral import CollateralStore
from proxy_attestation.service.core import Core, Serving
from proxy_attestation.service.metrics import Metrics

SCAN_SECONDS: Final = 1.0


class Upkeep:
    """Replaces `core.serving` as a whole whenever the authority or the collateral changes.

    Args of `__init__`: the core; the collateral; the metrics; what to tell whether calls can be answered.

    Attributes:
        first: set once there is something to serve with.
    """

    def __init__(
        self, core: Core, store: CollateralStore, metrics: Metrics, ready: Callable[[bool], Awaitable[None]]
    ) -> None:
        self.first = asyncio.Event()
        self._core, self._store, self._metrics, self._ready = core, store, metrics, ready
        self._info: AuthorityInfo | None = None
        self._lock = asyncio.Lock()
        self._again = asyncio.Event()

    async def authority_changed(self, info: AuthorityInfo | None) -> None:
        """Take what the authority said, or that it has gone."""
        self._info = info
        if info is None:
            self._core.serving = None
            await self._ready(False)
        else:
            old = self._core.serving
            if old is not None:
                # At once, whatever the collateral takes: nobody is answered under what is no more in force.
                same = _anchors(old.info) == _anchors(info)
                self._core.serving = Serving(info, old.appraiser) if same else None
            await self._refresh()

    def rescan(self) -> None:
        """Look into the directory now."""
        self._again.set()

    async def run(self) -> None:
        """Look once a second whether the collateral changed, until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._again.wait(), SCAN_SECONDS)
            forced = self._again.is_set()
            self._again.clear()
            if self._info is not None and (forced or self._store.due()):
                await self._refresh()

    async def _refresh(self) -> None:
        async with self._lock:
            info = self._info
            if info is None:
                return
            vendors = same_for_all(info.anchors) if info.simulated else VENDOR_ROOTS
            roots = replace(vendors, tpm=frozenset(info.tpm_roots))
            try:
                changed = await self._store.update(roots, {(tee, fmspc): floor for tee, fmspc, floor in info.floors})
            except ProxyAttestationError as error:
                log.warning("collateral not updated", code=str(error.code), detail=error.detail)
                return
            if self._info is not info:
                return  # the authority has gone, or said something newer that waits for the lock
            before = self._core.serving
            same = before is not None and not changed and _anchors(before.info) == _anchors(info)
            # A new one has empty caches: what the old one's hold rests on older collateral.
            appraiser = before.appraiser if before and same else Appraiser(roots, self._store.in_use)
            self._core.serving = Serving(info, appraiser)
            if changed:
                self._report()
        self.first.set()
        await self._ready(True)

    def _report(self) -> None:
        in_use = sorted(self._store.in_use.items())
        for tee in sorted({tee for (tee, _), _ in in_use}):
            sets = [collateral for (of, _), collateral in in_use if of is tee]
            issued_at = min(collateral.floor.issue_date for collateral in sets)
            valid_until = min(collateral.valid_until.timestamp() for collateral in sets)
            self._metrics.collateral(str(tee), issued_at, valid_until, len(sets))
        names = ("tee", "platform", "evaluation_number", "valid_until", "digest")
        rows = (
            (str(tee), fmspc.hex(), one.floor.evaluation_number, one.valid_until.isoformat(), one.digest.hex())
            for (tee, fmspc), one in in_use
        )
        log.info("collateral in use", sets=[dict(zip(names, row, strict=True)) for row in rows])


def _anchors(info: AuthorityInfo) -> tuple[tuple[bytes, ...], ...]:
    return info.anchors, info.tpm_roots
