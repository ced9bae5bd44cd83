"""Started as a file by the interpreter: `child_exec.py PARENT USER GROUP PROGRAM ARGUMENT...` becomes that program.

Between fork and exec Python must not run code in a process with threads, so the loader starts this instead: it gives
up privileges, ties the child's life to the loader's, and executes the program with an empty environment. It imports
the standard library only and runs with `-I -S`. PARENT is the loader's process id; USER and GROUP are numbers, or `-`
to stay who we are.
"""

import ctypes
import os
import resource
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_CANNOT_EXECUTE = 126


def _prctl(option: int, value: int) -> None:
    unused = ctypes.c_ulong(0)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(ctypes.c_int(option), ctypes.c_ulong(value), unused, unused, unused) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option}")


def main(arguments: list[str]) -> int:
    """Become the program; returns only if that cannot be done."""
    parent, user, group, program = int(arguments[0]), arguments[1], arguments[2], arguments[3:]
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)
        if group != "-":
            os.setgroups([])
            os.setresgid(int(group), int(group), int(group))
        if user != "-":
            os.setresuid(int(user), int(user), int(user))
        # After the change of user, which clears it (prctl(2)).
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            return _CANNOT_EXECUTE  # the loader died before the signal was set
        os.execve(program[0], program, {})  # noqa: S606 - executing the operator's program is what this file is for
    except OSError as error:
        sys.stderr.write(f"{program[0]}: {error.strerror}\n")
    return _CANNOT_EXECUTE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
