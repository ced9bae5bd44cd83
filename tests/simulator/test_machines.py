"""Machines of every kind from a vendor's directory: what they measure, that they are accepted, and their faults."""

import json
import subprocess
import sys
import textwrap
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from proxy_attestation.appraisal.endorsements import SnpEndorsements
from proxy_attestation.appraisal.nitro import appraise_nitro
from proxy_attestation.appraisal.nitro_claims import NitroClaims
from proxy_attestation.appraisal.roots import AMD_ARKS, Roots
from proxy_attestation.appraisal.snp import appraise_snp
from proxy_attestation.codes import Code
from proxy_attestation.endorsements.detect_snp import load_arks
from proxy_attestation.endorsements.load import load_material, load_roots
from proxy_attestation.errors import AppraisalError
from proxy_attestation.formats.nitro import decode_nitro
from proxy_attestation.formats.snp_report import decode_snp_report
from proxy_attestation_simulator import machines
from proxy_attestation_simulator.amd import AmdVendor
from proxy_attestation_simulator.cli import group
from proxy_attestation_simulator.errors import SimulatorError
from proxy_attestation_simulator.machines import TEES, load_aws, measured, quoting, registers
from proxy_attestation_simulator.measure import Measurement, measure_command
from proxy_attestation_simulator.pins import claims_of, policy_lines

MEASUREMENT = Measurement(b"\x5a" * 32, b"\x7d" * 48, "")
DATA = bytes(range(64))


def _call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(group, [str(argument) for argument in arguments])


class _Clock(datetime):
    """The time of evidence is the machine's own."""

    @classmethod
    def now(cls, tz: object = None) -> "_Clock":
        del tz
        return cls(2026, 11, 24, 12, tzinfo=UTC)


NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machines, "datetime", _Clock)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with every vendor, as `vendor --all` makes it, of the time that the tests have."""
    made = tmp_path_factory.mktemp("vendors") / "D"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("proxy_attestation_simulator.cli.datetime", _Clock)
        patch.setattr(AmdVendor, "create", AmdVendor.fixed)  # making RSA keys takes seconds
        result = _call("vendor", made, "--all")
    assert result.exit_code == 0, result.output
    for name in ("root.der", "amd-ark-milan.der", "aws-root.der"):
        assert name == "root.der" or str(made / name) in result.output
    return made


@pytest.fixture(scope="module")
def roots(directory: Path) -> Roots:
    return load_roots([directory / "amd-ark-milan.der", directory / "aws-root.der"])


def test_what_vendor_all_writes(directory: Path) -> None:
    assert sorted(path.name for path in directory.iterdir()) == [
        "amd-ark-milan.der", "amd.json", "aws-root.der", "aws.json", "endorsements", "root.der", "root.pem",
        "vendor.json",
    ]  # fmt: skip
    for secret in ("amd.json", "aws.json", "vendor.json"):
        assert (directory / secret).stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in (directory / "endorsements").iterdir()) == ["sgx", "snp", "tdx"]
    assert sorted(path.name for path in (directory / "endorsements" / "snp").iterdir()) == [
        "ark.der", "ask.der", "crl.der",
    ]  # fmt: skip
    assert [str(piece.kind) for piece in load_material([directory / "endorsements" / "snp"]).amd] == [
        "ARK certificate", "ASK or ASVK certificate", "ARK's revocation list",
    ]  # fmt: skip
    assert load_arks([(directory / "amd-ark-milan.der").read_bytes()]) != AMD_ARKS


def test_vendors_without_all_have_no_other_machines(tmp_path: Path) -> None:
    assert _call("vendor", tmp_path / "D").exit_code == 0
    for tee in ("snp", "nitro"):
        with pytest.raises(SimulatorError):
            quoting(tee, tmp_path / "D", MEASUREMENT, "0", ())


@pytest.mark.parametrize("text", ["", "{}", '{"secret": "zz", "created_at": "2026-11-24"}', '{"secret": 1}'])
def test_a_vendor_of_enclaves_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "aws.json").write_text(text)
    with pytest.raises(SimulatorError):
        load_aws(tmp_path)


def test_the_claim_that_holds_what_is_measured() -> None:
    assert [measured(tee, MEASUREMENT)[0] for tee in TEES] == ["mr_enclave", "mr_td", "measurement", "pcr0"]
    assert [len(measured(tee, MEASUREMENT)[1]) for tee in TEES] == [32, 48, 48, 48]


class TestSnp:
    """Guests with their certificates in the table."""

    def test_a_report_is_accepted_with_what_was_measured(self, directory: Path, roots: Roots) -> None:
        data = quoting("snp", directory, MEASUREMENT, "0", ())(DATA, b"", b"")
        report = decode_snp_report(data)
        kept = SnpEndorsements((), ((directory / "endorsements" / "snp" / "crl.der").read_bytes(),))
        result = appraise_snp(report, kept, roots.amd, None, NOW, crl_required=True)
        assert (result.body.measurement, result.body.report_data) == (MEASUREMENT.mr_td, DATA)
        pins = tomllib.loads(policy_lines("snp", claims_of("snp", MEASUREMENT, None)))
        assert pins["measurement"] == [result.body.measurement.hex()]
        assert pins["product"] == [str(result.body.product)]
        assert (pins["policy"], pins["vmpl"]) == (result.body.policy.hex(), result.body.vmpl)
        least = {f"min_{name}": value for name, value in result.body.measurements.items()}
        assert {name: value for name, value in pins.items() if name.startswith("min_tcb_")} == least

    def test_seeds_tell_machines_apart(self, directory: Path) -> None:
        chips = [
            decode_snp_report(quoting("snp", directory, MEASUREMENT, seed, ())(DATA, b"", b"")).signed[0x1A0:0x1E0]
            for seed in ("0", "1", "0")
        ]
        assert chips[0] == chips[2] != chips[1]

    def test_a_fault_is_in_what_it_makes(self, directory: Path, roots: Roots) -> None:
        report = decode_snp_report(quoting("snp", directory, MEASUREMENT, "0", ("flip",))(DATA, b"", b""))
        with pytest.raises(AppraisalError) as caught:
            appraise_snp(report, SnpEndorsements((), ()), roots.amd, None, NOW, crl_required=False)
        assert caught.value.code is Code.SNP_SIGNATURE
        with pytest.raises(SimulatorError):
            quoting("snp", directory, MEASUREMENT, "0", ("no-such-fault",))(DATA, b"", b"")


class TestNitro:
    """Enclaves with their three slots."""

    def test_a_document_is_accepted_with_what_was_measured(self, directory: Path, roots: Roots) -> None:
        document = decode_nitro(quoting("nitro", directory, MEASUREMENT, "0", ())(DATA, b"nonce", b"key"))
        claims = appraise_nitro(document, roots, NOW)
        assert claims.bound == (b"nonce", b"key", DATA)
        assert isinstance(claims.body, NitroClaims)
        found = claims.body.measurements
        assert {number: found[f"pcr{number}"] for number in (0, 1, 2)} == registers(MEASUREMENT)
        pins = tomllib.loads(policy_lines("nitro", claims_of("nitro", MEASUREMENT, None)))
        assert pins == {"tee": "nitro", **{name: [found[name].hex()] for name in ("pcr0", "pcr1", "pcr2")}}

    def test_absent_slots_are_null(self, directory: Path) -> None:
        document = decode_nitro(quoting("nitro", directory, MEASUREMENT, "0", ())(DATA, b"", b""))
        assert (document.nonce, document.public_key, document.user_data) == (None, None, DATA)

    def test_a_fault_is_in_what_it_makes(self, directory: Path, roots: Roots) -> None:
        document = decode_nitro(quoting("nitro", directory, MEASUREMENT, "0", ("debug",))(DATA, b"", b""))
        assert appraise_nitro(document, roots, NOW).debug
        with pytest.raises(SimulatorError):
            quoting("nitro", directory, MEASUREMENT, "0", ("no-such-fault",))(DATA, b"", b"")

    def test_only_program_decides_pcr0(self) -> None:
        other = Measurement(b"\0" * 32, b"\1" * 48, "")
        assert {n for n in registers(other) if registers(other)[n] != registers(MEASUREMENT)[n]} == {0}


class TestMeasure:
    """`measure` for every kind."""

    def test_lines_for_a_policy(self) -> None:
        measurement = measure_command(())
        for tee in ("snp", "nitro"):
            result = _call("measure", "--tee", tee)
            assert result.output == policy_lines(tee, claims_of(tee, measurement, None))
            assert tomllib.loads(result.output)["tee"] == tee

    def test_claims_alone_and_in_json(self) -> None:
        measurement = measure_command(())
        assert _call("measure", "--claim", "measurement").output.strip() == measurement.mr_td.hex()
        assert _call("measure", "--tee", "nitro", "--claim", "pcr0").output.strip() == measurement.mr_td.hex()
        assert isinstance(_call("measure", "--tee", "nitro", "--claim", "mr_td").exception, SimulatorError)
        assert list(json.loads(_call("measure", "--json").output)) == list(TEES)


_CHILD = textwrap.dedent("""
    import cbor2, socket, struct, sys
    connection = socket.socket(fileno=int(sys.argv[1]))
    def ask(request):
        body = cbor2.dumps(request)
        connection.sendall(struct.pack(">I", len(body)) + body)
        stream = connection.makefile("rb")
        return cbor2.loads(stream.read(struct.unpack(">I", stream.read(4))[0]))
    print(ask({1: bytes(range(64)), 2: b"nonce", 3: b"key"})[1].hex())
""")


def _run(directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    simulator = [sys.executable, "-c", "from proxy_attestation_simulator.cli import main; main()"]
    command = [sys.executable, "-c", _CHILD, "{fd}"]
    arguments = [*simulator, "run", "--dir", str(directory), *options, "--", *command]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.e2e
@pytest.mark.parametrize("tee", ["snp", "nitro"])
def test_run_gives_a_program_its_evidence(directory: Path, tee: str) -> None:
    done = _run(directory, "--tee", tee)
    assert done.returncode == 0, done.stderr
    value = measure_command([sys.executable, "-c", _CHILD]).mr_td
    assert value.hex() in done.stderr
    data = bytes.fromhex(done.stdout)
    if tee == "snp":
        report = decode_snp_report(data)
        assert (report.bound, report.signed[0x90:0xC0]) == ((DATA,), value)
        assert len(report.certificates.certificates) == 3
    else:
        document = decode_nitro(data)
        assert (document.bound, dict(document.pcrs)[0]) == ((b"nonce", b"key", DATA), value)


@pytest.mark.e2e
@pytest.mark.parametrize(
    "options",
    [
        ("--tee", "snp", "--quote-version", "4"),
        ("--tee", "nitro", "--body-type", "3"),
        ("--tee", "snp", "--fault", "no-such-fault"),
        ("--tee", "nitro", "--fault", "no-such-fault"),
        ("--tee", "tpm"),
    ],
)
def test_what_cannot_be_run_is_said_before_the_program_starts(directory: Path, options: tuple[str, ...]) -> None:
    done = _run(directory, *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
