"""What `serve` starts to have the ledger's checkpoints cosigned: it asks the witnesses of STATE/serve.toml.

Started as ``python -P -m proxy_attestation.cli.ledgering.witnessing STATE``. It holds no key and parses no peer's
bytes but the witnesses' answers; it reads the ledger's file without being able to write it, and hands what it got to
the authority, which verifies it. Standard input is a socket whose other end only the supervisor holds: at its end this
exits at once. It writes one line, `ready`, to standard output when its configuration is good. SIGTERM: ends.

Whenever there is a newer checkpoint, every witness that is not busy is asked for it. Once so many have answered as the
quorum demands, and a moment later for those who are nearly as fast, what they signed goes to the authority.
"""

import asyncio
import os
import signal
import ssl
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from proxy_attestation import hardening, log
from proxy_attestation.authority.client import AuthorityClient
from proxy_attestation.authority.state import LEDGER, RUN, SOCKET
from proxy_attestation.errors import ProxyAttestationError
from proxy_attestation.formats.signed_note import Note, Signature, parse_note, parse_vkey
from proxy_attestation.formats.tlog_policy import Party
from proxy_attestation.service.config import ServeConfig, load_config
from proxy_attestation.service.published import Published, PublishedLedger
from proxy_attestation.transparency.witness_client import WitnessClient, http_client

POLL_SECONDS: Final = 0.02
"""How often it is looked whether there is a newer checkpoint."""
ANSWER_SECONDS: Final = 5.0
"""How long one witness may take."""
GRACE_SECONDS: Final = 0.1
"""How much longer than for the quorum the others are waited for."""
AGAIN_SECONDS: Final = 0.5
"""The wait after a round that gave too few, or could not be handed over."""


class Witnessing:
    """Has checkpoints cosigned. Args of `__init__`: what reads the ledger, who is asked, how many must answer."""

    def __init__(self, ledger: PublishedLedger, clients: Sequence[WitnessClient], quorum: int) -> None:
        self._ledger = ledger
        self._quorum = max(1, quorum)
        self._clients = clients
        self._busy: dict[str, asyncio.Task[Signature | None]] = {}
        self._said: dict[str, str] = {}

    async def cosigned(self, checkpoint: Published) -> bytes | None:
        """Return the note with the cosignatures that came, or None where they are too few."""
        asked = set()
        for client in self._clients:
            name = client.witness.key.name
            if name not in self._busy or self._busy[name].done():
                self._busy[name] = asyncio.create_task(self._ask(client, checkpoint.note))
                asked.add(self._busy[name])
        found: list[Signature] = []
        while asked and len(found) < self._quorum:
            done, asked = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
            found += _signatures(done)
        if len(found) < self._quorum:
            return None
        if asked:
            done, _ = await asyncio.wait(asked, timeout=GRACE_SECONDS)
            found += _signatures(done)
        note = parse_note(checkpoint.note)
        return Note(note.text, (*note.signatures, *found)).encode()

    async def _ask(self, client: WitnessClient, note: bytes) -> Signature | None:
        name = client.witness.key.name
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                signature = await client.cosign(note, self._prove)
        except TimeoutError:
            self._say(name, "ledger.unreachable", f"no answer in {ANSWER_SECONDS} s")
            return None
        except ProxyAttestationError as error:
            self._say(name, str(error.code), error.detail)
            return None
        self._say(name, "", "")
        return signature

    async def _prove(self, old: int, new: int) -> Sequence[bytes]:
        return self._ledger.consistency(old, new)

    def _say(self, name: str, code: str, problem: str) -> None:
        """Log what has become of a witness when that changes, and not each time."""
        if self._said.get(name) != code:
            self._said[name] = code
            if code:
                log.warning("witness does not cosign", witness=name, code=code, problem=problem)
            else:
                log.info("witness cosigns", witness=name)


def _signatures(done: "set[asyncio.Task[Signature | None]]") -> list[Signature]:
    return [signature for task in done if (signature := task.result()) is not None]


async def keep_cosigned(state: Path, config: ServeConfig) -> None:
    """Have every new checkpoint cosigned, until cancelled.

    Raises:
        UsageError: for a URL that cannot be.
    """
    ledger, last, authority = PublishedLedger(state / LEDGER), b"", None
    async with http_client(ssl.create_default_context(), ANSWER_SECONDS) as http:
        parties = [Party(parse_vkey(witness.vkey), witness.url) for witness in config.witness]
        witnessing = Witnessing(ledger, [WitnessClient(one, http) for one in parties], config.witness_quorum or 0)
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                signed = ledger.signed()
                if signed is None or signed.note == last:
                    continue
                note = await witnessing.cosigned(signed)
                if note is not None:
                    if authority is None or not authority.connected:
                        authority = await AuthorityClient.connect(state / RUN / SOCKET)
                    await authority.cosigned(note)
                    last = signed.note
                    continue
            except ProxyAttestationError as error:
                log.warning("cosignatures not handed over", code=str(error.code), problem=error.detail)
            await asyncio.sleep(AGAIN_SECONDS)


async def run(state: Path) -> None:
    """Do all this until SIGTERM.

    Raises:
        UsageError, ConfigurationError: a configuration that cannot be used.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGHUP, lambda: None)
    # Nothing is ever written to it: readable means that its other end has closed.
    loop.add_reader(sys.stdin.fileno(), lambda: os._exit(1))
    working = loop.create_task(keep_cosigned(state, load_config(state, {})))
    await asyncio.sleep(0)  # a URL that cannot be used shows itself before anything is said
    if working.done():
        working.result()
    os.write(sys.stdout.fileno(), b"ready\n")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # nobody reads it any more
    stopping = loop.create_task(stop.wait())
    await asyncio.wait((stopping, working), return_when=asyncio.FIRST_COMPLETED)
    if working.done():
        working.result()
    working.cancel()
    await asyncio.wait((working,))


def main() -> int:
    """Give up what is not needed, and work."""
    log.configure("witnesses")
    if not (hardening.give_up() and hardening.end_with_parent()):
        log.warning("this system cannot forbid core dumps, debuggers and new privileges, or end us with the supervisor")
    try:
        asyncio.run(run(Path(sys.argv[1])))
    except ProxyAttestationError as error:
        log.warning("witnesses cannot be asked", code=str(error.code), problem=error.detail)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
