import asyncio
from pathlib import Path

import pytest

from proxy_attestation.formats.request import ApplicationKind
from proxy_attestation.loader.applications.address import AddressApplication
from proxy_attestation.loader.endpoint import Endpoint


def test_it_connects_and_claims_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "app.sock"
        application = AddressApplication(Endpoint(path=path))
        await application.start()
        assert application.kind is ApplicationKind.ADDRESS
        assert application.sha256 is None
        with pytest.raises(OSError):
            await application.connect()

        async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"hello")
            writer.close()

        server = await asyncio.start_unix_server(greet, path)
        stream = await application.connect()
        assert await stream.read() == b"hello"
        await stream.close()
        server.close()
        await application.stop()
        assert application.status() == {"kind": "address", "address": f"unix:{path}"}

    asyncio.run(scenario())
