"""Death, restart and drain of real processes: nothing that was issued is lost, nobody is told a verdict instead."""

import os
import select
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509

from proxy_attestation.formats.request import names_from
from proxy_attestation.v1 import proxy_attestation_pb2 as pb
from proxy_attestation_simulator.harness import running_proxy

pytestmark = pytest.mark.e2e

APP = {"names": names_from(dns=("app.example.org",))}


@pytest.fixture
def proxy(shared_proxy: Any) -> Any:
    return shared_proxy


@pytest.fixture
def call(proxy: Any, caller: Any) -> Any:
    return caller(proxy)


@pytest.fixture
def own(tmp_path: Path, caller: Any) -> Iterator[Callable[..., Any]]:
    """Return what starts a proxy for this test alone, and gives its caller."""
    with ExitStack() as stack:
        yield lambda **options: caller(stack.enter_context(running_proxy(tmp_path, **options)))


def tbs(answer: pb.GetSignedCertificateResponse) -> bytes:
    return x509.load_der_x509_certificate(answer.chain[0]).tbs_certificate_bytes


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


def test_a_killed_worker_is_replaced(call: Any, proxy: Any) -> None:
    message = call.attempt(**APP).message()
    first = call.sign(message)
    before = proxy.worker_pids()
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    again = call.until_signed(message)
    assert tbs(again) == tbs(first)
    call.until(lambda: len(set(proxy.worker_pids()) - set(before)) == 2)


def test_while_the_authority_is_away_calls_are_unavailable_and_nothing_is_lost(call: Any, proxy: Any) -> None:
    one = call.attempt(**APP)
    message = one.message()
    first = call.sign(message)
    pid = proxy.authority_pid()
    os.kill(pid, signal.SIGKILL)
    wait_for_end(pid)
    codes = {call.code("GetSignedCertificate", message)}
    again = call.until_signed(message)
    assert tbs(again) == tbs(first)
    assert codes <= {"ok", "authority.unavailable"}
    assert proxy.authority_pid() != pid
    call.until(lambda: call.get("/readyz").status_code == 200)


def test_a_stopped_authority_is_noticed(own: Any) -> None:
    """The authority cannot be restarted, so what is answered while it is away can be looked at in peace."""
    call = own()
    policy = call.proxy.state / "policy.toml"
    good = policy.read_text()
    policy.write_text("broken")
    os.kill(call.proxy.authority_pid(), signal.SIGKILL)
    call.until(lambda: call.get("/readyz").status_code == 503)
    assert call.get("/healthz").status_code == 200
    answer = call.post("GetChallenge", pb.GetChallengeRequest(tee="sgx"))
    assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, "unavailable", "1")
    assert answer.json()["details"][0]["debug"]["reason"] == "authority.unavailable"
    policy.write_text(good)
    call.until(lambda: call.get("/readyz").status_code == 200)
    call.sign(call.attempt().message())


def test_a_killed_supervisor_takes_everything_with_it_and_loses_nothing(own: Any) -> None:
    call = own()
    proxy = call.proxy
    message = call.attempt(**APP).message()
    first = call.sign(message)
    children = [proxy.authority_pid(), *proxy.worker_pids()]
    proxy.kill()
    wait_for_end(*children)
    assert call.code("GetChallenge", pb.GetChallengeRequest(tee="sgx")) == "unreachable"
    proxy.keep_ports()
    proxy.start()
    again = call.sign(message)
    assert tbs(again) == tbs(first)


def test_a_restart_at_once_waits_for_the_children_of_the_killed(own: Any) -> None:
    call = own()
    call.proxy.keep_ports()
    call.proxy.kill()
    call.proxy.start()
    call.sign(call.attempt().message())


def test_sigterm_finishes_the_call_in_flight_and_exits_with_0(own: Any) -> None:
    call = own()
    proxy = call.proxy
    one = call.attempt(**APP)
    authority, (worker,) = proxy.authority_pid(), proxy.worker_pids()
    os.kill(authority, signal.SIGSTOP)
    with ThreadPoolExecutor() as threads:
        answer = threads.submit(call.sign, one.message())
        stopping = threads.submit(lambda: (call.until(lambda: in_flight(proxy)), proxy.stop())[1])
        call.until(lambda: any(line.get("event") == "draining" for line in proxy.log_lines()))
        os.kill(authority, signal.SIGCONT)
        assert answer.result(60).ledger_index > 0
        assert stopping.result(60) == 0
    wait_for_end(worker, authority)
    assert not (proxy.state / "run" / "ports.json").exists()
    assert list((proxy.state / "run").glob("tls-*")) == []


def test_after_a_restart_of_the_authority_the_supervisor_still_gets_its_certificate(own: Any) -> None:
    call = own()
    pid = call.proxy.authority_pid()
    os.kill(pid, signal.SIGKILL)
    wait_for_end(pid)
    call.proxy.send(signal.SIGUSR1)
    call.until(lambda: any(line.get("event") == "TLS certificate replaced" for line in call.proxy.log_lines()))
    call.sign(call.attempt().message())


def in_flight(proxy: Any) -> bool:
    """Tell whether a worker works on a call."""
    metrics = httpx.get(f"http://{proxy.admin}/metrics", timeout=30).text
    return "proxy_attestation_calls_in_flight 1.0" in metrics
