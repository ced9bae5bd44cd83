"""What the tests on swtpm need; they skip, and say so, where it is not here."""

import importlib.util
import shutil
from pathlib import Path

import pytest

needs_swtpm = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        not all(map(shutil.which, ("swtpm", "swtpm_setup", "swtpm_localca"))),
        reason="no swtpm (Debian packages swtpm and swtpm-tools; `make test`)",
    ),
    pytest.mark.skipif(
        importlib.util.find_spec("tpm2_pytss") is None, reason="no tpm2-pytss (tools/tpm-library.sh; `make test`)"
    ),
]
needs_manager = pytest.mark.skipif(
    not Path("/usr/sbin/tpm2-abrmd").exists() or shutil.which("dbus-daemon") is None,
    reason="no resource manager (Debian packages tpm2-abrmd, libtss2-tcti-tabrmd0 and dbus-daemon; `make test`)",
)
