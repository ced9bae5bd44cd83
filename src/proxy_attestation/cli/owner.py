"""`owner`: who holds which names, releasing them, tokens and grants."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from proxy_attestation.authority.owner_operations import (
    OWNER_LIST,
    OWNER_RELEASE,
    OWNER_TOKEN,
    HeldNames,
    Nothing,
    Release,
    TokenOrder,
)
from proxy_attestation.cli.operator import operate, state_argument
from proxy_attestation.cli.output import json_option, print_json
from proxy_attestation.cli.signing import read_any_private_key
from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError
from proxy_attestation.formats.owner_proof import (
    GRANT_LIFETIME_MAX,
    TOKEN_LIFETIME_MAX,
    SigningKey,
    Token,
    format_grant,
    format_token,
    make_grant,
)
from proxy_attestation.formats.request import is_workload_name
from proxy_attestation.policy.names import is_trust_domain
from proxy_attestation.policy.vocabulary import seconds_from

_F = TypeVar("_F", bound=Callable[..., Any])


class _Digest(click.ParamType[bytes]):
    """32 bytes in hex."""

    name = "hex"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        try:
            data = value if isinstance(value, bytes) else bytes.fromhex(value)
        except ValueError:
            data = b""
        if len(data) != 32:
            self.fail("64 hexadecimal digits were expected", param, ctx)
        return data


class _Lifetime(click.ParamType[int]):
    """A duration of at most some seconds."""

    name = "duration"

    def __init__(self, most: int) -> None:
        self._most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        seconds = value if isinstance(value, int) else seconds_from(value)
        if seconds is None or not 0 < seconds <= self._most:
            self.fail(f'write hours, minutes or seconds, such as "1h" or "90s", at most {self._most} s', param, ctx)
        return seconds


@click.group("owner")
def command() -> None:
    """Who holds the names of owned entries: list, release, tokens, grants."""


@command.command("list")
@state_argument
@json_option
def list_owners(state: Path, as_json: bool) -> int:
    """Show who holds the names of which entry of the authority in STATE, and which tokens are open."""
    found = operate(state, OWNER_LIST, Nothing())
    if as_json:
        tokens = [
            {"token_id": token.token_id.hex(), "entry": token.entry, "expires": _time(token.expires)}
            for token in found.tokens
        ]
        print_json({"holders": [_to_json(holder) for holder in found.holders], "tokens": tokens})
        return 0
    for holder in found.holders:
        state_of = "until" if holder.held else "lapsed at"
        click.echo(f"{holder.entry} ({holder.kind}) {state_of} {_time(holder.held_until)}")
        click.echo(f"  holder       {holder.holder.hex()}, claimed at index {holder.claimed}")
        click.echo(f"  last key     {holder.spki_sha256.hex()}")
    if not found.holders:
        click.echo("nobody holds names")
    for token in found.tokens:
        click.echo(f"open token {token.token_id.hex()} for {token.entry} until {_time(token.expires)}")
    return 0


@command.command("release")
@state_argument
@click.argument("entry")
@click.option("--holder", type=_Digest(), help="Release only this holder, as `owner list` shows it.")
@json_option
def release(state: Path, entry: str, holder: bytes | None, as_json: bool) -> int:
    """Take the names of ENTRY from their holder, so that another instance can claim them.

    The holder's certificates stay valid until they expire.
    """
    held = operate(state, OWNER_RELEASE, Release(_entry(entry), holder))
    if as_json:
        print_json({"released": _to_json(held)})
        return 0
    click.echo(f"released {held.entry}: held by {held.holder.hex()}")
    if held.held:
        click.echo(f"its certificates stay valid until {_time(held.held_until)}, unless they are revoked")
    return 0


@command.command("token")
@state_argument
@click.argument("entry")
@click.option(
    "--expires",
    type=_Lifetime(TOKEN_LIFETIME_MAX),
    default="1h",
    show_default=True,
    help="How long it can be used, 168h at most.",
)
@json_option
def token(state: Path, entry: str, expires: int, as_json: bool) -> int:
    """Make a token with which one instance may claim the names of ENTRY, once. It is shown now and never again."""
    made = operate(state, OWNER_TOKEN, TokenOrder(_entry(entry), expires))
    text = format_token(Token(made.token_id, made.secret))
    if as_json:
        expiry = _time(made.expires)
        print_json({"token": text, "token_id": made.token_id.hex(), "entry": entry, "expires": expiry})
        return 0
    click.echo(text)
    click.echo(f"for {entry}, usable once until {_time(made.expires)}; it is not shown again", err=True)
    return 0


@command.command("grant")
@click.option(
    "--key",
    "key_file",
    required=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The tenant's private key: PKCS#8 in PEM, Ed25519 or P-256.",
)
@click.option("--trust-domain", required=True, help="The proxy's SPIFFE trust domain.")
@click.option("--entry", required=True, help="The policy's entry.")
@click.option(
    "--spki-sha256", required=True, type=_Digest(), help="SHA-256 of the new key's SPKI, as the loader shows it."
)
@click.option(
    "--expires",
    type=_Lifetime(GRANT_LIFETIME_MAX),
    default="1h",
    show_default=True,
    help="How long it can be used, 168h at most.",
)
@json_option
def grant(*, key_file: Path, trust_domain: str, entry: str, spki_sha256: bytes, expires: int, as_json: bool) -> int:
    """Sign a tenant's grant: the instance with this key may claim the names of the entry. Needs no proxy."""
    if not is_trust_domain(trust_domain):
        raise click.UsageError("--trust-domain is no SPIFFE trust domain")
    end = int(datetime.now(UTC).timestamp()) + expires
    made = make_grant(_read_key(key_file), trust_domain, _entry(entry), spki_sha256, end)
    if as_json:
        print_json({"grant": format_grant(made), "entry": entry, "expires": _time(end)})
    else:
        click.echo(format_grant(made))
    return 0


def _entry(text: str) -> str:
    if not is_workload_name(text):
        raise click.UsageError(f"{text!r} is no name of an entry")
    return text


def _read_key(path: Path) -> SigningKey:
    key = read_any_private_key(path)
    if isinstance(key, Ed25519PrivateKey):
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name == "secp256r1":
        return key
    raise ConfigurationError(Code.CONFIGURATION_MALFORMED, f"{path}: neither Ed25519 nor P-256")


def _to_json(holder: HeldNames) -> dict[str, object]:
    return {
        "entry": holder.entry,
        "kind": holder.kind,
        "holder": holder.holder.hex(),
        "spki_sha256": holder.spki_sha256.hex(),
        "claimed": holder.claimed,
        "not_after": _time(holder.not_after),
        "held_until": _time(holder.held_until),
        "held": holder.held,
    }


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
