"""The authority's process: a Unix socket that only workers of the same user can reach, in front of an `Issuer`.

A second one, STATE/run/operator.sock, takes what an operator wants done (`operations.py`).

Requests from all connections go into one bounded queue. Whatever is pending when the loop comes round, at most
`BATCH_MAX` orders, is one batch and one commit; nobody waits on purpose for a batch to fill. Answers leave after the
commit. SIGTERM, or the end of the supervisor's connection (it has died): no new requests, what is queued is answered,
exit 0. SIGHUP: the policy is read again.

`python -m proxy_attestation.authority.process --state STATE` prints one line on standard output when it listens:
``ready`` and a JSON object. Standard input must be one end of a Unix socket pair; the other end is the supervisor's
connection, on which alone it answers what only the supervisor may ask for. Core dumps, debuggers and new privileges
are given up before a key is read.
"""

import argparse
import asyncio
import gc
import json
import os
import signal
import socket
import stat
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from proxy_attestation import hardening, log
from proxy_attestation.authority import state as layout
from proxy_attestation.authority.issue import Issuer
from proxy_attestation.authority.ledger import Ledger
from proxy_attestation.authority.policy_operations import reload_policy
from proxy_attestation.authority.server import OPERATOR_CALLS, Server, bind
from proxy_attestation.authority.tree import NO_WITNESSES, Witnesses, read_witnesses
from proxy_attestation.codes import Code
from proxy_attestation.errors import InternalError, ProxyAttestationError, UsageError

MAINTENANCE_SECONDS: Final = 60.0
"""How often it is looked whether a CA or key is to be replaced."""

GARBAGE_THRESHOLD: Final = 20_000
"""New containers after which the youngest are looked through; Python's own value is 700."""

AUDIT_ENTRIES: Final = 256
"""Entries that the audit of the ledger recomputes at once, some two milliseconds' work; then it lets others go on."""
AUDIT_PAUSE_SECONDS: Final = 0.25
AUDIT_REST_SECONDS: Final = 60.0
"""Between two rounds over all entries."""

_STDIN: Final = 0


def utc_now() -> datetime:
    """Return the system's time."""
    return datetime.now(UTC)


async def serve_authority(
    state: Path,
    socket_path: Path,
    tls_names: Sequence[str],
    *,
    supervisor: socket.socket,
    witnesses: Witnesses = NO_WITNESSES,
    attested: bool = False,
    clock: Callable[[], datetime] = utc_now,
    ready: Callable[[Issuer, Path], None],
    stop: asyncio.Event,
) -> None:
    """Serve the authority of STATE until told to stop.

    Args:
        state: made by `init`.
        socket_path: where to listen for workers.
        tls_names: host names and IP addresses of the proxy's own TLS certificate.
        supervisor: the supervisor's connection; `stop` is set when it ends.
        witnesses: who must cosign a checkpoint before an answer rests on it.
        attested: whether the supervisor can have the proxy itself quoted.
        clock: aware UTC.
        ready: called when it listens.
        stop: ends it, once what is queued has been answered.

    Raises:
        ConfigurationError: see `state.open_authority`.
        UsageError: for TLS names that the root does not permit.
        UnavailableError: `authority.unavailable` or `authority.clock`.
    """

    def gone() -> None:
        if not stop.is_set():
            log.info("parent gone")
            stop.set()

    lock = layout.lock_state(state)
    try:
        authority = layout.open_authority(state, clock)
        try:
            issuer = Issuer(authority, authority.settings.server_names(tuple(tls_names)))
            authority.ledger.require_witnesses(witnesses)
            server = Server(issuer, attested=attested)
            await server.adopt(supervisor, gone)
            operator_path = state / layout.RUN / layout.OPERATOR_SOCKET
            listening = await server.listen(bind(socket_path))
            operators = await server.listen(bind(operator_path), OPERATOR_CALLS)
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, _reload, issuer)
            auditing = asyncio.create_task(audit(authority.ledger))
            ready(issuer, socket_path)
            try:
                await _maintain(issuer, stop)
            finally:
                auditing.cancel()
                listening.close()
                operators.close()
                await server.drain()
                _unlink(socket_path, operator_path)
        finally:
            authority.ledger.close()
    finally:
        os.close(lock)


def _unlink(*paths: Path) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _settle() -> None:
    """Keep what the start made out of garbage collection, which then has little to look at, and collect less often.

    Orders leave no cycles behind; a tenth of their time was spent on looking for some.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD)


async def run_authority(
    state: Path, socket_path: Path, tls_names: Sequence[str], witnesses: Witnesses, *, attested: bool
) -> None:
    """Serve the authority of STATE in this process, with signals, standard input and output as the module says.

    Raises:
        ProxyAttestationError: as `serve_authority`; `UsageError` also when standard input is no Unix socket.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    # Until there is a policy to read again, a hangup must not end us.
    loop.add_signal_handler(signal.SIGHUP, lambda: None)
    with _standard_input() as supervisor:
        await serve_authority(
            state,
            socket_path,
            tls_names,
            supervisor=supervisor,
            witnesses=witnesses,
            attested=attested,
            ready=_say_ready,
            stop=stop,
        )
    log.info("stopped")


