"""`appraise` with simulated machines: every option, every exit status, what is shown of what was refused."""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from proxy_attestation.formats.bounds import MESSAGE_MAX
from proxy_attestation.formats.evidence import Evidence, encode_evidence
from proxy_attestation.formats.tee import Tee
from proxy_attestation_simulator.intel import Vendor

Cli = Callable[..., Any]
Write = Callable[[Path, Mapping[str, bytes]], Path]
REPORT_DATA = bytes(range(64))
AT = "2026-11-24T00:00:00Z"
MR_TD = bytes.fromhex("7d" * 48)
MR_ENCLAVE = bytes.fromhex("5a" * 32)


@dataclass(frozen=True)
class Bench:
    """A vendor's files, and a way to appraise one of its quotes."""

    folder: Path
    vendor: Vendor
    cli: Cli
    write: Write

    def quote(self, tee: str = "sgx", *, version: int | None = None, fault: str | Sequence[str] = ()) -> Path:
        platform = self.vendor.platform(tee)
        pin = {"sgx": ("mr_enclave", MR_ENCLAVE), "tdx": ("mr_td", MR_TD)}[tee]
        faults = [f"{pin[0]}={pin[1].hex()}", *([fault] if isinstance(fault, str) else fault)]
        data = platform.quote(REPORT_DATA, version=version, fault=[name for name in faults if name])
        return self.write(self.folder / "quotes", {"quote.bin": data}) / "quote.bin"

    def arguments(self, tee: str = "sgx") -> list[str | Path]:
        return [
            *("--endorsements", self.folder / tee),
            *("--roots", self.folder / "root.der"),
            *("--at", AT),
        ]

    def appraise(self, evidence: str | Path, *options: str | Path, tee: str = "sgx", stdin: bytes = b"") -> Any:
        return self.cli("appraise", evidence, *self.arguments(tee), *options, "--json", stdin=stdin)


@pytest.fixture
def bench(tmp_path: Path, vendor: Vendor, cli: Cli, write: Write) -> Bench:
    write(tmp_path, {"root.der": vendor.root_der})
    for tee in ("sgx", "tdx"):
        write(tmp_path / tee, vendor.endorsements(tee))
    return Bench(tmp_path, vendor, cli, write)


def _is(ran: Any, status: int, code: str | None) -> None:
    result = ran.json
    assert (ran.status, result["code"]) == (status, code), ran.out
    assert result["verdict"] == ("accepted" if code is None else "refused")
    assert list(result)[:5] == ["verdict", "code", "mismatches", "claims", "unverified"]


@pytest.mark.parametrize(("tee", "version"), [("sgx", 3), ("tdx", 4), ("tdx", 5)])
def test_good_evidence_is_accepted_with_its_claims(bench: Bench, tee: str, version: int) -> None:
    ran = bench.appraise(bench.quote(tee, version=version), tee=tee)
    _is(ran, 0, None)
    claims = ran.json["claims"]
    assert (claims["tee"], claims["report_data"], claims["debug"]) == (tee, REPORT_DATA.hex(), False)
    assert claims["tcb_status"] == "UpToDate"
    assert (ran.json["mismatches"], ran.json["unverified"]) == ([], None)


def _record(quote: bytes) -> bytes:
    return encode_evidence(Evidence(Tee.SGX, quote))


@pytest.mark.parametrize(
    "encode",
    [
        bytes.hex,
        lambda quote: "0x" + quote.hex().upper(),
        lambda quote: base64.encodebytes(quote).decode(),
        lambda quote: base64.urlsafe_b64encode(quote).decode().rstrip("="),
        _record,
        lambda quote: _record(quote).hex(),
    ],
    ids=["hex", "0x", "base64 in lines", "url-safe base64", "record", "record in hex"],
)
def test_every_encoding_says_the_same_from_a_file_and_from_standard_input(
    bench: Bench, encode: Callable[[bytes], bytes | str]
) -> None:
    path = bench.quote()
    plain = bench.appraise(path)
    encoded = encode(path.read_bytes())
    path.write_bytes(encoded if isinstance(encoded, bytes) else encoded.encode() + b"\n")
    assert bench.appraise(path) == plain
    assert bench.appraise("-", stdin=path.read_bytes()) == plain


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "evidence.malformed"),
        (b"not evidence", "evidence.unknown"),
        (b"\x83\x01\x02", "evidence.malformed"),
        (b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n", "ra_tls.malformed"),
        (b"\x30\x82\x01\x00" + bytes(256), "ra_tls.malformed"),
        (b"\x00" * (MESSAGE_MAX + 1), "evidence.too_large"),
        (b"\x03\x00\x02\x00" + bytes(70_000), "evidence.too_large"),
    ],
)
def test_malformed_evidence_exits_4_with_a_verdict(bench: Bench, data: bytes, code: str) -> None:
    ran = bench.appraise("-", stdin=data)
    _is(ran, 4, code)
    assert (ran.json["claims"], ran.json["unverified"]) == (None, None)


