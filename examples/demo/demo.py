"""The main job, end to end: a workload attests, gets a certificate, a client checks it; then everything refused.

Real processes, sockets and formats; the vendor and the TEE are simulated, which the root's name says. Everything is
kept below `.demo/`. Each refusal is compared with the code it must have: exit status 1 when one differs.
"""

import json
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import clients
import trust
from cryptography import x509
from refusals import REFUSALS, Refusal
from world import APP_NAME, OTHERS, World, say, step

from proxy_attestation_simulator.swtpm import missing


def issue_and_check(world: World, stack: ExitStack) -> None:
    """Start proxy and loader, then check what came out as different clients would."""
    absent = missing()
    if not absent:
        world.boot_tpm(stack)
    step("The proxy: an authority for simulated evidence, and `serve`")
    world.make_authority()
    world.serve(stack)

    step("The workload: a Wasm module behind the loader, inside a simulated SGX enclave")
    world.load(stack)

    trust.attested_root(world)
    trust.clone_refused(world)

    step("A client that trusts one root")
    say(f"curl --cacert root.pem https://{APP_NAME}/  ->  {clients.curl(world)}")
    say(f"gRPC GetExampleMessage, plain grpcio, that root  ->  {clients.plain_grpc(world)}")
    say(f"gRPC GetExampleMessage, attestation checked too  ->  {clients.attested_grpc(world)}")

    step("The claims in the certificate, checked against an expectation")
    print(world.run("verify", world.http_address, "--root", str(world.root_pem), "--expect", str(world.expectation),
                    "--server-name", APP_NAME))  # fmt: skip

    step("The same application on other machines, by the same proxy")
    for tee in OTHERS:
        with ExitStack() as machine:
            address = world.load_other(machine, tee)
            said = json.loads(
                world.quiet("verify", address, "--root", str(world.root_pem), "--expect", str(world.expect_other(tee)),
                            "--server-name", f"{tee}.example.org", "--json")
            )  # fmt: skip
            claims = said["peer"]
            measured = next(name for name in ("mr_td", "measurement", "pcr0") if name in claims["measurements"])
            say(f"{tee:<6} {measured} {claims['measurements'][measured][:32]}...  verified against the same root")

    step("The same application on a machine with a TPM: swtpm, and a key that stays in it")
    if absent:
        say(f"left out: {', '.join(absent)} not here (tools/tpm-library.sh .venv)")
    else:
        tpm_machine(world)

    step("A renewal under an open connection")
    before, after, calls = clients.renew_under_connection(world)
    say(f"one gRPC connection answered {calls} calls while the certificate changed")
    say(f"serial before {before:x}")
    say(f"serial after  {after:x}")
    if before == after:
        raise SystemExit("error: the renewal did not change the certificate")


def tpm_machine(world: World) -> None:
    """Enrol the machine with a TPM, and look at it as a client that trusts the same root."""
    with ExitStack() as machine:
        address = world.load_tpm(machine)
        said = json.loads(
            world.quiet("verify", address, "--root", str(world.root_pem), "--expect", str(world.expect_other("tpm")),
                        "--server-name", "tpm.example.org", "--json")
        )  # fmt: skip
    claims = said["peer"]
    say(f"tpm    pcr4 {claims['measurements']['pcr4'][:32]}...  verified against the same root")
    say(f"the certificate's key: {claims['key_origin']}; each handshake was signed there")


def refuse(world: World) -> int:
    """Try everything that must be refused; return how many were not, or with another code."""
    step("What must be refused")
    wrong = 0
    for refusal in REFUSALS:
        found = attempt(world, refusal)
        verdict = "as it must" if found == refusal.code else f"WRONG, expected {refusal.code}"
        wrong += found != refusal.code
        say(f"{refusal.title:<48} {found:<22} {verdict}")
    return wrong


def attempt(world: World, refusal: Refusal) -> str:
    """Run one misuse and return the code it was refused with, or `accepted`."""
    command = refusal.command(world)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=world.directory)
    if done.returncode == 0:
        return "accepted"
    for line in reversed(done.stdout.splitlines()):
        try:
            return str(json.loads(line)["error"]["code"])
        except (ValueError, KeyError, TypeError):
            continue
    return f"exit status {done.returncode}: {(done.stderr or done.stdout).strip()[-300:]}"


def main() -> int:
    """Run the demonstration."""
    started = time.monotonic()
    directory = Path(__file__).resolve().parents[2] / ".demo"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    world = World(directory)
    with ExitStack() as stack:
        issue_and_check(world, stack)
        wrong = refuse(world)
        trust.world_changes(world, stack)
    leaf = x509.load_pem_x509_certificate(world.root_pem.read_bytes())
    step("Done")
    say(f"root: {leaf.subject.rfc4514_string()}")
    tried = len(REFUSALS) + world.tried
    say(f"{tried - wrong} of {tried} refusals as they must be, {time.monotonic() - started:.0f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
