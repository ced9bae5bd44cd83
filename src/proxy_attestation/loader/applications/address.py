"""An application that somebody else runs on this machine: only its address is known, nothing is claimed of it."""

from typing import Final

from proxy_attestation.formats.request import ApplicationKind
from proxy_attestation.loader.endpoint import Endpoint
from proxy_attestation.loader.streams import Stream


class AddressApplication:
    """Plaintext on loopback or a Unix socket."""

    kind: Final = ApplicationKind.ADDRESS
    sha256: Final = None

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    async def start(self) -> None:
        """Do nothing: the application may come later than the loader, and come back."""

    async def stop(self) -> None:
        """Do nothing: the application is not ours."""

    def status(self) -> dict[str, object]:
        """Return the address."""
        return {"kind": "address", "address": str(self._endpoint)}

    async def connect(self) -> Stream:
        """Connect to it."""
        return await self._endpoint.connect()
