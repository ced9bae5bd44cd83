"""What the loader shows to get and to keep names: at first, at each renewal, after a lost answer, after the end."""

import asyncio
import hashlib
import stat
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256

from proxy_attestation.attester.resident_key import ResidentKey
from proxy_attestation.codes import Code
from proxy_attestation.errors import (
    ConfigurationError,
    FormatError,
    PeerError,
    ProxyAttestationError,
    RefusedError,
    RequestError,
    UnavailableError,
)
from proxy_attestation.formats.csr import spki_of
from proxy_attestation.formats.owner_proof import (
    RENEWALS_MAX,
    OwnerProof,
    Token,
    decode_proof,
    format_grant,
    format_token,
    make_grant,
    prove_token,
    verify_renewal,
)
from proxy_attestation.formats.request import ApplicationKind, names_from
from proxy_attestation.loader.config_file import parse_config
from proxy_attestation.loader.credential import Credential
from proxy_attestation.loader.enroll import Wanted, enroll
from proxy_attestation.loader.ownership import GRANT_WAIT, Claimant, OwnerConfig, Ownership
from proxy_attestation.loader.proxy_client import Timing

DATA = bytes(range(64))
TOKEN = Token(b"\x01" * 16, b"\x02" * 16)
OTHER = Token(b"\x03" * 16, b"\x04" * 16)
TENANT = ed25519.Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
SPKI = spki_of(ec.derive_private_key(1, ec.SECP256R1()).public_key())
CLAIMANT = Claimant(SPKI, "example-app", "example.org")
MakeCredential = Callable[[], Credential]


class Report:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []

    def event(self, name: str, text: str, **fields: object) -> None:
        assert text
        self.events.append((name, fields))

    def note(self, text: str) -> None:
        self.events.append((text, {}))


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def owned(credential: Credential, kind: str = "enrolment") -> Credential:
    return replace(credential, claims=replace(credential.claims, owner=kind))


def shown(ownership: Ownership, now: datetime, grant: Any = None) -> OwnerProof:
    message = ownership.prove(DATA, grant, now)
    return OwnerProof() if message is None else decode_proof(message.proof)


def keys(proof: OwnerProof) -> list[bytes]:
    assert all(verify_renewal(renewal, DATA) for renewal in proof.renewals)
    return [renewal.spki for renewal in proof.renewals]


def test_a_loader_without_anything_shows_nothing(real_now: datetime) -> None:
    ownership = Ownership(OwnerConfig(), Report())
    assert ownership.prove(DATA, None, real_now) is None
    assert asyncio.run(ownership.grant(CLAIMANT, Timing(lambda: real_now))) is None


def test_a_token_is_shown_until_it_is_used(tmp_path: Path, make_credential: MakeCredential, real_now: datetime) -> None:
    path = tmp_path / "token"
    path.write_text(f"{format_token(TOKEN)}\n")
    ownership = Ownership(OwnerConfig(token_file=path), Report())
    message = ownership.prove(DATA, None, real_now)
    assert message is not None
    assert message.kind == "enrolment"
    assert decode_proof(message.proof) == OwnerProof(token=prove_token(TOKEN, DATA))
    assert shown(ownership, real_now).token == prove_token(TOKEN, DATA)
    credential = owned(make_credential())
    ownership.issued(credential)
    renewal = shown(ownership, real_now)
    assert renewal.token is None
    assert keys(renewal) == [spki_of(credential.key.public_key())]
    # After the end the spent token is of no more use; a new one in the same place is.
    late = credential.not_after + timedelta(seconds=1)
    assert shown(ownership, late).token is None
    path.write_text(format_token(OTHER))
    assert shown(ownership, late).token == prove_token(OTHER, DATA)


@pytest.mark.parametrize("content", [None, "", "\n"])
def test_a_token_that_is_not_there_yet(tmp_path: Path, content: str | None, real_now: datetime) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UnavailableError) as caught:
        Ownership(OwnerConfig(token_file=path), Report()).prove(DATA, None, real_now)
    assert caught.value.code is Code.OWNER_NEEDED


