"""`appraise` with evidence of the other kinds: SEV-SNP, Nitro, RA-TLS certificates and TPMs, and each refusal alone."""

import hashlib
import json
from base64 import encodebytes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import cbor2
import pytest
import ra_tls_certificates as ra

from proxy_attestation.formats.evidence import Evidence, encode_evidence
from proxy_attestation.formats.tee import Tee
from proxy_attestation_simulator import der
from proxy_attestation_simulator.amd import TABLE_GUIDS, AmdVendor, certificate_table
from proxy_attestation_simulator.amd_recipes import SnpEvidence
from proxy_attestation_simulator.aws import Aws
from proxy_attestation_simulator.intel import Vendor
from proxy_attestation_simulator.tpm import TpmMade, TpmRecipe, TpmVendor, ak_certificate_recipe, make

Cli = Callable[..., Any]
Write = Callable[[Path, Mapping[str, bytes]], Path]
Fault = str | Sequence[str]
AT = "2026-11-24T00:00:00Z"
NOW = datetime(2026, 11, 24, tzinfo=UTC)
DATA = bytes(range(64))
BOUND = hashlib.sha256(ra.SPKI).digest() + bytes(32)
MEASUREMENT = bytes.fromhex("6b" * 48)
NITRO_POLICY = "\n".join(f'pcr{index} = ["{bytes([index + 1]).hex() * 48}"]' for index in (0, 1, 2))
PCRS = {index: bytes([index + 1]) * 48 for index in (0, 1, 2)}


@dataclass(frozen=True)
class Bench:
    """Vendors of every kind, and a way to appraise what their machines make."""

    folder: Path
    intel: Vendor
    cli: Cli
    write: Write

    @cached_property
    def amd(self) -> AmdVendor:
        return AmdVendor.fixed(NOW)

    @cached_property
    def aws(self) -> Aws:
        return Aws.create(NOW, secret=bytes(range(32)))

    def file(self, name: str, data: bytes) -> Path:
        return self.write(self.folder, {name: data}) / name

    def snp(self, *, fault: Fault = (), kind: str = "VCEK", version: int = 5, data: bytes = DATA) -> SnpEvidence:
        platform = self.amd.platform("Milan", kind)
        return platform.evidence(data, version=version, measurement=MEASUREMENT, fault=fault)

    def snp_files(self, made: SnpEvidence, leave_out: Sequence[str] = ()) -> list[str | Path]:
        """The options that give a machine's certificates and list, but for some."""
        names = ("vek", "issuer", "ark")
        files = {f"{name}.der": one for name, one in zip(names, made.certificates, strict=True)}
        files |= {f"crl{number}.der": one for number, one in enumerate(made.crls)}
        kept = {name: one for name, one in files.items() if name.split(".")[0] not in leave_out}
        directory = self.folder / f"snp-{len(list(self.folder.iterdir()))}"
        return ["--endorsements", self.write(directory, kept)]

    def ark(self) -> list[str | Path]:
        return ["--roots", self.file("ark.der", self.amd.authority("Milan", "ark"))]

    def nitro(self, *, fault: Fault = (), **values: Any) -> bytes:
        return self.aws.enclave(pcrs=PCRS).document(now=NOW, fault=fault, **values)

    def aws_root(self) -> list[str | Path]:
        return ["--roots", self.file("aws.der", self.aws.root_der)]

    def appraise(self, evidence: bytes, *options: str | Path) -> Any:
        return self.cli("appraise", self.file("evidence.bin", evidence), "--at", AT, *options, "--json")


@pytest.fixture
def bench(tmp_path: Path, vendor: Vendor, cli: Cli, write: Write) -> Bench:
    return Bench(tmp_path, vendor, cli, write)


def _is(ran: Any, status: int, code: str | None, *fields: str) -> dict[str, Any]:
    """Check a verdict; `fields` are those of its mismatches, all of them."""
    result: dict[str, Any] = ran.json
    assert (ran.status, result["code"]) == (status, code), ran.out
    assert result["verdict"] == ("accepted" if code is None else "refused")
    assert [item["field"] for item in result["mismatches"]] == list(fields)
    return result


