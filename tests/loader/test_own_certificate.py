"""A loader whose certificate was revoked says so, and attests again with a new key."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from proxy_attestation.codes import Code
from proxy_attestation.errors import UnavailableError
from proxy_attestation.formats.csr import spki_of
from proxy_attestation.formats.deny_list import Denied, DenyList, sign_deny_list
from proxy_attestation.loader.credential import Credential
from proxy_attestation.loader.own_certificate import OwnCertificate


def note(authority: Any, credential: Credential, *denied: bytes) -> bytes:
    seconds = int(credential.obtained_at.timestamp())
    content = DenyList(
        origin="example.org/issuance/0123456789abcdef",
        sequence=1,
        this_update=seconds,
        next_update=seconds + 86400,
        certificates=(authority.issuing.public_bytes(Encoding.DER),),
        denied=tuple(Denied(one, seconds + 86400) for one in denied),
    )
    key = authority.issuing_key
    return sign_deny_list(content, spki_of(key.public_key()), lambda text: key.sign(text, ec.ECDSA(SHA256())))


def test_what_is_denied_is_found_once(authority: Any, make_credential: Callable[[], Credential]) -> None:
    credential, other = make_credential(), make_credential()
    asked: list[str] = []

    def read(source: str) -> bytes:
        asked.append(source)
        return note(authority, credential, credential.serial.to_bytes(20, "big"))

    async def scenario() -> None:
        own, now = OwnCertificate("https://proxy.example.org:7444", read), credential.obtained_at
        assert not await own.look(credential, now)  # no root is known yet
        own.trust(authority.root_der)
        assert not await own.look(other, now)
        assert await own.look(credential, now)
        assert not await own.look(credential, now)
        assert own.revoked == credential.serial
        assert not await own.look(other, now + timedelta(hours=1))

    asyncio.run(scenario())
    assert asked == ["https://proxy.example.org:7444/denied"]


def test_a_list_that_is_away_or_none_says_nothing(authority: Any, make_credential: Callable[[], Credential]) -> None:
    credential = make_credential()

    def away(source: str) -> bytes:
        raise UnavailableError(Code.PROXY_UNREACHABLE, source)

    async def scenario() -> None:
        for read in (away, lambda _: b"junk"):
            own = OwnCertificate("https://proxy.example.org:7444", read)
            own.trust(authority.root_der)
            assert not await own.look(credential, credential.obtained_at)
            assert own.revoked is None

    asyncio.run(scenario())
