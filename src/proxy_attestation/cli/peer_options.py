"""What `verify` and `connect` have in common: which roots to trust, and what to expect of the peer."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from proxy_attestation.errors import UsageError
from proxy_attestation.relying_party.context import AttestedContext
from proxy_attestation.relying_party.expectation import Expectation
from proxy_attestation.relying_party.expectation_file import load_expectation
from proxy_attestation.relying_party.proxy import fetch_root
from proxy_attestation.relying_party.root_file import load_root_file, parse_pin

_F = TypeVar("_F", bound=Callable[..., Any])


def peer_options(function: _F) -> _F:
    """Add `--root`, `--pin`, `--expect`, `--server-name`, `--deny-list`."""
    for option in (
        click.option(
            "--deny-list",
            metavar="URL|FILE",
            help="Refuse what this list denies; default: deny_list of the expectation.",
        ),
        click.option("--server-name", metavar="NAME", help="The name that the server must have; default: HOST."),
        click.option(
            "--expect",
            "expect_file",
            required=True,
            metavar="FILE",
            type=click.Path(path_type=Path),
            help="What the server must be (docs/clients.md).",
        ),
        click.option("--pin", metavar="HEX", help="SHA-256 of the root's SPKI; default: root_pin of the expectation."),
        click.option(
            "--root",
            required=True,
            metavar="FILE|URL",
            help="The root to trust: a file that `root` wrote, or the https URL of the proxy (then a pin is needed).",
        ),
    ):
        function = option(function)
    return function


def peer_context(
    root: str, pin: str | None, expect_file: Path, server_name: str | None, deny_list: str | None = None
) -> AttestedContext:
    """Make the context that these options describe; for a URL, fetch the root first.

    Raises:
        UsageError, ConfigurationError, PeerError, UnavailableError, FormatError: see the functions that this calls.
    """
    expectation = load_expectation(expect_file)
    if deny_list is not None:
        expectation = replace(expectation, deny_list=deny_list)
    wanted = chosen_pin(pin, expectation)
    if not root.startswith("https://"):
        return AttestedContext(expectation, load_root_file(Path(root), wanted), server_name=server_name)
    if wanted is None:
        raise UsageError("--root with a URL takes --pin, or root_pin in the expectation")
    return AttestedContext(expectation, (fetch_root(root, wanted).root,), server_name=server_name)


def chosen_pin(pin: str | None, expectation: Expectation | None) -> bytes | None:
    """Return the pin of the command line or of the expectation; None where neither has one.

    Raises:
        UsageError: where they differ.
    """
    expected = None if expectation is None else expectation.root_pin
    if pin is None:
        return expected
    given = parse_pin(pin)
    if expected is not None and given != expected:
        raise UsageError("--pin and root_pin of the expectation differ")
    return given
