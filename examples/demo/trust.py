"""The second half: why to believe the proxy, and what happens when the world changes."""

import contextlib
import json
import subprocess
from contextlib import ExitStack
from pathlib import Path

import clients
from world import APP_NAME, PROXY, SIGNERS, World, say, step


class Wrong(Exception):  # noqa: N818 - what it says, and nothing that anybody handles
    """Something that must be refused was not, or with another code."""


def attested_root(world: World) -> None:
    """Have the signers name the root, then fetch it as a client that holds no pin."""
    step("The proxy's own evidence: who runs there, and do its signers know this root?")
    note = str(world.directory / "deployment.note")
    measured = str(world.directory / "measured.toml")
    Path(note).write_text(world.run("deployment", "statement", str(world.state), "--expect", measured))
    for name in SIGNERS[:2]:
        world.run(
            "deployment", "sign", note, "--key", str(world.directory / f"{name}.pem"), "--name", name, "--out", note
        )
    world.run("deployment", "install", str(world.state), note)
    print(world.run("root", world.connect_url, *world.root_options(), "--out", str(world.root_pem)))


def clone_refused(world: World) -> None:
    """Start the same image, with the same policy, signers and statement, and a root of its own."""
    step("A clone of the proxy, with a root of its own")
    with ExitStack() as stack:
        clone = world.make_clone(stack)
        expect(world, "the clone's root, without the signers' statement", "proxy.no_statement",
               "root", clone, *world.root_options())  # fmt: skip
        expect(world, "the statement of the first, installed there", "proxy.statement_other",
               "deployment", "install", str(world.clone_state), str(world.directory / "deployment.note"))  # fmt: skip


def owned_names(world: World, stack: ExitStack) -> None:
    """Enrol one instance of an entry whose names have an owner, then try a second one on another machine."""
    step("Names that one instance holds: a token, and a second instance of the same image")
    for name in ("first", "second"):
        token = world.run("owner", "token", str(world.state), "example-owned")
        world.write_owned(name, token)
    world.load_owned(stack, "first")
    say("first instance: enrolled, and holds owned.example.org")
    command = world.loader(world.directory / "second.toml")
    expect_command(world, "the second instance, with a good token of its own", "policy.owner_held", command)
    print(world.run("owner", "list", str(world.state)))


def policy_change(world: World) -> None:
    """Change the policy: who would fall, too few signatures, then enough."""
    step("A new policy: what if? Then signed by two of three, and in force")
    new = world.next_policy()
    done = world.try_command("policy", "what-if", str(world.state), str(new))
    print(done.stdout)
    if done.returncode != 3 or "example-tdx" not in done.stdout:
        raise Wrong(f"what-if ended with {done.returncode}")
    sign_policy(world, new, SIGNERS[0])
    expect(world, "the new policy, signed by one of the two that it takes", "policy.signature",
           "policy", "apply", str(world.state), str(new))  # fmt: skip
    sign_policy(world, new, SIGNERS[1])
    world.run("policy", "apply", str(world.state), str(new))
    expect(world, "the version before, signed as it was", "policy.stale",
           "policy", "apply", str(world.state), str(world.policy))  # fmt: skip
    print(world.run("policy", "log", str(world.state)))


def sign_policy(world: World, policy: Path, name: str) -> None:
    """Add one signature."""
    world.run("policy", "sign", str(policy), "--key", str(world.directory / f"{name}.pem"), "--name", name)


def tcb_recovery(world: World, snp_control: str) -> None:
    """Let the vendor of one kind of machine declare its platforms out of date."""
    step("A TCB recovery: one vendor's platforms are out of date")
    world.recover_tcb()
    done = world.try_command("reappraise", str(world.state))
    print(done.stdout)
    if done.returncode != 3 or "example-app" not in done.stdout:
        raise Wrong(f"reappraise ended with {done.returncode}")
    sgx_control = str(world.directory / f"{world.app.stem}.sock")
    expect(world, "renewal of the SGX workload", "sgx.tcb_status", "load", "renew", "--now", "--control", sgx_control)
    say(f"its certificate goes on until it expires: curl https://{APP_NAME}/  ->  {clients.curl(world)}")
    world.run("load", "renew", "--now", "--control", snp_control)
    say("the SEV-SNP workload renewed: nothing has changed for it")


def revocation(world: World, snp_address: str) -> None:
    """Revoke one entry's certificates, and look at what clients that read the deny list say."""
    step("A revocation")
    options = (
        "--root",
        str(world.root_pem),
        "--expect",
        str(world.expect_other("snp")),
        "--server-name",
        "snp.example.org",
    )
    denied = ("--deny-list", f"{world.connect_url}/denied")
    world.quiet("verify", snp_address, *options, *denied)
    say("before: accepted")
    world.run("revoke", str(world.state), "--entry", "example-snp", "--reason", "key-compromise")
    expect(world, "the SEV-SNP workload, by a client that reads the deny list", "certificate.revoked",
           "verify", snp_address, *options, *denied)  # fmt: skip


def ledger(world: World) -> None:
    """Check all that was issued, from the public files alone."""
    step("The ledger: everything that was issued, checked from its public files")
    print(world.run("ledger", "verify", world.connect_url, "--root", str(world.root_pem), "--key", world.ledger_key))


def expect(world: World, title: str, code: str, *arguments: str) -> None:
    """Run a command that must be refused with a code."""
    expect_command(world, title, code, [PROXY, *arguments])


def expect_command(world: World, title: str, code: str, command: list[str]) -> None:
    """Likewise, any command; say what came of it."""
    world.tried += 1
    command = command if "--json" in command else [*command, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=90, cwd=world.directory)
    found = "accepted" if done.returncode == 0 else f"exit status {done.returncode}"
    for line in done.stdout.splitlines():
        with contextlib.suppress(ValueError, KeyError, TypeError):
            said = json.loads(line)
            found = str(said.get("error", said)["code"])
    say(f"{title:<60} {found:<22} {'as it must' if found == code else f'WRONG, expected {code}'}")
    if found != code:
        raise Wrong(f"{title}: {found}\n{done.stdout}{done.stderr}")


def world_changes(world: World, stack: ExitStack) -> None:
    """Everything of this half that needs running workloads."""
    owned_names(world, stack)
    with ExitStack() as machines:
        world.load_other(machines, "tdx")
        snp = world.load_other(machines, "snp")
        policy_change(world)
        tcb_recovery(world, str(world.directory / "snp.sock"))
        revocation(world, snp)
    ledger(world)
