"""Run a program as if inside a TEE: started by the platform, with a quoting socket that nobody else has."""

import ctypes
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Sequence
from typing import Final

from proxy_attestation_simulator.errors import SimulatorError
from proxy_attestation_simulator.quoting import Quote, serve

_FORWARDED: Final = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
_AWAITED: Final = frozenset((*_FORWARDED, signal.SIGCHLD))
_SI_KERNEL: Final = 0x80  # siginfo.h: sent by the kernel, as a terminal's Ctrl-C is
_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h
_SIGNALLED: Final = 128


def run(command: Sequence[str], quote: Quote) -> int:
    """Start a program, serve quotes to it until it ends, and return its exit status.

    `{fd}` in the command becomes the number of the descriptor that it inherits. SIGTERM, SIGINT, SIGHUP, SIGQUIT,
    SIGUSR1 and SIGUSR2 are forwarded to it, except where the terminal has sent them to it already. It dies with this
    process, as an enclave does with its host.

    Args:
        command: the program and its arguments.
        quote: makes evidence, see `quoting`.

    Returns:
        The program's exit status; 128 and the signal's number where a signal ended it, as shells say it.

    Raises:
        SimulatorError: the program cannot be started.
    """
    ours, theirs = socket.socketpair()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
    try:
        with ours:
            with theirs:
                child = _start(command, theirs.fileno(), before)
            server = threading.Thread(target=serve, args=(ours, quote), name="quoting", daemon=True)
            server.start()
            _await(child)
            _hang_up(ours)
            server.join()
    finally:
        # What arrived after the end of the program was meant for the program.
        while signal.sigtimedwait(_AWAITED, 0) is not None:
            pass
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    status = child.returncode
    return status if status >= 0 else _SIGNALLED - status


def _start(command: Sequence[str], descriptor: int, mask: set[int]) -> subprocess.Popen[bytes]:
    libc = ctypes.CDLL(None)
    parent = os.getpid()

    def prepare() -> None:
        # Between fork and exec, in the child. This process has no other thread yet.
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    arguments = [argument.replace("{fd}", str(descriptor)) for argument in command]
    try:
        return subprocess.Popen(arguments, pass_fds=(descriptor,), preexec_fn=prepare)  # noqa: PLW1509 - see prepare
    except OSError as error:
        raise SimulatorError(f"cannot start {command[0]!r}: {error}") from error


def _await(child: subprocess.Popen[bytes]) -> None:
    while child.poll() is None:
        received = signal.sigwaitinfo(_AWAITED)
        if received.si_signo != signal.SIGCHLD and received.si_code != _SI_KERNEL:
            child.send_signal(received.si_signo)


def _hang_up(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # the service has ended it already