class TestSnp:
    """Reports alone, with their table, and in our record."""

    @pytest.mark.parametrize("kind", ["VCEK", "VLEK"])
    @pytest.mark.parametrize("version", [2, 3, 4, 5])
    def test_a_report_is_accepted_with_its_claims(self, bench: Bench, kind: str, version: int) -> None:
        made = bench.snp(kind=kind, version=version)
        claims = _is(bench.appraise(made.report, *bench.snp_files(made), *bench.ark()), 0, None)["claims"]
        assert (claims["tee"], claims["measurement"], claims["report_data"]) == ("snp", MEASUREMENT.hex(), DATA.hex())
        assert (claims["signing_key"], claims["product"], claims["version"]) == (kind, "Milan", version)

    @pytest.mark.parametrize("form", ["table", "record", "record around the table", "hex"])
    def test_certificates_may_come_with_the_report(self, bench: Bench, form: str) -> None:
        made = bench.snp()
        names = (TABLE_GUIDS["VCEK"], TABLE_GUIDS["issuer"], TABLE_GUIDS["ark"])
        extended = made.report + certificate_table(dict(zip(names, made.certificates, strict=True)))
        data = {
            "table": extended,
            "record": encode_evidence(Evidence(Tee.SNP, made.report, made.certificates)),
            "record around the table": encode_evidence(Evidence(Tee.SNP, extended)),
            "hex": extended.hex().encode(),
        }[form]
        _is(bench.appraise(data, *bench.ark()), 0, None)

    def test_debug_needs_its_switch(self, bench: Bench) -> None:
        made = bench.snp(fault="debug")
        given = [*bench.snp_files(made), *bench.ark()]
        assert _is(bench.appraise(made.report, *given), 3, "snp.debug", "debug")["claims"]["debug"] is True
        _is(bench.appraise(made.report, *given, "--allow-debug"), 0, None)

    def test_a_migration_agent_needs_to_be_expected(self, bench: Bench) -> None:
        made = bench.snp(fault="migration-agent")
        given = [*bench.snp_files(made), *bench.ark()]
        _is(bench.appraise(made.report, *given), 3, "snp.migration_agent", "migration_agent")
        _is(bench.appraise(made.report, *given, "--expect", "migration_agent=1"), 0, None)
        # Whoever expects that there is none says so about this report too.
        ran = bench.appraise(made.report, *given, "--expect", "migration_agent=0")
        _is(ran, 3, "snp.migration_agent", "migration_agent")

    def test_without_certificates_it_is_refused_and_debug_wins(self, bench: Bench) -> None:
        good, debug = bench.snp().report, bench.snp(fault="debug").report
        _is(bench.appraise(good, *bench.ark()), 3, "snp.endorsements_missing")
        _is(bench.appraise(debug, *bench.ark()), 3, "snp.debug")
        _is(bench.appraise(debug, *bench.ark(), "--allow-debug"), 3, "snp.endorsements_missing")

    @pytest.mark.parametrize("absent", ["vek", "issuer", "ark"])
    def test_a_single_certificate_that_is_absent(self, bench: Bench, absent: str) -> None:
        made = bench.snp()
        ran = bench.appraise(made.report, *bench.snp_files(made, [absent]), *bench.ark())
        _is(ran, 3, "snp.endorsements_missing")

    def test_a_list_is_used_where_it_is_given_and_not_required(self, bench: Bench) -> None:
        made = bench.snp()
        lists = [f"crl{number}" for number in range(len(made.crls))]
        _is(bench.appraise(made.report, *bench.snp_files(made, lists), *bench.ark()), 0, None)
        later = (NOW + timedelta(days=90)).strftime("%Y-%m-%dT%H:%M:%SZ")
        ran = bench.appraise(made.report, *bench.snp_files(made), *bench.ark(), "--at", later)
        _is(ran, 3, "snp.crl_expired")

    def test_the_pinned_vendor_does_not_accept_a_simulated_machine(self, bench: Bench) -> None:
        made = bench.snp()
        _is(bench.appraise(made.report, *bench.snp_files(made)), 3, "snp.root")

    def test_a_forged_report_has_no_claims(self, bench: Bench) -> None:
        made = bench.snp(fault="flip")
        result = _is(bench.appraise(made.report, *bench.snp_files(made), *bench.ark()), 3, "snp.signature")
        assert result["claims"] is None
        assert result["unverified"]["tee"] == "snp"

    def test_malformed_ones_exit_4(self, bench: Bench) -> None:
        report = bench.snp().report
        _is(bench.appraise(report + b"\1" * 64, *bench.ark()), 4, "snp.certificate_table")
        _is(bench.appraise(encode_evidence(Evidence(Tee.SNP, report[:-1])), *bench.ark()), 4, "snp.malformed")
        _is(bench.appraise(encode_evidence(Evidence(Tee.NITRO, report)), *bench.ark()), 4, "nitro.malformed")

    @pytest.mark.parametrize(
        ("claim", "good", "bad", "code"),
        [
            ("measurement", MEASUREMENT.hex(), "00" * 48, "policy.measurement"),
            ("report_data", DATA.hex(), "00" * 64, "policy.claim"),
            ("host_data", None, "01" * 32, "policy.config"),
            ("product", "Milan", "Turin", "policy.product"),
            ("vmpl", "0", "3", "policy.attributes"),
            ("policy", "0x30000", "0x20000", "policy.attributes"),
            ("signing_key", "VCEK", "VLEK", "policy.claim"),
            ("migration_agent", "0", "1", "snp.migration_agent"),
            ("tcb_snp", "24", "23", "snp.tcb_status"),
            ("tee", "snp", "sgx", "policy.tee"),
        ],
    )
    def test_an_expected_claim(self, bench: Bench, claim: str, good: str | None, bad: str, code: str) -> None:
        made = bench.snp()
        given = [*bench.snp_files(made), *bench.ark()]
        value = bench.appraise(made.report, *given).json["claims"][claim] if good is None else good
        _is(bench.appraise(made.report, *given, "--expect", f"{claim}={value}"), 0, None)
        _is(bench.appraise(made.report, *given, "--expect", f"{claim}={bad}"), 3, code, claim)

    @pytest.mark.parametrize("claim", ["reported_tcb", "committed_tcb", "launch_tcb", "current_tcb"])
    def test_a_minimum_of_each_component(self, bench: Bench, claim: str) -> None:
        made = bench.snp()
        given = [*bench.snp_files(made), *bench.ark()]
        _is(bench.appraise(made.report, *given, "--min", f"{claim}={bench.amd.platform().tcb.hex()}"), 0, None)
        _is(bench.appraise(made.report, *given, "--min", f"{claim}=0000000000000001"), 0, None)
        _is(bench.appraise(made.report, *given, "--min", f"{claim}=ff00000000000000"), 3, "policy.svn", claim)

    @pytest.mark.parametrize(("component", "least"), [("bootloader", 4), ("tee", 0), ("snp", 24), ("microcode", 219)])
    def test_a_minimum_of_one_component(self, bench: Bench, component: str, least: int) -> None:
        made = bench.snp()
        given = [*bench.snp_files(made), *bench.ark()]
        name = f"tcb_{component}"
        _is(bench.appraise(made.report, *given, "--min", f"{name}={least}"), 0, None)
        _is(bench.appraise(made.report, *given, "--min", f"{name}={least + 1}"), 3, "policy.svn", name)

    @pytest.mark.parametrize("role", ["VCEK", "VLEK"])
    def test_the_certificate_of_a_signing_key_by_itself(self, bench: Bench, role: str) -> None:
        made = bench.snp(kind=role)
        given = [*bench.snp_files(made, ["vek"]), *bench.ark()]
        result = _is(bench.appraise(made.certificates[0], *given), 0, None)
        assert result["claims"]["anchor_spki_sha256"] == bench.amd.ark_pin("Milan").hex()
        _is(bench.appraise(made.certificates[0], *given, "--expect", f"fmspc={'00' * 6}"), 3, "policy.claim", "fmspc")
        _is(bench.appraise(made.certificates[0], *given[:2]), 3, "snp.root")


