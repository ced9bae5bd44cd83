"""A PKCS#11 token in software, made for one test; tests on it skip, and say so, where SoftHSM is not here."""

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import pytest

MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")
TOKEN = "proxy"
PIN = "2222"

needs_softhsm = [
    pytest.mark.skipif(
        shutil.which("softhsm2-util") is None or not MODULE.exists(),
        reason="no SoftHSM (Debian package softhsm2; `make test`)",
    ),
    pytest.mark.skipif(importlib.util.find_spec("pkcs11") is None, reason="no python-pkcs11 (the extra `pkcs11`)"),
]


class SoftHsm:
    """A directory with one token. A process that uses the library reads `SOFTHSM2_CONF` once."""

    def __init__(self, directory: Path, label: str = TOKEN) -> None:
        tokens = directory / "tokens"
        tokens.mkdir(parents=True)
        config = directory / "softhsm2.conf"
        config.write_text(f"directories.tokendir = {tokens}\nobjectstore.backend = file\nlog.level = ERROR\n")
        self.environment = {**os.environ, "SOFTHSM2_CONF": str(config)}
        self.pin = directory / "pin"
        self.pin.write_text(f"{PIN}\n")
        self.pin.chmod(0o600)
        self._run("--init-token", "--free", "--label", label, "--so-pin", "1111", "--pin", PIN)
        self.tokens = tokens

    def uri(self, label: str = "authority", token: str = TOKEN) -> str:
        """Return the URI of keys that begin with a label."""
        return f"pkcs11:token={token};object={label}?module-path={MODULE}&pin-source=file:{self.pin}"

    def _run(self, *arguments: str) -> None:
        subprocess.run(["softhsm2-util", *arguments], env=self.environment, check=True, capture_output=True, timeout=60)
