"""The supervisor's part in the proxy's evidence: it carries what the authority composed to the process with the device.

Nothing is decided here. The authority's orders come on the supervisor's own connection, and the process that quotes
takes orders from its standard input alone, whose other end is here: no worker can reach either of them.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, TypeAlias

from proxy_attestation import log
from proxy_attestation.authority.client import AuthorityClient
from proxy_attestation.authority.messages import Quote, Quoted, ToQuote
from proxy_attestation.codes import Code
from proxy_attestation.errors import ProxyAttestationError, UnavailableError
from proxy_attestation.service.children import Child, Command, Keeper

QUOTE_SECONDS: Final = 30.0
"""How long one quote may take."""
_AGAIN_SECONDS: Final = 1.0

Ask: TypeAlias = Callable[[Callable[[AuthorityClient], Coroutine[Any, Any, ToQuote | None]]], Awaitable[ToQuote | None]]
"""Asks the authority on the supervisor's connection."""


class Quoting:
    """The process that quotes, and what goes to and fro.

    Attributes:
        keeper: of the process. It is patient: issuing does not depend on it.
    """

    def __init__(self, arguments: Sequence[str], descriptors: tuple[int, ...]) -> None:
        self.keeper = Keeper("quoter", lambda: Command(arguments, descriptors=descriptors), patient=True)
        self._line: tuple[Child, AuthorityClient] | None = None

    async def relay(self, ask: Ask) -> None:
        """Have quoted what the authority wants quoted, one after the other, until cancelled."""
        made: Quoted | None = None
        while True:
            last, made = made, None
            try:
                wanted = await ask(lambda client, last=last: client.next_quote(last))  # type: ignore[misc] # the default
            except ProxyAttestationError as error:
                log.warning("no order for a quote", code=str(error.code), detail=error.detail)
                await asyncio.sleep(_AGAIN_SECONDS)
                continue
            if wanted is not None:
                made = Quoted(wanted.number, await self._quote(wanted))

    async def _quote(self, wanted: ToQuote) -> Quote | None:
        child = self.keeper.child
        try:
            if child is None or child.ended:
                raise UnavailableError(Code.ATTESTER_UNAVAILABLE, "the process that quotes does not run")
            if self._line is None or self._line[0] is not child:
                self._line = child, await AuthorityClient.adopt(child.line.dup(), call_timeout=QUOTE_SECONDS)
            return await self._line[1].quote(wanted)
        except ProxyAttestationError as error:
            log.warning("not quoted", code=str(error.code), detail=error.detail)
            return None