def test_a_truncated_quote_and_a_record_of_another_tee_are_malformed(bench: Bench) -> None:
    quote = bench.quote().read_bytes()
    _is(bench.appraise("-", stdin=quote[:-1]), 4, "sgx.malformed")
    _is(bench.appraise("-", stdin=encode_evidence(Evidence(Tee.TDX, quote))), 4, "evidence.malformed")


def test_malformed_endorsements_exit_4_with_a_verdict(bench: Bench) -> None:
    bench.write(bench.folder / "sgx", {"README": b"not an endorsement"})
    _is(bench.appraise(bench.quote()), 4, "endorsements.malformed")


def test_without_endorsements_evidence_is_refused_and_its_signed_claims_are_shown(bench: Bench) -> None:
    arguments = ["--roots", bench.folder / "root.der", "--at", AT, "--json"]
    ran = bench.cli("appraise", bench.quote(), *arguments)
    _is(ran, 3, "sgx.endorsements_missing")
    claims = ran.json["claims"]
    assert (claims["mr_enclave"], claims["report_data"]) == (MR_ENCLAVE.hex(), REPORT_DATA.hex())
    assert claims["fmspc"] == bench.vendor.platform("sgx").fmspc.hex()
    assert "tcb_status" not in claims
    # Debug can be told without them, so its code wins.
    _is(bench.cli("appraise", bench.quote(fault="debug"), *arguments), 3, "sgx.debug")
    _is(bench.cli("appraise", bench.quote(fault="debug"), *arguments, "--allow-debug"), 3, "sgx.endorsements_missing")


def test_what_no_signature_covers_is_shown_as_unverified(bench: Bench) -> None:
    ran = bench.appraise(bench.quote(fault="wrong-key"))
    _is(ran, 3, "sgx.signature")
    assert ran.json["claims"] is None
    assert ran.json["unverified"]["mr_enclave"] == MR_ENCLAVE.hex()


def test_the_pinned_vendor_root_does_not_accept_a_simulated_machine(bench: Bench) -> None:
    ran = bench.cli("appraise", bench.quote(), "--endorsements", bench.folder / "sgx", "--at", AT, "--json")
    _is(ran, 3, "sgx.root")


def test_debug_needs_its_switch(bench: Bench) -> None:
    path = bench.quote(fault="debug")
    ran = bench.appraise(path)
    _is(ran, 3, "sgx.debug")
    assert ran.json["claims"]["debug"] is True
    assert [item["field"] for item in ran.json["mismatches"]] == ["debug"]
    _is(bench.appraise(path, "--allow-debug"), 0, None)


def test_a_tcb_status_needs_to_be_allowed(bench: Bench) -> None:
    path = bench.quote(fault="tcb-level=OutOfDate")
    ran = bench.appraise(path)
    _is(ran, 3, "sgx.tcb_status")
    assert ran.json["mismatches"][0]["expected"] == "UpToDate"
    _is(bench.appraise(path, "--allow-tcb", "SWHardeningNeeded"), 3, "sgx.tcb_status")
    _is(bench.appraise(path, "--allow-tcb", "SWHardeningNeeded", "--allow-tcb", "OutOfDate"), 0, None)
    # What is allowed is allowed beside UpToDate.
    _is(bench.appraise(bench.quote(), "--allow-tcb", "OutOfDate"), 0, None)