def test_a_file_without_a_token(tmp_path: Path, real_now: datetime) -> None:
    (tmp_path / "token").write_text("secret")
    with pytest.raises(FormatError) as caught:
        Ownership(OwnerConfig(token_file=tmp_path / "token"), Report()).prove(DATA, None, real_now)
    assert caught.value.code is Code.OWNER_MALFORMED


def test_a_token_file_that_cannot_be_read(tmp_path: Path, real_now: datetime) -> None:
    with pytest.raises(UnavailableError) as caught:
        Ownership(OwnerConfig(token_file=tmp_path), Report()).prove(DATA, None, real_now)
    assert caught.value.code is Code.OWNER_NEEDED


@pytest.mark.parametrize("kind", ["shared", "chip_ids"])
def test_names_that_take_no_lineage(kind: str, make_credential: MakeCredential, real_now: datetime) -> None:
    ownership = Ownership(OwnerConfig(), Report())
    ownership.issued(owned(make_credential(), kind))
    assert ownership.prove(DATA, None, real_now) is None


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (UnavailableError(Code.PROXY_UNREACHABLE), True),
        (PeerError(Code.PEER_CHAIN), True),
        (RequestError(Code.CHALLENGE_EXPIRED, ""), True),
        (RefusedError(Code.POLICY_MEASUREMENT), False),
    ],
)
def test_the_key_of_an_answer_that_may_be_lost_is_kept(
    error: ProxyAttestationError, kept: bool, make_credential: MakeCredential, real_now: datetime
) -> None:
    ownership, key = Ownership(OwnerConfig(), Report()), new_key()
    credential = owned(make_credential())
    ownership.issued(credential)
    with pytest.raises(type(error)), ownership.attempt(key):
        raise error
    last = spki_of(credential.key.public_key())
    assert keys(shown(ownership, real_now)) == [last, *([spki_of(key.public_key())] if kept else [])]


def test_not_more_keys_are_kept_than_a_proof_holds(make_credential: MakeCredential, real_now: datetime) -> None:
    ownership = Ownership(OwnerConfig(), Report())
    credential = owned(make_credential())
    ownership.issued(credential)
    tried = [new_key() for _ in range(RENEWALS_MAX + 3)]
    for key in tried:
        with pytest.raises(UnavailableError), ownership.attempt(key):
            raise UnavailableError(Code.PROXY_UNREACHABLE)
    expected = [credential.key, *tried[-(RENEWALS_MAX - 1) :]]
    assert keys(shown(ownership, real_now)) == [spki_of(key.public_key()) for key in expected]
    ownership.issued(credential)
    assert len(keys(shown(ownership, real_now))) == 1


def test_a_key_in_a_tpm_renews_in_its_tpm(make_credential: MakeCredential, real_now: datetime) -> None:
    inside, asked = new_key(), []

    def sign(digest: bytes) -> bytes:
        asked.append(digest)
        return inside.sign(digest, ec.ECDSA(Prehashed(SHA256())))

    ownership = Ownership(OwnerConfig(), Report())
    ownership.issued(replace(owned(make_credential()), key=ResidentKey(inside.public_key(), sign)))
    assert keys(shown(ownership, real_now)) == [spki_of(inside.public_key())]
    assert asked == [hashlib.sha256(b"proxy-attestation/owner-renewal/v1\0" + DATA).digest()]


