"""A whole proxy for tests and demonstrations: `init` with a simulated vendor, then `serve` on ports the system chooses.

Everything is a process of its own, started through the command line, so what is tested is what ships:

    with running_proxy(tmp_path) as proxy:
        quote = proxy.vendor.platform("sgx").quote(report_data)
        ... https://{proxy.connect}, {proxy.grpc}, http://{proxy.admin}, proxy.root_pin, proxy.root_pem

`proxy.start()` returns when `serve` has said that it is ready; nothing sleeps. The default policy has the entries
`example-app` (sgx) and `example-vm` (tdx), pinned to what `vendor.platform(tee)` measures by default, with the names
`app.example.org` and `vm.example.org`. Write another `STATE/policy.toml` (with a higher version) and call `reload()`.
"""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final, TypedDict, Unpack

from proxy_attestation_simulator.errors import SimulatorError
from proxy_attestation_simulator.files import write_endorsements
from proxy_attestation_simulator.intel import Vendor
from proxy_attestation_simulator.measure import Measurement
from proxy_attestation_simulator.pins import claims_of, policy_lines

TRUST_DOMAIN: Final = "example.org"
START_SECONDS: Final = 90.0
STOP_SECONDS: Final = 60.0
_AUTHORITY: Final = "proxy_attestation.authority.process"
_WORKER: Final = "proxy_attestation.service.worker"
_ANY_PORT: Final = ("--grpc", "127.0.0.1:0", "--connect", "127.0.0.1:0", "--admin", "127.0.0.1:0")


def default_policy(vendor: Vendor, trust_domain: str = TRUST_DOMAIN, version: int = 1) -> str:
    """Return a policy with an entry for each simulated platform as the vendor makes it by default."""
    text = f'version = {version}\ntrust_domain = "{trust_domain}"\n'
    for tee, name, dns in (("sgx", "example-app", "app"), ("tdx", "example-vm", "vm")):
        body: Any = vendor.platform(tee).body
        measured = Measurement(getattr(body, "mr_enclave", b""), getattr(body, "mr_td", b""), "")
        text += f'\n[[workload]]\nname = "{name}"\n{policy_lines(tee, claims_of(tee, measured, vendor.mr_signer))}'
        text += f'dns = ["{dns}.{trust_domain}"]\nowner = {{ shared = true }}\n'
    return text


@dataclass
class RunningProxy:
    """A proxy and its vendor.

    Attributes:
        directory: holds everything: vendor/, state/, serve.log.
        state: the authority's directory.
        vendor: whose evidence the proxy takes.
        command: what starts the `proxy-attestation` command.
        arguments: of `serve`, beside STATE.
        ready: what `serve --json` said; the properties below read it.
    """

    directory: Path
    state: Path
    vendor: Vendor
    command: Sequence[str]
    arguments: Sequence[str] = _ANY_PORT
    ready: dict[str, Any] = field(default_factory=dict)
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def grpc(self) -> str:
        """HOST:PORT of the gRPC front."""
        return str(self.ready["grpc"])

    @property
    def connect(self) -> str:
        """HOST:PORT of the Connect front."""
        return str(self.ready["connect"])

    @property
    def admin(self) -> str:
        """HOST:PORT of the admin address."""
        return str(self.ready["admin"])

    @property
    def root_pin(self) -> str:
        """SHA-256 of the root's SubjectPublicKeyInfo, hex."""
        return str(self.ready["root_pin"])

    @property
    def root_pem(self) -> Path:
        """The root's certificate, as `init` wrote it."""
        return self.state / "root.pem"

    @property
    def log(self) -> Path:
        """What `serve` and its children wrote to standard error."""
        return self.directory / "serve.log"

    def log_lines(self) -> list[dict[str, Any]]:
        """Return the log, line by line; what is not JSON stands under `text`."""
        lines = []
        for line in self.log.read_text().splitlines():
            try:
                decoded = json.loads(line)
            except ValueError:
                decoded = None
            lines.append(decoded if isinstance(decoded, dict) else {"text": line})
        return lines

    def start(self) -> None:
        """Start `serve` and wait until it is ready.

        Raises:
            SimulatorError: it ended instead, or took longer than `START_SECONDS`; with the end of its log.
        """
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.command, "serve", str(self.state), "--json", *self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert self.process.stdout is not None  # noqa: S101 - a pipe was asked for
        line = _read_line(self.process.stdout)
        if not line:
            self.kill()
            raise SimulatorError(f"serve did not become ready; its log ends with:\n{self.log.read_text()[-4000:]}")
        self.ready = json.loads(line)

    def stop(self) -> int:
        """Send SIGTERM, wait, and return the exit status."""
        return self._end(signal.SIGTERM)

    def kill(self) -> int:
        """Send SIGKILL to the supervisor only; its children end by themselves."""
        return self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop and start again, on the same ports."""
        self.stop()
        self.keep_ports()
        self.start()

    def keep_ports(self) -> None:
        """Use the ports that were chosen for the next start too."""
        self.arguments = [
            *self.arguments, "--grpc", self.grpc, "--connect", self.connect, "--admin", self.admin,
        ]  # fmt: skip

    def reload(self) -> None:
        """Send SIGHUP: policy and endorsements are read again."""
        self.send(signal.SIGHUP)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the supervisor."""
        if self.process is None:
            raise SimulatorError("the proxy does not run")
        self.process.send_signal(number)

    def authority_pid(self) -> int:
        """Return the process id of the authority.

        Raises:
            SimulatorError: there is none at this moment.
        """
        found = self._children(_AUTHORITY)
        if not found:
            raise SimulatorError("no authority runs at this moment")
        return found[0]

    def worker_pids(self) -> list[int]:
        """Return the process ids of the workers that run at this moment."""
        return self._children(_WORKER)

    def write_endorsements(self, tee: str, name: str | None = None, **options: Any) -> Path:
        """Write a set of collateral, issued now, into STATE/endorsements; `options` as `Vendor.endorsements`."""
        directory = self.state / "endorsements" / (name or tee)
        write_endorsements(self.vendor.endorsements(tee, datetime.now(UTC), **options), directory)
        return directory

    def _children(self, module: str) -> list[int]:
        found: list[int] = []
        if self.process is None:
            return found
        with suppress(OSError):
            children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
            for pid in children.split():
                with suppress(OSError):
                    if module.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                        found.append(int(pid))
        return found

    def _end(self, number: signal.Signals) -> int:
        if self.process is None:
            raise SimulatorError("the proxy does not run")
        self.process.send_signal(number)
        try:
            status = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.process = None
        return status