def test_a_service_td_needs_to_be_pinned(bench: Bench) -> None:
    path = bench.quote("tdx", version=5, fault="service-td")
    ran = bench.appraise(path, tee="tdx")
    _is(ran, 3, "tdx.service_td")
    pin = ran.json["claims"]["mr_service_td"]
    _is(bench.appraise(path, "--expect", f"mr_service_td={pin}", tee="tdx"), 0, None)
    _is(bench.appraise(path, "--expect", f"mr_service_td={'00' * 48}", tee="tdx"), 3, "tdx.service_td")


def test_the_tee_can_be_demanded(bench: Bench) -> None:
    _is(bench.appraise(bench.quote(), "--tee", "sgx"), 0, None)
    _is(bench.appraise(bench.quote(), "--tee", "tdx"), 3, "policy.tee")


@pytest.mark.parametrize(
    ("claim", "good", "bad", "code"),
    [
        ("mr_enclave", MR_ENCLAVE.hex().upper(), "00" * 32, "policy.measurement"),
        ("mr_signer", None, "00" * 32, "policy.signer"),
        ("isv_prod_id", None, "65535", "policy.product"),
        ("config_id", "0x" + "00" * 64, "01" + "00" * 63, "policy.config"),
        ("report_data", REPORT_DATA.hex(), "00" * 64, "policy.claim"),
        ("debug", "false", "true", "policy.claim"),
        ("tcb_status", "UpToDate", "OutOfDate", "policy.claim"),
        ("advisory_ids", "", "INTEL-SA-00615, INTEL-SA-00001", "policy.advisory"),
        ("tee", "sgx", "tdx", "policy.tee"),
        ("fmspc", None, "00" * 6, "policy.claim"),
        ("tcb_date", None, "2001-01-01T00:00:00Z", "policy.claim"),
    ],
)
def test_an_expected_claim(bench: Bench, claim: str, good: str | None, bad: str, code: str) -> None:
    path = bench.quote()
    value = bench.appraise(path).json["claims"][claim] if good is None else good
    _is(bench.appraise(path, "--expect", f"{claim}={value}"), 0, None)
    ran = bench.appraise(path, "--expect", f"{claim}={bad}")
    _is(ran, 3, code)
    assert [item["field"] for item in ran.json["mismatches"]] == [claim]
    # A claim that is expected twice may be either, in either order.
    for first, second in ((bad, value), (value, bad)):
        _is(bench.appraise(path, "--expect", f"{claim}={first}", "--expect", f"{claim}={second}"), 0, None)


def test_a_claim_of_another_tee_is_absent_and_fits_nothing(bench: Bench) -> None:
    ran = bench.appraise(bench.quote(), "--expect", f"mr_td={'00' * 48}")
    _is(ran, 3, "policy.measurement")
    assert ran.json["mismatches"][0]["actual"] == "nothing"


@pytest.mark.parametrize(
    ("minimum", "accepted"),
    [
        ("isv_svn=0", True),
        ("isv_svn=65535", False),
        ("tcb_date=2001-01-01T00:00:00+01:00", True),
        ("tcb_date=2999-01-01T00:00:00Z", False),
        ("cpu_svn=" + "00" * 16, True),
        # One component above is enough, however high the others are.
        ("cpu_svn=" + "00" * 15 + "ff", False),
        ("tee_tcb_svn=" + "00" * 16, False),
    ],
)
def test_a_minimum(bench: Bench, minimum: str, accepted: bool) -> None:
    _is(bench.appraise(bench.quote(), "--min", minimum), 0 if accepted else 3, None if accepted else "policy.svn")


