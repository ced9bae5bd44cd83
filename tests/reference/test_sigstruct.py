"""A SIGSTRUCT gives pins that the enclave's own reports agree with, and only one that is whole and signed gives any."""

import hashlib
import struct
from pathlib import Path

import pytest
from reference_files import FIELDS, Cli, accepted, sigstruct

from proxy_attestation.appraisal.claims import SgxClaims
from proxy_attestation.codes import Code
from proxy_attestation.errors import ProxyAttestationError
from proxy_attestation.policy.pins import match_pins
from proxy_attestation.reference.measured import to_entry
from proxy_attestation.reference.sigstruct import measure_sigstruct


def body(**changes: bytes | int) -> SgxClaims:
    """What the processor reports of the enclave of `sigstruct()`: INIT set, KSS fields zero."""
    fields: dict[str, bytes | int] = {
        "cpu_svn": bytes(16),
        "misc_select": bytes(4),
        "attributes_flags": struct.pack("<Q", 0x05),
        "xfrm": struct.pack("<Q", 0x07),
        "mr_enclave": bytes(range(32)),
        "mr_signer": hashlib.sha256(sigstruct()[128:512]).digest(),
        "isv_prod_id": 7,
        "isv_svn": 3,
        "isv_ext_prod_id": bytes(16),
        "config_id": bytes(64),
        "config_svn": 0,
        "isv_family_id": bytes(16),
    }
    return SgxClaims(**{**fields, **changes})  # type: ignore[arg-type] # a dictionary of fields


def test_the_entry_accepts_the_enclave_itself() -> None:
    workload = accepted(to_entry(measure_sigstruct(sigstruct(), "app.sig")))
    assert workload.pins["mr_enclave"] == (bytes(range(32)),)
    assert list(match_pins(workload.tee, workload.pins, body())) == []
    assert list(match_pins(workload.tee, workload.pins, body(isv_svn=4))) == []


@pytest.mark.parametrize(
    "change",
    [
        {"mr_enclave": b"\x01" * 32},
        {"mr_signer": b"\x01" * 32},
        {"isv_prod_id": 8},
        {"isv_svn": 2},
        {"attributes_flags": struct.pack("<Q", 0x07)},
        {"attributes_flags": struct.pack("<Q", 0x15)},
        {"xfrm": struct.pack("<Q", 0x103)},
        {"misc_select": b"\x01\0\0\0"},
        {"isv_family_id": b"\x01" * 16},
    ],
    ids=str,
)
def test_the_entry_refuses_what_the_signer_did_not_sign(change: dict[str, bytes | int]) -> None:
    workload = accepted(to_entry(measure_sigstruct(sigstruct(), "app.sig")))
    assert len(list(match_pins(workload.tee, workload.pins, body(**change)))) == 1


def test_kss_fields_are_pinned_where_the_enclave_has_them() -> None:
    family, product = bytes(range(16)), bytes(range(16, 32))
    data = sigstruct(flags=struct.pack("<Q", 0x84), family_id=family, ext_prod_id=product)
    workload = accepted(to_entry(measure_sigstruct(data, "app.sig")))
    kss = {"attributes_flags": struct.pack("<Q", 0x85), "isv_family_id": family, "isv_ext_prod_id": product}
    assert list(match_pins(workload.tee, workload.pins, body(**kss))) == []
    assert len(list(match_pins(workload.tee, workload.pins, body(**{**kss, "isv_family_id": bytes(16)})))) == 1


def test_debug_that_the_signer_demands_is_a_danger() -> None:
    mask = b"\xff" * 8
    measured = measure_sigstruct(sigstruct(flags=struct.pack("<Q", 0x06), flags_mask=mask), "app.sig")
    assert len(measured.dangers) == 1
    assert measure_sigstruct(sigstruct(), "app.sig").dangers == ()