class TestNitro:
    """Documents alone and in our record."""

    @pytest.mark.parametrize("form", ["document", "record", "hex", "tagged", "definite"])
    def test_a_document_is_accepted_with_its_claims(self, bench: Bench, form: str) -> None:
        fault = [form] if form in ("tagged", "definite") else []
        document = bench.nitro(nonce=b"nonce", user_data=DATA, fault=fault)
        data = {"record": encode_evidence(Evidence(Tee.NITRO, document)), "hex": document.hex().encode()}
        claims = _is(bench.appraise(data.get(form, document), *bench.aws_root()), 0, None)["claims"]
        assert (claims["tee"], claims["pcr0"], claims["nonce"]) == ("nitro", PCRS[0].hex(), b"nonce".hex())
        assert (claims["user_data"], claims["public_key"]) == (DATA.hex(), None)

    def test_debug_needs_its_switch(self, bench: Bench) -> None:
        document = bench.nitro(fault="debug")
        _is(bench.appraise(document, *bench.aws_root()), 3, "nitro.debug", "debug")
        _is(bench.appraise(document, *bench.aws_root(), "--allow-debug"), 0, None)

    def test_the_pinned_vendor_does_not_accept_a_simulated_enclave(self, bench: Bench) -> None:
        _is(bench.appraise(bench.nitro()), 3, "nitro.root")

    def test_time_decides(self, bench: Bench) -> None:
        _is(bench.appraise(bench.nitro(), *bench.aws_root(), "--at", "2026-11-24T04:00:00Z"), 3, "nitro.expired")

    def test_malformed_ones_exit_4(self, bench: Bench) -> None:
        _is(bench.appraise(bench.nitro()[:-1], *bench.aws_root()), 4, "nitro.malformed")

    @pytest.mark.parametrize(
        ("claim", "good", "bad", "code"),
        [
            ("pcr0", PCRS[0].hex(), "00" * 48, "policy.measurement"),
            ("pcr3", None, "01" * 48, "policy.config"),
            ("pcr4", None, "01" * 48, "policy.config"),
            ("pcr8", None, "01" * 48, "policy.signer"),
            ("nonce", b"nonce".hex(), "00", "policy.claim"),
            ("module_id", None, "i-0-enc0", "policy.claim"),
            ("tee", "nitro", "snp", "policy.tee"),
        ],
    )
    def test_an_expected_claim(self, bench: Bench, claim: str, good: str | None, bad: str, code: str) -> None:
        document = bench.nitro(nonce=b"nonce")
        value = bench.appraise(document, *bench.aws_root()).json["claims"][claim] if good is None else good
        _is(bench.appraise(document, *bench.aws_root(), "--expect", f"{claim}={value}"), 0, None)
        _is(bench.appraise(document, *bench.aws_root(), "--expect", f"{claim}={bad}"), 3, code, claim)


