"""What changes while a proxy serves: policy, collateral, its own certificate."""

import json
import os
import select
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from proxy_attestation.formats.tee import Tee
from proxy_attestation.v1 import proxy_attestation_pb2 as pb
from proxy_attestation_simulator.harness import default_policy, running_proxy

pytestmark = pytest.mark.e2e


@pytest.fixture
def own(tmp_path: Path, caller: Any) -> Iterator[Callable[..., Any]]:
    """Return what starts a proxy for this test alone, and gives its caller."""
    with ExitStack() as stack:
        yield lambda **options: caller(stack.enter_context(running_proxy(tmp_path, **options)))


def wait_for_end(*pids: int) -> None:
    """Wait until none of these processes, which need not be our children, is left."""
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            assert select.select([descriptor], [], [], 60)[0]
        finally:
            os.close(descriptor)


def test_a_new_policy_is_in_force_after_sighup(own: Any) -> None:
    call = own()
    proxy = call.proxy
    before = json.loads(call.sign(call.attempt().message()).claims_json)["policy_digest"]
    text = default_policy(proxy.vendor, version=2).replace('"example-app"', '"renamed-app"')
    (proxy.state / "policy.toml").write_text(text)
    proxy.reload()
    call.until(lambda: any(line.get("event") == "policy in force" for line in proxy.log_lines()))
    assert call.refusal(call.attempt().message()) == "policy.workload"
    answer = call.sign(call.attempt(workload="renamed-app").message())
    assert json.loads(answer.claims_json)["policy_digest"] != before


def test_a_policy_that_is_malformed_leaves_the_old_one_in_force(own: Any) -> None:
    call = own()
    (call.proxy.state / "policy.toml").write_text("version = 0")
    call.proxy.reload()
    call.until(lambda: any(line.get("event") == "policy kept" for line in call.proxy.log_lines()))
    call.sign(call.attempt().message())


def test_a_tcb_recovery_stops_the_next_issuance_and_is_not_forgotten(own: Any) -> None:
    call = own()
    proxy = call.proxy
    call.sign(call.attempt().message())
    proxy.write_endorsements("sgx", "sgx-new", evaluation_number=18, fault="tcb-recovery")
    proxy.reload()
    call.until(lambda: call.code("GetSignedCertificate", call.attempt().message()) == "sgx.tcb_status")
    call.sign(call.attempt(Tee.TDX, workload="example-vm").message())
    for path in (proxy.state / "endorsements" / "sgx-new").iterdir():
        path.unlink()
    proxy.restart()
    assert call.refusal(call.attempt().message()) == "endorsements.unavailable"


def test_without_collateral_evidence_is_not_judged(own: Any) -> None:
    call = own(tees=("tdx",))
    answer = call.post("GetSignedCertificate", call.attempt().message())
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert answer.json()["details"][0]["debug"]["reason"] == "endorsements.unavailable"
    call.proxy.write_endorsements("sgx")
    call.until(lambda: call.code("GetSignedCertificate", call.attempt().message()) == "ok")


def test_a_real_authority_refuses_simulated_evidence(own: Any) -> None:
    call = own(real=True)
    assert call.refusal(call.attempt().message()) == "sgx.root"


def test_the_tls_certificate_is_replaced_under_a_running_client(own: Any) -> None:
    call = own(workers=2)
    proxy = call.proxy
    host, _, port = proxy.connect.rpartition(":")

    def serial() -> int:
        with (
            socket.create_connection((host, int(port)), timeout=30) as raw,
            call.context.wrap_socket(raw, server_hostname=host) as tls,
        ):
            der = tls.getpeercert(binary_form=True)
        assert der is not None
        return x509.load_der_x509_certificate(der).serial_number

    before, workers = serial(), proxy.worker_pids()
    proxy.send(signal.SIGUSR1)
    codes = set()
    while not any(line.get("event") == "TLS certificate replaced" for line in proxy.log_lines()):
        codes.add(call.code("GetChallenge", pb.GetChallengeRequest(tee="sgx")))
    assert "ok" in codes
    wait_for_end(*workers)
    assert {serial() for _ in range(8)} != {before}
    assert before not in {serial() for _ in range(8)}
    assert sorted(path.name for path in (proxy.state / "run").glob("tls-*")) == ["tls-2.key", "tls-2.pem"]


def test_a_peer_over_its_rate_is_told_to_come_back(own: Any) -> None:
    call = own(arguments=("--peer-rate", "1"))
    codes = [call.code("GetChallenge", pb.GetChallengeRequest(tee="sgx")) for _ in range(4)]
    assert codes[:2] == ["ok", "ok"]
    assert "limits.exhausted" in codes
