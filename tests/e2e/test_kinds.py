"""Each kind of evidence that the simulator makes, over real processes and sockets: a certificate, and refusals."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples" / "demo"))

from world import OTHERS, PROXY, SIMULATOR, World

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("kinds"))
    with ExitStack() as stack:
        world.make_authority()
        world.serve(stack)
        world.quiet("root", world.connect_url, "--pin", world.root_pin, "--out", str(world.root_pem))
        yield world


@pytest.mark.parametrize("tee", OTHERS)
def test_a_client_with_one_root_finds_the_claims_of_every_kind(world: World, tee: str) -> None:
    with ExitStack() as stack:
        address = world.load_other(stack, tee)
        said: dict[str, Any] = json.loads(
            world.quiet(
                "verify", address, "--root", str(world.root_pem), "--expect", str(world.expect_other(tee)),
                "--server-name", f"{tee}.example.org", "--json",
            )
        )  # fmt: skip
    assert said["verdict"] == "accepted"
    peer = said["peer"]
    assert (peer["tee"], peer["workload"], peer["simulated"]) == (tee, f"example-{tee}", True)
    assert (peer["tcb_status"] is None) is (tee != "tdx")
    measured = {"tdx": "mr_td", "snp": "measurement", "nitro": "pcr0"}[tee]
    command = [SIMULATOR, "measure", "--tee", tee, "--claim", measured, "--", PROXY]
    wanted = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert peer["measurements"][measured] == wanted.stdout.strip()


@pytest.mark.parametrize(
    ("tee", "fault", "code"),
    [
        ("tdx", "debug", "tdx.debug"),
        ("snp", "debug", "snp.debug"),
        ("snp", "other-key", "snp.signature"),
        ("snp", "other-chip", "snp.chip_id"),
        ("snp", "old-tcb=1", "snp.tcb_status"),
        ("snp", "vmpl=1", "policy.attributes"),
        ("nitro", "debug", "nitro.debug"),
        ("nitro", "wrong-key", "nitro.signature"),
        ("nitro", "pcr0=" + "11" * 48, "policy.measurement"),
    ],
)
def test_every_kind_is_refused_with_its_own_code(world: World, tee: str, fault: str, code: str) -> None:
    config = world.other_app(tee)
    load = [PROXY, "load", str(config), "--attester", "simulator:{fd}", "--json", "--wait", "10"]
    command = [SIMULATOR, "run", "--dir", str(world.vendor), "--tee", tee, "--fault", fault, "--", *load]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=world.directory)
    assert done.returncode == 3
    errors = [json.loads(line)["error"]["code"] for line in done.stdout.splitlines() if '"error"' in line]
    assert errors[-1] == code