def test_what_the_signer_leaves_open_is_not_pinned_but_debug_is() -> None:
    measured = measure_sigstruct(sigstruct(xfrm_mask=bytes(8), misc_mask=bytes(4), flags_mask=bytes(8)), "app.sig")
    assert not {"xfrm", "xfrm_mask", "misc_select"} & measured.pins.keys()
    assert measured.pins["attributes_flags_mask"] == struct.pack("<Q", 0x03)
    workload = accepted(to_entry(measured))
    assert list(match_pins(workload.tee, workload.pins, body(attributes_flags=struct.pack("<Q", 0x25)))) == []
    assert len(list(match_pins(workload.tee, workload.pins, body(attributes_flags=struct.pack("<Q", 0x07))))) == 1


def _code(data: bytes) -> Code:
    with pytest.raises(ProxyAttestationError) as caught:
        measure_sigstruct(data, "app.sig")
    return caught.value.code


@pytest.mark.parametrize("name", ["header", "header2", "vendor", "reserved", "reserved3", "reserved4"])
def test_another_layout_is_refused(name: str) -> None:
    value = bytearray(FIELDS[name][1])
    value[-1] ^= 1
    assert _code(sigstruct(**{name: bytes(value)})) is Code.REFERENCE_MALFORMED


@pytest.mark.parametrize(
    "data", [b"", sigstruct()[:-1], sigstruct() + b"\0", bytes(1808)], ids=["0", "-1", "+1", "zero"]
)
def test_another_size_is_refused(data: bytes) -> None:
    assert _code(data) is Code.REFERENCE_MALFORMED


def test_an_exponent_an_mrenclave_and_a_modulus_that_cannot_be_are_refused() -> None:
    assert _code(sigstruct(mr_enclave=bytes(32))) is Code.REFERENCE_MALFORMED
    assert _code(sigstruct(cet=b"\0\0\1\0")) is Code.REFERENCE_MALFORMED
    whole = bytearray(sigstruct())
    whole[512] = 5
    assert _code(bytes(whole)) is Code.REFERENCE_MALFORMED
    whole = bytearray(sigstruct())
    whole[511] = 0
    assert _code(bytes(whole)) is Code.REFERENCE_MALFORMED
    whole = bytearray(sigstruct())
    whole[516:900] = bytes(384)
    assert _code(bytes(whole)) is Code.REFERENCE_MALFORMED


@pytest.mark.parametrize("at", [40, 516, 960, 1024, 1026, 1040, 1424], ids=str)
def test_a_changed_byte_is_refused(at: int) -> None:
    """What is signed, the signature, and the two quotients that the processor takes."""
    whole = bytearray(sigstruct())
    whole[at] ^= 1
    assert _code(bytes(whole)) is Code.REFERENCE_SIGNATURE


def test_what_the_signature_does_not_cover_is_nothing_that_is_pinned() -> None:
    """A vendor number is signed, software's own four bytes too; so nothing outside them is read."""
    signed = {*range(128), *range(900, 1028)}
    read = {
        at for name, (start, value) in FIELDS.items() if name != "reserved4" for at in range(start, start + len(value))
    }
    assert read <= signed


def test_the_command_prints_every_form(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "app.sig").write_bytes(sigstruct())
    shown = cli("index", "-C", tmp_path, "--measure", "sgx", "app.sig")
    assert (shown.status, bytes(range(32)).hex() in shown.out) == (0, True)
    said = cli("index", "--measure", "sgx", tmp_path / "app.sig", "--json").json
    assert said["pins"]["mr_enclave"] == [bytes(range(32)).hex()]
    assert said["missing"] == []
    assert accepted(cli("index", "--measure", "sgx", tmp_path / "app.sig", "--toml").out)


@pytest.mark.parametrize(
    "more", [("--json", "--toml"), ("--toml", "--values", "p"), ("--diff", "app.sig"), ("app.sig",)], ids=str
)
def test_the_command_refuses_what_does_not_go_together(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("app.sig").write_bytes(sigstruct())
    assert cli("index", "--measure", "sgx", "app.sig", *more).status == 2
    assert cli("index", "app.sig", "--toml").status == 2
    assert cli("index", "--measure", "sgx", ".").status == 2
    assert cli("index", "--measure", "sgx", "absent").status == 2
