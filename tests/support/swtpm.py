"""TPMs in software: swtpm with EK certificates of a local CA, and a resource manager in front of one."""

import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from proxy_attestation.appraisal.tpm_chain import TpmRoots
from proxy_attestation.attester.tpm import TpmDevice
from proxy_attestation.formats.tpm import spki_of

BRIDGE = Path(__file__).resolve().parent / "tpm_bridge.py"
ABRMD = Path("/usr/sbin/tpm2-abrmd")
TRANSIENTS = 3
"""Objects that a client may have loaded: as many as Linux's resource manager gives each (include/linux/tpm.h)."""

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
    not ABRMD.exists() or shutil.which("dbus-daemon") is None,
    reason="no resource manager (Debian packages tpm2-abrmd, libtss2-tcti-tabrmd0 and dbus-daemon; `make test`)",
)


class Manufacturer:
    """A local CA that certifies the EKs of the TPMs that it makes."""

    def __init__(self, directory: Path) -> None:
        """Configure the CA.

        Args:
            directory: for it and its TPMs; short, since a Unix socket's path has at most 107 bytes.
        """
        self.directory = directory
        self._count = 0
        self.authority = directory / "ca"
        self.authority.mkdir()
        files = {"signingkey": "signkey.pem", "issuercert": "issuercert.pem", "certserial": "certserial"}
        lines = [f"statedir = {self.authority}", *(f"{key} = {self.authority / name}" for key, name in files.items())]
        (directory / "localca.conf").write_text("\n".join(lines) + "\n")
        (directory / "localca.options").write_text("--platform-manufacturer Example\n")
        (directory / "setup.conf").write_text(
            f"create_certs_tool = {shutil.which('swtpm_localca')}\n"
            f"create_certs_tool_config = {directory / 'localca.conf'}\n"
            f"create_certs_tool_options = {directory / 'localca.options'}\n"
        )

    def make(self) -> "Swtpm":
        """Make a TPM, and start it."""
        self._count += 1
        state = self.directory / f"tpm{self._count}"
        state.mkdir()
        command = ["swtpm_setup", "--tpm2", "--tpm-state", str(state), "--create-ek-cert", "--pcr-banks", "sha256"]
        command += ["--config", str(self.directory / "setup.conf")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return Swtpm(state)

    @property
    def issuer_files(self) -> tuple[Path, ...]:
        """PEM of the issuing CA and of the root; they are there once a TPM was made."""
        return tuple(self.authority / name for name in ("issuercert.pem", "swtpm-localca-rootca-cert.pem"))

    @property
    def roots(self) -> TpmRoots:
        """Its root, pinned, and its issuers' certificates."""
        issuers = tuple(x509.load_pem_x509_certificate(path.read_bytes()) for path in self.issuer_files)
        root = issuers[1].public_key()
        pin = hashlib.sha256(spki_of(root)).digest()  # type: ignore[arg-type] # an RSA key
        return TpmRoots(frozenset({pin}), tuple(issuer.public_bytes(Encoding.DER) for issuer in issuers))


class Swtpm:
    """A running TPM, behind a Unix socket that serves one connection at a time."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._start()

    def _start(self) -> None:
        command = ["swtpm", "socket", "--tpm2", "--daemon", "--tpmstate", f"dir={self._state}"]
        command += ["--server", f"type=unixio,path={self._state}/data"]
        command += ["--ctrl", f"type=unixio,path={self._state}/ctrl"]
        command += ["--flags", "not-need-init,startup-clear", "--pid", f"file={self._state}/pid"]
        subprocess.run(command, check=True, capture_output=True, timeout=60)

    @property
    def tcti(self) -> str:
        """How the TSS reaches it, for one client at a time."""
        return f"cmd:{sys.executable} {BRIDGE} {self._state}/data"

    def device(self, *ek_kinds: str) -> TpmDevice:
        """Open it."""
        return TpmDevice(self.tcti, ek_kinds) if ek_kinds else TpmDevice(self.tcti)

    @contextmanager
    def managed(self) -> Iterator["Managed"]:
        """Put a resource manager in front of it, on a bus of its own; nobody else can open the TPM meanwhile."""
        directory = self._state / "bus"
        directory.mkdir(exist_ok=True)
        name = "com.intel.tss2.Tabrmd"
        # The bus starts the manager when somebody first asks for it, and lets them wait until it is there.
        (directory / f"{name}.service").write_text(
            f"[D-BUS Service]\nName={name}\n"
            f'Exec={ABRMD} --session --allow-root --max-transients={TRANSIENTS} --tcti="{self.tcti}"\n'
        )
        (directory / "bus.conf").write_text(
            '<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" '
            '"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">\n'
            f"<busconfig><type>session</type><listen>unix:path={directory}/bus</listen><auth>EXTERNAL</auth>"
            f"<servicedir>{directory}</servicedir>"
            '<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/>'
            '<allow own="*"/></policy></busconfig>\n'
        )
        command = ["dbus-daemon", f"--config-file={directory}/bus.conf", "--nofork", "--print-address"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as bus:
            assert bus.stdout is not None
            address = bus.stdout.readline().strip()  # once it listens
            try:
                yield Managed("tabrmd:bus_type=session", {"DBUS_SESSION_BUS_ADDRESS": address, "TSS2_LOG": "all+none"})
            finally:
                bus.terminate()  # the manager ends with its bus

    def stop(self) -> None:
        """End the process."""
        os.kill(int((self._state / "pid").read_text()), signal.SIGTERM)


@dataclass(frozen=True)
class Managed:
    """A TPM that several processes can use.

    Attributes:
        tcti: how the TSS reaches it.
        environment: what it takes beside that.
    """

    tcti: str
    environment: dict[str, str]
