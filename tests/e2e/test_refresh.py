"""`serve` keeps collateral fresh itself: a vendor's service on loopback, real processes, and how it goes wrong."""

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from fake_vendors import FakeService, IntelAnswers, Reply
from workload import Client, Workload, new_key, request_for

from proxy_attestation.codes import Code
from proxy_attestation.endorsements.cache import Cache
from proxy_attestation.errors import ProxyAttestationError
from proxy_attestation_simulator.collateral import FMSPC
from proxy_attestation_simulator.harness import RunningProxy, make_proxy
from proxy_attestation_simulator.intel import Vendor

pytestmark = pytest.mark.e2e

SECONDS = 60.0
NAME = f"sgx-{FMSPC['sgx'].hex()}"
PROCESS = "proxy_attestation.cli.endorsing.process"


@pytest.fixture
def answers() -> IntelAnswers:
    now = datetime.now(UTC)
    return IntelAnswers(Vendor.create(now), lambda: now, evaluation_number=18)


@pytest.fixture
def pcs(answers: IntelAnswers) -> Iterator[FakeService]:
    service = FakeService(answers)
    yield service
    service.close()


def sources(pcs: FakeService) -> str:
    return f'pcs = "{pcs.url}"\nroot_crl = "{pcs.url}/IntelSGXRootCA.der"\nattempts = 1\ntimeout = "10s"\n'


PLATFORM = f'tee = "sgx"\nfmspc = "{FMSPC["sgx"].hex()}"\n'


@pytest.fixture
def made(tmp_path: Path, answers: IntelAnswers) -> Iterator[RunningProxy]:
    """Make a proxy without any collateral; the test configures and starts it."""
    proxy = make_proxy(tmp_path, vendor=answers.vendor, tees=(), arguments=("--peer-rate", "10000"))
    yield proxy
    if proxy.process is not None:
        proxy.stop()


def start(proxy: RunningProxy, pcs: FakeService) -> None:
    (proxy.state / "endorsements.toml").write_text(f"{sources(pcs)}[[platform]]\n{PLATFORM}")
    proxy.start()


def ask(proxy: RunningProxy) -> Code | None:
    """Ask for one certificate; return the code of the refusal, or None."""
    client = Client.connect(proxy.connect, proxy.root_pin)
    workload = Workload(proxy.vendor.platform("sgx"))
    try:
        client.sign(workload.message(client.challenge(), request_for(), new_key()))
    except ProxyAttestationError as error:
        return error.code
    finally:
        client.close()
    return None


def until(condition: Callable[[], bool], proxy: RunningProxy) -> None:
    """Go on asking until something is so."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, proxy.log.read_text()[-4000:]


def logged(proxy: RunningProxy, event: str, process: str = "endorsements", **fields: str) -> int:
    """Count lines of the log."""
    wanted = {"event": event, "process": process, **fields}
    return sum(all(line.get(key) == value for key, value in wanted.items()) for line in proxy.log_lines())


def metrics(proxy: RunningProxy) -> dict[str, float]:
    """Return the metrics about refreshing, with the name's common beginning cut off."""
    text = httpx.get(f"http://{proxy.admin}/metrics", trust_env=False, timeout=30).text
    prefix = "proxy_attestation_endorsements_"
    pairs = (line.removeprefix(prefix).rsplit(" ", 1) for line in text.splitlines() if line.startswith(prefix))
    return {name: float(value) for name, value in pairs}


def refresh_again(proxy: RunningProxy) -> None:
    """Forget how refreshing went, so that the set is due, and have that noticed."""
    (proxy.state / "endorsements" / ".state.json").unlink()
    proxy.reload()


def refreshers(proxy: RunningProxy) -> list[int]:
    assert proxy.process is not None
    children = Path(f"/proc/{proxy.process.pid}/task/{proxy.process.pid}/children").read_text().split()
    found = []
    for pid in children:
        with suppress(OSError):  # it has just ended
            if PROCESS.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                found.append(int(pid))
    return found


def test_from_nothing_to_a_certificate_and_on_over_a_failing_source(
    made: RunningProxy, answers: IntelAnswers, pcs: FakeService
) -> None:
    start(made, pcs)
    assert made.ready["endorsements"] == str(made.state / "endorsements.toml")
    until(lambda: ask(made) is None, made)
    assert logged(made, "endorsements refreshed", set=NAME) == 1
    found = metrics(made)
    now = time.time()
    assert now - SECONDS < found[f'last_success_timestamp_seconds{{set="{NAME}"}}'] <= now
    assert (
        found[f'valid_until_timestamp_seconds{{set="{NAME}"}}']
        > found[f'next_refresh_timestamp_seconds{{set="{NAME}"}}']
    )
    assert found[f'failures{{set="{NAME}"}}'] == 0
    # An older release than the one that is held: refused and reported, and serving goes on with the newer one.
    answers.options["evaluation_number"] = 17
    refresh_again(made)
    until(lambda: logged(made, "endorsements not refreshed", code="endorsements.stale", set=NAME) == 1, made)
    assert ask(made) is None
    assert Cache(made.state / "endorsements").held()[NAME].numbers["tcb info number"] == 18
    # A vendor that fails: likewise.
    pcs.answer = lambda _request, _number: Reply(500)
    refresh_again(made)
    until(lambda: logged(made, "endorsements not refreshed", code="endorsements.unavailable", set=NAME) == 1, made)
    assert ask(made) is None
    until(
        lambda: f'last_error_timestamp_seconds{{code="endorsements.unavailable",set="{NAME}"}}' in metrics(made), made
    )
    assert metrics(made)[f'failures{{set="{NAME}"}}'] == 1
    assert made.stop() == 0