class ProxyOptions(TypedDict, total=False):
    """How a proxy is made.

    Attributes:
        policy: text of the policy; `default_policy` if absent.
        vendor: a new one if absent.
        trust_domain: of the authority.
        dns: suffixes that the root permits; the trust domain if absent.
        workers: how many; one if absent.
        arguments: further arguments of `serve`; given last, so they win.
        command: what starts `proxy-attestation`; the one beside this interpreter if absent.
        tees: for which of them collateral is written; both if absent.
        real: make a real authority, which refuses everything that is simulated.
        keys: where the authority's keys shall be; files if absent.
    """

    policy: str
    vendor: Vendor
    trust_domain: str
    dns: Sequence[str]
    workers: int
    arguments: Sequence[str]
    command: Sequence[str]
    tees: Sequence[str]
    real: bool
    keys: str


@contextmanager
def running_proxy(directory: Path, **options: Unpack[ProxyOptions]) -> Iterator[RunningProxy]:
    """Make an authority in `directory` (existing, private to it), serve it, and stop it at the end.

    Raises:
        SimulatorError: `init` or `serve` failed.
    """
    proxy = make_proxy(directory, **options)
    proxy.start()
    try:
        yield proxy
    finally:
        if proxy.process is not None:
            proxy.stop()


def make_proxy(directory: Path, **options: Unpack[ProxyOptions]) -> RunningProxy:
    """Do what `running_proxy` does before it serves.

    Raises:
        SimulatorError: `init` failed.
    """
    vendor = options.get("vendor") or Vendor.create(datetime.now(UTC))
    trust_domain = options.get("trust_domain", TRUST_DOMAIN)
    vendor.save(directory / "vendor")
    policy = directory / "policy.toml"
    policy.write_text(options.get("policy") or default_policy(vendor, trust_domain))
    state = directory / "state"
    command = tuple(options.get("command") or default_command())
    kind = ["--real"] if options.get("real") else ["--simulated", str(directory / "vendor" / "root.der")]
    dns = [argument for suffix in options.get("dns", (trust_domain,)) for argument in ("--dns", suffix)]
    kind += ["--keys", options.get("keys", "file")]
    init = [*command, "init", str(state), "--trust-domain", trust_domain, *dns, "--policy", str(policy), *kind]
    done = subprocess.run(init, stdin=subprocess.DEVNULL, capture_output=True, check=False, text=True)
    if done.returncode:
        raise SimulatorError(f"init ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    arguments = [*_ANY_PORT, "--workers", str(options.get("workers", 1)), *options.get("arguments", ())]
    proxy = RunningProxy(directory, state, vendor, command, arguments)
    for tee in options.get("tees", ("sgx", "tdx")):
        proxy.write_endorsements(tee)
    return proxy


def default_command() -> tuple[str, ...]:
    """Return the `proxy-attestation` command that stands beside this interpreter.

    Raises:
        SimulatorError: there is none.
    """
    beside = Path(sys.executable).parent / "proxy-attestation"
    found = str(beside) if beside.exists() else shutil.which("proxy-attestation")
    if found is None:
        raise SimulatorError("the command proxy-attestation is not installed")
    return (found,)


def _read_line(stream: IO[bytes]) -> bytes:
    """Read one line, or return nothing at the stream's end or after `START_SECONDS`."""
    line = b""
    descriptor = stream.fileno()
    while not line.endswith(b"\n"):
        if not select.select([descriptor], [], [], START_SECONDS)[0]:
            return b""
        piece = os.read(descriptor, 65_536)
        if not piece:
            return b""
        line += piece
    return line
