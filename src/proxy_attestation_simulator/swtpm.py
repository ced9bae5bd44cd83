"""TPMs in software: swtpm with EK certificates of a local CA, and a resource manager in front of one.

For tests and demonstrations of the real path: what talks to such a TPM is the TSS, as to any other. It takes the Debian
packages that tools/tpm-library.sh installs; `missing` tells which of it is not here.
"""

import hashlib
import importlib
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
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from proxy_attestation.appraisal.tpm_chain import TpmRoots
from proxy_attestation.attester.tpm import TpmDevice
from proxy_attestation.formats.tpm import spki_of
from proxy_attestation_simulator.errors import SimulatorError

_ABRMD: Final = Path("/usr/sbin/tpm2-abrmd")
_TRANSIENTS: Final = 3
"""Objects that a client may have loaded: as many as Linux's resource manager gives each (include/linux/tpm.h)."""

_ATTEMPTS: Final = 20


def missing() -> tuple[str, ...]:
    """Return what is not here of what it takes, by the names of Debian's packages and of the extra."""
    programs = {"swtpm": "swtpm", "swtpm_setup": "swtpm-tools", "swtpm_localca": "swtpm-tools", "dbus-daemon": "dbus"}
    found = [package for program, package in programs.items() if shutil.which(program) is None]
    if not _ABRMD.exists():
        found.append("tpm2-abrmd")
    if importlib.util.find_spec("tpm2_pytss") is None:
        found.append("tpm2-pytss")
    return tuple(dict.fromkeys(found))


def measure(tcti: str, index: int, what: bytes) -> None:
    """Measure something into a register of the SHA-256 bank, as firmware does."""
    tss: Any = importlib.import_module("tpm2_pytss")
    digest = tss.TPMT_HA(hashAlg=tss.TPM2_ALG.SHA256, digest=tss.TPMU_HA(sha256=hashlib.sha256(what).digest()))
    with tss.ESAPI(tcti) as esys:
        esys.pcr_extend(tss.ESYS_TR(index), tss.TPML_DIGEST_VALUES([digest]))


def register(what: bytes) -> str:
    """Return what a register holds, hex, into which one thing was measured."""
    return hashlib.sha256(bytes(32) + hashlib.sha256(what).digest()).hexdigest()


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
        """Make a TPM, and start it.

        Raises:
            SimulatorError: swtpm_setup failed.
        """
        self._count += 1
        state = self.directory / f"tpm{self._count}"
        state.mkdir()
        command = ["swtpm_setup", "--tpm2", "--tpm-state", str(state), "--create-ek-cert", "--pcr-banks", "sha256"]
        command += ["--config", str(self.directory / "setup.conf")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        if done.returncode:
            raise SimulatorError(f"swtpm_setup ended with {done.returncode}:\n{done.stdout}{done.stderr}")
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
        return f"cmd:{sys.executable} -m {__package__}.tpm_bridge {self._state}/data"

    def device(self, *ek_kinds: str) -> TpmDevice:
        """Open it."""
        return TpmDevice(self.tcti, ek_kinds) if ek_kinds else TpmDevice(self.tcti)

    @contextmanager
    def managed(self) -> Iterator["Managed"]:
        """Put a resource manager in front of it, on a bus of its own; nobody else can open the TPM meanwhile.

        Raises:
            SimulatorError: it does not answer.
        """
        directory = self._state / "bus"
        directory.mkdir(exist_ok=True)
        name = "com.intel.tss2.Tabrmd"
        # The bus starts the manager when somebody first asks for it.
        (directory / f"{name}.service").write_text(
            f"[D-BUS Service]\nName={name}\n"
            f'Exec={_ABRMD} --session --allow-root --max-transients={_TRANSIENTS} --tcti="{self.tcti}"\n'
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
            assert bus.stdout is not None  # noqa: S101 - a pipe was asked for
            address = bus.stdout.readline().strip()  # once it listens
            try:
                managed = Managed(
                    "tabrmd:bus_type=session", {"DBUS_SESSION_BUS_ADDRESS": address, "TSS2_LOG": "all+none"}
                )
                _await_manager(managed)
                yield managed
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


def _await_manager(managed: Managed) -> None:
    """Ask until the manager answers: it has its name on the bus a moment before the object that takes connections."""
    code = f"import tpm2_pytss; tpm2_pytss.ESAPI({managed.tcti!r}).close()"
    for _ in range(_ATTEMPTS):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, check=False, timeout=60,
            env=os.environ | managed.environment,
        )  # fmt: skip
        if done.returncode == 0:
            return
    raise SimulatorError(f"no resource manager answers on the bus:\n{done.stderr.decode(errors='replace')}")
