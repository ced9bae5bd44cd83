"""Early warning for a live proxy: would the coming TCB release refuse platforms that get certificates today?

For each set that follows `standard`, twice a day Intel's `early` release is fetched and verified, and kept nowhere. The
PCK chains that workers noted in the last two days are judged by it as `endorsements forecast` judges a certificate: by
its SVNs, without quoting enclave and TDX module.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from proxy_attestation import log
from proxy_attestation.appraisal.endorsements import DcapEndorsements
from proxy_attestation.endorsements.cache import Cache
from proxy_attestation.endorsements.durable import read_bounded
from proxy_attestation.endorsements.early import REFUSED_NAMED_MAX, Early, write_early
from proxy_attestation.endorsements.forecast import Outlook, judge, read_platform
from proxy_attestation.endorsements.pcs import IntelTarget, pieces_of
from proxy_attestation.endorsements.refresh import Sources, Target
from proxy_attestation.endorsements.spool import PlatformSpool
from proxy_attestation.errors import ProxyAttestationError
from proxy_attestation.formats.bounds import CERTIFICATE_MAX, PCK_CHAIN_MAX
from proxy_attestation.formats.tee import Tee

FETCH: Final = timedelta(hours=12)
AGAIN: Final = timedelta(hours=1)
"""After a failure."""
SEEN: Final = timedelta(days=2)
LOOK_SECONDS: Final = 2.0
_NUMBER: Final = "tcb info number"


@dataclass(slots=True)
class _Coming:
    """The coming release for one set.

    Attributes:
        due: when it is fetched next.
        at: when it was fetched.
        number: its evaluation number.
        pieces: it; None where it could not be fetched.
        judged: by file name, what it says of platforms; None for a file that is no platform of this set.
        said: the outlook that was reported last.
    """

    due: datetime
    at: datetime
    number: int = 0
    pieces: DcapEndorsements | None = None
    judged: dict[str, Outlook | None] = field(default_factory=dict)
    said: Early | None = None


class EarlyWatch:
    """Judges platforms by what is coming.

    Args of `__init__`: where sets are kept, where they come from, what is kept fresh, what workers noted, the time
    (aware, UTC).
    """

    def __init__(
        self,
        cache: Cache,
        sources: Sources,
        targets: Sequence[Target],
        spool: PlatformSpool,
        *,
        now: Callable[[], datetime],
    ) -> None:
        self._cache, self._sources, self._spool, self._now = cache, sources, spool, now
        standard = [one for one in targets if isinstance(one, IntelTarget) and one.release == "standard"]
        self._coming = {target: _Coming(now(), now()) for target in standard}

    @property
    def wanted(self) -> bool:
        """Whether there is any set to look ahead for."""
        return bool(self._coming)

    async def run(self, report: Callable[[Mapping[str, Early]], None]) -> None:
        """Look until cancelled.

        Args:
            report: called with all outlooks, by set, when one of them has changed.
        """
        while True:
            try:
                found = await self.look()
            except (OSError, ProxyAttestationError) as error:
                log.warning("no early warning", problem=str(error))
            else:
                if found is not None:
                    report(found)
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> Mapping[str, Early] | None:
        """Fetch what is due, judge who is new, and write the outlooks where they have changed; return them then.

        Raises:
            UnavailableError: `endorsements.unavailable`, for a directory that cannot be read.
            OSError: they cannot be written.
        """
        now = self._now()
        paths = self._spool.seen((now - SEEN).timestamp())
        changed = False
        for target, coming in self._coming.items():
            if coming.due <= now:
                await self._fetch(target, coming, now)
            if coming.pieces is None:
                continue
            early = self._judge(target, coming, coming.pieces, paths)
            if early != coming.said:
                if _news(early) != (None if coming.said is None else _news(coming.said)):
                    _say(target.name, early)
                coming.said, changed = early, True
        if not changed:
            return None
        found = {target.name: coming.said for target, coming in self._coming.items() if coming.said is not None}
        write_early(self._cache.directory, found)
        return found

    async def _fetch(self, target: IntelTarget, coming: _Coming, now: datetime) -> None:
        try:
            fetched = await self._sources.fetch(replace(target, release="early"), now, None)
        except ProxyAttestationError as error:
            log.warning("no early warning", set=target.name, code=str(error.code), problem=error.detail)
            coming.due = now + AGAIN
            return
        coming.due, coming.at = now + FETCH, now
        pieces = pieces_of(fetched.files)
        if pieces != coming.pieces:
            coming.number, coming.pieces = fetched.numbers[_NUMBER], pieces
            coming.judged.clear()

    def _judge(self, target: IntelTarget, coming: _Coming, pieces: DcapEndorsements, paths: Sequence[Path]) -> Early:
        own = [path for path in paths if path.name.startswith(f"{target.tee}-")]
        names = {path.name for path in own}
        coming.judged = {name: outlook for name, outlook in coming.judged.items() if name in names}
        for path in own:
            if path.name not in coming.judged:
                coming.judged[path.name] = self._outlook(target, pieces, path)
        judged = {name: outlook for name, outlook in coming.judged.items() if outlook is not None}
        refused = sorted(name for name, outlook in judged.items() if outlook.code is not None)
        held = self._cache.held().get(target.name)
        return Early(
            at=coming.at,
            number=coming.number,
            held=0 if held is None else held.numbers.get(_NUMBER, 0),
            platforms=len(judged),
            refused=len(refused),
            named=tuple(name.removesuffix(".pem").partition("-")[2] for name in refused[:REFUSED_NAMED_MAX]),
        )

    def _outlook(self, target: IntelTarget, pieces: DcapEndorsements, path: Path) -> Outlook | None:
        try:
            data = read_bounded(path, 2 * PCK_CHAIN_MAX * CERTIFICATE_MAX)
            platform = read_platform(path.name, data, Tee(target.tee))
            if (platform.fmspc, platform.ca) != (target.fmspc, target.ca):
                return None
            return judge(platform, pieces, self._sources.roots, self._now())
        except (OSError, ProxyAttestationError):
            return None


def _news(early: Early) -> tuple[object, ...]:
    """Return what is worth a line of the log: one more platform that it would accept is not."""
    return early.at, early.number, early.refused, early.named


def _say(name: str, early: Early) -> None:
    fields = {"set": name, "number": early.number, "held": early.held, "platforms": early.platforms}
    if early.refused:
        log.warning("the coming TCB release would refuse", **fields, refused=early.refused, named=early.named)
    else:
        log.info("the coming TCB release would refuse nobody", **fields)
