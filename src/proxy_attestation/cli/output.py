"""How every command speaks: human lines or `--json` on stdout, errors as code, cause and fix on stderr, exit status."""

import json
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

import click

from proxy_attestation.errors import InternalError, PeerError, PolicyError, ProxyAttestationError
from proxy_attestation.explanations import EXPLANATIONS

_F = TypeVar("_F", bound=Callable[..., Any])

EXIT_USAGE = 2
EXIT_BUG = 70


def json_option(function: _F) -> _F:
    """Add `--json`: one JSON object on stdout instead of lines for people."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")(function)


def print_json(value: object) -> None:
    """Print one JSON object on one line."""
    click.echo(json.dumps(value, ensure_ascii=False))


def error_to_json(error: ProxyAttestationError) -> dict[str, object]:
    """Return an error as a JSON object: code, detail, cause, fix and, where a policy decided, every mismatch."""
    explanation = EXPLANATIONS[error.code]
    result: dict[str, object] = {
        "code": str(error.code),
        "detail": error.detail,
        "cause": explanation.cause,
        "fix": explanation.fix,
    }
    mismatches = getattr(error, "mismatches", ())
    if mismatches:
        result["mismatches"] = [
            {"code": str(m.code), "field": m.field, "expected": m.expected, "actual": m.actual} for m in mismatches
        ]
    return result


def print_error(error: ProxyAttestationError) -> None:
    """Print an error on stderr: code and detail, cause, fix."""
    explanation = EXPLANATIONS[error.code]
    click.echo(f"error: {error}", err=True)
    if isinstance(error, PolicyError | PeerError):
        for mismatch in error.mismatches:
            click.echo(
                f"  {mismatch.code} {mismatch.field}: expected {mismatch.expected}, found {mismatch.actual}", err=True
            )
    click.echo(f"  cause: {explanation.cause}", err=True)
    click.echo(f"  fix:   {explanation.fix}", err=True)


def run(group: click.Command) -> int:
    """Run a click command and return the exit status that the documentation promises."""
    try:
        result = group.main(standalone_mode=False)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        error.show()
        return EXIT_USAGE
    except click.Abort:
        click.echo("interrupted", err=True)
        return 130
    except ProxyAttestationError as error:
        if "--json" in sys.argv:
            print_json({"error": error_to_json(error)})
        else:
            print_error(error)
        return error.exit_status
    except BrokenPipeError:
        # The reader of our output went away (`... | head`): nothing is wrong, and nothing more can be said.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001 - the last resort of the whole program
        traceback.print_exc()
        print_error(InternalError(f"{type(error).__name__}: {error}"))
        return EXIT_BUG
    return result if isinstance(result, int) else 0