def test_every_mismatch_is_reported(bench: Bench) -> None:
    path = bench.quote(fault=["debug", "tcb-level=OutOfDate"])
    ran = bench.appraise(path, "--tee", "tdx", "--expect", f"mr_enclave={'00' * 32}", "--min", "isv_svn=65535")
    assert [item["code"] for item in ran.json["mismatches"]] == [
        "policy.tee", "sgx.debug", "sgx.tcb_status", "policy.measurement", "policy.svn",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [
        ("--expect", "mr_enclave"),
        ("--expect", "no_such_claim=1"),
        ("--expect", "mr_enclave=ab"),
        ("--expect", "mr_enclave=" + "zz" * 32),
        ("--expect", "isv_svn=-1"),
        ("--expect", "isv_svn=65536"),
        ("--expect", "debug=yes"),
        ("--expect", "tee="),
        ("--min", "mr_enclave=" + "00" * 32),
        ("--min", "isv_svn=1", "--min", "isv_svn=2"),
        ("--at", "yesterday"),
        ("--at", "2026-11-24"),
        ("--at", "2026-13-24T00:00:00Z"),
        ("--allow-tcb", "Revoked"),
        ("--allow-tcb", "uptodate"),
        ("--tee", "cca"),
        ("--workload", "app"),
        ("--endorsements", "/absent"),
        ("--roots", "/absent"),
        ("--policy", "/absent"),
        ("--surprise",),
    ],
)
def test_a_wrong_option_is_a_usage_error(bench: Bench, options: tuple[str, ...]) -> None:
    assert bench.appraise(bench.quote(), *options).status == 2


def test_an_absent_file_is_a_usage_error(bench: Bench) -> None:
    assert bench.appraise(bench.folder / "absent").status == 2


def test_roots_that_are_none_are_malformed(bench: Bench) -> None:
    chain = bench.vendor.endorsements("sgx")["pck_crl_issuer_chain"]
    for data in (b"", b"no certificate", chain):
        roots = bench.write(bench.folder, {"other.pem": data}) / "other.pem"
        ran = bench.appraise(bench.quote(), "--roots", roots)
        assert (ran.status, ran.json["code"], ran.json["claims"]) == (4, "configuration.malformed", None)
        assert ran.json["unverified"]["tee"] == "sgx"


def test_a_root_in_pem_is_read(bench: Bench) -> None:
    root = bench.write(bench.folder, {"root.pem": bench.vendor.root.pem}) / "root.pem"
    arguments = ["--endorsements", bench.folder / "sgx", "--roots", root, "--at", AT, "--json"]
    _is(bench.cli("appraise", bench.quote(), *arguments), 0, None)


def test_time_decides(bench: Bench) -> None:
    path = bench.quote()
    # Other writings of the same instant.
    _is(bench.appraise(path, "--at", "2026-11-24T01:00:00.5+01:00"), 0, None)
    _is(bench.appraise(path, "--at", "2036-11-24T00:00:00Z"), 3, "sgx.expired")
    _is(bench.appraise(path, "--at", "2027-01-24T00:00:00Z"), 3, "sgx.crl_expired")


def test_of_several_sets_the_fitting_one_with_the_highest_evaluation_number_is_used(bench: Bench) -> None:
    now = bench.vendor.created_at
    sets = bench.folder / "sets"
    kinds: dict[str, dict[str, bytes]] = {
        "low": bench.vendor.endorsements("sgx", evaluation_number=20),
        "high": bench.vendor.endorsements("sgx", evaluation_number=21),
        "future": bench.vendor.endorsements("sgx", now + timedelta(days=90), evaluation_number=22),
        "elsewhere": bench.vendor.endorsements("sgx", evaluation_number=23, fmspc=bytes(6)),
        "tdx": bench.vendor.endorsements("tdx", evaluation_number=24),
        "processor": bench.vendor.endorsements("sgx", evaluation_number=25, ca="processor"),
    }
    for name, files in kinds.items():
        bench.write(sets / name, files)
    arguments = ["--roots", bench.folder / "root.der", "--json", "--endorsements", sets]
    ran = bench.cli("appraise", bench.quote(), *arguments, "--at", AT)
    _is(ran, 0, None)
    assert ran.json["claims"]["tcb_evaluation_data_number"] == 21
    # Where none is current, the best of those that fit says why not.
    _is(bench.cli("appraise", bench.quote(), *arguments, "--at", "2028-11-24T00:00:00Z"), 3, "sgx.crl_expired")


def test_several_sets_of_which_none_fits_are_missing_endorsements(bench: Bench) -> None:
    for number in (1, 2):
        files = bench.vendor.endorsements("sgx", fmspc=bytes([number] * 6))
        bench.write(bench.folder / "other" / str(number), files)
    arguments = ["--roots", bench.folder / "root.der", "--json", "--at", AT, "--endorsements"]
    _is(bench.cli("appraise", bench.quote(), *arguments, bench.folder / "other"), 3, "sgx.endorsements_missing")
    # A single set is used whatever it is for: the walk names what does not fit.
    _is(bench.cli("appraise", bench.quote(), *arguments, bench.folder / "other" / "1"), 3, "sgx.tcb_info_mismatch")