def test_below_the_authority_s_floor_even_where_the_directory_was_emptied(
    made: RunningProxy, answers: IntelAnswers, pcs: FakeService
) -> None:
    start(made, pcs)
    until(lambda: ask(made) is None, made)
    answers.options["evaluation_number"] = 17
    held = Cache(made.state / "endorsements").held()[NAME].directory
    held.rename(made.directory / "elsewhere")
    refresh_again(made)
    until(lambda: logged(made, "collateral not usable", "worker") > 0, made)
    assert ask(made) is Code.ENDORSEMENTS_UNAVAILABLE


def test_what_refreshes_dies_and_comes_again_and_nothing_else_does(made: RunningProxy, pcs: FakeService) -> None:
    start(made, pcs)
    until(lambda: ask(made) is None, made)
    others = (made.authority_pid(), made.worker_pids())
    (before,) = refreshers(made)
    os.kill(before, signal.SIGKILL)
    until(lambda: bool(set(refreshers(made)) - {before}) and ask(made) is None, made)
    assert (made.authority_pid(), made.worker_pids()) == others
    (after,) = refreshers(made)
    made.kill()
    with suppress(ProcessLookupError):
        descriptor = os.pidfd_open(after)
        ended, _, _ = select.select([descriptor], [], [], SECONDS)
        os.close(descriptor)
        assert ended


def test_the_table_in_serve_toml_and_what_changes_there(
    made: RunningProxy, answers: IntelAnswers, pcs: FakeService
) -> None:
    file = made.state / "serve.toml"
    text = f"[endorsements]\n{sources(pcs)}[[endorsements.platform]]\n{PLATFORM}"
    file.write_text(text)
    made.start()
    assert made.ready["endorsements"] == str(file)
    until(lambda: ask(made) is None, made)
    file.write_text("[endorsements]\nother = 1\n")
    made.reload()
    until(lambda: logged(made, "configuration of endorsements not taken") == 1, made)
    tdx = FMSPC["tdx"].hex()
    file.write_text(f'{text}[[endorsements.platform]]\ntee = "tdx"\nfmspc = "{tdx}"\n')
    made.reload()
    until(lambda: logged(made, "endorsements refreshed", set=f"tdx-{tdx}") == 1, made)
    assert ask(made) is None
    del answers


def test_a_file_elsewhere_wins(made: RunningProxy, pcs: FakeService, tmp_path: Path) -> None:
    (made.state / "endorsements.toml").write_text("other = 1\n")
    other = tmp_path / "other.toml"
    other.write_text(f"{sources(pcs)}[[platform]]\n{PLATFORM}")
    made.arguments = [*made.arguments, "--endorsements", str(other)]
    made.start()
    assert made.ready["endorsements"] == str(other)
    until(lambda: ask(made) is None, made)


def test_without_configuration_nothing_is_fetched_and_serve_says_so(made: RunningProxy) -> None:
    made.start()
    assert made.ready["endorsements"] is None
    assert refreshers(made) == []
    assert ask(made) is Code.ENDORSEMENTS_UNAVAILABLE


@pytest.mark.parametrize(
    ("name", "text", "status"),
    [
        ("endorsements.toml", "other = 1\n", 4),
        ("endorsements.toml", "attempts = 1\n", 2),
        ("endorsements.toml", f'ca_file = "absent.pem"\n[[platform]]\n{PLATFORM}', 4),
        ("serve.toml", "[endorsements]\nother = 1\n", 4),
        ("serve.toml", "endorsements = 1\n", 4),
        ("serve.toml", 'endorsements = "file"\n', 4),
    ],
)
def test_a_configuration_that_cannot_be_used_is_an_error_at_the_start(
    made: RunningProxy, name: str, text: str, status: int
) -> None:
    (made.state / name).write_text(text)
    assert serve(made).returncode == status


def test_two_configurations_are_an_error_at_the_start(made: RunningProxy) -> None:
    (made.state / "endorsements.toml").write_text(f"[[platform]]\n{PLATFORM}")
    (made.state / "serve.toml").write_text(f"[endorsements]\n[[endorsements.platform]]\n{PLATFORM}")
    done = serve(made)
    assert done.returncode == 4
    codes: list[Any] = [json.loads(line).get("code") for line in done.stderr.splitlines()]
    assert "configuration.malformed" in codes


def serve(proxy: RunningProxy) -> "subprocess.CompletedProcess[str]":
    line = [*proxy.command, "serve", str(proxy.state), *proxy.arguments]
    return subprocess.run(line, capture_output=True, check=False, timeout=90, text=True)