class TestGrants:
    """A tenant's grant for the new key."""

    def grant(self, spki: bytes = SPKI) -> str:
        return format_grant(
            make_grant(TENANT, "example.org", "example-app", hashlib.sha256(spki).digest(), 1_900_000_000)
        )

    def test_it_is_waited_for_in_a_file(self, tmp_path: Path, real_now: datetime) -> None:
        path, report = tmp_path / "grant", Report()
        contents = iter([None, "half a gra", self.grant(b"an earlier key"), self.grant()])

        async def sleep(_: float) -> None:
            content = next(contents)
            if content is not None:
                path.write_text(content)

        ownership = Ownership(OwnerConfig(grant_file=path), report)
        grant = asyncio.run(ownership.grant(CLAIMANT, Timing(lambda: real_now, sleep)))
        assert grant is not None
        assert format_grant(grant) == self.grant()
        assert report.events == [
            ("grant_needed", {"spki_sha256": hashlib.sha256(SPKI).hexdigest(), "workload": "example-app",
                              "trust_domain": "example.org"}),
        ]  # fmt: skip
        message = ownership.prove(DATA, grant, real_now)
        assert message is not None
        assert (message.kind, decode_proof(message.proof)) == ("tenant_key", OwnerProof(grant=grant))

    def test_not_for_ever(self, tmp_path: Path, real_now: datetime) -> None:
        moments = iter([real_now, real_now, real_now, real_now + GRANT_WAIT])

        async def sleep(_: float) -> None:
            pass

        ownership = Ownership(OwnerConfig(grant_file=tmp_path / "grant"), Report())
        with pytest.raises(UnavailableError) as caught:
            asyncio.run(ownership.grant(CLAIMANT, Timing(lambda: next(moments), sleep)))
        assert caught.value.code is Code.OWNER_NEEDED

    def test_a_holder_needs_none(self, make_credential: MakeCredential, real_now: datetime) -> None:
        ownership = Ownership(OwnerConfig(grant_command=("/nonexistent",)), Report())
        ownership.issued(owned(make_credential(), "tenant_key"))
        assert asyncio.run(ownership.grant(CLAIMANT, Timing(lambda: real_now))) is None

    def script(self, tmp_path: Path, text: str) -> str:
        path = tmp_path / "sign"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return str(path)

    def test_a_command_is_asked(self, tmp_path: Path, real_now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SECRET", "of the loader")
        (tmp_path / "grant").write_text(self.grant())
        asked = hashlib.sha256(SPKI).hexdigest()
        program = self.script(
            tmp_path,
            f'[ "$1 $2 $3 $SECRET" = "{asked} example-app in:example.org " ] && exec /bin/cat {tmp_path}/grant',
        )
        command = (program, "{spki_sha256}", "{workload}", "in:{trust_domain}")
        ownership = Ownership(OwnerConfig(grant_command=command), Report())
        grant = asyncio.run(ownership.grant(CLAIMANT, Timing(lambda: real_now)))
        assert grant is not None
        assert format_grant(grant) == self.grant()

    @pytest.mark.parametrize("text", ["exit 1", "exec /bin/cat /dev/zero"])
    def test_a_command_that_fails(self, tmp_path: Path, text: str, real_now: datetime) -> None:
        ownership = Ownership(OwnerConfig(grant_command=(self.script(tmp_path, text),)), Report())
        with pytest.raises(UnavailableError) as caught:
            asyncio.run(ownership.grant(CLAIMANT, Timing(lambda: real_now)))
        assert caught.value.code is Code.OWNER_NEEDED

    def test_a_command_that_is_not_there(self, tmp_path: Path, real_now: datetime) -> None:
        ownership = Ownership(OwnerConfig(grant_command=(str(tmp_path / "absent"),)), Report())
        with pytest.raises(UnavailableError) as caught:
            asyncio.run(ownership.grant(CLAIMANT, Timing(lambda: real_now)))
        assert caught.value.code is Code.OWNER_NEEDED

    def test_a_command_that_prints_something_else(self, tmp_path: Path, real_now: datetime) -> None:
        ownership = Ownership(OwnerConfig(grant_command=(self.script(tmp_path, "echo yes"),)), Report())
        with pytest.raises(FormatError) as caught:
            asyncio.run(ownership.grant(CLAIMANT, Timing(lambda: real_now)))
        assert caught.value.code is Code.OWNER_MALFORMED


OWNER_CODES = [code for code in Code if code.startswith("owner.") or "policy.owner" in code]


@pytest.mark.parametrize("code", OWNER_CODES)
def test_what_is_needed_is_said(code: Code, tmp_path: Path) -> None:
    error = RefusedError(code)
    said = {
        kind: Ownership(config, Report()).needed(error, "example-app")
        for kind, config in {
            "enrolment": OwnerConfig(token_file=tmp_path),
            "tenant_key": OwnerConfig(grant_file=tmp_path),
        }.items()
    }
    token = "owner token STATE example-app"
    asks_for_release = {Code.POLICY_OWNER_HELD, Code.OWNER_MACHINE, Code.OWNER_REVOKED}
    asks_for_token = {
        Code.POLICY_OWNER, Code.OWNER_EXPIRED, Code.OWNER_TOKEN, Code.OWNER_TOKEN_ENTRY,
        Code.OWNER_TOKEN_EXPIRED, Code.OWNER_TOKEN_SPENT,
    }  # fmt: skip
    assert (token in (said["enrolment"] or "")) is (code in asks_for_token)
    assert ("owner release STATE example-app" in (said["enrolment"] or "")) is (code in asks_for_release)
    assert token not in (said["tenant_key"] or "")
    assert Ownership(OwnerConfig(), Report()).needed(RefusedError(Code.SGX_DEBUG), "example-app") is None


def test_a_renewal_goes_with_the_request(
    make_proxy: Callable[[Wanted], Any], make_attester: Callable[[], Any], make_credential: MakeCredential
) -> None:
    wanted = Wanted("example-app", names_from(("app.example.org",)), 3600, ApplicationKind.NONE, None)
    proxy = make_proxy(wanted)
    credential = owned(make_credential())
    ownership = Ownership(OwnerConfig(), Report())
    ownership.issued(credential)
    sent: list[Any] = []
    ask = proxy.get_signed_certificate

    async def keep(request: Any, until: datetime) -> Any:
        sent.append(request)
        return await ask(request, until)

    proxy.get_signed_certificate = keep
    asyncio.run(enroll(proxy, make_attester(), wanted, Timing(lambda: proxy.now), ownership))
    (request,) = sent
    (renewal,) = decode_proof(request.owner_proof.proof).renewals
    assert renewal.spki == spki_of(credential.key.public_key())


CONFIG = """
proxy = "https://127.0.0.1:7444"
root_pin = "{pin}"
trust_domain = "example.org"
workload = "example-app"
tee = "sgx"
control = "run/load.sock"
[[listener]]
address = "127.0.0.1:0"
protocol = "grpc"
[application]
kind = "address"
connect = "127.0.0.1:9000"
[owner]
""".format(pin="ab" * 32)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('token_file = "token"', OwnerConfig(token_file=Path("/base/token"))),
        ('grant_file = "run/grant"', OwnerConfig(grant_file=Path("/base/run/grant"))),
        (
            'grant_command = ["bin/sign", "{spki_sha256}"]',
            OwnerConfig(grant_command=("/base/bin/sign", "{spki_sha256}")),
        ),
        ("", OwnerConfig()),
    ],
)
def test_the_file_s_table(text: str, expected: OwnerConfig) -> None:
    assert parse_config((CONFIG + text).encode(), Path("/base")).owner == expected


@pytest.mark.parametrize(
    "text",
    [
        'token_file = "a"\ngrant_file = "b"',
        "token_file = 1",
        'grant_command = "sign"',
        'grant_command = ["sign"]',
        'x = "y"',
    ],
)
def test_a_table_that_cannot_be_used(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_config((CONFIG + text).encode(), Path("/base"))
    assert caught.value.code is Code.CONFIGURATION_MALFORMED
