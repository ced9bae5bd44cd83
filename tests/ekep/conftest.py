"""Two sides of EKEP in memory."""

from collections.abc import Callable

import pytest
from ekep_sides import Drawn, Plain, Sides

from proxy_attestation.ekep.handshake import Handshake


@pytest.fixture
def sides() -> Callable[..., Sides]:
    """Make a client and a server."""

    def make(client: Plain | None = None, server: Plain | None = None) -> Sides:
        return (
            Handshake(client or Plain(), server=False, random=Drawn(0)),
            Handshake(server or Plain(), server=True, random=Drawn(16)),
        )

    return make
