"""What `serve` starts to judge again what was issued: a child of the supervisor that holds no key and sends nothing.

Started as ``python -P -m proxy_attestation.reappraisal.process STATE``, at the lowest priority. Standard input is a
socket whose other end only the supervisor holds: at its end this exits at once. It writes one line, `ready`, to
standard output. SIGTERM: ends. SIGHUP: looks now whether something has changed, as it does every few seconds anyhow.

Whatever fails is logged and tried again; what it wrote last stays.
"""

import asyncio
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Final

from proxy_attestation import hardening, log
from proxy_attestation.errors import ProxyAttestationError
from proxy_attestation.reappraisal.background import Background
from proxy_attestation.reappraisal.survey import utc_now

TURN_SECONDS: Final = 5.0
_NICE: Final = 19
_TROUBLE_SECONDS: Final = 60.0


class _StopError(Exception):
    """Ends a pass half way."""


async def run(state: Path) -> None:
    """Judge whenever it is due, until SIGTERM.

    Raises:
        ConfigurationError: `authority.state`, at the start.
    """
    loop = asyncio.get_running_loop()
    stop, again = asyncio.Event(), asyncio.Event()
    stopping = threading.Event()

    def end() -> None:
        stopping.set()
        stop.set()
        again.set()

    def pause(seconds: float) -> None:
        if stopping.wait(seconds):
            raise _StopError

    loop.add_signal_handler(signal.SIGTERM, end)
    loop.add_signal_handler(signal.SIGHUP, again.set)
    # Nothing is ever written to it: readable means that its other end has closed.
    loop.add_reader(sys.stdin.fileno(), lambda: os._exit(1))
    background = Background(state, utc_now, pause)
    os.write(sys.stdout.fileno(), b"ready\n")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # nobody reads it any more
    while not stop.is_set():
        wait = TURN_SECONDS
        try:
            await asyncio.to_thread(background.turn)
        except _StopError:
            return
        except ProxyAttestationError as error:
            log.warning("certificates not judged", code=str(error.code), problem=error.detail)
            wait = _TROUBLE_SECONDS
        except OSError as error:
            log.warning("verdicts not written", problem=str(error))
            wait = _TROUBLE_SECONDS
        try:
            async with asyncio.timeout(wait):
                await again.wait()
        except TimeoutError:
            pass
        again.clear()


def main() -> int:
    """Give up what is not needed, and judge."""
    log.configure("reappraisal")
    if not (hardening.give_up() and hardening.end_with_parent()):
        log.warning("this system cannot forbid core dumps, debuggers and new privileges, or end us with the supervisor")
    os.nice(_NICE)
    try:
        asyncio.run(run(Path(sys.argv[1])))
    except ProxyAttestationError as error:
        log.warning("certificates cannot be judged again", code=str(error.code), problem=error.detail)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
