"""`policy apply` on a proxy that serves: all workers switch together, nobody restarts, no request fails for good.

Real processes: a supervisor, an authority, two workers, and callers that never stop asking.
"""

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from command_line import call, call_json
from signers import key_files, sign
from workload import Client, Workload, new_key, request_for

from proxy_attestation.errors import ProxyAttestationError, UnavailableError
from proxy_attestation.relying_party.proxy import fetch_root
from proxy_attestation.v1 import proxy_attestation_pb2 as pb
from proxy_attestation_simulator.harness import RunningProxy, default_policy, running_proxy

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

CALLERS = 4
PINNED = f"""
version = 1
trust_domain = "example.org"
[[workload]]
name = "app"
tee = "sgx"
mr_enclave = ["{"11" * 32}"]
owner = {{ shared = true }}
"""


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[RunningProxy]:
    limits = ("--peer-rate", "10000", "--in-flight", "1000")
    with running_proxy(tmp_path, workers=2, arguments=limits) as running:
        yield running


@dataclass
class Caller:
    """Asks for certificates and the root without end, and notes what each answer was under.

    Attributes:
        seen: (when the call began, monotonic; the policy digest that the answer names).
        failures: what was answered instead.
    """

    proxy: RunningProxy
    seen: list[tuple[float, str]] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    bugs: list[Exception] = field(default_factory=list)

    def run(self, stop: threading.Event) -> None:
        workload = Workload(self.proxy.vendor.platform("sgx"))
        try:
            while not stop.is_set():
                client = Client.connect(self.proxy.connect, self.proxy.root_pin)
                try:
                    for _ in range(4):
                        self._once(client, workload)
                finally:
                    client.close()
        except Exception as error:  # noqa: BLE001 - the test fails with it
            self.bugs.append(error)

    def _once(self, client: Client, workload: Workload) -> None:
        try:
            began = time.monotonic()
            root = client.call("GetRootCertificate", pb.GetRootCertificateRequest(nonce=bytes(32)), ROOT)
            self.seen.append((began, root.policy_digest.hex()))
            challenge = client.challenge()
            began = time.monotonic()
            answer = client.sign(workload.message(challenge, request_for(), new_key()))
            self.seen.append((began, json.loads(answer.claims_json)["policy_digest"]))
        except (ProxyAttestationError, httpx.TransportError) as error:
            self.failures.append(error)


ROOT: Any = pb.GetRootCertificateResponse


def test_all_workers_switch_before_the_command_ends(proxy: RunningProxy, tmp_path: Path) -> None:
    workers, authority = sorted(proxy.worker_pids()), proxy.authority_pid()
    assert len(workers) == 2
    digests = [call_json("status", proxy.state)["policy_digest"]]  # with the floors that the workers raised
    ended = []
    callers, stop = [Caller(proxy) for _ in range(CALLERS)], threading.Event()
    threads = [threading.Thread(target=caller.run, args=(stop,)) for caller in callers]
    for thread in threads:
        thread.start()
    try:
        for version in (2, 3, 4):
            path = tmp_path / f"policy-{version}.toml"
            path.write_text(default_policy(proxy.vendor, version=version))
            before = [len(caller.seen) for caller in callers]
            applied = call_json("policy", "apply", proxy.state, path)
            ended.append(time.monotonic())
            assert (applied["changed"], applied["version"], applied["signers"]) == (True, version, [])
            digests.append(applied["policy_digest"])
            # Each caller is answered under it before the next one comes.
            deadline = time.monotonic() + 60
            while any(len(caller.seen) < count + 6 for caller, count in zip(callers, before, strict=True)):
                assert time.monotonic() < deadline
                assert not [caller.bugs for caller in callers if caller.bugs]
                stop.wait(0.01)
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    assert [caller.bugs for caller in callers if caller.bugs] == []
    assert [error for caller in callers for error in caller.failures if not isinstance(error, UnavailableError)] == []
    assert len(set(digests)) == 4
    for began, digest in (one for caller in callers for one in caller.seen):
        first = sum(end <= began for end in ended)
        late = None if digest in digests[first:] else (began, ended, digest, digests)
        assert late is None, "an answer under a policy that was no more in force"
    assert {digest for caller in callers for _, digest in caller.seen} >= set(digests[1:])
    # Nobody was restarted, and nobody cut off.
    assert sorted(proxy.worker_pids()) == workers
    assert proxy.authority_pid() == authority
    assert not [line for line in proxy.log_lines() if "cut off" in str(line.get("event"))]


def test_workers_that_nobody_asks_switch_too(proxy: RunningProxy, tmp_path: Path) -> None:
    """Nothing but the authority tells them: no answer to an order, and no question of their own for half a minute."""
    root = fetch_root(f"https://{proxy.connect}", bytes.fromhex(proxy.root_pin)).root
    path = tmp_path / "policy.toml"
    for version in (2, 3):
        path.write_text(default_policy(proxy.vendor, version=version))
        applied = call_json("policy", "apply", proxy.state, path)
        for _ in range(16):  # connections, which the system spreads over the workers
            client = Client(proxy.connect, root)
            try:
                answer = client.call("GetRootCertificate", pb.GetRootCertificateRequest(nonce=bytes(32)), ROOT)
            finally:
                client.close()
            assert answer.policy_digest.hex() == applied["policy_digest"]


def test_a_policy_that_is_refused_changes_nothing(proxy: RunningProxy, tmp_path: Path) -> None:
    before = call_json("status", proxy.state)
    path = tmp_path / "policy.toml"
    path.write_text(default_policy(proxy.vendor, version=1).replace("example-app", "renamed"))
    refused = call_json("policy", "apply", proxy.state, path, status=4)
    assert refused["error"]["code"] == "policy.stale"
    after = call_json("status", proxy.state)
    assert (after["policy_version"], after["policy_digest"]) == (1, before["policy_digest"])
    log = call_json("policy", "log", proxy.state)
    assert [one["version"] for one in log["versions"]] == [1]


def test_a_proxy_with_signers_does_not_start_on_an_edited_policy(tmp_path: Path) -> None:
    policy, state = tmp_path / "policy.toml", tmp_path / "state"
    policy.write_text(PINNED)
    sign(policy, "alice", "bob")
    keys = key_files(tmp_path)
    signers = [option for name in ("alice", "bob", "carol") for option in ("--signer", f"{name}={keys[name][1]}")]
    call_json(
        "init", state, "--trust-domain", "example.org", "--dns", "example.org", "--policy", policy, "--real",
        *signers, "--threshold", "2",
    )  # fmt: skip
    (state / "policy.toml").write_text(PINNED.replace("11" * 32, "22" * 32))
    any_port = [option for front in ("--grpc", "--connect", "--admin") for option in (front, "127.0.0.1:0")]
    done = call("serve", state, *any_port, status=4)
    assert "policy.signature" in [json.loads(line).get("code") for line in done.stderr.splitlines() if line[:1] == "{"]
    # Nor does anything else that opens it.
    assert call_json("status", state, status=4)["error"]["code"] == "policy.signature"
