"""What a process that holds a key, or runs somebody's code, gives up: core dumps, debuggers, privileges.

prctl(2) through the C library, since Python has no binding. Where the call does not exist (another system than Linux,
a library OS without it) nothing can be given up, and the caller is told.
"""

import ctypes
import os
import resource
import signal
from typing import Final

# linux/prctl.h
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_SET_NO_NEW_PRIVS: Final = 38
_NOBODY: Final = 65534


def _prctl(option: int, value: int) -> bool:
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        unused = ctypes.c_ulong(0)
        return bool(libc.prctl(ctypes.c_int(option), ctypes.c_ulong(value), unused, unused, unused) == 0)
    except (OSError, AttributeError):
        return False


def forbid_dumps() -> bool:
    """Forbid core dumps, and ptrace and /proc/PID/mem by other processes of the same user.

    Returns:
        Whether both were done.
    """
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (OSError, ValueError):
        return False
    return _prctl(_PR_SET_DUMPABLE, 0)


def forbid_new_privileges() -> bool:
    """Make set-user-ID programs and file capabilities powerless for this process and its children.

    Returns:
        Whether it was done.
    """
    return _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def give_up() -> bool:
    """Do both of the above: what each process that reads a key does before it reads it.

    Returns:
        Whether everything was done.
    """
    forbidden = forbid_dumps()
    return forbid_new_privileges() and forbidden


def end_with_parent() -> bool:
    """Have the kernel kill this process when the thread that started it ends, whatever this process is doing then.

    Returns:
        Whether that was arranged.
    """
    return _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def become_nobody() -> bool:
    """Change from root to the user and group 65534 for good; anybody else stays who he is.

    Returns:
        Whether the process now runs as that user.
    """
    if os.geteuid() != 0:
        return False
    try:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    except OSError:
        return False
    return True
