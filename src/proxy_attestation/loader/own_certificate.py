"""Whether this loader's own certificate was revoked: it reads the proxy's deny list as its clients do."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Final

from proxy_attestation.codes import Code
from proxy_attestation.errors import PeerError
from proxy_attestation.loader.credential import Credential
from proxy_attestation.relying_party.deny_list import DenyListReader
from proxy_attestation.relying_party.path import load_roots

LOOK_SECONDS: Final = 60.0
"""How often it is looked; the list itself is read every five minutes."""


class OwnCertificate:
    """Looks for the certificate in use. A list that is away or no list says nothing here: clients judge it themselves.

    Attributes:
        revoked: the serial number that was found in the list last; None while none was.
    """

    def __init__(self, url: str, read: Callable[[str], bytes] | None = None) -> None:
        """Look at nothing yet.

        Args:
            url: the proxy's, `https://HOST:PORT`.
            read: returns what is at a URL.
        """
        self._source = f"{url.rstrip('/')}/denied"
        self._read = read
        self._reader: DenyListReader | None = None
        self.revoked: int | None = None

    def trust(self, root: bytes) -> None:
        """Take the proxy's root (DER) that the list must be signed under, once it is known; it never changes."""
        if self._reader is None:
            self._reader = DenyListReader(self._source, load_roots((root,)), read=self._read)

    async def look(self, credential: Credential, now: datetime) -> bool:
        """Tell whether the certificate was revoked since it was looked for last.

        Args:
            credential: in use.
            now: UTC.
        """
        if self._reader is None or self.revoked == credential.serial:
            return False
        try:
            await asyncio.to_thread(self._reader.check, credential.chain, now)
        except PeerError as error:
            if error.code is Code.CERTIFICATE_REVOKED:
                self.revoked = credential.serial
                return True
        return False