def _tpm_ca(made: TpmMade) -> bytes:
    return made.certificates[-1]


class TestTpm:
    """Our record, a quote with its pieces beside it, and what vouches for the key that signed it."""

    @staticmethod
    def made(**changes: Any) -> TpmMade:
        return make(TpmVendor.create(NOW), replace(TpmRecipe(with_key=False, way="none"), **changes))

    def test_a_quote_is_accepted_where_the_run_names_its_key(self, bench: Bench) -> None:
        made = self.made()
        claims = _is(bench.appraise(made.evidence, "--roots", bench.file("ak.der", made.ak_spki)), 0, None)["claims"]
        assert (claims["tee"], claims["ak_trust"], claims["extra_data"]) == ("tpm", "anchor", "42" * 32)
        assert claims["anchor_spki_sha256"] == hashlib.sha256(made.ak_spki).hexdigest()

    def test_a_bare_quote_with_its_pieces_beside_it(self, bench: Bench) -> None:
        made = self.made()
        record = cbor2.loads(made.evidence)
        values = json.dumps({"sha256": {str(index): value.hex() for index, value in enumerate(record[4])}})
        beside = bench.write(
            bench.folder / "beside",
            {"ak.pub": record[3], "quote.sig": record[2], "pcrs.json": values.encode()},
        )
        given: list[str | Path] = [
            "--endorsements",
            beside,
            "--roots",
            bench.file("ak.pem", _pem("PUBLIC KEY", made.ak_spki)),
        ]
        claims = _is(bench.appraise(record[1], *given), 0, None)["claims"]
        assert claims["pcr0"] == record[4][0].hex()
        (beside / "quote.sig").unlink()
        _is(bench.appraise(record[1], *given), 3, "tpm.endorsements_missing")

    def test_a_certified_attestation_key(self, bench: Bench) -> None:
        recipe = ak_certificate_recipe(TpmRecipe(with_key=False))
        made = make(TpmVendor.create(NOW), recipe)
        chain = bench.file("chain.pem", b"".join(_pem("CERTIFICATE", one) for one in made.certificates))
        root = bench.file("tpm-root.der", _tpm_ca(made))
        claims = _is(bench.appraise(made.evidence, "--endorsements", chain, "--roots", root), 0, None)["claims"]
        assert claims["ak_trust"] == "certificate"
        _is(bench.appraise(made.evidence, "--endorsements", chain), 3, "tpm.root")

    def test_nobody_vouches_for_a_key_without_roots(self, bench: Bench) -> None:
        _is(bench.appraise(self.made().evidence), 3, "tpm.ak_untrusted")

    def test_another_key_than_the_one_that_is_named(self, bench: Bench) -> None:
        root = bench.file("ak.der", self.made(ak_secret=b"another", signed_by=b"another").ak_spki)
        _is(bench.appraise(self.made().evidence, "--roots", root), 3, "tpm.ak_untrusted")

    def test_a_quote_that_another_key_signed(self, bench: Bench) -> None:
        made = self.made(signed_by=b"another")
        _is(bench.appraise(made.evidence, "--roots", bench.file("ak.der", made.ak_spki)), 3, "tpm.signature")

    def test_the_certificate_of_an_endorsement_key_by_itself(self, bench: Bench) -> None:
        ek, issuer, root = make(TpmVendor.create(NOW)).certificates
        issuers = bench.write(bench.folder / "issuers", {"issuer.der": issuer, "root.der": root})
        given: list[str | Path] = ["--endorsements", issuers, "--tee", "tpm"]
        roots: list[str | Path] = ["--roots", bench.file("tpm-root.der", root)]
        result = _is(bench.appraise(ek, *given, *roots), 0, None)
        assert result["claims"]["anchor_spki_sha256"] == TpmVendor.create(NOW).pin.hex()
        _is(bench.appraise(_pem("CERTIFICATE", ek), *given, *roots), 0, None)
        _is(bench.appraise(ek, *given), 3, "tpm.root")

    def test_malformed_roots_and_pieces_exit_4_with_a_verdict(self, bench: Bench) -> None:
        made = self.made()
        ran = bench.appraise(made.evidence, "--roots", bench.file("bad.bin", b"no key"))
        _is(ran, 4, "configuration.malformed")
        good: list[str | Path] = ["--roots", bench.file("ak.der", made.ak_spki)]
        ran = bench.appraise(made.evidence, *good, "--endorsements", bench.file("bad.bin", b"no piece"))
        _is(ran, 4, "endorsements.malformed")
        _is(bench.appraise(made.evidence[:-1], *good), 4, "tpm.malformed")
        _is(bench.appraise(cbor2.loads(made.evidence)[1][:-1], *good), 4, "tpm.malformed")
        _is(bench.appraise(b"\x30\x00", "--tee", "tpm"), 4, "evidence.unknown")

    @pytest.mark.parametrize(
        ("claim", "good", "bad", "code"),
        [
            ("extra_data", "42" * 32, "00" * 32, "policy.claim"),
            ("pcr0", None, "00" * 32, "policy.measurement"),
            ("ak_trust", "anchor", "certificate", "policy.claim"),
            ("key_certified", "false", "true", "policy.claim"),
            ("tee", "tpm", "snp", "policy.tee"),
        ],
    )
    def test_an_expected_claim(self, bench: Bench, claim: str, good: str | None, bad: str, code: str) -> None:
        made = self.made()
        given: list[str | Path] = ["--roots", bench.file("ak.der", made.ak_spki)]
        value = bench.appraise(made.evidence, *given).json["claims"][claim] if good is None else good
        _is(bench.appraise(made.evidence, *given, "--expect", f"{claim}={value}"), 0, None)
        _is(bench.appraise(made.evidence, *given, "--expect", f"{claim}={bad}"), 3, code, claim)


