"""Child processes of the supervisor: started, known to be ready, restarted when they die, replaced without a gap.

Each child's standard input is one end of a socket pair whose other end only the supervisor holds: when the supervisor
dies, by whatever means, the child reads its end and exits. To the authority the pair is also the supervisor's own
connection. A child says `ready` on its standard output when it can do its work, and nothing after that: what stray
code still writes there it sends to standard error.
"""

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

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
PATIENT_SECONDS: Final = 60.0
"""The longest wait before a patient keeper's next start, and how long a child lives that is no failure."""
HOPELESS: Final = frozenset({2, 3, 4})
"""Exit statuses of a first start that a restart will not mend: usage, refused, malformed."""


class ChildEndedError(Exception):
    """A child ended before it was ready; the supervisor's own business."""

    def __init__(self, name: str, status: int) -> None:
        super().__init__(f"{name} ended with {status} before it was ready")
        self.status = status


class Command(NamedTuple):
    """What to start.

    Attributes:
        arguments: after `python -P -m`: module first.
        ended: called when the process has ended, to give back what was lent to it.
        descriptors: that it inherits, under their own numbers; no other child gets them.
    """

    arguments: Sequence[str]
    ended: Callable[[], None] = lambda: None
    descriptors: tuple[int, ...] = ()


class Child:
    """One process.

    Attributes:
        name: in the log.
        process: what was started.
        line: our end of its standard input.
    """

    def __init__(
        self, name: str, process: asyncio.subprocess.Process, line: socket.socket, ended: Callable[[], None]
    ) -> None:
        self.name, self.process, self.line = name, process, line
        self._ended = ended
        self._exit = asyncio.ensure_future(self._wait())

    @classmethod
    async def start(cls, name: str, command: Command) -> "Child":
        """Start a process and wait until it is ready.

        Raises:
            ChildEndedError: when it ended instead.
            TimeoutError: when it was not ready in time.
        """
        line, theirs = socket.socketpair()
        line.setblocking(False)
        with theirs:
            try:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-P", "-m", *command.arguments),
                    stdin=theirs.fileno(),
                    stdout=asyncio.subprocess.PIPE,
                    pass_fds=command.descriptors,
                    process_group=0,  # Ctrl-C goes to the supervisor, which then drains us in order
                )
            except OSError as error:
                line.close()
                command.ended()
                raise ChildEndedError(name, 70) from error
        child = cls(name, process, line, command.ended)
        assert process.stdout is not None  # noqa: S101 - a pipe was asked for
        try:
            async with asyncio.timeout(START_SECONDS):
                said = await process.stdout.readline()
        except (TimeoutError, asyncio.CancelledError):
            child.signal(signal.SIGKILL)
            await child.wait()
            raise
        if said.split()[:1] != [b"ready"]:
            # Its output ends a moment before it does, and its status is what we want to know.
            raise ChildEndedError(name, await child.stop() if said else await child.ending())
        log.info("started", child=name, child_pid=process.pid)
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

    async def stop(self) -> int:
        """Send SIGTERM, wait, at last kill; return the exit status."""
        self.signal(signal.SIGTERM)
        return await self.ending()

    async def ending(self) -> int:
        """Wait for a process that is about to end, at last kill it; return the exit status."""
        done, _ = await asyncio.wait((self._exit,), timeout=STOP_SECONDS)
        if not done:
            log.warning("killed after it did not stop", child=self.name, child_pid=self.process.pid)
            self.signal(signal.SIGKILL)
        return await self.wait()

    async def _wait(self) -> int:
        status = await self.process.wait()
        self.line.close()
        self._ended()
        return status


class Keeper:
    """Keeps one child running until it is told to stop.

    Args of `__init__`: its name in the log; what gives the command of each start; whether it is patient: never gives
    up, and waits longer and longer whatever way a child fails, because nobody depends on it at once.
    """

    def __init__(self, name: str, command: Callable[[], Command], *, patient: bool = False) -> None:
        self.name = name
        self.child: Child | None = None
        self._command = command
        self._patient = patient
        self._stopping = False
        self._replacing = asyncio.Lock()

    @property
    def running(self) -> bool:
        """Whether the child is ready and alive."""
        return self.child is not None and not self.child.ended

    async def start(self, *, first: bool = True) -> None:
        """Start the child; tried again, with longer and longer waits, while that fails.

        A patient keeper tries once, and leaves the rest to `watch`.

        Raises:
            ChildEndedError: when it is the first start and hopeless (`HOPELESS`); the child has said why.
            InternalError: when it cannot be started.
        """
        wait, longest = BACKOFF_SECONDS
        for _ in range(1 if self._patient else FAILURES_MAX):
            if self._stopping:
                return
            try:
                self.child = await Child.start(self.name, self._command())
            except (ChildEndedError, TimeoutError) as error:
                log.warning("did not start", child=self.name, problem=str(error))
                if first and getattr(error, "status", None) in HOPELESS:
                    raise
                if self._patient:
                    return
                await asyncio.sleep(wait)
                wait = min(wait * 2, longest)
            else:
                return
        raise InternalError(f"{self.name} did not start {FAILURES_MAX} times in a row")

    async def watch(self) -> None:
        """Restart the child whenever it dies.

        Raises:
            InternalError: when it cannot be started any more, and the keeper is not patient.
        """
        if self._patient:
            await self._watch_patiently()
        while not self._stopping and (child := self.child) is not None:
            status = await child.wait()
            if child is not self.child or self._stopping:
                continue  # it was replaced, or told to stop
            log.warning("died", child=self.name, child_pid=child.process.pid, status=status)
            await asyncio.sleep(BACKOFF_SECONDS[0])
            async with self._replacing:
                if child is self.child:
                    await self.start(first=False)

    async def _watch_patiently(self) -> None:
        """Restart the child whenever it dies or does not start, after waits that double while it does not live long."""
        loop = asyncio.get_running_loop()
        wait = first = BACKOFF_SECONDS[0]
        while True:
            if (child := self.child) is not None:
                since = loop.time()
                status = await child.wait()
                if not self._stopping:
                    log.warning("died", child=self.name, child_pid=child.process.pid, status=status)
                self.child = None
                wait = first if loop.time() - since >= PATIENT_SECONDS else wait
            if self._stopping:
                return
            await asyncio.sleep(wait)
            wait = min(2 * wait, PATIENT_SECONDS)
            await self.start(first=False)

    async def replace(self) -> None:
        """Start a successor, and when it is ready let the child drain and end.

        Raises:
            ChildEndedError: when the successor does not start; the child goes on.
            TimeoutError: likewise.
        """
        async with self._replacing:
            before, self.child = self.child, await Child.start(self.name, self._command())
        if before is not None:
            await before.stop()

    async def stop(self) -> None:
        """Let the child drain and end."""
        self._stopping = True
        if self.child is not None:
            await self.child.stop()
