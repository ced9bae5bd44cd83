"""The simulator is a wheel of its own, built from `simulator/`."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import proxy_attestation_simulator

PROJECT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=PROJECT / "simulator",
        check=True,
        capture_output=True,
        timeout=110,
    )
    (wheel,) = tmp_path.glob("*.whl")
    version = proxy_attestation_simulator.__version__
    assert wheel.name == f"proxy_attestation_simulator-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        entry_points = archive.read(f"proxy_attestation_simulator-{version}.dist-info/entry_points.txt").decode()
        metadata = archive.read(f"proxy_attestation_simulator-{version}.dist-info/METADATA").decode()
    source = PROJECT / "src"
    package = source / "proxy_attestation_simulator"
    expected = {str(path.relative_to(source)) for path in package.rglob("*.py")}
    assert {name for name in names if ".dist-info/" not in name} == expected
    assert f"proxy_attestation_simulator-{version}.dist-info/licenses/LICENSE" in names
    assert "proxy-attestation-simulator = proxy_attestation_simulator.cli:main" in entry_points
    required = {
        line.removeprefix("Requires-Dist: ").split(">")[0] for line in metadata.splitlines() if "Requires-Dist" in line
    }
    assert required == {"cbor2", "click", "cryptography"}


def test_the_package_does_not_import_what_it_simulates_for() -> None:
    code = "import sys, proxy_attestation_simulator.cli; sys.exit('proxy_attestation' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
