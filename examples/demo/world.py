"""The demonstration's processes and files."""

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from proxy_attestation_simulator.swtpm import Managed, Manufacturer, measure, register

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
PROXY = str(BIN / "proxy-attestation")
SIMULATOR = str(BIN / "proxy-attestation-simulator")
APPLICATION = ROOT / "examples" / "example_application" / "example.wat"
APP_NAME = "app.example.org"
OTHERS = ("tdx", "snp", "nitro")
BOOTED = {0: b"firmware", 4: b"boot loader"}
"""What the machine with a TPM measures into its registers."""
SIGNERS = ("alice", "bob", "carol")
"""Who signs policies; two of the three must."""
ROOTS = ("root.der", "amd-ark-milan.der", "aws-root.der")
WAIT_SECONDS = 60


def step(text: str) -> None:
    """Print a heading."""
    print(f"\n== {text}", flush=True)


def say(text: str) -> None:
    """Print one line under the heading."""
    print(f"   {text}", flush=True)


class World:
    """Paths, addresses and running processes of one demonstration."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.vendor = directory / "vendor"
        self.state = directory / "state"
        self.real_state = directory / "real-state"
        self.policy = directory / "policy.toml"
        self.app = directory / "app.toml"
        self.expectation = directory / "expect.toml"
        self.root_pem = directory / "root.pem"
        self.root_pin = ""
        self.connect_url = ""
        self.grpc_address = ""
        self.http_address = ""
        self.app_grpc_address = ""
        self.real_url = ""
        self.real_pin = ""
        self.application = ""
        self.application_pin = ""
        self.clone_state = directory / "clone-state"
        self.ledger_key = ""
        self.tried = 0
        self.tpm: tuple[Manufacturer, Managed] | None = None
        self._started = 0

    def run(self, *arguments: str) -> str:
        """Run one `proxy-attestation` command, show it, and return what it printed."""
        say(f"$ proxy-attestation {' '.join(self._short(argument) for argument in arguments)}")
        return self._output([PROXY, *arguments])

    def make_authority(self) -> None:
        """Make the vendor, the policy, the authority, and a second authority that is real."""
        self._output([SIMULATOR, "vendor", str(self.vendor), "--all"])
        application = self.application = self._index(APPLICATION)
        measured = json.loads(self._output([SIMULATOR, "measure", "--json", "--", PROXY]))["sgx"]
        self._write_policy(measured["mr_enclave"], application)
        with self.policy.open("a") as policy:
            for tee in OTHERS:
                pins = self._output([SIMULATOR, "measure", "--tee", tee, "--", PROXY])
                policy.write(f'\n[[workload]]\nname = "example-{tee}"\n{pins}dns = ["{tee}.example.org"]\n')
                policy.write(f"{self.application_pin}\nowner = {{ shared = true }}\n")
            if self.tpm is not None:
                policy.write(self._tpm_entry(self.tpm[0]))
            owned = f'mr_enclave = ["{measured["mr_enclave"]}"]\ndns = ["owned.example.org"]\n{self.application_pin}\n'
            policy.write(
                f'\n[[workload]]\nname = "example-owned"\ntee = "sgx"\n{owned}owner = {{ enrolment = true }}\n'
            )
        self._make_signers()
        self.run("policy", "check", str(self.policy))
        for name in SIGNERS[:2]:
            self.run("policy", "sign", str(self.policy), "--key", str(self.directory / f"{name}.pem"), "--name", name)
        suffix = ("--trust-domain", "example.org", "--dns", "example.org", "--policy", str(self.policy), "--json")
        signers = [part for name in SIGNERS for part in ("--signer", f"{name}={self.directory / name}.pub.pem")]
        roots = [part for name in ROOTS for part in ("--simulated", str(self.vendor / name))]
        self.init_options = (*suffix, *signers, "--threshold", "2", *roots)
        made = json.loads(self.run("init", str(self.state), *self.init_options))
        self.root_pin, self.ledger_key = made["root_pin"], made["ledger_key"]
        self._endorse(self.state)
        self.real_pin = json.loads(self._output([PROXY, "init", str(self.real_state), *suffix, "--real"]))["root_pin"]
        self._expect_proxy()
        self.expectation.write_text(
            f'trust_domain = "example.org"\nroot_pin = "{self.root_pin}"\nname = "example-app"\ntee = "sgx"\n'
            f'mr_enclave = ["{measured["mr_enclave"]}"]\ntcb = ["UpToDate"]\nsimulated = true\n'
            f'application_sha256 = ["{application}"]\ndns = ["{APP_NAME}"]\n'
        )

    def serve(self, stack: ExitStack) -> None:
        """Start the proxy on free ports, and the real one beside it."""
        started = self._serve(stack, self.state, attested=True)
        self.connect_url = f"https://{started['connect']}"
        self.grpc_address = started["grpc"]
        say(f"serving: Connect {self.connect_url}, gRPC {self.grpc_address}, root pin {self.root_pin}")
        real = self._serve(stack, self.real_state)
        self.real_url = f"https://{real['connect']}"

    def load(self, stack: ExitStack) -> None:
        """Start the loader in a simulated enclave and wait until it listens."""
        self.write_app(self.app)
        command = self.loader(self.app)
        say(f"$ {' '.join(self._short(part) for part in command)}")
        ready = self._start(stack, command, lambda event: event.get("event") == "ready")
        addresses = {entry["protocol"]: entry["address"] for entry in ready["listeners"]}
        self.http_address = addresses["http"]
        self.app_grpc_address = addresses["grpc"]
        say(f"listening: gRPC {self.app_grpc_address}, HTTP {self.http_address}")

    def other_app(self, tee: str) -> Path:
        """Write the configuration of the workload that stands on another kind of machine."""
        values = {"tee": tee, "workload": f"example-{tee}", "name": f"{tee}.example.org"}
        return self.write_app(self.directory / f"{tee}.toml", **values)

    def load_other(self, stack: ExitStack, tee: str) -> str:
        """Start a loader on a simulated machine of another kind; return where its application answers HTTP."""
        load = [PROXY, "load", str(self.other_app(tee)), "--attester", "simulator:{fd}", "--json", "--wait", "10"]
        command = [SIMULATOR, "run", "--dir", str(self.vendor), "--tee", tee, "--", *load]
        ready = self._start(stack, command, lambda event: event.get("event") == "ready")
        return next(str(entry["address"]) for entry in ready["listeners"] if entry["protocol"] == "http")

    def boot_tpm(self, stack: ExitStack) -> None:
        """Make a machine with a TPM (swtpm) and boot it; before `make_authority`, whose policy is to know its maker."""
        makers = stack.enter_context(tempfile.TemporaryDirectory())  # a Unix socket's path has 107 bytes at most
        manufacturer = Manufacturer(Path(makers))
        machine = manufacturer.make()
        stack.callback(machine.stop)
        for index, what in BOOTED.items():
            measure(machine.tcti, index, what)
        self.tpm = manufacturer, stack.enter_context(machine.managed())

    def load_tpm(self, stack: ExitStack) -> str:
        """Start a loader on the machine with a TPM; return where its application answers HTTP."""
        if self.tpm is None:
            raise SystemExit("error: no machine with a TPM was booted")
        manufacturer, managed = self.tpm
        config = self.other_app("tpm")
        issuers = json.dumps([str(path) for path in manufacturer.issuer_files])
        with config.open("a") as file:
            file.write(f"\n[tpm]\nek_issuers = {issuers}\n")
        load = [PROXY, "load", str(config), "--attester", f"tpm:{managed.tcti}", "--json", "--wait", "10"]
        say(f"$ {' '.join(self._short(part) for part in load)}")
        ready = self._start(stack, load, lambda event: event.get("event") == "ready", managed.environment)
        return next(str(entry["address"]) for entry in ready["listeners"] if entry["protocol"] == "http")

    def _tpm_entry(self, manufacturer: Manufacturer) -> str:
        (pin,) = manufacturer.roots.pins
        pins = "".join(f'pcr{index} = ["{register(what)}"]\n' for index, what in BOOTED.items())
        return (
            f'\n[[workload]]\nname = "example-tpm"\ntee = "tpm"\nek_root = ["{pin.hex()}"]\n{pins}'
            f'dns = ["tpm.example.org"]\n{self.application_pin}\nowner = {{ shared = true }}\n'
        )

    def expect_other(self, tee: str) -> Path:
        """Write what a client expects of the workload on another kind of machine."""
        path = self.directory / f"expect-{tee}.toml"
        path.write_text(
            f'trust_domain = "example.org"\nroot_pin = "{self.root_pin}"\nname = "example-{tee}"\ntee = "{tee}"\n'
            f'simulated = true\ndns = ["{tee}.example.org"]\n'
        )
        return path

    def quiet(self, *arguments: str) -> str:
        """Run one `proxy-attestation` command and return what it printed."""
        return self._output([PROXY, *arguments])

    def loader(self, config: Path, *faults: str) -> list[str]:
        """Return the command that runs a loader in a simulated enclave with some faults."""
        options = [option for fault in faults for option in ("--fault", fault)]
        load = [PROXY, "load", str(config), "--attester", "simulator:{fd}", "--json", "--wait", "10"]
        return [SIMULATOR, "run", "--dir", str(self.vendor), *options, "--", *load]

    def misuse(self, *arguments: str) -> list[str]:
        """Return the command that runs the misusing client in a simulated enclave."""
        script = str(Path(__file__).parent / "misuse.py")
        where = [self.connect_url, self.root_pin]
        return [
            SIMULATOR,
            "run",
            "--dir",
            str(self.vendor),
            "--",
            sys.executable,
            script,
            "{fd}",
            *where,
            *arguments,
            self.application,
        ]

    def write_app(self, path: Path, **changes: str) -> Path:
        """Write a loader's file; `changes` replace its url, pin, name or application."""
        values = {
            "url": self.connect_url,
            "pin": self.root_pin,
            "name": APP_NAME,
            "application": str(APPLICATION),
            "workload": "example-app",
            "tee": "sgx",
            **changes,
        }
        path.write_text(
            f'proxy = "{values["url"]}"\nroot_pin = "{values["pin"]}"\ntrust_domain = "example.org"\n'
            f'workload = "{values["workload"]}"\ntee = "{values["tee"]}"\n'
            f'lifetime = "1h"\ncontrol = "{path.stem}.sock"\n\n'
            f'[names]\ndns = ["{values["name"]}"]\n\n'
            '[[listener]]\naddress = "127.0.0.1:0"\nprotocol = "grpc"\n\n'
            '[[listener]]\naddress = "127.0.0.1:0"\nprotocol = "http"\n\n'
            f'[application]\nkind = "wasm"\npath = "{values["application"]}"\n'
        )
        return path

    def _write_policy(self, mr_enclave: str, application: str) -> None:
        index = self.directory / "reproducibility_index"
        index.write_text(f"{application}  example.wat\n")
        digest = self._index(index)
        self.application_pin = (
            f'application = {{ index = "reproducibility_index", sha256 = "{digest}", paths = ["example.wat"] }}'
        )
        self.policy.write_text(
            'version = 1\ntrust_domain = "example.org"\nmax_lifetime = "24h"\n\n'
            f'[[workload]]\nname = "example-app"\ntee = "sgx"\nmr_enclave = ["{mr_enclave}"]\n'
            f"{self.application_pin}\n"
            f'tcb = ["UpToDate"]\ndns = ["{APP_NAME}"]\nowner = {{ shared = true }}\n'
        )

    def _index(self, path: Path) -> str:
        return subprocess.run(
            [PROXY, "index", path.name], cwd=path.parent, capture_output=True, text=True, check=True, timeout=30
        ).stdout.split()[0]

    def _serve(self, stack: ExitStack, state: Path, *, attested: bool = False) -> Mapping[str, Any]:
        ports = [option for name in ("grpc", "connect", "admin") for option in (f"--{name}", "127.0.0.1:0")]
        command = [PROXY, "serve", str(state), *ports, "--workers", "2", "--json"]
        if attested:
            command = [SIMULATOR, "run", "--dir", str(self.vendor), "--", *command, "--attester", "simulator:{fd}"]
        return self._start(stack, command, lambda event: bool(event.get("ready")))

    def _endorse(self, state: Path) -> None:
        shutil.copytree(self.vendor / "endorsements", state / "endorsements", dirs_exist_ok=True)

    def _make_signers(self) -> None:
        for name in SIGNERS:
            key, public = (str(self.directory / f"{name}{suffix}") for suffix in (".pem", ".pub.pem"))
            self._output(["openssl", "genpkey", "-algorithm", "ed25519", "-out", key])
            self._output(["openssl", "pkey", "-in", key, "-pubout", "-out", public])

    def _expect_proxy(self) -> None:
        """Write what the proxy's image measures, and what a client that holds no pin expects of the proxy."""
        serve = [PROXY, "serve", str(self.state)]
        measured = self._output([SIMULATOR, "measure", "--dir", str(self.vendor), "--tee", "sgx", "--", *serve])
        lines = "".join(line + "\n" for line in measured.splitlines() if line.startswith(("tee =", "mr_enclave =")))
        (self.directory / "measured.toml").write_text(lines)
        vkeys = [
            self._output([PROXY, "deployment", "vkey", "--key", str(self.directory / f"{name}.pem"), "--name", name])
            for name in SIGNERS
        ]
        (self.directory / "proxy.toml").write_text(
            f'trust_domain = "example.org"\nsimulated = true\nkey_origin = ["file"]\n{lines}'
            f"signers = {json.dumps([vkey.strip() for vkey in vkeys])}\nthreshold = 2\n"
        )

    def root_options(self) -> tuple[str, ...]:
        """Return the options of `root` for a client that holds no pin."""
        files = ("--endorsements", str(self.vendor / "endorsements" / "sgx"), "--roots", str(self.vendor / "root.der"))
        return ("--expect", str(self.directory / "proxy.toml"), *files)

    def make_clone(self, stack: ExitStack) -> str:
        """Make and start another proxy of the same image, policy and signers; return its URL."""
        self._output([PROXY, "init", str(self.clone_state), *self.init_options])
        self._endorse(self.clone_state)
        return f"https://{self._serve(stack, self.clone_state, attested=True)['connect']}"

    def write_owned(self, name: str, token: str) -> None:
        """Write the configuration of an instance of the owned entry, and its token."""
        path = self.write_app(self.directory / f"{name}.toml", workload="example-owned", name="owned.example.org")
        (self.directory / f"{name}.token").write_text(token)
        (self.directory / f"{name}.token").chmod(0o600)
        with path.open("a") as file:
            file.write(f'\n[owner]\ntoken_file = "{name}.token"\n')

    def load_owned(self, stack: ExitStack, name: str) -> None:
        """Start that instance."""
        self._start(stack, self.loader(self.directory / f"{name}.toml"), lambda event: event.get("event") == "ready")

    def next_policy(self) -> Path:
        """Write version 2 of the policy: the TD's image was replaced by another."""
        directory = self.directory / "new"
        directory.mkdir()
        shutil.copy(self.directory / "reproducibility_index", directory)
        lines = self.policy.read_text().replace("version = 1\n", "version = 2\n", 1).splitlines()
        changed = [f'mr_td = ["{"ab" * 48}"]' if line.startswith("mr_td ") else line for line in lines]
        (directory / "policy.toml").write_text("\n".join(changed) + "\n")
        return directory / "policy.toml"

    def recover_tcb(self) -> None:
        """Write Intel's collateral of after a recovery for SGX: what was up to date is out of date."""
        files = (str(self.vendor), str(self.state / "endorsements"))
        self._output([SIMULATOR, "collateral", "--tee", "sgx", "--fault", "tcb-recovery", *files])

    def try_command(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run a command whose exit status says something."""
        say(f"$ proxy-attestation {' '.join(self._short(argument) for argument in arguments)}")
        command = [PROXY, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=self.directory)

    def _start(
        self,
        stack: ExitStack,
        command: list[str],
        ready: Callable[[dict[str, Any]], bool],
        environment: Mapping[str, str] | None = None,
    ) -> Mapping[str, Any]:
        self._started += 1
        log = self.directory / f"{Path(command[0]).name}-{self._started}.log"
        errors = stack.enter_context(log.open("w"))
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=self.directory,
            env=os.environ | dict(environment or {}),
        )  # fmt: skip
        stack.callback(_stop, process)
        return _first(process.stdout or io.StringIO(), ready, log)

    def _output(self, command: list[str]) -> str:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=self.directory)
        if done.returncode != 0:
            raise SystemExit(f"error: {command} ended with {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def _short(self, argument: str) -> str:
        return argument.replace(f"{self.directory}/", "").replace(f"{BIN}/", "").replace(f"{ROOT}/", "")


def _first(lines: IO[str], ready: Callable[[dict[str, Any]], bool], log: Path) -> Mapping[str, Any]:
    said = ""
    for line in lines:
        said += line
        with contextlib.suppress(ValueError):
            event = json.loads(line)
            if ready(event):
                return dict(event)
    raise SystemExit(f"error: a process ended before it was ready\n{said}{log.read_text()[-2000:]}")


def _stop(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(WAIT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
