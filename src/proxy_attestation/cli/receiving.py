"""What `keys receive` and `recover receive` have in common: ask, wait for the answers, put the keys in."""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from proxy_attestation.appraisal.kinds import Endorsements
from proxy_attestation.attester.select import select_attester
from proxy_attestation.authority.receive import install_keys, read_settings
from proxy_attestation.authority.state import RECOVERY
from proxy_attestation.cli.whole_file import write_whole
from proxy_attestation.codes import Code
from proxy_attestation.endorsements.load import load_material
from proxy_attestation.errors import ConfigurationError, ProxyAttestationError, UnavailableError, UsageError
from proxy_attestation.formats.binder import Binding
from proxy_attestation.formats.bounds import DEPLOYMENT_NOTE_MAX, KEY_BUNDLE_MAX, KEY_REQUEST_MAX
from proxy_attestation.formats.key_transfer import Purpose, TransferredKey, decode_key_request
from proxy_attestation.formats.tee import Tee
from proxy_attestation.recovery.asking import Asking, Quoted
from proxy_attestation.recovery.collateral import collateral_for

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_F = TypeVar("_F", bound=Callable[..., Any])
_POLL_SECONDS = 0.2


def asking_options(function: _F) -> _F:
    """Add the options of a proxy that asks for keys."""
    for option in (
        click.option("--tee", required=True, type=click.Choice([str(tee) for tee in Tee]), help="Kind of evidence."),
        click.option("--attester", metavar="SPEC", help="What makes the evidence, as for `serve`; or this machine."),
        click.option(
            "--request", "request_file", required=True, metavar="FILE", type=click.Path(path_type=Path),
            help="Where the request is written.",
        ),
        click.option(
            "--wait", default=3600, show_default=True, metavar="SECONDS", type=click.IntRange(1, 7 * 86400),
            help="How long to wait for the answer. The key that opens it ends with this command.",
        ),
    ):  # fmt: skip
        function = option(function)
    return function


def judging_options(function: _F) -> _F:
    """Add the options of whoever judges a request."""
    for option in (
        click.option("--statement", required=True, metavar="NOTE", type=FILE, help="The signed deployment statement."),
        click.option(
            "--endorsements", metavar="FILE|DIR", multiple=True, type=click.Path(exists=True, path_type=Path),
            help="Vendor collateral for the asking proxy's evidence, as `appraise` takes it; may be repeated.",
        ),
    ):  # fmt: skip
        function = option(function)
    return function


def receive(  # noqa: PLR0917 - what is asked of whom, and where the files are
    state: Path,
    purpose: Purpose,
    nonce: bytes,
    attester: tuple[str | None, str],
    request_file: Path,
    answers: Sequence[Path],
    wait: int,
) -> tuple[TransferredKey, ...]:
    """Ask for the keys of the authority of STATE, wait for the answers and put the keys in; return them.

    Raises:
        UnavailableError: `keys.unavailable`, when no answer came in time; `attester.unavailable`.
        ProxyAttestationError: as `Asking` and `install_keys` say.
    """
    settings, data = read_settings(state)
    spec, tee = attester
    device = select_attester(spec, Tee(tee))

    def quote(binding: Binding) -> Quoted:
        with device.begin() as enrolment:
            made = enrolment.attest(binding)
        evidence = made.evidence
        return Quoted(evidence.tee, evidence.evidence, evidence.platform_certificates, made.event_log)

    asking = Asking(purpose, settings, data, nonce, quote)
    write_whole(request_file, asking.request)
    click.echo(f"request in {request_file}; waiting for {', '.join(map(str, answers))}", err=True)

    def attempt(found: Sequence[bytes]) -> tuple[TransferredKey, ...]:
        if purpose is Purpose.HAND_OVER:
            return asking.open_bundle(found[0])
        return asking.open_approvals(found, state / RECOVERY)

    keys = _await(answers, wait, attempt)
    install_keys(state, keys, lambda: datetime.now(UTC))
    return keys


def _await(
    paths: Sequence[Path], wait: int, attempt: Callable[[Sequence[bytes]], tuple[TransferredKey, ...]]
) -> tuple[TransferredKey, ...]:
    """Try whenever the files are there and have changed: one may still be being copied, or be of another request."""
    end = time.monotonic() + wait
    tried: list[bytes] = []
    last: ProxyAttestationError | None = None
    while time.monotonic() < end:
        found = [read_file(path, KEY_BUNDLE_MAX) for path in paths if path.exists()]
        if len(found) == len(paths) and found != tried:
            tried = found
            try:
                return attempt(found)
            except ProxyAttestationError as error:
                last = error
                click.echo(f"{error}; still waiting", err=True)
        time.sleep(_POLL_SECONDS)
    if last is not None:
        raise last
    raise UnavailableError(Code.KEYS_UNAVAILABLE, f"no answer in {wait} seconds")


def judged(
    request_file: Path, statement: Path, endorsements: Sequence[Path]
) -> tuple[bytes, bytes, Endorsements | None]:
    """Read a request, the statement, and the collateral that the request is to be judged by."""
    data = read_file(request_file, KEY_REQUEST_MAX)
    collateral = collateral_for(decode_key_request(data), load_material(endorsements), datetime.now(UTC))
    return data, read_file(statement, DEPLOYMENT_NOTE_MAX), collateral


def read_file(path: Path, limit: int) -> bytes:
    """Read a file of at most so many bytes.

    Raises:
        ConfigurationError: `configuration.malformed`, for a longer one.
        UsageError: where it cannot be read.
    """
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(data) > limit:
        raise ConfigurationError(Code.CONFIGURATION_MALFORMED, f"{path}: more than {limit} bytes")
    return data