def test_a_bundle(bench: Bench) -> None:
    fields = {
        name: data.hex() if name.endswith("crl") else data.decode()
        for name, data in bench.vendor.endorsements("sgx").items()
    }
    bundle = bench.write(bench.folder, {"bundle.json": json.dumps(fields).encode()}) / "bundle.json"
    arguments = ["--endorsements", bundle, "--roots", bench.folder / "root.der", "--at", AT, "--json"]
    _is(bench.cli("appraise", bench.quote(), *arguments), 0, None)


POLICY = """
version = 1
trust_domain = "example.org"
[[workload]]
name = "app"
tee = "sgx"
mr_enclave = ["{mr_enclave}"]
dns = ["app.example.org"]
owner = {{ shared = true }}
{more}
"""


def _policy(bench: Bench, mr_enclave: bytes = MR_ENCLAVE, more: str = "") -> Path:
    text = POLICY.format(mr_enclave=mr_enclave.hex(), more=more).encode()
    return bench.write(bench.folder, {"policy.toml": text}) / "policy.toml"


def test_a_policy_decides_by_its_only_entry(bench: Bench) -> None:
    ran = bench.appraise(bench.quote(), "--policy", _policy(bench))
    _is(ran, 0, None)
    assert ran.json["workload"] == "app"
    _is(bench.appraise(bench.quote(), "--policy", _policy(bench, bytes(31) + b"\1")), 3, "policy.measurement")
    _is(bench.appraise(bench.quote("tdx"), "--policy", _policy(bench), tee="tdx"), 3, "policy.tee")
    _is(bench.appraise(bench.quote(fault="debug"), "--policy", _policy(bench)), 3, "sgx.debug")
    _is(bench.appraise(bench.quote(fault="tcb-level=OutOfDate"), "--policy", _policy(bench)), 3, "sgx.tcb_status")
    _is(bench.appraise(bench.quote(), "--policy", _policy(bench), "--min", "isv_svn=65535"), 3, "policy.svn")


def test_a_policy_with_several_entries_needs_a_name(bench: Bench) -> None:
    other = f'[[workload]]\nname = "other"\ntee = "sgx"\nmr_enclave = ["{"01" * 32}"]\nowner = {{ shared = true }}'
    policy = _policy(bench, more=other)
    assert bench.appraise(bench.quote(), "--policy", policy).status == 2
    assert bench.appraise(bench.quote(), "--policy", policy, "--workload", "absent").status == 2
    _is(bench.appraise(bench.quote(), "--policy", policy, "--workload", "app"), 0, None)
    _is(bench.appraise(bench.quote(), "--policy", policy, "--workload", "other"), 3, "policy.measurement")


def test_a_policy_excludes_the_switches_of_the_default_policy_and_may_be_malformed(bench: Bench) -> None:
    policy = _policy(bench)
    assert bench.appraise(bench.quote(), "--policy", policy, "--allow-debug").status == 2
    assert bench.appraise(bench.quote(), "--policy", policy, "--allow-tcb", "OutOfDate").status == 2
    ran = bench.appraise(bench.quote(), "--policy", _policy(bench, more='surprise = "x"'))
    assert (ran.status, ran.json["error"]["code"]) == (4, "policy.malformed")


def test_text_says_the_verdict_first(bench: Bench) -> None:
    good = bench.cli("appraise", bench.quote(), *bench.arguments())
    assert (good.status, good.out.splitlines()[0]) == (0, "accepted")
    assert "UNVERIFIED" not in good.out
    bad = bench.cli("appraise", bench.quote(fault="debug"), *bench.arguments())
    assert (bad.status, bad.out.splitlines()[0]) == (3, "refused: sgx.debug")
    assert f"mr_enclave                  {MR_ENCLAVE.hex()}" in bad.out
    forged = bench.cli("appraise", bench.quote(fault="wrong-key"), *bench.arguments())
    assert (forged.status, forged.out.splitlines()[0]) == (3, "refused: sgx.signature")
    assert "UNVERIFIED" in forged.out
