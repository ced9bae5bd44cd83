"""Keys elsewhere, for real: `serve` with its keys in a PKCS#11 token, and with keys that a TPM's registers open."""

import subprocess
from pathlib import Path

import pytest
from command_line import call, call_json
from softhsm import SoftHsm, needs_softhsm
from swtpm_marks import needs_swtpm
from workload import Client, Workload, new_key, request_for

from proxy_attestation.authority.key_stores import TPM_TCTI_VARIABLE
from proxy_attestation.codes import Code
from proxy_attestation_simulator.harness import RunningProxy, make_proxy, running_proxy
from proxy_attestation_simulator.swtpm import Manufacturer, measure

pytestmark = pytest.mark.e2e


def issue(proxy: RunningProxy) -> tuple[bytes, ...]:
    """Get a certificate; return its chain."""
    client = Client.connect(proxy.connect, proxy.root_pin)
    try:
        message = Workload(proxy.vendor.platform("sgx")).message(client.challenge(), request_for(), new_key())
        return tuple(client.sign(message).chain)
    finally:
        client.close()


class TestToken:
    pytestmark = needs_softhsm

    def test_issuing_rotation_and_a_restart(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        token = SoftHsm(tmp_path / "hsm")
        monkeypatch.setenv("SOFTHSM2_CONF", token.environment["SOFTHSM2_CONF"])
        with running_proxy(tmp_path, keys=token.uri()) as proxy:
            assert proxy.ready["key_origin"] == "pkcs11"
            before = issue(proxy)
            call("ca", "rotate", proxy.state, "--now")
            rotated = issue(proxy)
            proxy.restart()
            after = issue(proxy)

            assert before[1] != rotated[1] == after[1]
            assert [path.name for path in (proxy.state / "keys").iterdir()] == []
            url = f"https://{proxy.connect}"
            key = proxy.ready["ledger_key"]
            said = call_json("ledger", "verify", url, "--root", proxy.root_pem, "--key", key)
            assert said["verdict"] == "good"


class TestTpm:
    pytestmark = needs_swtpm

    def test_a_restart_in_the_same_state_and_in_another(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TSS2_LOG", "all+none")
        tpm = Manufacturer(tmp_path).make()
        try:
            monkeypatch.setenv(TPM_TCTI_VARIABLE, tpm.tcti)
            proxy = make_proxy(tmp_path, keys="tpm:0,7")
            proxy.start()
            assert proxy.ready["key_origin"] == "tee"
            first = issue(proxy)
            proxy.restart()
            assert issue(proxy)[1] == first[1]
            proxy.stop()

            measure(tpm.tcti, 7, b"another boot")
            command = [*proxy.command, "serve", str(proxy.state), "--json", *proxy.arguments]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == 4
            assert Code.KEYS_SEALED in done.stderr
        finally:
            tpm.stop()