def _pem(label: str, der: bytes) -> bytes:
    body = encodebytes(der).decode()
    return f"-----BEGIN {label}-----\n{body}-----END {label}-----\n".encode()


class TestCertificates:
    """Evidence inside RA-TLS certificates."""

    @staticmethod
    def intel(bench: Bench) -> list[str | Path]:
        directory = bench.write(bench.folder / "sgx", bench.intel.endorsements("sgx"))
        return ["--endorsements", directory, "--roots", bench.file("intel.der", bench.intel.root_der)]

    @staticmethod
    def quote(bench: Bench, data: bytes = BOUND, fault: Fault = ()) -> bytes:
        return bench.intel.platform("sgx").quote(data, fault=fault)

    @pytest.mark.parametrize("place", [ra.GRAMINE, ra.INTEL, ra.SGX_SDK])
    @pytest.mark.parametrize("encoding", ["DER", "PEM", "hex"])
    def test_a_quote_about_the_certificates_key(self, bench: Bench, place: str, encoding: str) -> None:
        found = ra.certificate([(place, self.quote(bench))])
        data = {"DER": found, "PEM": _pem("CERTIFICATE", found), "hex": found.hex().encode()}[encoding]
        claims = _is(bench.appraise(data, *self.intel(bench)), 0, None)["claims"]
        assert claims["report_data"] == BOUND.hex()

    def test_claims_about_the_certificates_key(self, bench: Bench) -> None:
        held = ra.claims()
        quote = self.quote(bench, hashlib.sha256(held).digest() + bytes(32))
        _is(bench.appraise(ra.certificate([(ra.CCC, ra.tagged(quote, held))]), *self.intel(bench)), 0, None)
        other = ra.claims(spki=b"another key")
        quote = self.quote(bench, hashlib.sha256(other).digest() + bytes(32))
        found = ra.certificate([(ra.CCC, ra.tagged(quote, other))])
        _is(bench.appraise(found, *self.intel(bench)), 3, "ra_tls.claims")

    def test_evidence_about_another_key(self, bench: Bench) -> None:
        found = ra.certificate([(ra.GRAMINE, self.quote(bench, DATA))])
        result = _is(bench.appraise(found, *self.intel(bench)), 3, "ra_tls.binding")
        assert (result["claims"], result["unverified"]["report_data"]) == (None, DATA.hex())

    def test_an_snp_report_in_our_record(self, bench: Bench) -> None:
        made = bench.snp(data=BOUND)
        record = der.octet_string(encode_evidence(Evidence(Tee.SNP, made.report, made.certificates)))
        _is(bench.appraise(ra.certificate([(ra.CMW, record)]), *bench.ark()), 0, None)
        made = bench.snp()
        record = der.octet_string(encode_evidence(Evidence(Tee.SNP, made.report, made.certificates)))
        _is(bench.appraise(ra.certificate([(ra.CMW, record)]), *bench.ark()), 3, "ra_tls.binding")

    @pytest.mark.parametrize("slot", ["public_key", "user_data"])
    def test_a_nitro_document_in_a_name(self, bench: Bench, slot: str) -> None:
        for key, status, code in ((ra.SPKI, 0, None), (ra.SPKI[:-1], 3, "ra_tls.binding")):
            document = bench.nitro(fault="definite", **{slot: key})
            name = ra.general_names(document.hex() + ".example.org", "other.example.org")
            found = ra.certificate([(ra.SUBJECT_ALT_NAME, name)])
            _is(bench.appraise(found, *bench.aws_root()), status, code)

    def test_of_several_pieces_each_must_be_accepted(self, bench: Bench) -> None:
        good, debug, bad = self.quote(bench), self.quote(bench, fault="debug"), self.quote(bench, DATA)
        given = self.intel(bench)
        for second, status, code in ((good, 0, None), (bad, 3, "ra_tls.binding")):
            _is(bench.appraise(ra.certificate([(ra.GRAMINE, good), (ra.INTEL, second)]), *given), status, code)
        ran = bench.appraise(ra.certificate([(ra.GRAMINE, good), (ra.INTEL, debug)]), *given)
        _is(ran, 3, "sgx.debug", "debug")

    def test_a_certificate_without_evidence(self, bench: Bench) -> None:
        found = ra.certificate([(ra.SUBJECT_ALT_NAME, ra.general_names("example.org"))])
        result = _is(bench.appraise(found, *bench.aws_root()), 4, "ra_tls.no_evidence")
        assert (result["claims"], result["unverified"]) == (None, None)


