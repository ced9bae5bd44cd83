"""`appraise` with a log of measured boot beside a TD's quote, and with a TPM's entry of a policy."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from ssl import DER_cert_to_PEM_cert
from typing import Any

import pytest

from proxy_attestation.formats.evidence import Evidence, encode_evidence
from proxy_attestation.formats.tee import Tee
from proxy_attestation_simulator.intel import Vendor
from proxy_attestation_simulator.tpm import BOOT, TpmRecipe, TpmVendor, ak_certificate_recipe, make
from proxy_attestation_simulator.tpm_structures import LogEvent, LogRecipe

Cli = Callable[..., Any]
Write = Callable[[Path, Mapping[str, bytes]], Path]
AT = "2026-11-24T00:00:00Z"
NOW = datetime(2026, 11, 24, tzinfo=UTC)
LOG = LogRecipe(
    (LogEvent(2, 0x80000003, b"a path", b"the kernel"), LogEvent(3, 0x0D, b"root=/dev/vda ro")), ("sha384",)
)
VALUES = LOG.registers("sha384")
TPM = TpmVendor.create(NOW)


@dataclass(frozen=True)
class Bench:
    """A vendor's files, and a way to appraise a TD's quote or a TPM's."""

    folder: Path
    vendor: Vendor
    cli: Cli
    write: Write

    def file(self, name: str, data: bytes) -> Path:
        return self.write(self.folder, {name: data}) / name

    def td(self, *options: str | Path, log: bytes | None = None, **registers: bytes) -> Any:
        fields: dict[str, Any] = {"rtmr1": VALUES[2], "rtmr2": VALUES[3]} | registers
        quote = self.file("quote.bin", self.vendor.platform("tdx").quote(bytes(64), **fields))
        given: list[str | Path] = ["--endorsements", self.folder / "tdx", "--roots", self.folder / "root.der"]
        given += [] if log is None else ["--endorsements", self.file("ccel.bin", log)]
        return self.cli("appraise", quote, *given, *options, "--at", AT, "--json")

    def policy(self, entry: str) -> list[str | Path]:
        head = 'version = 1\ntrust_domain = "example.org"\n[[workload]]\nname = "app"\nowner = { shared = true }\n'
        text = head + entry
        return ["--policy", self.file("policy.toml", text.encode())]

    def tpm(self, *options: str | Path, recipe: TpmRecipe | None = None, wrapped: bool = False) -> Any:
        made = make(TPM, ak_certificate_recipe(recipe or TpmRecipe()))
        record = encode_evidence(Evidence(Tee.TPM, made.evidence, made.certificates))
        chain = "".join(map(DER_cert_to_PEM_cert, made.certificates)).encode()
        beside = {"log.bin": made.event_log} | ({} if wrapped else {"ak.pem": chain})
        roots = self.file("tpm-root.der", made.certificates[2])
        given: list[str | Path] = ["--endorsements", self.write(self.folder / "tpm", beside), "--roots", roots]
        evidence = self.file("evidence.bin", record if wrapped else made.evidence)
        return self.cli("appraise", evidence, *given, *options, "--at", AT, "--json")


@pytest.fixture
def bench(tmp_path: Path, vendor: Vendor, cli: Cli, write: Write) -> Bench:
    write(tmp_path, {"root.der": vendor.root_der})
    write(tmp_path / "tdx", vendor.endorsements("tdx"))
    return Bench(tmp_path, vendor, cli, write)


def _is(ran: Any, status: int, code: str | None) -> dict[str, Any]:
    result: dict[str, Any] = ran.json
    assert (ran.status, result["code"]) == (status, code), ran.out
    return result


def test_what_was_measured_stands_among_the_claims(bench: Bench) -> None:
    assert "event_log" not in _is(bench.td(), 0, None)["claims"]
    found = _is(bench.td(log=LOG.encode()), 0, None)["claims"]["event_log"]
    assert [event["type"] for event in found["rtmr1"]] == ["EV_EFI_BOOT_SERVICES_APPLICATION"]
    assert "data" not in found["rtmr1"][0]  # the path is not what was measured
    assert found["rtmr2"][0]["data"] == b"root=/dev/vda ro".hex()


def test_a_log_that_leads_elsewhere(bench: Bench) -> None:
    _is(bench.td(log=LOG.encode(), rtmr2=bytes(48)), 3, "tdx.event_log")


def test_a_log_that_is_cut_off(bench: Bench) -> None:
    _is(bench.td(log=LOG.encode()[:-1]), 4, "tdx.event_log_malformed")


def test_two_logs(bench: Bench) -> None:
    more: list[str | Path] = ["--endorsements", bench.file("other.bin", LOG.encode())]
    _is(bench.td(*more, log=LOG.encode()), 4, "tdx.event_log_malformed")


TD = f"""
tee = "tdx"
mr_td = ["{{mr_td}}"]
rtmr0 = ["{{rtmr0}}"]
rtmr1 = ["{VALUES[2].hex()}"]
mr_config_id = ["{"00" * 48}"]
td_attributes = "{{td_attributes}}"
td_attributes_mask = "ffffffffffffffff"
xfam = "{{xfam}}"
xfam_mask = "ffffffffffffffff"
[[workload.event]]
register = "rtmr2"
type = "EV_IPL"
text = ["{{cmdline}}"]
"""


@pytest.mark.parametrize(("cmdline", "code"), [("root=/dev/vda ro", None), ("root=/dev/vda rw", "policy.event")])
def test_event_rules_of_an_entry(bench: Bench, cmdline: str, code: str | None) -> None:
    said = _is(bench.td(), 0, None)["claims"]
    names = ("mr_td", "rtmr0", "td_attributes", "xfam")
    entry = TD.format(cmdline=cmdline, **{name: said[name] for name in names})
    _is(bench.td(*bench.policy(entry), log=LOG.encode()), 3 if code else 0, code)
    _is(bench.td(*bench.policy(entry)), 3, "policy.event")


VALUES_TPM = BOOT.registers()
MACHINE = f"""
tee = "tpm"
ek_roots = ["{TPM.pin.hex()}"]
""" + "\n".join(f'pcr{index} = ["{VALUES_TPM[index].hex()}"]' for index in (0, 4, 7))


@pytest.mark.parametrize("wrapped", [False, True])
def test_an_entry_for_a_tpm(bench: Bench, wrapped: bool) -> None:
    assert _is(bench.tpm(*bench.policy(MACHINE), wrapped=wrapped), 0, None)["workload"] == "app"
    other = MACHINE.replace(VALUES_TPM[7].hex(), "11" * 32)
    _is(bench.tpm(*bench.policy(other), wrapped=wrapped), 3, "policy.measurement")
    software = TpmRecipe(with_key=False)
    _is(bench.tpm(*bench.policy(MACHINE), wrapped=wrapped, recipe=software), 3, "tpm.software_key")
    longer = TpmRecipe(log=replace(BOOT, events=(*BOOT.events, LogEvent(9, 0x7777, b"surprise"))))
    _is(bench.tpm(*bench.policy(MACHINE), wrapped=wrapped, recipe=longer), 0, None)


def test_a_policy_is_not_for_a_certificate_alone(bench: Bench) -> None:
    made = make(TPM)
    certificate = bench.file("ek.der", made.certificates[0])
    ran = bench.cli("appraise", certificate, "--tee", "tpm", *bench.policy(MACHINE), "--json")
    assert ran.status == 2
