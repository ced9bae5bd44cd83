"""Child processes of the supervisor: started, known to be ready, restarted when they die, replaced without a gap.

Each child's standard input is a pipe whose other end only the supervisor holds: when the supervisor dies, by whatever
means, the child reads its end and exits. A child says `ready` on its standard output when it can do its work.
"""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from proxy_attestation import log
from proxy_attestation.errors import InternalError

START_SECONDS: Final = 60.0
"""How long a child may take to become ready."""
STOP_SECONDS: Final = 15.0
"""How long a child may take to end after SIGTERM; then it is killed."""
BACKOFF_SECONDS: Final = (0.05, 5.0)
"""The first and the longest wait before a restart; doubled at each start that fails."""
FAILURES_MAX: Final = 10
"""Starts in a row that may fail before the supervisor gives up."""
HOPELESS: Final = frozenset({2, 3, 4})
"""Exit statuses of a first start that a restart will not mend: usage, refused, malformed."""


class ChildEndedError(Exception):
    """A child ended before it was ready; the supervisor's own business."""

    def __init__(self, name: str, status: int) -> None:
        super().__init__(f"{name} ended with {status} before it was ready")
        self.status = status


@dataclass(frozen=True, slots=True)
class Command:
    """What to start.

    Attributes:
        arguments: after `python -P -m`: module first.
        ended: called when the process has ended, to give back what was lent to it.
    """

    arguments: Sequence[str]
    ended: Callable[[], None] = lambda: None


class Child:
    """One process."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, ended: Callable[[], None]) -> None:
        self.name = name
        self.process = process
        self._ended = ended
        self._exit = asyncio.ensure_future(self._wait())

    @classmethod
    async def start(cls, name: str, command: Command) -> "Child":
        """Start a process and wait until it is ready.

        Raises:
            ChildEndedError: when it ended instead, or was not ready in time.
        """
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-m",
                *command.arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                process_group=0,  # Ctrl-C goes to the supervisor, which then drains us in order
            )
        except OSError as error:
            command.ended()
            raise ChildEndedError(name, 70) from error
        child = cls(name, process, command.ended)
        try:
            assert process.stdout is not None  # noqa: S101 - a pipe was asked for
            async with asyncio.timeout(START_SECONDS):
                line = await process.stdout.readline()
        except (TimeoutError, asyncio.CancelledError):
            child.kill()
            await child.wait()
            raise
        if line.split()[:1] != [b"ready"]:
            # Its output ends a moment before it does, and its status is what we want to know.
            raise ChildEndedError(name, await child.stop() if line else await child.ending())
        log.info("started", child=name, child_pid=process.pid)
        child.say_no_more()
        return child

    @property
    def ended(self) -> bool:
        """Whether the process has ended."""
        return self._exit.done()

    async def wait(self) -> int:
        """Wait for the end, and return the exit status; who waits may be cancelled without harm to others who do."""
        return await asyncio.shield(self._exit)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if the process still runs."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    def kill(self) -> None:
        """End the process now."""
        self.signal(signal.SIGKILL)

    def say_no_more(self) -> None:
        """Read and drop whatever else comes on standard output, so that the process never waits for a reader."""

        async def drop() -> None:
            output = self.process.stdout
            while output is not None and await output.read(65_536):
                pass

        self._dropping = asyncio.ensure_future(drop())

    async def stop(self) -> int:
        """Send SIGTERM, wait, at last kill; return the exit status."""
        self.signal(signal.SIGTERM)
        return await self.ending()

    async def ending(self) -> int:
        """Wait for a process that is about to end, at last kill it; return the exit status."""
        done, _ = await asyncio.wait((self._exit,), timeout=STOP_SECONDS)
        if not done:
            log.warning("killed after it did not stop", child=self.name, child_pid=self.process.pid)
            self.kill()
        return await self.wait()

    async def _wait(self) -> int:
        status = await self.process.wait()
        self._ended()
        return status


class Keeper:
    """Keeps one child running until it is told to stop.

    Args of `__init__`: its name in the log; what gives the command of each start.
    """

    def __init__(self, name: str, command: Callable[[], Command]) -> None:
        self.name = name
        self.child: Child | None = None
        self._command = command
        self._stopping = False
        self._replacing = asyncio.Lock()

    @property
    def running(self) -> bool:
        """Whether the child is ready and alive."""
        return self.child is not None and not self.child.ended

    async def start(self) -> None:
        """Start the child for the first time.

        Raises:
            ChildEndedError: when that is hopeless (`HOPELESS`); the child has said why.
            InternalError: when it cannot be started.
        """
        await self._start(first=True)

    async def watch(self) -> None:
        """Restart the child whenever it dies.

        Raises:
            InternalError: when it cannot be started any more.
        """
        while not self._stopping:
            child = self.child
            if child is None:
                return
            status = await child.wait()
            if child is not self.child or self._stopping:
                continue  # it was replaced, or told to stop
            log.warning("died", child=self.name, child_pid=child.process.pid, status=status)
            await asyncio.sleep(BACKOFF_SECONDS[0])
            async with self._replacing:
                if child is self.child:
                    await self._start(first=False)

    async def replace(self) -> None:
        """Start a successor, and when it is ready let the child drain and end.

        Raises:
            ChildEndedError: when the successor does not start; the child goes on.
        """
        async with self._replacing:
            successor = await Child.start(self.name, self._command())
            before, self.child = self.child, successor
        if before is not None:
            await before.stop()

    async def stop(self) -> None:
        """Let the child drain and end."""
        self._stopping = True
        if self.child is not None:
            await self.child.stop()

    async def _start(self, *, first: bool) -> None:
        wait = BACKOFF_SECONDS[0]
        for _ in range(FAILURES_MAX):
            if self._stopping:
                return
            try:
                self.child = await Child.start(self.name, self._command())
            except (ChildEndedError, TimeoutError) as error:
                log.warning("did not start", child=self.name, problem=str(error))
                if first and isinstance(error, ChildEndedError) and error.status in HOPELESS:
                    raise
                await asyncio.sleep(wait)
                wait = min(wait * 2, BACKOFF_SECONDS[1])
            else:
                return
        raise InternalError(f"{self.name} did not start {FAILURES_MAX} times in a row")