class TestEveryKind:
    """What is the same for all of them."""

    @staticmethod
    def evidence(bench: Bench, tee: str) -> tuple[bytes, list[str | Path]]:
        """Good evidence of a kind, and the options that have it accepted."""
        if tee == "snp":
            made = bench.snp()
            return made.report, [*bench.snp_files(made), *bench.ark()]
        if tee == "nitro":
            return bench.nitro(), bench.aws_root()
        quote = TestTpm.made()
        return quote.evidence, ["--roots", bench.file("ak.der", quote.ak_spki)]

    @pytest.mark.parametrize("tee", ["snp", "nitro", "tpm"])
    def test_the_tee_can_be_demanded(self, bench: Bench, tee: str) -> None:
        data, given = self.evidence(bench, tee)
        _is(bench.appraise(data, *given, "--tee", tee), 0, None)
        for other in {"sgx", "tdx", "snp", "nitro"} - {tee}:
            _is(bench.appraise(data, *given, "--tee", other), 3, "policy.tee", "tee")

    @pytest.mark.parametrize("tee", ["snp", "nitro"])
    def test_evidence_that_is_no_tpms_is_no_tpms(self, bench: Bench, tee: str) -> None:
        data, given = self.evidence(bench, tee)
        _is(bench.appraise(data, *given, "--tee", "tpm"), 3, "policy.tee", "tee")

    @pytest.mark.parametrize("tee", ["snp", "nitro"])
    def test_malformed_roots_give_a_verdict(self, bench: Bench, tee: str) -> None:
        data, _ = self.evidence(bench, tee)
        result = _is(bench.appraise(data, "--roots", bench.file("bad.der", b"no root")), 4, "configuration.malformed")
        assert result["claims"] is None
        assert result["unverified"]["tee"] == tee

    @pytest.mark.parametrize("tee", ["snp", "nitro", "tpm"])
    def test_a_minimum_of_another_tee_is_not_reached(self, bench: Bench, tee: str) -> None:
        data, given = self.evidence(bench, tee)
        _is(bench.appraise(data, *given, "--min", "isv_svn=0"), 3, "policy.svn", "isv_svn")


