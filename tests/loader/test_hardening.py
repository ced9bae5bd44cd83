"""What a process gives up, seen from outside: each in an interpreter of its own."""

import os
import select
import subprocess
import sys

SCRIPT = """
import resource, sys
from pathlib import Path
from proxy_attestation import hardening
print(hardening.forbid_dumps(), hardening.forbid_new_privileges(), hardening.become_nobody())
print(resource.getrlimit(resource.RLIMIT_CORE))
fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
print(fields["NoNewPrivs"].strip(), Path("/proc/self/stat").stat().st_uid)
"""


def test_dumps_and_privileges_are_given_up() -> None:
    done = subprocess.run([sys.executable, "-I", "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=60)
    first, limit, last = done.stdout.splitlines()
    assert first.split()[:2] == ["True", "True"]
    assert limit == "(0, 0)"
    # A process that is not dumpable belongs to root in /proc (proc(5)).
    assert last.split() == ["1", "0"]


PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-I", "-c", sys.argv[1]], stdout=subprocess.PIPE)
print(child.pid, child.stdout.readline().decode(), flush=True)
input()
"""
CHILD = (
    "from proxy_attestation import hardening as h; import time; print(h.end_with_parent(), flush=True); time.sleep(999)"
)


def test_a_process_that_looks_at_nothing_ends_with_its_parent() -> None:
    line = [sys.executable, "-I", "-c", PARENT, CHILD]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        number, done = parent.stdout.readline().split()
        assert done == b"True"
        child = os.pidfd_open(int(number))
        parent.kill()
    try:
        assert select.select([child], [], [], 60)[0]
    finally:
        os.close(child)
