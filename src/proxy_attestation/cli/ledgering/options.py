"""Options of the `ledger` commands, and what they name: a log's key, its files, its witnesses."""

import contextlib
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError, FormatError, UsageError
from proxy_attestation.formats.bounds import TLOG_POLICY_MAX
from proxy_attestation.formats.signed_note import Verifier, parse_vkey
from proxy_attestation.formats.tlog_policy import TlogPolicy, parse_tlog_policy
from proxy_attestation.relying_party.root_file import load_root_file
from proxy_attestation.transparency.files import read_small
from proxy_attestation.transparency.source import DirectorySource, HttpSource, Source

_F = TypeVar("_F", bound=Callable[..., Any])

FILE: Final = click.Path(dir_okay=False, path_type=Path)


class Vkey(click.ParamType[Verifier]):
    """A key as people exchange it."""

    name = "vkey"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Verifier:
        """Read it."""
        if isinstance(value, Verifier):
            return value
        try:
            return parse_vkey(str(value))
        except FormatError as error:
            self.fail(f"{error.detail}; a key looks like name+hash+base64", param, ctx)


VKEY: Final = Vkey()


class Digest(click.ParamType[bytes]):
    """Bytes in hex."""

    name = "hex"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        """Read it."""
        try:
            data = value if isinstance(value, bytes) else bytes.fromhex(str(value))
        except ValueError:
            data = b""
        if not 0 < len(data) <= 64:
            self.fail("1 to 64 bytes in hex were expected", param, ctx)
        return data


DIGEST: Final = Digest()


def log_options(function: _F) -> _F:
    """Add `--key`, `--policy`, `--root`, `--server-name`."""
    for option in (
        click.option("--server-name", metavar="NAME", help="The name that the server must have; default: the URL's."),
        click.option(
            "--root", metavar="FILE", type=FILE, help="The root of the server's certificate.  [default: the system's]"
        ),
        click.option("--policy", "policy_file", metavar="FILE", type=FILE, help="Whose cosignatures it must have."),
        click.option(
            "--key",
            required=True,
            metavar="VKEY",
            type=VKEY,
            help="The log's key: name+hash+base64, as `init` printed it.",
        ),
    ):
        function = option(function)
    return function


def open_source(stack: contextlib.ExitStack, location: str, root: Path | None, server_name: str | None) -> Source:
    """Open a directory or URL; the stack closes it.

    Raises:
        UsageError, ConfigurationError: for a location or root that cannot be used.
    """
    if "://" not in location:
        if root is not None or server_name is not None:
            raise UsageError("--root and --server-name go with a URL")
        if not Path(location).is_dir():
            raise UsageError(f"{location}: neither a directory nor a URL")
        return DirectorySource(Path(location))
    return stack.enter_context(HttpSource(location, tls_context(root), server_name))


def tls_context(root: Path | None) -> ssl.SSLContext:
    """Return a context that trusts the roots of a file, or without one the system's."""
    if root is None:
        return ssl.create_default_context()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=b"".join(load_root_file(root)))
    return context


def load_witness_policy(path: Path | None, log: Verifier) -> TlogPolicy:
    """Read a witness policy; without a file nobody's cosignature is demanded.

    Raises:
        ConfigurationError: `configuration.malformed`, also for a policy that names logs, but not this one.
        FormatError: `ledger.malformed`.
    """
    if path is None:
        return TlogPolicy()
    policy = parse_tlog_policy(read_text(path, TLOG_POLICY_MAX))
    if policy.logs and log not in (party.key for party in policy.logs):
        raise ConfigurationError(Code.CONFIGURATION_MALFORMED, f"{path}: it names other logs than that of --key")
    return policy


def read_file(path: Path, limit: int) -> bytes:
    """Return a file that must be there.

    Raises:
        ConfigurationError: `configuration.malformed`.
    """
    data = read_small(path, limit)
    if data is None:
        raise ConfigurationError(Code.CONFIGURATION_MALFORMED, f"{path}: there is no such file")
    return data


def read_text(path: Path, limit: int) -> str:
    """Return a file of UTF-8 that must be there.

    Raises:
        ConfigurationError: `configuration.malformed`.
    """
    try:
        return read_file(path, limit).decode()
    except UnicodeDecodeError as error:
        raise ConfigurationError(Code.CONFIGURATION_MALFORMED, f"{path}: not UTF-8") from error
