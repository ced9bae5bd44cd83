"""Logs lead to the registers that quotes of the same machine had, and to rules that such a log agrees with."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from reference_files import Cli, accepted, event_log

from proxy_attestation.appraisal.event_log import replay
from proxy_attestation.appraisal.layers import Layer
from proxy_attestation.codes import Code
from proxy_attestation.errors import ProxyAttestationError
from proxy_attestation.formats.event_log import decode_event_log
from proxy_attestation.formats.tee import Tee
from proxy_attestation.policy.events import match_events
from proxy_attestation.reference.logs import measure_log
from proxy_attestation.reference.measured import Measured, to_entry

TDX_FILL = {
    "mr_td": '["' + "11" * 48 + '"]',
    "mr_config_id": '["' + "00" * 48 + '"]',
    "td_attributes": '"0000001000000000"',
    "td_attributes_mask": '"ffffffffffffffff"',
    "xfam": '"e702060000000000"',
    "xfam_mask": '"ffffffffffffffff"',
}
TPM_FILL = {"ek_root": '["' + "22" * 32 + '"]'}
SEPARATOR, ACTION = 0x04, 0x05


def extended(bank: str, *contents: bytes) -> bytes:
    value = bytes(hashlib.new(bank).digest_size)
    for content in contents:
        value = hashlib.new(bank, value + hashlib.new(bank, content).digest()).digest()
    return value


TD = event_log((1, ACTION, b"a"), (1, SEPARATOR, bytes(4)), (2, ACTION, b"b"), (3, ACTION, b"c"), (3, ACTION, b"d"))
PC = event_log((0, ACTION, b"a"), (4, ACTION, b"b"), (4, SEPARATOR, bytes(4)), (16, ACTION, b"x"), bank="sha256")


def measure(data: bytes, tee: Tee, bank: str = "sha256", *ruled: str) -> Measured:
    return measure_log(data, tee, bank, frozenset(ruled), "log")


def test_registers_of_a_td() -> None:
    workload = accepted(to_entry(measure(TD, Tee.TDX)), TDX_FILL)
    assert workload.pins["rtmr0"] == (extended("sha384", b"a", bytes(4)),)
    assert workload.pins["rtmr1"] == (extended("sha384", b"b"),)
    assert workload.pins["rtmr2"] == (extended("sha384", b"c", b"d"),)


def test_registers_of_a_tpm_that_can_be_pinned() -> None:
    measured = measure(PC, Tee.TPM)
    assert set(measured.pins) == {"pcr0", "pcr4"}
    workload = accepted(to_entry(measured), TPM_FILL)
    assert workload.pins["pcr4"] == (extended("sha256", b"b", bytes(4)),)


def test_rules_instead_of_values_agree_with_the_log_and_with_no_other() -> None:
    entry = to_entry(measure(TD, Tee.TDX, "sha256", "rtmr2"))
    workload = accepted(entry, TDX_FILL)
    assert "rtmr2" not in workload.pins
    assert {rule.register for rule in workload.events} == {"rtmr2"}

    def layers(data: bytes) -> tuple[Layer, ...]:
        signed = dict(enumerate(_values(data), start=1))
        return replay(decode_event_log(data), "sha384", signed, range(1, 5), "tdx")

    def mismatches(data: bytes) -> int:
        return len(list(match_events(Tee.TDX, workload.events, frozenset(workload.pins), layers(data))))

    assert mismatches(TD) == 0
    # The order of events does not count to rules; another event does, and one that is absent.
    assert mismatches(event_log((1, ACTION, b"a"), (2, ACTION, b"b"), (3, ACTION, b"d"), (3, ACTION, b"c"))) == 0
    assert mismatches(event_log((1, ACTION, b"a"), (2, ACTION, b"b"), (3, ACTION, b"c"), (3, ACTION, b"e"))) > 0
    assert mismatches(event_log((1, ACTION, b"a"), (2, ACTION, b"b"))) > 0


def _values(data: bytes) -> list[bytes]:
    values = [bytes(48)] * 4
    for event in decode_event_log(data).events:
        value = hashlib.sha384(values[event.register - 1] + event.digests["sha384"]).digest()
        values[event.register - 1] = value
    return values


def test_many_events_of_a_type_become_lists_that_a_policy_takes() -> None:
    many = event_log((1, ACTION, b"a"), (2, ACTION, b"b"), *((3, ACTION, b"%d" % n) for n in range(200)))
    workload = accepted(to_entry(measure(many, Tee.TDX, "sha384", "rtmr2")), TDX_FILL)
    assert [len(rule.digests) for rule in workload.events] == [64, 64, 64, 8]


def test_text_that_would_leave_its_comment_is_left_out() -> None:
    data = event_log((1, ACTION, b"a"), (2, ACTION, b"b"), (3, ACTION, b'x"\nowner = 1 #'), (3, SEPARATOR, b"a # b"))
    measured = measure(data, Tee.TDX, "sha384", "rtmr2")
    assert [row.readable() for row in measured.events if row.register == "rtmr2"] == ["", "a # b"]
    assert accepted(to_entry(measured), TDX_FILL)


@pytest.mark.parametrize(
    ("data", "tee", "bank", "code"),
    [
        (TD[:-1], Tee.TDX, "sha384", Code.TDX_EVENT_LOG_MALFORMED),
        (PC[:-1], Tee.TPM, "sha256", Code.TPM_EVENT_LOG_MALFORMED),
        (PC, Tee.TPM, "sha384", Code.TPM_EVENT_LOG),
        (PC, Tee.TDX, "sha384", Code.TDX_EVENT_LOG),
        (event_log((5, ACTION, b"a")), Tee.TDX, "sha384", Code.TDX_EVENT_LOG_MALFORMED),
        (event_log((24, ACTION, b"a"), bank="sha256"), Tee.TPM, "sha256", Code.TPM_EVENT_LOG_MALFORMED),
        (bytes(256 * 1024 + 1), Tee.TPM, "sha256", Code.EVIDENCE_TOO_LARGE),
    ],
    ids=["tdx", "tpm", "bank", "kind", "register", "pcr", "large"],
)
def test_other_logs_are_refused(data: bytes, tee: Tee, bank: str, code: Code) -> None:
    with pytest.raises(ProxyAttestationError) as caught:
        measure(data, tee, bank)
    assert caught.value.code is code


def test_the_command(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(PC)
    said = cli("index", "--measure", "tpm", tmp_path / "log", "--json").json
    assert said["pins"]["pcr0"] == [extended("sha256", b"a").hex()]
    assert said["missing"] == ["ek_root"]
    assert [row["text"] for row in said["events"]] == ["a", "b", "", "x"]
    assert cli("index", "--measure", "tpm", tmp_path / "log", "--events", "pcr4", "--toml").status == 0
    # What would be left aside is refused: a register that there is none of, rules in a file that has no place for them.
    assert cli("index", "--measure", "tpm", tmp_path / "log", "--events", "rtmr2").status == 2
    assert cli("index", "--measure", "tpm", tmp_path / "log", "--events", "pcr4", "--values", "p").status == 2
    assert cli("index", "--measure", "tpm", tmp_path / "log", "--vcpus", 1).status == 2
    assert cli("index", "--measure", "tdx", tmp_path / "log", "--bank", "sha256").status == 2
    assert cli("index", tmp_path / "log", "--bank", "sha384").status == 2


def test_the_registers_of_a_real_td(vectors_dir: Path, vector_index: dict[str, dict[str, Any]]) -> None:
    """What a published log leads to is what the quote of the same machine has."""
    case = vector_index["tdx-ccel-go-tdx-guest-cos113"]
    pins = measure((vectors_dir / case["files"]["eventlog"]).read_bytes(), Tee.TDX).pins
    quote = (vectors_dir / case["files"]["evidence"]).read_bytes()
    # A version 4 quote has its body at 48, and in that RTMR0 at 328.
    assert pins == {f"rtmr{index}": (quote[376 + 48 * index :][:48],) for index in range(3)}


@pytest.mark.parametrize("bank", ["sha256", "sha384"])
def test_the_registers_of_a_real_tpm(vectors_dir: Path, vector_index: dict[str, dict[str, Any]], bank: str) -> None:
    case = vector_index[f"tpm-gce-gce-cos-85-no-nonce-{bank}"]
    pins = measure((vectors_dir / case["files"]["eventlog"]).read_bytes(), Tee.TPM, bank).pins
    read = json.loads((vectors_dir / case["files"]["pcrs"]).read_text())[bank]
    assert pins
    for name, value in pins.items():
        assert value == (bytes.fromhex(read[name.removeprefix("pcr")]),), name