def _standard_input() -> socket.socket:
    """Return standard input as the socket that it must be.

    Raises:
        UsageError: when it is none.
    """
    try:
        if stat.S_ISSOCK(os.fstat(_STDIN).st_mode):
            supervisor = socket.socket(fileno=_STDIN)
            if (supervisor.family, supervisor.type) == (socket.AF_UNIX, socket.SOCK_STREAM):
                supervisor.setblocking(False)
                return supervisor
            supervisor.detach()
    except OSError as error:
        raise UsageError(f"standard input: {error.strerror}") from error
    raise UsageError("standard input must be a Unix socket whose other end the supervisor alone holds")


def _say_ready(issuer: Issuer, path: Path) -> None:
    _settle()
    told = issuer.hello()
    fields = {
        "socket": str(path),
        "trust_domain": told.trust_domain,
        "simulated": told.simulated,
        "ca_id": told.ca_id.hex(),
        "policy_digest": told.policy_digest.hex(),
        "entries": issuer.authority.ledger.size(),
    }
    log.info("ready", **fields)
    sys.stdout.write(f"ready {json.dumps(fields)}\n")
    sys.stdout.flush()
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # nobody reads it any more


async def _maintain(issuer: Issuer, stop: asyncio.Event) -> None:
    """Look now and then whether something is due, until told to stop."""
    while True:
        try:
            async with asyncio.timeout(MAINTENANCE_SECONDS):
                await stop.wait()
        except TimeoutError:
            maintain(issuer)
        else:
            return


def maintain(issuer: Issuer) -> None:
    """Do what is due; what fails is logged, and tried again next time."""
    try:
        if issuer.authority.maintain():
            log.info("maintained", generation=issuer.authority.generation)
    except ProxyAttestationError as error:
        log.warning("maintenance failed", code=str(error.code), detail=error.detail)
    except Exception as error:  # noqa: BLE001 - issuing goes on while the CA is still good
        log.bug(error)


async def audit(ledger: Ledger) -> None:
    """Recompute the tree from the stored entries, round after round in small slices, until it does not fit them."""
    while True:
        pause = AUDIT_REST_SECONDS
        try:
            if not ledger.audit(AUDIT_ENTRIES):
                pause = AUDIT_PAUSE_SECONDS
        except ProxyAttestationError as error:
            log.warning("ledger not audited", code=str(error.code), detail=error.detail)
            if error.code is Code.LEDGER_INCONSISTENT:
                return
        await asyncio.sleep(pause)


def _reload(issuer: Issuer) -> None:
    """Read the policy again; one that cannot be put in force leaves the old one there."""
    in_force = issuer.authority.policy.version
    try:
        changed = reload_policy(issuer.authority)
    except ProxyAttestationError as error:
        log.warning("policy kept", version=in_force, code=str(error.code), detail=error.detail)
    except Exception as error:  # noqa: BLE001 - the policy in force stays there
        log.bug(error)
    else:
        event = "policy in force" if changed else "policy unchanged"
        log.info(event, version=issuer.authority.policy.version, digest=issuer.authority.policy_digest.hex())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the process; return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m proxy_attestation.authority.process", allow_abbrev=False)
    parser.add_argument("--state", type=Path, required=True, help="the directory that `init` made")
    parser.add_argument("--socket", type=Path, help="where to listen (default: STATE/run/authority.sock)")
    parser.add_argument("--tls-name", action="append", default=[], help="a name of the proxy's own TLS certificate")
    parser.add_argument("--witness", action="append", default=[], help="the vkey of a witness")
    parser.add_argument("--witness-quorum", type=int, default=0, help="how many must cosign before an answer leaves")
    parser.add_argument("--attested", action="store_true", help="the supervisor can have the proxy itself quoted")
    options = parser.parse_args(arguments)
    log.configure("authority")
    if not hardening.give_up():
        log.warning("this system cannot forbid core dumps, debuggers and new privileges")
    path = options.socket or options.state / layout.RUN / layout.SOCKET
    try:
        witnesses = read_witnesses(options.witness, options.witness_quorum)
        asyncio.run(run_authority(options.state, path, options.tls_name, witnesses, attested=options.attested))
    except ProxyAttestationError as error:
        log.warning("did not start", code=str(error.code), detail=error.detail)
        return error.exit_status
    except Exception as error:  # noqa: BLE001 - the last resort of the process
        log.bug(error)
        return InternalError.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