POLICY = """
version = 1
trust_domain = "example.org"
[[workload]]
name = "guest"
tee = "snp"
measurement = ["{measurement}"]
vmpl = 0
policy = "0000030000000000"
policy_mask = "ffffffffffffffff"
product = ["Milan"]
min_tcb_bootloader = 4
min_tcb_tee = 0
min_tcb_snp = 24
min_tcb_microcode = {microcode}
owner = {{ shared = true }}
[[workload]]
name = "enclave"
tee = "nitro"
{nitro}
owner = {{ shared = true }}
"""


class TestPolicy:
    """An entry decides instead of the default policy."""

    @staticmethod
    def options(bench: Bench, entry: str, *, microcode: int = 219, nitro: str = NITRO_POLICY) -> list[str | Path]:
        text = POLICY.format(measurement=MEASUREMENT.hex(), microcode=microcode, nitro=nitro)
        return ["--policy", bench.file("policy.toml", text.encode()), "--workload", entry]

    def test_an_snp_entry(self, bench: Bench) -> None:
        made = bench.snp()
        given = [*bench.snp_files(made), *bench.ark()]
        result = _is(bench.appraise(made.report, *given, *self.options(bench, "guest")), 0, None)
        assert result["workload"] == "guest"
        ran = bench.appraise(made.report, *given, *self.options(bench, "guest", microcode=220))
        assert {item["code"] for item in ran.json["mismatches"]} == {"snp.tcb_status"}
        assert (ran.status, ran.json["code"]) == (3, "snp.tcb_status")
        ran = bench.appraise(made.report, *given, *self.options(bench, "enclave"))
        assert (ran.status, ran.json["code"]) == (3, "policy.tee")
        other = bench.amd.platform("Milan").evidence(DATA)
        ran = bench.appraise(other.report, *given, *self.options(bench, "guest"))
        _is(ran, 3, "policy.measurement", "measurement")

    def test_a_nitro_entry(self, bench: Bench) -> None:
        document = bench.nitro()
        _is(bench.appraise(document, *bench.aws_root(), *self.options(bench, "enclave")), 0, None)
        other = NITRO_POLICY.replace("02" * 48, "09" * 48)
        ran = bench.appraise(document, *bench.aws_root(), *self.options(bench, "enclave", nitro=other))
        _is(ran, 3, "policy.measurement", "pcr1")
        ran = bench.appraise(document, *bench.aws_root(), *self.options(bench, "guest"))
        assert (ran.status, ran.json["code"]) == (3, "policy.tee")
