"""A worker's link to the authority: connects, asks what to work with, notices changes, connects anew when it breaks."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeAlias

from proxy_attestation import log
from proxy_attestation.appraisal.endorsements import Floor
from proxy_attestation.appraisal.kinds import Endorsements
from proxy_attestation.authority.client import AuthorityClient
from proxy_attestation.authority.messages import AuthorityInfo, Issued, IssueOrder, Proven
from proxy_attestation.codes import Code
from proxy_attestation.errors import ProxyAttestationError, UnavailableError

HELLO_SECONDS: Final = 30.0
"""How often the authority is asked even when nothing seems to have changed."""
BACKOFF_SECONDS: Final = (0.02, 1.0)
"""The first and the longest wait between two tries to connect; each is twice the one before."""
_OLD_NEWS: Final = (Code.POLICY_STALE, Code.CHALLENGE_CA, Code.ENDORSEMENTS_UNAVAILABLE)
"""Codes of refusals that may rest on what this worker was told before."""
Changed: TypeAlias = Callable[[AuthorityInfo | None], Awaitable[None]]
"""What is told the news."""


class AuthorityLink:
    """The `core.AuthorityPort` of a worker. Args of `__init__`: the socket's path; what connects to it."""

    def __init__(self, path: Path, connect: Callable[[Path], Awaitable[AuthorityClient]]) -> None:
        self._path = path
        self._connect = connect
        self._connection: AuthorityClient | None = None
        self._generation = -1
        self._ask = asyncio.Event()

    async def run(self, changed: Changed) -> None:
        """Keep the link up until cancelled; tell each `AuthorityInfo` that is new, and None when the link is lost."""
        wait, longest = BACKOFF_SECONDS
        while True:
            try:
                connection = self._connection = await self._connect(self._path)
                try:
                    await self._follow(connection, changed)
                    wait = BACKOFF_SECONDS[0]
                finally:
                    self._connection = None
                    await connection.close()
                    await changed(None)
            except ProxyAttestationError as error:
                log.warning("authority away", code=str(error.code), detail=error.detail)
            await asyncio.sleep(wait)
            wait = min(wait * 2, longest)

    async def hello(self) -> AuthorityInfo:
        """Ask the authority what a worker needs to know.

        Raises:
            UnavailableError: `authority.unavailable`.
        """
        return await self._require().hello()

    async def denied(self) -> bytes:
        """Ask the authority for the deny list.

        Raises:
            UnavailableError: `authority.unavailable`.
        """
        return await self._require().denied()

    async def issue(self, order: IssueOrder) -> Issued:
        """Issue or refuse, as the authority decides.

        Raises:
            ProxyAttestationError: as the authority decides; `authority.unavailable` while it is away.
        """
        connection = self._require()
        try:
            issued = await connection.issue(order)
        except ProxyAttestationError as error:
            if error.code in _OLD_NEWS:
                self.refresh()
            if error.code is not Code.POLICY_STALE:
                raise
            # The policy was replaced since this worker was told. Nothing that it has checked rests on the policy.
            info = await connection.hello()
            if info.policy_digest == order.policy_digest:
                raise
            issued = await connection.issue(replace(order, policy_digest=info.policy_digest))
        if issued.generation != self._generation:
            self.refresh()
        return issued

    async def raise_floor(self, endorsements: Endorsements) -> Floor:
        """Have the authority verify a set and raise its floor; return where that stands.

        Raises:
            UnavailableError: `endorsements.unavailable`, `authority.unavailable`.
        """
        raised = await self._require().raise_floor(endorsements)
        self.refresh()  # floors are part of the policy's digest
        return raised

    async def evidence(self, nonce: bytes) -> Proven:
        """Ask what the proxy is, with its own evidence over a nonce of 32 bytes.

        Raises:
            UnavailableError: `proxy.evidence_busy`, `attester.unavailable`, `authority.unavailable`.
        """
        return await self._require().evidence(nonce)

    def refresh(self) -> None:
        """Ask the authority soon what to work with."""
        self._ask.set()

    def _require(self) -> AuthorityClient:
        if self._connection is None:
            raise UnavailableError(Code.AUTHORITY_UNAVAILABLE, "not connected")
        return self._connection

    async def _follow(self, connection: AuthorityClient, changed: Changed) -> None:
        """Ask again whenever something seems to have changed, until the connection ends."""
        lost = asyncio.ensure_future(connection.lost())
        lost.add_done_callback(lambda _: self._ask.set())
        self._generation = -1
        watching: asyncio.Future[int] | None = None
        try:
            while not lost.done():
                self._ask.clear()
                info = await connection.hello()
                if info.generation != self._generation:
                    self._generation = info.generation
                    await changed(info)
                if watching is None or watching.done():
                    # Only now: it says that nothing is answered under an older generation any more.
                    watching = asyncio.ensure_future(connection.watch(self._generation))
                    watching.add_done_callback(self._watched)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._ask.wait(), HELLO_SECONDS)
        finally:
            lost.cancel()
            if watching is not None:
                watching.cancel()

    def _watched(self, watching: asyncio.Future[int]) -> None:
        """Ask at once; where the watch has failed there is the next round, or the connection has ended."""
        if not watching.cancelled() and watching.exception() is None:
            self._ask.set()
